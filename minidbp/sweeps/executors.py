"""Where runs are trained.  Each function makes a context with an `Executor` of `concurrent.futures`."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

# BLAS, OpenMP and Numba read these when they are loaded.  The threads of training/workers.py do the work.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def in_process() -> Executor:
    """One run after the other in a thread of this process; the main thread shows the progress."""
    return ThreadPoolExecutor(1, thread_name_prefix="run")


@contextmanager
def processes(count: int, threads: int) -> Iterator[Executor]:
    """`count` spawned processes on this machine.  Their libraries get `threads` threads before NumPy is loaded."""
    before = {name: value for name, value in os.environ.items() if name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # a spawned process inherits them
    try:
        with _ProcessPool(count, multiprocessing.get_context("spawn"), _begin_worker) as executor:
            yield executor
    finally:
        for name in THREAD_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


class _ProcessPool(ProcessPoolExecutor):
    """For the main thread.  Ctrl-C and SIGTERM wait until a process has started: it could not handle them earlier."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        with _signals_later():
            return super().submit(function, *arguments, **named)


@contextmanager
def _signals_later() -> Iterator[None]:
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    if hasattr(signal, "pthread_sigmask"):  # not on Windows; a worker inherits the mask until its _begin_worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _begin_worker() -> None:
    """A worker ignores Ctrl-C, which its parent handles, and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:  # not a spawned process
        return
    sentinel = parent.sentinel

    def end_with_parent() -> None:
        wait([sentinel])
        os._exit(1)  # every file is written whole or not at all, and locks end with their process

    threading.Thread(target=end_with_parent, daemon=True).start()

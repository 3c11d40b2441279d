"""Where runs are trained.  Each function makes a context with an `Executor` of `concurrent.futures`."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess

from minidbp.starting import SIGNALS

# BLAS, OpenMP and Numba read these when they are loaded.  The threads of training/workers.py do the work.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

WAIT_FOR_THE_END = 1.5  # seconds in which worker processes without work end


@contextmanager
def in_process() -> Iterator[Executor]:
    """One run after the other in a thread of this process; the main thread shows the progress."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="run")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def processes(count: int, threads: int) -> Iterator[Executor]:
    """`count` spawned processes on this machine.  Their libraries get `threads` threads before NumPy is loaded.

    At the end, those that have not ended after some seconds are killed, such as one that still imports its modules.
    """
    before = {name: value for name, value in os.environ.items() if name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # a spawned process inherits them
    others = set(multiprocessing.active_children())
    if os.name == "posix":
        with _blocked_signals():  # SIGHUP would end Python's own helper process, which then shows a traceback
            resource_tracker.ensure_running()
    executor = ProcessPoolExecutor(count, _Context(), _begin_worker)
    try:
        yield executor
    finally:
        killer = threading.Timer(WAIT_FOR_THE_END, _kill_children, [others])
        killer.start()
        executor.shutdown(cancel_futures=True)
        killer.cancel()
        for name in THREAD_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the SIGNALS in this thread, as a process that is started in the block inherits that."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(SpawnProcess):
    """A process that the SIGNALS do not reach: the process that started it handles them, and stops it."""

    def start(self) -> None:
        with _blocked_signals():
            super().start()

    def terminate(self) -> None:
        self.kill()  # SIGTERM would not reach it


class _Context(SpawnContext):
    Process = _Worker


def _kill_children(others: set[BaseProcess]) -> None:
    """Kill the processes that this one has started, but not those `others`."""
    for child in set(multiprocessing.active_children()) - others:
        child.kill()


def _begin_worker() -> None:
    """A worker ignores the SIGNALS, and ends with its parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:  # not a spawned process
        return
    sentinel = parent.sentinel

    def end_with_parent() -> None:
        wait([sentinel])
        os._exit(1)  # every file is written whole or not at all, and locks end with their process

    threading.Thread(target=end_with_parent, daemon=True).start()

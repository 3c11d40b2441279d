"""Where runs are trained.  Each function makes a context with an `Executor` of `concurrent.futures`."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from minidbp.sweeps.runs import RunError, RunFailed

# BLAS, OpenMP and Numba read these when they are loaded.  The threads of training/workers.py do the work.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

WAIT_FOR_WORKERS = 30  # seconds


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
    assert parent is not None  # this runs in spawned processes only
    sentinel = parent.sentinel

    def end_with_parent() -> None:
        wait([sentinel])
        os._exit(1)  # every file is written whole or not at all, and locks end with their process

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """The workers of a Dask scheduler.

    Raises:
        RunError: Dask is not installed, or no scheduler or no worker answers.
        RunFailed: The scheduler or the workers died in use.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise RunError('--scheduler needs Dask, on every machine: pip install "distributed>=2024.8"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"no Dask scheduler answers at {address} ({reason}); it should look like tcp://host:8786"
        raise RunError(message) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # no tracebacks: the errors below say it
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
        except TimeoutError:
            raise RunError(
                f"no worker has joined the Dask scheduler at {address} within {WAIT_FOR_WORKERS} s; start some with "
                f"`dask worker {address}`"
            ) from None
        try:
            # not pure: a task that found its run busy may be submitted again
            yield client.get_executor(pure=False, retries=2)
        except CancelledError:
            raise RunFailed(f"the Dask scheduler at {address} is gone; start one") from None
        except KilledWorker as error:
            raise RunFailed(
                f"Dask workers died again and again at one run, the last at {error.last_worker.address}, perhaps for "
                "lack of memory"
            ) from None

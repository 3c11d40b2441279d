"""Where runs are trained: each place is an Executor of `concurrent.futures`."""

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

# Read by BLAS, OpenMP and Numba when they are loaded.  Our own threads do the work (training/workers.py).
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

WAIT_FOR_WORKERS = 30  # seconds


@contextmanager
def in_process() -> Iterator[Executor]:
    """One run after the other in a thread of this process, so that the main thread can show how far it is."""
    with ThreadPoolExecutor(1, thread_name_prefix="run") as pool:
        yield pool


@contextmanager
def processes(count: int, threads: int) -> Iterator[Executor]:
    """`count` spawned processes on this machine; their libraries are held to `threads` threads before NumPy loads."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # a spawned process inherits them
    try:
        with _Pool(count, multiprocessing.get_context("spawn"), _begin_worker) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Pool(ProcessPoolExecutor):
    """Ctrl-C waits while a process is started; no worker could bear it half started, nor the pool one it has not noted.

    To be used from the main thread.
    """

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        with _ctrl_c_later():
            return super().submit(function, *arguments, **named)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    if hasattr(signal, "pthread_sigmask"):  # not on Windows; a started process inherits it, until its _begin_worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to the process that started it, and does not outlive it."""
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

    Raises RunError if the extra is not installed or nobody answers, RunFailed if the scheduler or workers die in use.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise RunError('--scheduler needs Dask: pip install "minidbp[cluster]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"no Dask scheduler answers at {address} ({reason}); it should look like tcp://host:8786"
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it shows tracebacks; below is what they mean
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
        except TimeoutError:
            raise RunError(
                f"no worker has joined the Dask scheduler at {address} within {WAIT_FOR_WORKERS} s; start some with "
                f"`dask worker {address}`"
            ) from None
        try:
            # not pure: a task that found its run busy may be asked again
            yield client.get_executor(pure=False, retries=2)
        except CancelledError:
            raise RunFailed(
                f"the Dask scheduler at {address} is gone; the same command, with one that is there, goes on from what "
                "is done"
            ) from None
        except KilledWorker as error:
            raise RunFailed(
                f"Dask workers died again and again at one run, the last at {error.last_worker.address}; is there "
                "enough memory? The same command goes on from what is done"
            ) from None

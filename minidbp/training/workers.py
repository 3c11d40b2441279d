"""Work on parts of a batch in several threads, with results that do not depend on how many threads there are.

A batch is cut into shards of a size that depends on the model alone, small enough that what a shard computes stays in
the processor's cache.  BLAS is held to one thread meanwhile: the threads are ours, each at its own shard.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from threadpoolctl import threadpool_limits

from minidbp.autodiff import Tensor, no_grad
from minidbp.nn import Sequential

Item = TypeVar("Item")
Result = TypeVar("Result")

SHARD_BYTES = 1 << 23  # of the largest array that one shard makes: a few of them fit a cache of 32 MiB
LANES = 2, 4  # least and most partial sums of a batch's gradient: no more threads than that can share a step
LANE_BYTES = 1 << 22  # of largest arrays in a lane, if there are to be more than the least: Python takes time too
LANE_IMAGES = 16  # no lane is smaller than this, if that leaves one only

_largest: WeakKeyDictionary[Sequential, dict[tuple, int]] = WeakKeyDictionary()


class Workers:
    """`map(function, items)`: the results in the order of the items, computed by this many threads."""

    def __init__(self, threads: int, pool: ThreadPoolExecutor | None) -> None:
        self.threads, self._pool = threads, pool

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self._pool is None or len(items) < 2:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def workers(threads: int | None = None) -> Iterator[Workers]:
    """A context with this many threads (None: one for each core).  Raises ValueError for less than 1."""
    threads = available_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}")
    with threadpool_limits(limits=1, user_api="blas"):
        if threads == 1:
            yield Workers(1, None)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="minidbp") as pool:
            yield Workers(threads, pool)


def largest_activation(model: Sequential, image: np.ndarray) -> int:
    """Bytes of the largest array that one image makes on its way through the model, itself included."""
    key = image.shape, image.dtype
    known = _largest.setdefault(model, {})
    if key not in known:
        sizes = [image.nbytes]
        with no_grad():
            y = Tensor(image[None])
            for layer in model.layers:
                y = layer(y)
                sizes.append(y.data.nbytes)
        known[key] = max(sizes)
    return known[key]


def shard_size(model: Sequential, image: np.ndarray, rows: int = 1) -> int:
    """How many images go through the model at a time, if each makes `rows` copies of the largest activation.

    A function of the model alone, never of the machine: sums over shards then have the same order everywhere.
    """
    return max(1, SHARD_BYTES // (rows * largest_activation(model, image)))


def lane_size(model: Sequential, image: np.ndarray, n: int, rows: int = 1) -> int:
    """How many of n images one lane sums up: again a function of the model alone."""
    lanes = min(max(n * rows * largest_activation(model, image) // LANE_BYTES, LANES[0]), LANES[1])
    return max(LANE_IMAGES, -(-n // lanes))


def shards(start: int, stop: int, size: int) -> list[slice]:
    """The range start..stop in slices of `size`, the last one smaller."""
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]

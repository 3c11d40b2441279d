"""Parts of a batch in several threads, with results that do not depend on the number of threads.

A batch is cut into shards. Their size depends on the model alone, and the arrays of one shard fit the processor's
cache. BLAS has one thread meanwhile, because each of our threads works on its own shard.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from threadpoolctl import threadpool_limits

from minidbp.autodiff import Tensor, no_grad
from minidbp.autodiff.tensor import Node, traced_by
from minidbp.nn.checks import refuse_bytes
from minidbp.robust.penalties import Model

Item = TypeVar("Item")
Result = TypeVar("Result")

SHARD_BYTES = 1 << 23  # of the largest array that one shard makes: a few of them fit a cache of 32 MiB

# A gradient chunk is a part of a batch whose gradients one thread adds up.
CHUNKS = 2, 4  # least and most chunks of a batch; a step uses at most that many threads
CHUNK_BYTES = 1 << 22  # more chunks than the least only if each has so much work that Python's overhead is small
CHUNK_IMAGES = 16  # at least; a small batch is one chunk

_footprints: WeakKeyDictionary[Any, dict[tuple, "Footprint"]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Workers:
    """A pool of threads; `map(function, items)` returns the results in the order of the items."""

    threads: int
    pool: ThreadPoolExecutor

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        one_by_one = self.threads == 1 or len(items) < 2
        return list(map(function, items) if one_by_one else self.pool.map(function, items))


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def workers(threads: int | None = None) -> Iterator[Workers]:
    """A context with this many threads (None: one for each core). Raises ValueError for less than 1."""
    threads = available_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1; got {threads}")
    pool = ThreadPoolExecutor(threads, thread_name_prefix="minidbp")  # starts no thread before it has work
    with threadpool_limits(limits=1, user_api="blas"), pool:
        yield Workers(threads, pool)


@dataclass
class Footprint:
    """What the forward pass of one image makes: a tracer of its operations."""

    largest: int  # bytes of the largest array, the image included
    classes: int = 0  # how many logits

    def add(self, node: Node, out: Tensor) -> None:
        self.largest = max(self.largest, out.data.nbytes)

    def enter(self, t: Tensor) -> None:
        """Nothing to do: a forward pass calls no derivative rules."""

    def leave(self) -> None:
        """As `enter`."""


def footprint(model: Model, image: np.ndarray) -> Footprint:
    """The footprint of an image (...), known after the first call.

    Raises:
        TypeError: the image is of uint8, or the model gives something else than a Tensor.
        ValueError: the Tensor has not the axes (N, c).
    """
    try:
        known = _footprints.setdefault(model, {})
    except TypeError:  # an object without a hash or without weak references
        known = {}
    key = image.shape, image.dtype
    if key not in known:
        refuse_bytes(image)
        measured = Footprint(image.nbytes)
        with no_grad(), traced_by(None), traced_by(measured):
            logits = model(Tensor(image[None]))
        expected = "a model must map images (N, ...) to logits, a Tensor (N, c)"
        if not isinstance(logits, Tensor):
            raise TypeError(f"{expected}; got {type(logits).__name__}")
        if logits.ndim != 2 or len(logits.data) != 1:
            raise ValueError(f"{expected}; for one image of shape {image.shape} it gave the shape {logits.shape}")
        measured.classes = logits.shape[1]
        known[key] = measured
    return known[key]


def shard_size(model: Model, image: np.ndarray, rows: int = 1) -> int:
    """How many images go through the model at a time, if each makes `rows` copies of the largest activation.

    The size depends on the model alone, not on the machine, so that sums over shards have one order everywhere.
    """
    return max(1, SHARD_BYTES // (rows * footprint(model, image).largest))


def chunk_size(model: Model, image: np.ndarray, n: int, rows: int = 1) -> int:
    """How many of n images make one gradient chunk; this too depends on the model alone."""
    chunks = min(max(n * rows * footprint(model, image).largest // CHUNK_BYTES, CHUNKS[0]), CHUNKS[1])
    return max(CHUNK_IMAGES, -(-n // chunks))


def shards(start: int, stop: int, size: int) -> list[slice]:
    """The range start..stop in slices of `size`, the last one smaller."""
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]

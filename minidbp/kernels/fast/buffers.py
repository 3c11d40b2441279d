"""Large arrays that begin at a cache line, in memory that is used again.

A training step makes the same large arrays every time.  Fresh memory costs a page fault for each 4 KiB, and the faults
of a step take as long as its arithmetic.  A vector that straddles two cache lines is loaded as two.
"""

import math
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from minidbp.kernels import fast

CACHE_LINE = 64  # bytes, also of the widest vector
SMALL = 1 << 12  # bytes: smaller arrays come from NumPy
POOL_BYTES = 1 << 29  # the most that the pool holds

_free: dict[int, list[memoryview]] = {}  # by size; list.append and list.pop need no lock

_returned = [0]  # bytes returned since the pool was last measured; a race between threads miscounts them harmlessly


def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """`numpy.empty`, aligned to a cache line; the memory returns to the pool when no array refers to it any more.

    A view counts as an array that refers to the memory.  A bare `array.base` does not, as it is a buffer: keep none.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL or not fast.enabled:
        return np.empty(shape, dtype)
    step = 1 << (size.bit_length() - 4)  # rounded up by an eighth at most, so that similar sizes share blocks
    size = -(-size // step) * step
    blocks = _free.setdefault(size, [])
    try:
        block = blocks.pop()
    except IndexError:
        block = _aligned(size)
    # NumPy lets a view refer to the innermost array, so the innermost object must be this array: a bytearray is none
    array = np.ndarray(tuple(shape), dtype, buffer=block)
    weakref.finalize(array, _give_back, blocks, block).atexit = False
    return array


def axes_in_memory(array: np.ndarray) -> tuple[int, ...]:
    """The axes from the one with the longest stride to the one with the shortest: (0, 1, ...) for C order."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def empty_like(array: np.ndarray) -> np.ndarray:
    """`empty` with an array's shape and dtype, and its axes in the same order in memory."""
    if array.nbytes < SMALL:
        return np.empty_like(array)
    order = axes_in_memory(array)
    return empty([array.shape[axis] for axis in order], array.dtype).transpose(np.argsort(order))


def _aligned(size: int) -> memoryview:
    try:
        raw = bytearray(size + CACHE_LINE)
    except MemoryError:  # what waits in the pool may be enough
        _empty_the_pool()
        try:
            raw = bytearray(size + CACHE_LINE)
        except MemoryError:
            raise MemoryError(f"Unable to allocate {size / 2**20:.0f} MiB") from None
    start = -np.frombuffer(raw, np.uint8).ctypes.data % CACHE_LINE
    return memoryview(raw)[start : start + size]


def _give_back(blocks: list[memoryview], block: memoryview) -> None:
    blocks.append(block)
    _returned[0] += len(block)
    if _returned[0] > POOL_BYTES:  # only now, because measuring the pool takes as long as everything else here
        _returned[0] = pooled_bytes()
        if _returned[0] > POOL_BYTES:  # the pool holds sizes that nobody asks for any more: empty it
            _empty_the_pool()


def _empty_the_pool() -> None:
    for blocks in list(_free.values()):
        blocks.clear()
    _returned[0] = 0


def pooled_bytes() -> int:
    """How many bytes wait in the pool."""
    return sum(size * len(blocks) for size, blocks in list(_free.items()))

"""Large arrays that begin at a cache line and whose memory is used again.

A training step makes the same large arrays every time.  Memory fresh from the system costs a page fault for each of
its 4 KiB, which adds up to as much as the arithmetic; and a vector that straddles two cache lines is loaded as two.
"""

import math
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

LINE = 64  # bytes of a cache line, and of the widest vector
SMALL = 1 << 12  # bytes: below this NumPy has its own ways
KEPT = 1 << 29  # bytes kept for later at most

_free: dict[int, list[memoryview]] = {}  # by size; list.append and list.pop need no lock

_given = [0]  # bytes given back since `kept` was looked at: threads may miscount it, and no harm is done


def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """`numpy.empty`, aligned to a cache line; the memory comes back when no array refers to it any more.

    Views count; a bare `array.base`, which is a buffer and no array, does not: do not keep one.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    step = 1 << (size.bit_length() - 4)  # rounded up by an eighth at most, so that near sizes share
    size = -(-size // step) * step
    blocks = _free.setdefault(size, [])
    try:
        block = blocks.pop()
    except IndexError:
        block = _aligned(size)
    # a view refers to the array it was taken from, or to that one's own base if it is an array too: a bytearray is none
    array = np.ndarray(tuple(shape), dtype, buffer=block)
    weakref.finalize(array, _give_back, blocks, block).atexit = False
    return array


def axes_in_memory(array: np.ndarray) -> tuple[int, ...]:
    """The axes from the one with the longest stride to the one with the shortest: (0, 1, ...) for C order."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def empty_like(array: np.ndarray) -> np.ndarray:
    """`empty` with an array's shape and dtype, and its axes in the same order in memory."""
    order = axes_in_memory(array)
    return empty([array.shape[axis] for axis in order], array.dtype).transpose(np.argsort(order))


def _aligned(size: int) -> memoryview:
    raw = bytearray(size + LINE)
    start = -np.frombuffer(raw, np.uint8).ctypes.data % LINE
    return memoryview(raw)[start : start + size]


def _give_back(blocks: list[memoryview], block: memoryview) -> None:
    blocks.append(block)
    _given[0] += len(block)
    if _given[0] > KEPT:  # since the last look: not each time, as looking takes as long as all the rest
        _given[0] = kept()
        if _given[0] > KEPT:  # too much, of sizes that nobody asks for any more: begin anew
            for others in list(_free.values()):
                others.clear()
            _given[0] = 0


def kept() -> int:
    """How many bytes wait to be used again."""
    return sum(size * len(blocks) for size, blocks in list(_free.items()))

"""The IDX format: a magic number, the axes' lengths, then the bytes of the array.

Source of the format: http://yann.lecun.com/exdb/mnist/ ; data/README.md has it in a few lines.
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from minidbp.data.errors import DataError

UNSIGNED_BYTE = 0x08


def parse_idx(raw: bytes, n_axes: int, source: str = "the IDX data") -> NDArray[np.uint8]:
    """Read `raw`, the whole of an IDX file of unsigned bytes with `n_axes` axes (at least 1).

    Returns a read-only uint8 array that shares `raw`'s memory. No memory is taken on the word of the header:
    the declared lengths are compared with the bytes that are really there. `source` names the data in errors.

    Raises DataError if the magic number is another one, an axis is empty, or the bytes are too few or too
    many.
    """
    header_size = 4 + 4 * n_axes
    if len(raw) < header_size:
        raise DataError(f"{source} holds {len(raw)} bytes, fewer than the {header_size} of an IDX header")
    magic, *shape = struct.unpack_from(f">{1 + n_axes}I", raw)
    right_magic = UNSIGNED_BYTE << 8 | n_axes
    if magic != right_magic:
        raise DataError(
            f"{source} begins with the magic number 0x{magic:08x} where 0x{right_magic:08x} "
            f"(unsigned bytes, {n_axes} axes) would be right"
        )
    if 0 in shape:
        raise DataError(f"{source} declares the shape {tuple(shape)} where no axis may be empty")
    declared = header_size + math.prod(shape)  # of Python's integers, so it cannot overflow
    if declared != len(raw):
        raise DataError(
            f"{source} holds {len(raw)} bytes where the shape it declares, {tuple(shape)}, needs {declared}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header_size).reshape(shape)

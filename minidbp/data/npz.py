"""Arrays from an .npz file of unknown origin: numpy.savez writes it, and nothing in it is unpickled or run.

An .npz file is a zip archive with a member NAME.npy for each array.  A .npy file is a header in text (dtype, order and
shape) and then the array's bytes.
"""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidbp.data.files import MOST_OWN, DataError
from minidbp.files.reading import printable, read_bytes

MOST_AXES = 8  # of an array; images have four
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of numpy.savez and numpy.savez_compressed
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,  # of a header that NumPy reads a second time, as one of Python 2
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


def read_npz(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of these names, read-only, and those of `optional` that are there; others are not looked at.

    Raises:
        DataError: The file is unreadable, damaged, no .npz file, or lacks an array; an array is damaged, holds Python
            objects, or is too large. No more than MOST_OWN are decoded.
    """
    raw = read_bytes(path, MOST_OWN, DataError)
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except FAULTS as error:
        raise DataError(f"{path} is not an .npz file, or is damaged ({_first_line(error)})") from None
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    for name in names:
        if name not in members:
            held = printable(", ".join(members))[:200] or "nothing"
            raise DataError(f"{path} lacks the array {name}; it holds {held}")
    arrays, left = {}, MOST_OWN
    for name in (*names, *(name for name in optional if name in members)):
        arrays[name] = _array(archive, members[name], f"{path}: {name}", left)
        left -= arrays[name].nbytes
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: str, most: int) -> NDArray[Any]:
    """The array in a member of at most `most` bytes."""
    if member.compress_type not in METHODS:
        raise DataError(f"{source} is compressed by a method that NumPy does not write ({member.compress_type})")
    try:
        with archive.open(member) as stream:
            raw = stream.read(most + 1)
    except FAULTS as error:
        raise DataError(f"{source} is damaged ({_first_line(error)})") from None
    if len(raw) > most:
        raise DataError(f"{source} makes the file's arrays larger than {MOST_OWN} bytes; uint8 takes least")
    return _parse_npy(raw, source)


def _parse_npy(raw: bytes, source: str) -> NDArray[Any]:
    """The array in the bytes of a .npy file.  No memory is reserved for what its header declares."""
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
    except FAULTS as error:
        raise DataError(f"{source} is not an array that numpy.savez wrote ({_first_line(error)})") from None
    if dtype.hasobject:
        raise DataError(f"{source} holds Python objects, which are not read; save an array of numbers")
    if dtype.kind not in "biuf":
        raise DataError(f"{source} holds {dtype}; numbers are right")
    if len(shape) > MOST_AXES or not all(type(n) is int and 0 <= n <= MOST_OWN for n in shape):
        raise DataError(f"{source} is damaged: no array that is read has the shape {shape!s:.80}")
    declared, held = math.prod(shape) * dtype.itemsize, len(raw) - stream.tell()
    if declared != held:
        raise DataError(f"{source} is damaged: {dtype} of shape {shape} has {declared} bytes, and {held} are there")
    array = np.frombuffer(raw, dtype, offset=stream.tell())
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _first_line(error: Exception) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0])[:100]

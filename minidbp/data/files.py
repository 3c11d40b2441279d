"""Four IDX files: what those of MNIST hold, and how bytes are read and verified.

The IDX format (http://yann.lecun.com/exdb/mnist/) is a magic number, the axes' lengths, then the bytes of the array.
`data/README.md` describes it in a few lines.  Other data sets, such as Fashion-MNIST, have files of the same names.
"""

import hashlib
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidbp.files.reading import read_bytes


class DataError(ValueError):
    """A data file is missing, unreadable or not what it should be: one sentence, which says what puts it right."""


@dataclass(frozen=True)
class MnistFile:
    """One of the four files: its name without .gz, its number of images or labels, the SHA-256 of its decoded bytes."""

    name: str
    n: int
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, 28, 28) if "images" in self.name else (self.n,)

    @property
    def n_bytes(self) -> int:
        """Size of the uncompressed file: 4 bytes of magic number, 4 per axis, 1 per element."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


FILES = TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (
    MnistFile("train-images-idx3-ubyte", 60_000, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    MnistFile("train-labels-idx1-ubyte", 60_000, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    MnistFile("t10k-images-idx3-ubyte", 10_000, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    MnistFile("t10k-labels-idx1-ubyte", 10_000, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)

# The bound on decoding is the largest of the four files, so that swapped files can still be recognised.
MOST_DECODED = max(file.n_bytes for file in FILES)
MOST_OWN = 1 << 30  # bytes, of other data sets: of an IDX file, or of all arrays in an .npz file
MOST_ADDED = 1 << 20  # bytes, by gzip where it compresses nothing; it adds 0.03% at most


def find(folder: Path, file: MnistFile) -> Path | None:
    """The path of `file` in `folder`: the gzipped one if there are both, None if there is neither."""
    for path in (folder / f"{file.name}.gz", folder / file.name):
        if os.path.lexists(path):  # a dangling link counts as an unreadable file, not as a missing one
            return path
    return None


def present(folder: Path, file: MnistFile) -> Path:
    """`find`, which raises DataError if there is neither."""
    path = find(folder, file)
    if path is None:
        raise DataError(f"{file.name}.gz is missing from the folder {folder}")
    return path


def read_verified(path: Path, file: MnistFile) -> bytes:
    """The uncompressed bytes of `path` (gzipped if its name ends in .gz), with the SHA-256 of `file`.

    Raises:
        DataError: The file is unreadable, truncated, changed, swapped or too large. At most the size of the largest of
            the four files is decoded.
    """
    raw = decoded(path, MOST_DECODED)
    digest = hashlib.sha256(raw).hexdigest()
    if digest == file.sha256:
        return raw
    for other in FILES:
        if digest == other.sha256:
            raise DataError(f"{path} holds {other.name}: the files were swapped")
    parse_idx(raw, len(file.shape), str(path))  # where the format is broken, its error says more than a digest does
    raise DataError(
        f"{path} does not hold MNIST's bytes (SHA-256 {digest[:12]}..., not {file.sha256[:12]}...): "
        "it was changed, or belongs to another data set"
    )


def parse_idx(raw: bytes, n_axes: int, source: str = "the IDX data") -> NDArray[np.uint8]:
    """The read-only array in `raw`, the whole of an IDX file of unsigned bytes with `n_axes` axes (at least 1).

    The array shares the memory of `raw`.  The header's lengths are compared with the bytes that are there, and no
    memory is reserved for them.  `source` names the data in errors.

    Raises:
        DataError: The magic number is another one, an axis is empty, or the bytes are too few or too many.
    """
    header_size = 4 + 4 * n_axes
    if len(raw) < header_size:
        raise DataError(f"{source} holds {len(raw)} bytes, fewer than the {header_size} of an IDX header")
    magic, *shape = struct.unpack_from(f">{1 + n_axes}I", raw)
    right_magic = 0x0800 | n_axes  # 08: unsigned bytes
    if magic != right_magic:
        right = f"0x{right_magic:08x} (unsigned bytes, {n_axes} axes)"
        raise DataError(f"{source} begins with the magic number 0x{magic:08x} where {right} would be right")
    if 0 in shape:
        raise DataError(f"{source} declares the shape {tuple(shape)} where no axis may be empty")
    declared = header_size + math.prod(shape)  # of Python's integers, so it cannot overflow
    if declared != len(raw):
        raise DataError(f"{source} holds {len(raw)} bytes where the shape it declares, {(*shape,)}, needs {declared}")
    return np.frombuffer(raw, dtype=np.uint8, offset=header_size).reshape(shape)


def decoded(path: Path, most: int) -> bytes:
    """The uncompressed bytes of `path` (gzipped if its name ends in .gz), at most so many.  Raises DataError."""
    stored = read_bytes(path, most + MOST_ADDED, DataError)
    if path.suffix != ".gz":
        return stored
    if not stored.startswith(b"\x1f\x8b"):
        start = stored[:2].hex(" ") or "nothing"
        raise DataError(f"{path} is not a gzip file: it begins with {start} where 1f 8b would be right")
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: gzip's header and checksum
    try:
        raw = gunzip.decompress(stored, most + 1)
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file ({error})") from error
    if len(raw) > most:
        raise DataError(f"{path} decodes to more than {most} bytes, the most that is read")
    if not gunzip.eof:
        raise DataError(f"{path} is a truncated gzip file: its {len(stored)} bytes end before its data do")
    if gunzip.unused_data:
        raise DataError(f"{path} has {len(gunzip.unused_data)} bytes too many after the end of its gzip data")
    return raw

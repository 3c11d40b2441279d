"""MNIST's four files: what they must hold, and how their bytes are read and verified."""

import hashlib
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from minidbp.data.errors import DataError
from minidbp.data.idx import parse_idx
from minidbp.files.reading import read_bytes


@dataclass(frozen=True)
class MnistFile:
    """One of the four files: its name without .gz, its array's shape, the SHA-256 of its decoded bytes."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def n_bytes(self) -> int:
        """Size of the uncompressed file: 4 bytes of magic number, 4 per axis, 1 per element."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


TRAIN_IMAGES = MnistFile(
    "train-images-idx3-ubyte",
    (60_000, 28, 28),
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TRAIN_LABELS = MnistFile(
    "train-labels-idx1-ubyte",
    (60_000,),
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
)
TEST_IMAGES = MnistFile(
    "t10k-images-idx3-ubyte",
    (10_000, 28, 28),
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
TEST_LABELS = MnistFile(
    "t10k-labels-idx1-ubyte",
    (10_000,),
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

# Decoding stops past the largest of the four files, not past the one that was asked for, so that swapped
# files can still be recognised. Gzip adds far less than 1 MiB to 47 MB even where it compresses nothing.
MOST_DECODED = max(file.n_bytes for file in FILES)
MOST_STORED = MOST_DECODED + 2**20


def find(folder: Path, file: MnistFile) -> Path | None:
    """The path of `file` in `folder`, gzipped if there are both, or None if there is neither."""
    for path in (folder / f"{file.name}.gz", folder / file.name):
        if os.path.lexists(path):  # a dangling link is there, and is unreadable, rather than missing
            return path
    return None


def read_verified(path: Path, file: MnistFile, remedy: str) -> bytes:
    """The uncompressed bytes of `path` (gzipped if it is called .gz), which are `file`'s to the last bit.

    Raises DataError, ending in `remedy`, for anything else: unreadable, truncated, changed, swapped, or far
    too large, which is noticed without decoding more than the largest of the four files.
    """
    try:
        raw = _decoded(path)
        _verify(raw, file, path)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error.__cause__
    return raw


def _decoded(path: Path) -> bytes:
    stored = read_bytes(path, MOST_STORED, DataError)
    if path.suffix != ".gz":
        return stored
    if not stored.startswith(b"\x1f\x8b"):
        start = stored[:2].hex(" ") or "nothing"
        raise DataError(f"{path} is not a gzip file: it begins with {start} where 1f 8b would be right")
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: gzip's header and checksum
    try:
        raw = gunzip.decompress(stored, MOST_DECODED + 1)
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file ({error})") from error
    if len(raw) > MOST_DECODED:
        raise DataError(f"{path} decodes to more than {MOST_DECODED} bytes, the most a file of MNIST has")
    if not gunzip.eof:
        raise DataError(f"{path} is a truncated gzip file: its {len(stored)} bytes end before its data do")
    if gunzip.unused_data:
        raise DataError(f"{path} has {len(gunzip.unused_data)} bytes too many after the end of its gzip data")
    return raw


def _verify(raw: bytes, file: MnistFile, path: Path) -> None:
    digest = hashlib.sha256(raw).hexdigest()
    if digest == file.sha256:
        return
    for other in FILES:
        if digest == other.sha256:
            raise DataError(f"{path} holds {other.name}: the files were swapped")
    # Where the format itself is broken, the parser's error says more than a digest does.
    parse_idx(raw, len(file.shape), str(path))
    raise DataError(
        f"{path} does not hold MNIST's bytes (SHA-256 {digest[:12]}..., not {file.sha256[:12]}...): "
        "it was changed, or belongs to another data set"
    )

"""NumPy's .npz, as `np.savez` writes it and `np.load` reads it: named arrays in a zip file, one .npy each.

The reader is ours, because `np.load` believes the file: the sizes it declares, headers that are Python, pickles.  This
one takes what `np.savez` makes and nothing else: members as they are (neither compressed nor encrypted) that fill the
file without a gap, each as long as it says and with the CRC-32 it says; in each a .npy header of one form, which is
compared with what the caller expects and never evaluated.  Nothing is read, and no memory taken, on a file's word.

What protects what: the CRC-32 of a member covers its .npy header and its numbers, and finds every change of up to 32
bits in a row (others but for one in 2^32).  The zip headers are checked against each other and against the file's
length.  Dates and attributes in them are not looked at.  A CRC is no signature: who wants to can write other numbers.
"""

import io
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

END = struct.Struct("<4s4H2LH")
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s22x2H")
NAME = re.compile(rb"([A-Za-z0-9_]{1,64})\.npy")
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<>|=A-Za-z0-9]{1,32})', 'fortran_order': (True|False), "
    rb"'shape': (\([0-9, ]*\)), \} *\n",
    re.DOTALL,
)
MOST_HEADER = 1 << 10  # bytes; np.savez needs 128
NUMBERS = {"<f4": "float32", "<f8": "float64"}


@dataclass(frozen=True)
class Member:
    """An array that is still bytes: what its .npy header says, and what follows the header."""

    name: str
    descr: str
    fortran_order: bool
    shape: str
    body: memoryview
    source: str
    error: type[ValueError]

    def array(self, like: np.ndarray) -> np.ndarray:
        """A read-only array of finite numbers with the shape and dtype of `like`; it shares the file's memory."""
        wanted, found = (
            f"{NUMBERS.get(descr, descr)} of shape {shape}"
            for descr, shape in ((like.dtype.str, like.shape), (self.descr, self.shape))
        )
        if found != wanted:
            raise self.error(f"{self.source}: {self.name} should be {wanted}; it is {found}")
        self._check_length(math.prod(like.shape) * like.dtype.itemsize)
        flat = np.frombuffer(self.body, like.dtype)
        if not np.isfinite(flat).all():
            raise self.error(f"{self.source}: {self.name} holds NaN or infinite numbers")
        return flat.reshape(like.shape[::-1]).T if self.fortran_order else flat.reshape(like.shape)

    def text(self) -> str:
        """The one string that `np.array(text)` made this member of."""
        letters = re.fullmatch(r"<U([0-9]{1,9})", self.descr)
        if letters is None or self.shape != "()":
            raise self.error(f"{self.source}: {self.name} should be one text; it is {self.descr} of shape {self.shape}")
        self._check_length(4 * int(letters[1]))
        try:
            return str(self.body, "utf-32-le").rstrip("\0")
        except UnicodeDecodeError:
            raise self.error(f"{self.source}: {self.name} is not text in UTF-32") from None

    def _check_length(self, right: int) -> None:
        if len(self.body) != right:
            raise self.error(f"{self.source}: {self.name} has {len(self.body)} bytes where {right} are right")


def dump_npz(members: Mapping[str, np.ndarray | str]) -> bytes:
    """The .npz file of these arrays and texts; the same members give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in members.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def parse_npz(raw: bytes, source: str, error: type[ValueError]) -> dict[str, Member]:
    """The members of an .npz file that `dump_npz` made, by name, their CRC-32 verified.

    `source` names the data in errors.  Raises `error`, and from it the members raise theirs.
    """
    return {name: _member(name, data, source, error) for name, data in _stored(raw, source, error).items()}


def _stored(raw: bytes, source: str, error: type[ValueError]) -> dict[str, memoryview]:
    """The files in a zip file, by name without .npy."""

    def damaged(why: str) -> ValueError:
        return error(f"{source} is not an .npz file of minidbp, or is damaged: {why}")

    end = len(raw) - END.size
    if end < 0 or raw[end : end + 4] != b"PK\5\6":
        raise damaged("it does not end as a zip file does")
    _, disk, its_disk, here, number, size, directory, comment = END.unpack_from(raw, end)
    if (disk, its_disk, here, comment) != (0, 0, number, 0) or directory + size != end:
        raise damaged("the end of the zip file contradicts itself")
    view, sums = memoryview(raw), []
    found: dict[str, memoryview] = {}
    at, position = directory, 0  # where the next entry of the directory is, and where its file must begin
    try:
        for _ in range(number):
            (signature, _, _, flags, method, _, _, crc, stored, size, letters, extra, comment, disk, _, _, offset) = (
                ENTRY.unpack_from(raw, at)
            )
            if signature != b"PK\1\2" or (extra, comment, disk, offset) != (0, 0, 0, position):
                raise damaged(f"entry {len(found) + 1} of its zip directory is wrong")
            name = raw[at + ENTRY.size : at + ENTRY.size + letters]
            known = NAME.fullmatch(name)
            if known is None or known[1].decode() in found:
                raise damaged(f"it has a member {_short(name)}, which is no name of an array or is there twice")
            if flags or method or stored != size:
                raise damaged(f"{_short(name)} is compressed or encrypted")
            signature, letters, extra = LOCAL.unpack_from(raw, position)
            start = position + LOCAL.size + letters
            if signature != b"PK\3\4" or raw[position + LOCAL.size : start] != name:
                raise damaged(f"{_short(name)} is not where its zip directory says")
            at, position = at + ENTRY.size + len(name), start + extra + size
            if position > directory:
                raise damaged(f"{_short(name)} is longer than the file")
            found[known[1].decode()] = view[start + extra : position]
            sums.append(crc)
    except struct.error:
        raise damaged("its zip directory is cut off") from None
    if (at, position) != (end, directory):
        raise damaged("it has bytes that belong to no member")
    for (key, data), crc in zip(found.items(), sums, strict=True):
        if zlib.crc32(data) != crc:
            raise damaged(f"{key} does not have the checksum that it should have")
    return found


def _member(name: str, data: memoryview, source: str, error: type[ValueError]) -> Member:
    header = HEADER.match(data[:MOST_HEADER])
    if header is None or 10 + int.from_bytes(header[1], "little") != header.end():
        raise error(f"{source}: {name} is not an array of one plain kind, as minidbp writes them")
    descr, order, shape = (header[i].decode("latin-1") for i in (2, 3, 4))
    return Member(name, descr, order == "True", shape, data[header.end() :], source, error)


def _short(name: bytes) -> str:
    return repr(name[:40].decode("latin-1"))

"""Files that are written whole or not at all, also when the disk is full, the process is killed or the power fails."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write to; it becomes `path` at the end of the block.  If the block fails, nothing is left.

    The bytes are on the disk before the file takes the name, so a power cut leaves the old file or the new one.  A
    killed process leaves `NAME.????????.part` beside it; see `remove_leftovers`.  The umask decides who may read it.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the interrupt came just after the replacement; or the folder is missing
            temporary.unlink()
        if isinstance(error, OSError) and error.errno:
            error.filename = str(path)  # a failed write names no file, a failed replacement names the .part
        raise
    with contextlib.suppress(OSError):  # the new name too should be on the disk; not every system can open folders
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, raw: bytes) -> None:
    """Write `raw` to `path`, whole or not at all.  Raises OSError."""
    with atomic_write(path) as file:
        file.write(raw)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.  Raises OSError."""
    write_bytes(path, text.encode())


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it.  Raises OSError.

    Call it only while nobody else can write `path`, for example while holding its lock.
    """
    leftover = re.compile(re.escape(path.name) + r"\.[^.]+\.part")
    for other in path.parent.iterdir():
        if leftover.fullmatch(other.name):
            other.unlink(missing_ok=True)

"""Files that appear whole or not at all, whatever happens meanwhile: a full disk, a kill, a power cut."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write to; it becomes `path` at the end of the block, and nothing is left if the block fails.

    Its bytes are on the disk before it takes the name, so a power cut leaves the old file or the new one.  A killed
    process leaves `NAME.????????.part` beside it: see `remove_leftovers`.  Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):  # interrupted just after the replacement
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno:
            error.filename = str(path)  # a write that fails does not say where, a replacement names the .part
        raise
    _sync_folder(path.parent)


def write_bytes(path: Path, raw: bytes) -> None:
    """Write `raw` to `path`, whole or not at all.  Raises OSError."""
    with atomic_write(path) as file:
        file.write(raw)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.  Raises OSError."""
    write_bytes(path, text.encode())


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it.

    Only for whoever knows that nobody else is writing `path` now, such as the holder of its lock.  Raises OSError.
    """
    leftover = re.compile(re.escape(path.name) + r"\.[^.]+\.part")  # mkstemp's letters have no dot: no other file's
    for other in path.parent.iterdir():
        if leftover.fullmatch(other.name):
            other.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where the system can: Windows opens no folder, some file systems refuse."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

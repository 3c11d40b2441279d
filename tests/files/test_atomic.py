"""A file appears whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from minidbp.files import atomic
from minidbp.files.atomic import atomic_write, remove_leftovers, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("before", [None, b"old"])
def test_the_file_appears_at_the_end_of_the_block(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "a.bin"
    if before:
        path.write_bytes(before)
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert (path.read_bytes() if path.exists() else None) == before
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="the system has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read_the_file(tmp_path: Path, umask: int) -> None:
    path, before = tmp_path / "a.bin", os.umask(umask)
    try:
        for _ in range(2):
            write_bytes(path, b"new")
            assert path.stat().st_mode & 0o777 == 0o666 & ~umask
            path.chmod(0o600)  # a file that replaces another is as new
    finally:
        os.umask(before)


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, before: bytes | None, error: type[BaseException]
) -> None:
    path = tmp_path / "a.bin"
    if before:
        path.write_bytes(before)

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error("planned")

    with pytest.raises(error, match="planned"):
        fail()
    assert names(tmp_path) == (["a.bin"] if before else [])
    if before:
        assert path.read_bytes() == before


def test_a_folder_in_its_place_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "a") as file:
        file.write(b"new")
    assert names(tmp_path) == ["a"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "t.md", "λ = 0 ± 1\n")
    assert (tmp_path / "t.md").read_bytes() == "λ = 0 ± 1\n".encode()


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_text(tmp_path / "none" / "t.md", "")
    assert names(tmp_path) == []


# -- what the system does -------------------------------------------------------------------------------------------


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        info = os.fstat(descriptor)
        said.append("folder" if info.st_ino == tmp_path.stat().st_ino else info.st_size)
        sync(descriptor)

    def noted_replace(*names: Any) -> None:
        said.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_bytes(tmp_path / "a", b"12345")
    assert said == [5, "replace", "folder"]


def test_a_system_that_cannot_sync_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == tmp_path.stat().st_ino:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("size", [10, 10_000_000])  # told at the flush, told at the write
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writes go to /dev/full, where the kernel itself says ENOSPC."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def on_a_full_disk(name: Path, mode: str) -> IO[bytes]:
        open(name, mode).close()
        return open("/dev/full", "wb")

    monkeypatch.setattr(atomic, "open", on_a_full_disk, raising=False)
    with pytest.raises(OSError) as caught:
        write_bytes(path, bytes(size))
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_an_error_that_comes_late_leaves_the_old_file(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network disks tell that they are full when the bytes are to be on them."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, place, full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_just_after_the_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def and_interrupt(*names: Any) -> None:
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


WRITER = """
import sys
from pathlib import Path
from minidbp.files.atomic import write_bytes
path, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    write_bytes(path, bytes([number % 251]) * 3_000_000)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_file_is_whole_and_leftovers_can_be_removed(tmp_path: Path) -> None:
    path, rng, left = tmp_path / "a.safetensors", np.random.default_rng(0), 0
    others = [
        "b.safetensors.abcdefgh.part",
        "a.safetensors.part",
        "a.safetensors.x.abcdefgh.part",
        "xa.safetensors.abcdefgh.part",
        "a.safetensors.abcdefgh",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"not ours")
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=float(rng.uniform(0, 0.1)))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            raw = path.read_bytes()
            assert len(raw) == 3_000_000
            assert len(set(raw)) == 1
        left += len(names(tmp_path)) - len(others) - path.exists()
        remove_leftovers(path)
        assert names(tmp_path) == sorted([*others, *(["a.safetensors"] if path.exists() else [])])
    assert path.exists()
    assert left > 0  # some were killed in the middle


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(OSError) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as write() does: without a name
    assert caught.value.filename == str(path)
    assert names(tmp_path) == []

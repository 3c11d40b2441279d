"""A file appears whole or not at all."""

import errno
from pathlib import Path

import pytest

from minidbp.atomic import atomic_write, write_text


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
    assert path.stat().st_mode & 0o777 == 0o644


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


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(OSError) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as write() does: without a name
    assert caught.value.filename == str(path)
    assert names(tmp_path) == []

"""Real damage to real files: always a DataError, or the right bytes."""

import errno
import gzip
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidbp.data import DataError
from minidbp.data.files import (
    FILES,
    MOST_ADDED,
    MOST_DECODED,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    MnistFile,
    find,
    parse_idx,
    read_verified,
)

NAME = "t10k-labels-idx1-ubyte"


@pytest.fixture(scope="session")
def stored(originals: Path) -> bytes:
    return (originals / f"{NAME}.gz").read_bytes()


@pytest.fixture(scope="session")
def plain(stored: bytes) -> bytes:
    return gzip.decompress(stored)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def flip(data: bytes, position: int) -> bytes:
    position %= len(data)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def error_of(path: Path, file: MnistFile = TEST_LABELS) -> str:
    """The one sentence about `path`, which must name it."""
    with pytest.raises(DataError) as caught:
        read_verified(path, file)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_originals_have_the_declared_sizes(originals: Path, file: MnistFile) -> None:
    assert len(read_verified(originals / f"{file.name}.gz", file)) == file.n_bytes


def test_an_uncompressed_file_will_do(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / NAME).write_bytes(plain)
    path = find(tmp_path, TEST_LABELS)
    assert path == tmp_path / NAME
    assert read_verified(path, TEST_LABELS) == plain


def test_the_gzipped_file_is_preferred(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    (tmp_path / f"{NAME}.gz").touch()
    assert find(tmp_path, TEST_LABELS) == tmp_path / f"{NAME}.gz"


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert find(tmp_path, TEST_LABELS) is None


@pytest.mark.parametrize("kept", [2, 5, 17, 2000, -9, -8, -1])
def test_truncated_gzip(tmp_path: Path, stored: bytes, kept: int) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(stored[:kept])
    assert "is a truncated gzip file" in error_of(path)


@pytest.mark.parametrize("content", [b"", b"\x1f", b"PK\3\4", b"<html>not found</html>", b"\0\0\x08\1"])
def test_not_gzip_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(content)
    assert "is not a gzip file" in error_of(path)


def test_a_flipped_bit_in_the_compressed_data(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(flip(stored, 3000))
    assert "is a damaged gzip file" in error_of(path)


def test_a_flipped_bit_in_the_checksum(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(flip(stored, -8))
    assert "is a damaged gzip file" in error_of(path)


@pytest.mark.parametrize("position", [8, 5000, -1])
def test_a_flipped_bit_that_was_compressed_again(tmp_path: Path, plain: bytes, position: int) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(gzip.compress(flip(plain, position)))
    assert "does not hold MNIST's bytes (SHA-256 " in error_of(path)


def test_a_flipped_bit_in_an_uncompressed_file(tmp_path: Path, plain: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(flip(plain, 5000))
    assert "does not hold MNIST's bytes" in error_of(path)


@pytest.mark.parametrize("extra", [b"\0", b"trailing garbage", gzip.compress(b"more", mtime=0)])
def test_bytes_after_the_gzip_data(tmp_path: Path, stored: bytes, extra: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(stored + extra)
    assert f"has {len(extra)} bytes too many after the end of its gzip data" in error_of(path)


@pytest.mark.parametrize(("cut", "extra"), [(0, b"\0"), (1, b"")])
def test_a_wrong_length_inside(tmp_path: Path, plain: bytes, cut: int, extra: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(gzip.compress(plain[: len(plain) - cut] + extra))
    assert "the shape it declares, (10000,), needs 10008" in error_of(path)


def test_a_wrong_magic_number(tmp_path: Path, plain: bytes) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\3" + plain[4:]))
    assert "magic number 0x00000803 where 0x00000801" in error_of(path)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (TEST_LABELS, TRAIN_LABELS),
        (TRAIN_LABELS, TEST_LABELS),
        (TEST_LABELS, TRAIN_IMAGES),  # far larger than what was asked for, and recognised all the same
        (TRAIN_IMAGES, TEST_IMAGES),
    ],
    ids=lambda file: file.name,
)
def test_swapped_files(originals: Path, tmp_path: Path, asked: MnistFile, held: MnistFile) -> None:
    path = tmp_path / f"{asked.name}.gz"
    path.symlink_to(originals / f"{held.name}.gz")
    assert f"holds {held.name}: the files were swapped" in error_of(path, asked)


def test_a_bomb_is_not_decoded_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    deflate = zlib.compressobj(level=1, wbits=31)
    path.write_bytes(b"".join(deflate.compress(bytes(2**20)) for _ in range(400)) + deflate.flush())
    tracemalloc.start()
    try:
        assert f"decodes to more than {MOST_DECODED} bytes" in error_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MOST_DECODED


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_too_large_to_be_right(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"{NAME}{suffix}"
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)  # sparse: takes no room
    assert f"is larger than the limit of {MOST_DECODED + MOST_ADDED} bytes" in error_of(path)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.mkdir()
    assert find(tmp_path, TEST_LABELS) == path
    assert "is a folder; give a file" in error_of(path)


def test_a_pipe_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    os.mkfifo(path)
    assert "is not a regular file" in error_of(path)


def test_a_dangling_link(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.gz"
    path.symlink_to(tmp_path / "nowhere")
    assert find(tmp_path, TEST_LABELS) == path
    assert "cannot be read (No such file or directory)" in error_of(path)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / f"{NAME}.gz"
    path.touch()
    monkeypatch.setattr(Path, "open", refuse)  # chmod would not keep a test that runs as root out
    assert "cannot be read (Permission denied)" in error_of(path)


@settings(deadline=None)
@given(st.data())
def test_any_damage_gives_the_right_bytes_or_a_data_error(
    scratch: Path, stored: bytes, plain: bytes, data: st.DataObject
) -> None:
    path = scratch / f"{NAME}.gz"
    damaged = bytearray(stored)
    # At either end, where the structure is, or anywhere.
    start = data.draw(
        st.one_of(st.integers(0, 40), st.integers(len(stored) - 12, len(stored)), st.integers(0, len(stored)))
    )
    damaged[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(damaged)
    try:
        assert read_verified(path, TEST_LABELS) == plain
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017  damage need not be an error


# -- the IDX format ------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_it_reads_images_in_row_major_order() -> None:
    np.testing.assert_array_equal(parse_idx(idx_bytes(IMAGES), 3), IMAGES)


def test_the_array_is_uint8_and_read_only() -> None:
    array = parse_idx(idx_bytes(IMAGES), 3)
    assert array.dtype == np.uint8
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "x holds 0 bytes, fewer than the 16 of an IDX header"),
        (idx_bytes(IMAGES)[:15], "x holds 15 bytes, fewer than the 16"),
        (idx_bytes(IMAGES)[:-1], r"x holds 39 bytes where the shape it declares, \(2, 3, 4\), needs 40"),
        (idx_bytes(IMAGES) + b"\0", "x holds 41 bytes"),
        (idx_bytes(IMAGES.reshape(6, 4)) + b"1234", "magic number 0x00000802 where 0x00000803 .* would be right"),
        (b"\0\0\x0d\x03" + idx_bytes(IMAGES)[4:], "magic number 0x00000d03"),
        (struct.pack(">4I", 0x0803, 0, 2**32 - 1, 2**32 - 1), "no axis may be empty"),
        (struct.pack(">4I", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "holds 16 bytes"),
        (struct.pack(">4I", 0x0803, 2**31, 2**31, 4), "holds 16 bytes"),  # 0 elements modulo 2**64
    ],
)
def test_a_wrong_header_or_length_is_a_data_error(raw: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(raw, 3, "x")


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 255))
def test_what_was_written_is_read_back(shape: list[int], first: int) -> None:
    array = np.arange(first, first + np.prod(shape)).astype(np.uint8).reshape(shape)
    np.testing.assert_array_equal(parse_idx(idx_bytes(array), array.ndim), array)


@settings(deadline=None)
@given(st.binary(max_size=64), st.integers(1, 3))
def test_any_bytes_give_an_array_of_all_of_them_or_a_data_error(raw: bytes, n_axes: int) -> None:
    try:
        array = parse_idx(raw, n_axes)
    except DataError:
        return
    assert array.ndim == n_axes
    assert array.tobytes() == raw[4 + 4 * n_axes :]


@settings(deadline=None)
@given(st.data())
def test_mutations_give_an_array_of_all_bytes_or_a_data_error(data: st.DataObject) -> None:
    raw = bytearray(idx_bytes(IMAGES))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        stop = data.draw(st.integers(start, min(len(raw), start + 4)))
        raw[start:stop] = data.draw(st.binary(max_size=4))
    try:
        array = parse_idx(bytes(raw), 3)
    except DataError:
        return
    assert array.tobytes() == raw[16:]


# -- every fault of a kind, and many of all kinds -------------------------------------------------------------------


@pytest.fixture
def intact_or_refused(scratch: Path, plain: bytes, faults: Any) -> Callable[[bytes, str], bool]:
    """Write these bytes to a file of this suffix, and look whether it is read as the very original, or refused."""

    def look(damaged: bytes, suffix: str) -> bool:
        path = scratch / f"{NAME}{suffix}"
        path.write_bytes(damaged)

        def assert_right() -> None:
            assert read_verified(path, TEST_LABELS) == plain

        return faults.intact_or_refused(assert_right, DataError)

    return look


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_truncations(stored: bytes, plain: bytes, suffix: str, intact_or_refused: Callable) -> None:
    whole = stored if suffix else plain
    for kept in [*range(300), *range(300, len(whole), 7), *range(len(whole) - 300, len(whole))]:
        assert not intact_or_refused(whole[:kept], suffix), kept


def test_every_bit_of_the_idx_header(plain: bytes, intact_or_refused: Callable) -> None:
    for position in range(8):
        for bit in range(8):
            damaged = bytearray(plain)
            damaged[position] ^= 1 << bit
            assert not intact_or_refused(damaged, ""), position


def test_every_bit_of_the_gzip_header_and_checksum(stored: bytes, faults: Any, intact_or_refused: Callable) -> None:
    for position in [*range(40), *range(len(stored) - 8, len(stored))]:
        for bit in range(8):
            damaged = bytearray(stored)
            damaged[position] ^= 1 << bit
            intact_or_refused(damaged, ".gz")
    assert 0 < faults.intact < 200  # the date, the system and the name are dead bytes


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_ten_thousand_mutations(
    stored: bytes, plain: bytes, mutated: Callable, suffix: str, faults: Any, intact_or_refused: Callable
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        intact_or_refused(mutated(stored if suffix else plain, rng), suffix)
    assert faults.intact < 1000
    assert suffix or faults.intact == 0  # an IDX file has no dead bytes

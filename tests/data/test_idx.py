import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidbp.data import DataError
from minidbp.data.idx import parse_idx


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
        (
            idx_bytes(IMAGES.reshape(6, 4)) + b"1234",
            "magic number 0x00000802 where 0x00000803 .* would be right",
        ),
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

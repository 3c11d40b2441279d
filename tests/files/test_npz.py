"""The .npz reader: what NumPy writes comes back, and nothing else does any harm."""

import io
import os
import pickle
import re
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.files.npz import dump_npz, parse_npz

ARRAYS: dict[str, np.ndarray | str] = {
    "name": "λ = 0 €\U0001f600",
    "W1": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "F1": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "mixed": np.moveaxis(np.arange(24.0, dtype=np.float32).reshape(4, 2, 3), 0, -1),
    "b1": np.float32([1.5]),
    "scalar": np.array(2.5),
    "nothing": np.zeros((0, 3), np.float32),
    "empty_text": "",
}
RAW = dump_npz(ARRAYS)


class BadFile(ValueError):
    pass


def content(raw: bytes) -> dict[str, Any]:
    """What a caller gets who expects ARRAYS: texts, and arrays as (dtype, shape, bytes)."""
    members = parse_npz(raw, "the file", BadFile)
    if set(members) != set(ARRAYS):
        raise BadFile("other names")
    found: dict[str, Any] = {}
    for name, value in ARRAYS.items():
        if isinstance(value, str):
            found[name] = members[name].text()
        else:
            array = members[name].array(value)
            found[name] = array.dtype, array.shape, array.tobytes()
    return found


RIGHT = content(RAW)


def refused(raw: bytes) -> str:
    """The error of these bytes: one sentence, within a second, with no more memory than a few times the file."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(BadFile) as caught:
            content(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 1
    assert peak < 100_000 + 3 * len(raw)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


def assert_right(raw: bytes) -> None:
    assert content(raw) == RIGHT


# -- what is right --------------------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    for name, value in ARRAYS.items():
        if isinstance(value, str):
            assert RIGHT[name] == value
        else:
            assert RIGHT[name] == (value.dtype, value.shape, value.tobytes())


def test_numpy_and_zip_tools_can_open_it() -> None:
    with np.load(io.BytesIO(RAW), allow_pickle=False) as file:
        assert set(file.files) == set(ARRAYS)
        for name, value in ARRAYS.items():
            np.testing.assert_array_equal(file[name], value)
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive:
        assert archive.testzip() is None


def test_the_arrays_share_the_files_memory_and_are_read_only() -> None:
    ones = np.ones(1_000_000)
    raw = dump_npz({"a": ones})
    tracemalloc.start()
    array = parse_npz(raw, "f", BadFile)["a"].array(ones)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # of np.isfinite
    assert not array.flags.writeable


def test_the_same_members_give_the_same_bytes() -> None:
    assert dump_npz(ARRAYS) == RAW


# -- every fault of a kind ------------------------------------------------------------------------------------------


def headers() -> list[int]:
    """Where the bytes of RAW are that are not numbers or letters of a member: zip headers, .npy headers."""
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive:
        places = list(range(archive.start_dir, len(RAW)))
        for info in archive.infolist():
            places += range(info.header_offset, info.header_offset + 30 + len(info.filename) + 20 + 128)
    return [p for p in sorted(set(places)) if p < len(RAW)]


def test_every_bit_of_every_header(faults: Any) -> None:
    places = headers()
    assert len(places) > 8 * (30 + 20 + 128 + 46)
    for place in places:
        for bit in range(8):
            damaged = bytearray(RAW)
            damaged[place] ^= 1 << bit
            faults.intact_or_refused(lambda raw=bytes(damaged): assert_right(raw), BadFile)
    assert faults.intact < 0.4 * 8 * len(places)  # dates, attributes, versions, and the sizes that stand twice


def test_every_byte_of_a_member_counts() -> None:
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive:
        for info in archive.infolist():
            start = RAW.index(b"\x93NUMPY", info.header_offset)
            for place in range(start, start + info.file_size):
                damaged = bytearray(RAW)
                damaged[place] ^= 0x10
                with pytest.raises(BadFile, match="does not have the checksum"):
                    content(bytes(damaged))


def test_every_truncation_from_either_end(faults: Any) -> None:
    for length in range(len(RAW)):
        for raw in RAW[:length], RAW[len(RAW) - length :]:
            assert not faults.intact_or_refused(lambda raw=raw: assert_right(raw), BadFile)


def test_ten_thousand_mutations(mutated: Callable[[bytes, np.random.Generator], bytes], faults: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10_000):
        faults.intact_or_refused(lambda: assert_right(mutated(RAW, rng)), BadFile)
    assert faults.intact < 1000


# -- files made to do harm ------------------------------------------------------------------------------------------


def with_header(descr: str = "'<f4'", shape: str = "(3, 4)", order: str = "False", body: bytes = bytes(48)) -> bytes:
    """ARRAYS in a sound zip file, with an .npy header of one's own in W1."""
    return with_npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1"), body)


def with_npy(header: bytes, body: bytes = bytes(48)) -> bytes:
    return with_member(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body)


def with_member(raw: bytes, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(RAW)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if info.filename == "W1.npy":
                new.writestr("W1.npy", raw, **how)
            else:
                new.writestr(info.filename, old.read(info))
    return buffer.getvalue()


def test_a_sound_file_by_these_means_is_read() -> None:
    content(with_header())
    content(with_header(order="True"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        # numbers that would take terabytes, be negative, overflow
        (with_header(shape="(1000000, 1000000)"), r"W1 should be float32 of shape \(3, 4\); it is .*1000000"),
        (with_header(shape="(18446744073709551617, 12)"), "W1 should be float32"),
        (with_header(shape="(-3, -4)"), "not an array of one plain kind"),
        (with_header(shape="(3, 4"), "not an array of one plain kind"),
        (with_header(shape="(" + "3, " * 10_000 + ")"), "not an array of one plain kind"),
        (with_header(descr="'<U1000000000'", shape="()"), "W1 should be float32"),
        # the right header before too few, too many numbers
        (with_header(body=bytes(47)), "W1 has 47 bytes where 48 are right"),
        (with_header(body=bytes(52)), "W1 has 52 bytes where 48 are right"),
        # other kinds
        (with_header(descr="'|O'"), r"it is \|O of shape"),
        (with_header(descr="[('a', '<f4')]"), "not an array of one plain kind"),
        (with_header(descr="'<f8'"), "it is float64 of shape"),
        (with_header(descr="'>f4'"), "it is >f4 of shape"),
        (with_header(descr="'<f4\x1b[2J'"), "not an array of one plain kind"),
        (with_header(body=np.full(12, np.nan, "<f4").tobytes()), "W1 holds NaN or infinite numbers"),
        (with_header(body=np.full(12, -np.inf, "<f4").tobytes()), "W1 holds NaN or infinite numbers"),
        # Python where a header should be: np.load evaluates literals
        (with_npy(b"(" * 60_000), "not an array of one plain kind"),
        (with_npy(b"-" * 60_000 + b"1"), "not an array of one plain kind"),
        (with_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" + b" " * 5000 + b"\n"), "not an arr"),
        (with_npy(b"__import__('os').abort()\n"), "not an array of one plain kind"),
        (with_member(b""), "not an array of one plain kind"),
        (with_member(b"\x93NUMPY\x02\x00" + bytes(200)), "not an array of one plain kind"),
        # zip's ways
        (with_member(bytes(50_000_000), compress_type=zipfile.ZIP_DEFLATED), "'W1.npy' is compressed"),
        (with_member(bytes(5_000_000), compress_type=zipfile.ZIP_LZMA), "'W1.npy' is compressed"),
    ],
)  # fmt: skip
def test_a_sound_zip_file_with_harm_in_it(raw: bytes, message: str) -> None:
    assert re.search(message, refused(raw))


def patched(*patches: tuple[str, int, int, int]) -> bytes:
    """RAW with numbers of its zip headers replaced: (which header of b1, offset in it, bytes, value)."""
    raw = bytearray(RAW)
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive:
        local = archive.getinfo("b1.npy").header_offset
        entry = RAW.index(b"b1.npy", archive.start_dir) - 46
    places = {"local": local, "entry": entry, "end": len(RAW) - 22}
    for which, offset, size, value in patches:
        start = places[which] + offset
        raw[start : start + size] = value.to_bytes(size, "little")
    return bytes(raw)


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        ([("entry", 8, 2, 1), ("local", 6, 2, 1)], "'b1.npy' is compressed or encrypted"),
        ([("entry", 8, 2, 8), ("local", 6, 2, 8)], "'b1.npy' is compressed or encrypted"),
        ([("entry", 10, 2, 8)], "'b1.npy' is compressed or encrypted"),
        ([("entry", 20, 4, 2**32 - 1), ("entry", 24, 4, 2**32 - 1)], "'b1.npy' is longer than the file"),
        ([("entry", 24, 4, 2**32 - 2)], "'b1.npy' is compressed or encrypted"),
        ([("entry", 42, 4, 0)], "entry 5 of its zip directory is wrong"),  # the place of another: overlapping
        ([("entry", 42, 4, 2**32 - 1)], "entry 5 of its zip directory is wrong"),
        ([("entry", 30, 2, 20)], "entry 5 of its zip directory is wrong"),  # where zip64's sizes would be
        ([("entry", 34, 2, 1)], "entry 5 of its zip directory is wrong"),
        ([("entry", 28, 2, 60_000)], "no name of an array"),
        ([("entry", 46, 2, int.from_bytes(b"W1", "little"))], "a member 'W1.npy', which .* is there twice"),
        ([("entry", 46, 2, int.from_bytes(b"..", "little"))], "no name of an array"),
        ([("local", 30, 2, int.from_bytes(b"W1", "little"))], "'b1.npy' is not where its zip directory says"),
        ([("local", 28, 2, 60_000)], "longer than the file|is wrong"),
        ([("end", 8, 2, 65_535), ("end", 10, 2, 65_535)], "its zip directory is cut off|is wrong"),
        ([("end", 8, 2, 2), ("end", 10, 2, 2)], "bytes that belong to no member"),
        ([("end", 10, 2, 65_535)], "contradicts itself"),
        ([("end", 12, 4, 2**32 - 1)], "contradicts itself"),
        ([("end", 16, 4, 0)], "contradicts itself"),
        ([("end", 20, 2, 1)], "contradicts itself"),
    ],
)
def test_zip_headers_that_lie(patches: list, message: str) -> None:
    assert re.search(message, refused(patched(*patches)))


def test_bytes_before_between_and_after() -> None:
    for raw in b"#!/bin/sh\n" + RAW, RAW + b"\0", RAW[:-22] + bytes(56) + RAW[-22:]:
        assert "damaged" in refused(raw)


def test_a_zip_of_65535_empty_members_is_refused_at_the_first() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(65_535):
            archive.writestr(f"a{i}.npy", b"")
    with pytest.raises(BadFile):
        content(buffer.getvalue())


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    """np.load(allow_pickle=True) would run it: shown first, so that the test can fail."""
    trap = tmp_path / "was-here"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(trap),)

    for raw in [dump_npz({**ARRAYS, "W1": np.full((3, 4), Trap(), object)}), pickle.dumps(Trap())]:
        with pytest.raises(BadFile):
            content(raw)
        assert not trap.exists()
    with np.load(io.BytesIO(dump_npz({"W1": np.array([Trap()], object)})), allow_pickle=True) as file:
        file["W1"]
    assert trap.exists()

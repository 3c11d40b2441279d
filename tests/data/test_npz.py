"""Damaged, hostile and foreign .npz files: always a DataError in one sentence, or the right arrays."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.data import DataError
from minidbp.data import npz as npz_module
from minidbp.data.npz import read_npz

X = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
Y = np.array([0, 1])


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def header(dtype: str = "'|u1'", order: str = "False", shape: str = "(2, 3, 4)") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i2", "<f2", "<f4", ">f8"])
def test_what_numpy_saved_is_read(tmp_path: Path, save: Callable, dtype: str) -> None:
    save(tmp_path / "a.npz", x=X.astype(dtype), y=Y, z=np.array([None]))  # z is not looked at
    arrays = read_npz(tmp_path / "a.npz", ["x", "y"], ["x_test"])
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], X)
    assert arrays["x"].dtype == np.dtype(dtype)


def test_an_array_in_fortran_order_is_read_as_it_was(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(X))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["x"])["x"], X)


def test_optional_arrays_are_read_where_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y_test=Y)
    assert list(read_npz(tmp_path / "a.npz", ["x"], ["x_test", "y_test"])) == ["x", "y_test"]


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([{"a": 1}], dtype=object), allow_pickle=True)

WRONG = {
    "nothing": (b"", "is not an .npz file, or is damaged (File is not a zip file)"),
    "a .npy file": (npy(header(), bytes(24)), "is not an .npz file, or is damaged"),
    "a pickle": (pickle.dumps({"x": 1}), "is not an .npz file, or is damaged"),
    "an empty archive": (zipped({}), "lacks the array x; it holds nothing"),
    "Keras' names": (saved(x_train=X, y_train=Y), "lacks the array x; it holds x_train, y_train"),
    "objects": (zipped({"x.npy": OBJECTS.getvalue()}), "x holds Python objects, which are not read"),
    "records": (saved(x=np.zeros(3, "u1,f4")), "x holds [('f0', 'u1'), ('f1', '<f4')]; numbers are right"),
    "texts": (saved(x=np.array(["a"])), "x holds <U1; numbers are right"),
    "complex": (saved(x=np.array([1j])), "x holds complex128; numbers are right"),
    "dates": (saved(x=np.array(["2020"], "M8[Y]")), "x holds datetime64[Y]; numbers are right"),
    "no .npy": (zipped({"x.npy": b"garbage"}), "x is not an array that numpy.savez wrote ("),
    "another version": (zipped({"x.npy": npy(header(), bytes(24), b"\7\0")}), "x is not an array that numpy.savez"),
    "a call": (zipped({"x.npy": npy("__import__('os').system('touch HACKED')\n")}), "x is not an array that"),
    "deep brackets": (zipped({"x.npy": npy("(" * 9000 + ")" * 9000)}), "x is not an array that numpy.savez wrote ("),
    "brackets left open": (zipped({"x.npy": npy("(" * 9000)}), "x is not an array that numpy.savez wrote ("),
    "a shape of bools": (zipped({"x.npy": npy(header(shape="(True, 24)"), bytes(24))}), "x is damaged: no array that"),
    "no shape": (zipped({"x.npy": npy("{'descr': '|u1'}\n")}), "x is not an array that numpy.savez wrote ("),
    "too short": (
        zipped({"x.npy": npy(header(), bytes(23))}),
        "uint8 of shape (2, 3, 4) has 24 bytes, and 23 are there",
    ),
    "too long": (zipped({"x.npy": npy(header(), bytes(25))}), "has 24 bytes, and 25 are there"),
    "a huge shape": (
        zipped({"x.npy": npy(header(shape=f"({2**29}, {2**30})"))}),
        f"has {2**59} bytes, and 0 are there",
    ),
    "a negative shape": (zipped({"x.npy": npy(header(shape="(-1, -24)"), bytes(24))}), "x is damaged: no array that"),
    "3,000 axes": (zipped({"x.npy": npy(header(shape=f"({'1,' * 3000})"), b"1")}), "has the shape (1, 1, 1"),
    "a shape of 8,000 digits": (zipped({"x.npy": npy(header(shape=f"({'9' * 4000}, {'9' * 4000})"), b"1")}), "(999"),
    "bzip2": (zipped({"x.npy": npy(header(), bytes(24))}, zipfile.ZIP_BZIP2), "x is compressed by a method that"),
    "a flipped bit": (saved(x=X).replace(X.tobytes(), X.tobytes()[:-1] + b"?"), "x is damaged (Bad CRC-32 for file"),
}


@pytest.mark.parametrize(("raw", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        read_npz(path, ["x"])
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert not Path("HACKED").exists()


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    raw = bytearray(saved(x=X))
    for signature, offset in (b"PK\3\4", 6), (b"PK\1\2", 8):
        raw[raw.index(signature) + offset] |= 1  # the flag that says so
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(DataError, match=r"x is damaged .*encrypted"):
        read_npz(tmp_path / "a.npz", ["x"])


@pytest.mark.parametrize("names", [["x"], ["y", "x"]])
def test_a_bomb_is_not_decoded_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setattr(npz_module, "MOST_OWN", 2**20)
    np.savez_compressed(tmp_path / "a.npz", y=np.zeros(2**19, np.uint8), x=np.zeros(2**26, np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"x makes the file's arrays larger than {2**20} bytes; uint8 takes least$"):
            read_npz(tmp_path / "a.npz", names)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**23


def test_a_file_too_large_and_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_module, "MOST_OWN", 100)
    (tmp_path / "a.npz").write_bytes(saved(x=X))
    with pytest.raises(DataError, match="larger than the limit of 100 bytes"):
        read_npz(tmp_path / "a.npz", ["x"])
    with pytest.raises(DataError, match=r"b\.npz cannot be read \(No such file or directory\)"):
        read_npz(tmp_path / "b.npz", ["x"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damage_gives_the_right_array_or_a_data_error(
    tmp_path: Path, mutated: Callable, faults: Any, save: Callable
) -> None:
    path, buffer, rng = tmp_path / "a.npz", io.BytesIO(), np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 5, 5), np.uint8)
    save(buffer, x=images)
    for _ in range(1000):
        path.write_bytes(mutated(buffer.getvalue(), rng))

        def assert_right() -> None:
            found = read_npz(path, ["x"])["x"]
            assert found.tobytes() == images.tobytes()

        faults.intact_or_refused(assert_right, DataError)

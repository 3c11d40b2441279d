"""safetensors files: what was written comes back, other programs can open it, and nothing else does any harm."""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from minidbp.files.tensors import MOST_HEADER, check_arrays, dump_tensors, parse_tensors, write_tensors

ARRAYS = {
    "W1": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "F1": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "mixed": np.moveaxis(np.arange(24.0, dtype=np.float32).reshape(4, 2, 3), 0, -1),
    "b1": np.float32([1.5]),
    "scalar": np.array(2.5),
    "nothing": np.zeros((0, 3), np.float32),
}
TEXTS = {"name": "λ = 0 €\U0001f600", "empty": "", "json": '{"a": "\\u001b\\n"}'}
RAW = dump_tensors(ARRAYS, TEXTS)


class BadFile(ValueError):
    pass


def bits(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def assert_right(raw: bytes) -> None:
    arrays, texts = parse_tensors(raw, "the file", BadFile)
    check_arrays(arrays, ARRAYS, "this test", "the file", BadFile)
    assert bits(arrays) == bits(ARRAYS)
    assert texts == TEXTS


def refused(raw: bytes) -> str:
    """The error of these bytes: one sentence, within a second, with no more memory than a few times the file."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(BadFile) as caught:
            assert_right(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 1
    assert peak < 30 * MOST_HEADER + 3 * len(raw)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return str(caught.value)


def parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a sound file."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


HEADER, NUMBERS = parts(RAW)


def with_header(header: str | bytes | dict[str, Any], numbers: bytes = NUMBERS) -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + numbers


# -- what is right --------------------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    assert_right(RAW)


def test_the_same_content_gives_the_same_bytes() -> None:
    """In any process: the library's own writer puts metadata in an order of chance."""
    assert dump_tensors(ARRAYS, TEXTS) == RAW
    raw = dump_tensors({"a": np.float32([1, 2])}, {"x": "1", "y": "2", "z": "3"})
    assert hashlib.sha256(raw).hexdigest().startswith("5e8add378d2b")


def test_the_checksum_is_that_of_the_file_without_it() -> None:
    header = copy.deepcopy(HEADER)
    sha256 = header["__metadata__"].pop("sha256")
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    assert hashlib.sha256(len(raw).to_bytes(8, "little") + raw + NUMBERS).hexdigest() == sha256


def test_safetensors_itself_reads_it(tmp_path: Path) -> None:
    assert bits(safetensors.numpy.load(RAW)) == bits(ARRAYS)
    write_tensors(tmp_path / "a.safetensors", RAW, "it", BadFile)
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert {key: text for key, text in file.metadata().items() if key != "sha256"} == TEXTS
        assert set(file.keys()) == set(ARRAYS)


@pytest.mark.slow
def test_pytorch_reads_it() -> None:
    torch = pytest.importorskip("safetensors.torch")
    tensors = torch.load(RAW)
    assert set(tensors) == set(ARRAYS)
    for name, tensor in tensors.items():
        assert tensor.is_contiguous()
        np.testing.assert_array_equal(tensor.numpy(), ARRAYS[name])


def test_what_safetensors_writes_is_read_if_the_checksum_is_there() -> None:
    texts = {**TEXTS, "sha256": HEADER["__metadata__"]["sha256"]}
    whole = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in ARRAYS.items()}
    assert_right(safetensors.numpy.save(whole, texts))
    assert "was not written by minidbp: its metadata has no sha256" in refused(safetensors.numpy.save(whole, TEXTS))
    assert "was not written by minidbp: its metadata has no sha256" in refused(safetensors.numpy.save(whole))


def test_other_dtypes_are_not_written() -> None:
    for dtype in np.float16, np.int64, np.dtype(">f4"), object:
        with pytest.raises(KeyError):
            dump_tensors({"a": np.zeros(3, dtype)}, {})


def test_memory_is_a_few_times_the_file() -> None:
    raw = dump_tensors({"a": np.ones(1_000_000)}, {})
    tracemalloc.start()
    parse_tensors(raw, "f", BadFile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.1 * len(raw)


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"^cannot write the weights to .*/none/a: No such file or directory; what was"):
        write_tensors(tmp_path / "none" / "a", RAW, "the weights", BadFile)


# -- every fault of a kind ------------------------------------------------------------------------------------------


def test_every_bit(faults: Any) -> None:
    for place in range(len(RAW)):
        for bit in range(8):
            damaged = bytearray(RAW)
            damaged[place] ^= 1 << bit
            faults.intact_or_refused(lambda raw=bytes(damaged): assert_right(raw), BadFile)
    assert faults.intact < 10  # JSON has both B and b in an escaped letter


def test_every_truncation_from_either_end(faults: Any) -> None:
    for length in range(len(RAW)):
        for raw in RAW[:length], RAW[len(RAW) - length :]:
            assert not faults.intact_or_refused(lambda raw=raw: assert_right(raw), BadFile)


def test_ten_thousand_mutations(mutated: Callable[[bytes, np.random.Generator], bytes], faults: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10_000):
        faults.intact_or_refused(lambda: assert_right(mutated(RAW, rng)), BadFile)
    assert faults.intact < 20  # spaces or a number of the header written in another way


ODD = [
    0, -1, 1, 3, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 1.5, 1e300, None, True, "", "F32",
    "F64", "F8_E4M3", "BF16", "I64", "BOOL", "\x1b", "\ud800", [], {}, [0, 0], [0, 2**64 - 1], [2**63, 2**63 + 1],
    [[1]], {"a": 1}, ["x"], [0] * 70, [1] * 70, [2**32, 2**32], [2**62, 4], [0, 2**62, 2**62],
]  # fmt: skip


def altered(header: Any, rng: random.Random) -> Any:
    """A JSON value with one of its parts left out, renamed or replaced by an odd one."""
    if isinstance(header, dict) and header and rng.random() < 0.85:
        key, chance = rng.choice(list(header)), rng.random()
        if chance < 0.1:
            del header[key]
        elif chance < 0.2:
            header[rng.choice(["__metadata__", "W1", "x\n", "shape", "dtype", "data_offsets", "sha256"])] = header[key]
        else:
            header[key] = altered(header[key], rng)
        return header
    if isinstance(header, list) and header and rng.random() < 0.7:
        index = rng.randrange(len(header))
        header[index] = altered(header[index], rng)
        return header
    return copy.deepcopy(rng.choice(ODD))


@pytest.mark.slow
def test_ten_thousand_headers_of_sound_json_that_lie(faults: Any) -> None:
    """Mutations of bytes seldom leave JSON sound; these reach the library's own checks."""
    rng = random.Random(0)
    for _ in range(10_000):
        header = json.loads(json.dumps(HEADER))
        for _ in range(rng.randrange(1, 4)):
            header = json.loads(json.dumps(altered(header, rng)))
        faults.intact_or_refused(lambda: assert_right(with_header(json.dumps(header))), BadFile)  # noqa: B023
    assert faults.intact < 500


# -- files made to do harm ------------------------------------------------------------------------------------------


def tensor(dtype: Any = "F32", shape: Any = (12,), offsets: Any = (0, 48)) -> bytes:
    """A file of one array; the checksum is there, but nobody comes to compare it."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return with_header({"__metadata__": {"sha256": ""}, "W1": entry}, bytes(48))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"hello", "would have 478560413032 bytes"),
        (b"\xff" * 100, "would have 18446744073709551615 bytes"),
        (bytes(100), "the header is not JSON"),
        (with_header("x" * (MOST_HEADER + 1)), f"would have {MOST_HEADER + 1} bytes"),
        (with_header("[" * 60_000), "at most 32 brackets"),
        (with_header('{"a":' * 12_000), "at most 32 brackets"),
        (with_header(b"{}\xff"), "is not UTF-8"),
        (with_header('{"a": NaN}'), "a number that is not finite"),
        (with_header("[]"), "must be a JSON object"),
        (with_header("{}"), "its metadata has no sha256"),
        (with_header({"__metadata__": []}), "the metadata should be an object, got []"),
        (with_header({"__metadata__": {"a": 1}}), "the metadata: `['a']` should be a text, got 1"),
        (with_header({"__metadata__": {"\x1b": 1}}), "the metadata: `['\\x1b']` should be a text"),
        (tensor(), "does not have the SHA-256"),
        (tensor(shape=[10**6, 10**6]), "is damaged: safetensors says"),
        (tensor(shape=[2**64 + 1, 12]), "is damaged: safetensors says"),
        (tensor(shape=[2**62, 4]), "is damaged: safetensors says"),
        (tensor(shape=[-3, -4]), "is damaged: safetensors says"),
        (tensor(shape="x" * 10_000), "is damaged: safetensors says"),
        (tensor(shape=[1] * 70 + [12]), "an array that NumPy cannot have"),
        (tensor(shape=[2**62, 0], offsets=[0, 0]), "is damaged: safetensors says"),
        (tensor(offsets=[0, 47]), "is damaged: safetensors says"),
        (tensor(offsets=[0, 2**64 - 1]), "is damaged: safetensors says"),
        (tensor(offsets=[48, 0]), "is damaged: safetensors says"),
        (tensor(dtype="I32"), "holds numbers of dtype 'I32'; F32 and F64 are right"),
        (tensor(dtype="BF16", shape=[24]), "holds numbers of dtype 'BF16'"),
        (tensor(dtype="O"), "is damaged: safetensors says"),
        (tensor(dtype="\x1b[2J" * 100), "is damaged: safetensors says"),
    ],
    ids=range(29),
)
def test_headers_that_lie(raw: bytes, message: str) -> None:
    assert message in refused(raw)


def test_overlapping_arrays_gaps_and_bytes_at_the_end() -> None:
    for header in (
        {**HEADER, "b1": {**HEADER["b1"], "data_offsets": [0, 4]}},
        {name: entry for name, entry in HEADER.items() if name != "b1"},
    ):
        assert "is damaged: safetensors says" in refused(with_header(header))
    for raw in b"#!/bin/sh\n" + RAW, RAW + b"\0", RAW[:-1]:
        assert "damaged" in refused(raw)


def test_an_array_or_all_texts_twice() -> None:
    """Readers disagree on which of the two counts."""
    header = json.dumps(HEADER)
    array, texts = '"b1": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}', '"__metadata__": {"sha256": "0"}'
    for more in array, texts:
        for twice in f"{header[:-1]}, {more}}}", f"{{{more}, {header[1:]}":
            assert "twice in one object" in refused(with_header(twice))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"b1": None},
            "the file should hold W1, F1, mixed, b1, scalar, nothing for this test; it holds F1, W1, mixed, n",
        ),
        ({"b2\n": np.ones(1)}, r"it holds F1, W1, b1, 'b2\n', mixed"),
        ({"W1": np.ones((3, 4))}, "W1 should be float32 of shape (3, 4); it is float64 of shape (3, 4)"),
        ({"W1": np.ones((4, 3), np.float32)}, "W1 should be float32 of shape (3, 4); it is float32 of shape (4, 3)"),
        ({"W1": np.full((3, 4), np.nan, np.float32)}, "W1 holds NaN or infinite numbers"),
        ({"scalar": np.array(-np.inf)}, "scalar holds NaN or infinite numbers"),
    ],
)
def test_sound_files_with_other_arrays(arrays: dict[str, Any], message: str) -> None:
    whole = {name: array for name, array in {**ARRAYS, **arrays}.items() if array is not None}
    assert message in refused(dump_tensors(whole, TEXTS))


def test_an_npz_file_is_told_what_to_do() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, W1=np.ones(3))
    assert refused(buffer.getvalue()).endswith(
        "is an .npz file, and only version 0.1.0 of minidbp wrote weights so: train again with this version, or "
        "use version 0.1.0"
    )


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    """`pickle.loads` would run it: shown at the end, so that the test can fail."""
    trap = tmp_path / "was-here"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(trap),)

    raw = pickle.dumps(Trap())
    for harmful in raw, with_header(HEADER, raw), with_header(raw):
        refused(harmful)
        assert not trap.exists()
    pickle.loads(raw)
    assert trap.exists()

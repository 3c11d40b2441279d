"""Reading within bounds."""

import dataclasses
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from minidbp.files.reading import MOST_DEPTH, MOST_JSON, Duration, Percent, from_json, parse_json, read_bytes, read_json


class BadFile(ValueError):
    pass


def error_of(path: Path) -> str:
    started = time.process_time()
    tracemalloc.start()
    with pytest.raises(BadFile) as caught:
        read_json(path, BadFile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * MOST_JSON
    assert time.process_time() - started < 2  # tracemalloc makes it several times slower
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} ")
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"model": "C", "lambda": 0.1, "history": [{"number": 1, "loss": 2.5e-300}], "none": None, "λ": "\U0001f600 "},
        {"integer": 2**128 - 1},
    ],
)
def test_an_object_comes_back(tmp_path: Path, value: dict) -> None:
    for ascii_only in (True, False):
        (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=ascii_only), encoding="utf-8")
        assert read_json(tmp_path / "a.json", BadFile) == value


def nested(depth: int) -> bytes:
    return b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON (Expecting value"),
        (b"{", "is not JSON ("),
        (b'{"a": 1} {}', "is not JSON (Extra data"),
        (b"[1]", "must be a JSON object; it begins with '['"),
        (b" null", "must be a JSON object; it begins with 'n'"),
        (b"\xff\xfe{", "is not UTF-8 (byte 0 is 0xff)"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b'{"a": NaN}', "a number that is not finite"),
        (b'{"a": [-Infinity]}', "a number that is not finite"),
        (b'{"a": 1e999}', "a number that is not finite"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "a number of 10000 digits; 40 are the most"),
        (b'{"a": -' + b"9" * 40 + b"}", "a number of 41 digits"),
        (b'{"a": [1e101]}', "a number beyond 1e+100: 1e101"),
        (b'{"a": -1.5e308}', "a number beyond 1e+100: -1.5e308"),
        (b'{"a": {"\x1b": 1, "b": 2, "\\u001b": 1}}', "is not JSON ("),
        (b'{"a": {"\\u001b": 1, "b": 2, "\\u001B": 1}}', "the name '\\x1b' twice in one object"),
        (b'{"a": 1, "a": 1}', "the name 'a' twice in one object"),
        (nested(MOST_DEPTH + 1), f"at most {MOST_DEPTH} brackets"),
        (nested(500_000), f"at most {MOST_DEPTH} brackets"),
        (b'{"a":' * 200_000, f"at most {MOST_DEPTH} brackets"),
        (b'{"a": [' + b"{}," * ((MOST_JSON - 20) // 3) + b"1]", "is not JSON ("),
        (b'{"a": "' + b"x" * MOST_JSON + b'"}', f"is larger than the limit of {MOST_JSON} bytes"),
    ],
    ids=range(23),
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert message in error_of(tmp_path / "a.json")


def test_the_deepest_that_is_right() -> None:
    parse_json(nested(MOST_DEPTH), "x", BadFile)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "is not a regular file" in error_of(tmp_path / "pipe")
    assert "is a folder; give a file" in error_of(tmp_path / "folder")
    assert "cannot be read (Too many levels of symbolic links)" in error_of(tmp_path / "loop")
    assert "cannot be read (No such file or directory)" in error_of(tmp_path / "none")
    assert "cannot be read (File name too long)" in error_of(tmp_path / ("a" * 300))


def test_a_file_without_end(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**40)
    assert f"is larger than the limit of {MOST_JSON} bytes" in error_of(tmp_path / "huge")


def test_exactly_as_much_as_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5, BadFile) == b"12345"
    with pytest.raises(BadFile, match="is larger than the limit of 4 bytes"):
        read_bytes(tmp_path / "a", 4, BadFile)


# -- JSON that fits a dataclass -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Epoch:
    number: int
    loss: float

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"number must be at least 1; got {self.number}")


@dataclasses.dataclass(frozen=True)
class Result:
    model: str
    diverged: bool
    epochs: list[Epoch]
    limits: tuple[float, ...]
    best: Epoch | None
    by_class: dict[str, list[float | None]]
    environment: dict[str, Any]
    share: Percent
    seconds: dict[str, Duration | None]
    threads: int = 1


RESULT = Result(
    "C", False, [Epoch(1, 2.5), Epoch(2, 1.0)], (0.0, 1e300), Epoch(2, 1.0), {"clean": [None, 1.5]},
    {"numpy": ["2", 3]}, 100.0, {"a": 0.0, "b": None},
)  # fmt: skip


def as_json() -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(RESULT)))


def test_a_dataclass_comes_back() -> None:
    assert from_json(Result, as_json(), "a.json", BadFile) == RESULT
    assert from_json(Result, {**as_json(), "best": None}, "a.json", BadFile).best is None


def test_a_whole_number_is_a_float_where_the_field_is_one() -> None:
    (lowest, highest) = from_json(Result, {**as_json(), "limits": [0, 10**100]}, "a.json", BadFile).limits
    assert (type(lowest), lowest, type(highest), highest) == (float, 0.0, float, 1e100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 3}, ": `model` should be a text, got 3"),
        ({"diverged": 1}, ": `diverged` should be true or false, got 1"),
        ({"model": ["x" * 1000]}, ": `model` should be a text, got ['" + 38 * "x"),
        ({"epochs": {}}, ": `epochs` should be a list, got {}"),
        ({"epochs": [{"number": 1, "loss": 1.0}, 1]}, ": `epochs[1]` should be an object, got 1"),
        ({"epochs": [{"number": 1.0, "loss": 1.0}]}, ": `epochs[0].number` should be a whole number, got 1.0"),
        ({"epochs": [{"number": True, "loss": 1.0}]}, ": `epochs[0].number` should be a whole number, got True"),
        ({"epochs": [{"number": 1, "loss": "1"}]}, ": `epochs[0].loss` should be a number, got '1'"),
        ({"epochs": [{"number": 1, "loss": True}]}, ": `epochs[0].loss` should be a number, got True"),
        ({"epochs": [{"number": 1, "loss": 10**400}]}, ": `epochs[0].loss` should be a number, got 1"),
        ({"epochs": [{"number": 1}]}, ": `epochs[0]` lacks loss"),
        ({"epochs": [{"number": 0, "loss": 1.0}]}, ": `epochs[0]` is not right: number must be at least 1; got 0"),
        ({"best": {"number": 1, "loss": 1, "\x1b\n": 1}}, ": `best` should hold only number, loss; it holds '\\x1b"),
        ({"best": 1}, ": `best` should be an object, got 1"),
        ({"limits": [1.0, None]}, ": `limits[1]` should be a number, got None"),
        ({"by_class": {"\n": ["x"]}}, ": `by_class['\\n'][0]` should be a number, got 'x'"),
        ({"environment": []}, ": `environment` should be an object, got []"),
        ({"share": 100.5}, ": `share` should be from 0 to 100, got 100.5"),
        ({"share": -1}, ": `share` should be from 0 to 100, got -1"),
        ({"share": "1"}, ": `share` should be a number, got '1'"),
        ({"seconds": {"a": 1e11}}, ": `seconds['a']` should be from 0 to 1e+10, got 1"),
        ({"lambda": 1}, " should hold only model, diverged, "),
    ],
    ids=range(22),
)  # fmt: skip
def test_json_that_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadFile) as caught:
        from_json(Result, as_json() | change, "a.json", BadFile)
    assert str(caught.value).startswith("a.json" + message)
    assert str(caught.value).isprintable()


def test_no_object_and_an_absent_field() -> None:
    with pytest.raises(BadFile, match=r"^a\.json should be an object, got \[\]$"):
        from_json(Result, [], "a.json", BadFile)
    with pytest.raises(BadFile, match=r"^a\.json lacks threads$"):
        from_json(Result, {key: value for key, value in as_json().items() if key != "threads"}, "a.json", BadFile)

"""Reading within bounds."""

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest

from minidbp.files.reading import MOST_DEPTH, MOST_JSON, parse_json, read_bytes, read_json


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
        (b"[1]", "is JSON, but not an object: it begins with '[' where '{' is right"),
        (b" null", "not an object: it begins with 'n'"),
        (b"\xff\xfe{", "is not UTF-8 (byte 0 is 0xff)"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b'{"a": NaN}', "a number that is not finite"),
        (b'{"a": [-Infinity]}', "a number that is not finite"),
        (b'{"a": 1e999}', "a number that is not finite"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON ("),
        (nested(MOST_DEPTH + 1), f"at most {MOST_DEPTH} brackets"),
        (nested(500_000), f"at most {MOST_DEPTH} brackets"),
        (b'{"a":' * 200_000, f"at most {MOST_DEPTH} brackets"),
        (b'{"a": [' + b"{}," * ((MOST_JSON - 20) // 3) + b"1]", "is not JSON ("),
        (b'{"a": "' + b"x" * MOST_JSON + b'"}', f"is larger than {MOST_JSON} bytes"),
    ],
    ids=range(17),
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert message in error_of(tmp_path / "a.json")


def test_the_deepest_that_is_right() -> None:
    parse_json(nested(MOST_DEPTH).decode(), "x", BadFile)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "is not a regular file" in error_of(tmp_path / "pipe")
    assert "is a folder where a file would be right" in error_of(tmp_path / "folder")
    assert "cannot be read (Too many levels of symbolic links)" in error_of(tmp_path / "loop")
    assert "cannot be read (No such file or directory)" in error_of(tmp_path / "none")
    assert "cannot be read (File name too long)" in error_of(tmp_path / ("a" * 300))


def test_a_file_without_end(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**40)
    assert f"is larger than {MOST_JSON} bytes" in error_of(tmp_path / "huge")


def test_exactly_as_much_as_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5, BadFile) == b"12345"
    with pytest.raises(BadFile, match="is larger than 4 bytes"):
        read_bytes(tmp_path / "a", 4, BadFile)

"""JSON objects that carry the SHA-256 of their own content."""

import json
from pathlib import Path
from typing import Any

import pytest

from minidbp.files.digest import dump_with_digest, without_digest, write_with_digest

VALUES = {"λ": 0.1, "b": [1, (2.0, None)], "a": {"z": 1e-300, "y": "\U0001f600\n"}}
PLAIN = json.loads(json.dumps(VALUES))


class BadFile(ValueError):
    pass


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_with_digest(tmp_path / "a.json", VALUES)
    values = json.loads((tmp_path / "a.json").read_text())
    assert list(values) == [*VALUES, "sha256"]
    assert without_digest(values, "a.json", BadFile) == PLAIN


def test_the_digest_is_that_of_the_content_and_not_of_its_spelling() -> None:
    values = json.loads(dump_with_digest(VALUES))
    assert values["sha256"] == "3048bf8d105deb3d7c4e2243aa76cb52bc882ff4e5a09fae3780aac29949a57f"
    assert without_digest(dict(reversed(values.items())), "a.json", BadFile) == PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"λ": 0.2}, "a.json is damaged: its content does not have the SHA-256 that it should have"),
        ({"λ": True}, "a.json is damaged: its content"),
        ({"more": 1}, "a.json is damaged: its content"),
        ({"b": [1]}, "a.json is damaged: its content"),
        ({"sha256": None}, "a.json is damaged: its content"),
        ({"sha256": ["x"]}, "a.json is damaged: its content"),
        ({"sha256": ...}, "a.json has no sha256, so it is damaged, edited or of an earlier version"),
    ],
)
def test_other_content_is_refused(change: dict[str, Any], message: str) -> None:
    values = {**json.loads(dump_with_digest(VALUES)), **change}
    with pytest.raises(BadFile) as caught:
        without_digest({name: value for name, value in values.items() if value is not ...}, "a.json", BadFile)
    assert str(caught.value).startswith(message)


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_with_digest(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []

"""Folders that the commands make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SWEEPS = ("table2", "table3", "table4", "credit")


def test_a_folder_that_stayed_empty_is_removed(
    command: Command, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidbp.diagnosis.attack.attack", no_space)
    result = command("attack", weights, "--out", "a/b/c", "--quiet")
    assert (result.exit_code, result.stderr) == (
        1,
        "minidbp: a file or the output cannot be used: No space left on device\n",
    )
    assert not Path("a").exists()
    (Path("a") / "b").mkdir(parents=True)
    command("attack", weights, "--out", "a/b/c")
    assert [*Path("a").rglob("*")] == [Path("a/b")]  # what was there before stays
    monkeypatch.setattr("minidbp.sweeps.sweep.write_text", no_space)
    assert command("table2", "--preset", "smoke", "--out", "t").exit_code == 1
    assert not Path("t").exists()

"""minidbp explain: what it prints and writes, Ctrl-C, and what bad input gets: one sentence, exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidbp.explain import comparisons
from minidbp.explain import explanation as explaining
from minidbp.explain.report import FILES


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a training of two steps."""
    monkeypatch.setattr(explaining, "TRAINING_STEPS", dict.fromkeys("ABC", 2))


def test_help(command: Callable) -> None:
    result = command("explain", "--help")
    assert result.exit_code == 0
    for word in ("--image", "--model", "--lambda", "--weights", "--seed", "--json", "out/explain-MODEL-IMAGE"):
        assert word in " ".join(result.stdout.split())


@pytest.mark.slow
def test_it_trains_prints_and_writes_the_same_with_one_thread_and_two(
    command: Callable, files_in: Callable, tmp_path: Path
) -> None:
    result = command("explain", "--image", "3", "--seed", "1", "--threads", "1")
    assert result.exit_code == 0
    for words in ("model C on test image 3 (a 0)", "2 plain Adam steps", "by differences", "45 of 45 numbers"):
        assert words in " ".join(result.stdout.split())
    assert files_in(tmp_path / "here") == {f"out/explain-C-3/{name}" for name in FILES}
    assert "explain.html" in result.stderr
    text = (Path("out") / "explain-C-3" / "explain.md").read_text(encoding="utf-8")
    assert "`minidbp explain --image 3 --model C --lambda 10 --seed 1`" in text

    again = command("explain", "--image", "3", "--seed", "1", "--threads", "2", "--json", "--out", "again")
    found = json.loads(again.stdout)
    assert found == json.loads((Path("out") / "explain-C-3" / "explain.json").read_text())  # the same bits
    assert max(check["relative_error"] for check in found["checks"]) < 1e-6


@pytest.mark.slow
def test_kept_weights(command: Callable, weights: Path) -> None:
    result = command("explain", "--weights", weights, "--lambda", "0", "--image", "9999", "--out", "o", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["model"], found["image"], found["lambda"], found["weighted_penalty"]) == ("C", 9999, 0.0, 0.0)
    text = (Path("o") / "explain.md").read_text(encoding="utf-8")
    assert "--weights C.safetensors" in text
    assert "The weights are those of C.safetensors." in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--image", "-1"), ("--image", "0 to 9999", "-1")),
        (("--image", "10000"), ("--image", "0 to 9999", "10000")),
        (("--model", "D"), ("D", "A, B, C")),
        (("--lambda", "-1"), ("lambda", "-1")),
        (("--lambda", "nan"), ("lambda", "nan")),
        (("--seed", "-1"), ("seed", "-1")),
        (("--threads", "0"), ("threads", "0")),
        (("--data", "nowhere"), ("nowhere",)),
        (("--weights", "nowhere.safetensors"), ("nowhere.safetensors",)),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple, named: tuple, command: Callable, assert_refused: Callable, files_in: Callable, tmp_path: Path
) -> None:
    assert_refused(command("explain", "--out", "out", *arguments), *named)
    assert files_in(tmp_path) == set()


def test_weights_of_another_model(command: Callable, assert_refused: Callable, weights: Path) -> None:
    assert_refused(command("explain", "--weights", weights, "--model", "A"), "--model A", "C.safetensors", "model C")


@pytest.mark.slow
def test_an_output_folder_that_cannot_be_made(command: Callable, assert_refused: Callable, weights: Path) -> None:
    Path("file").write_text("mine")
    assert_refused(command("explain", "--weights", weights, "--out", "file"), "file")
    assert Path("file").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_writes_nothing(
    command: Callable, files_in: Callable, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparisons, "directional_difference", stop)
    result = command("explain", "--weights", weights)
    assert result.exit_code == 130
    assert "stopped" in result.stderr
    assert files_in(tmp_path) == set()

"""minidbp figure1: what it prints and writes, Ctrl-C, and what bad input gets: one sentence, exit code 2."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from minidbp.cli import app
from minidbp.paper import figure1, figure1_pictures

FILES = {"figure1.gif", "figure1.json", "figure1.md", "figure1.png"}
TINY = ("--preset", "tiny", "--image", "4", "--seed", "1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty current folder and a preset of two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figure1, "PRESETS", {**figure1.PRESETS, "tiny": {"C": (1, 256)}})


def command(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["figure1", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_help() -> None:
    result = command("--help")
    assert result.exit_code == 0
    for word in ("smoke", "laptop", "paper", "--image", "--penalty", "--lambda", "--json", "always starts again"):
        assert word in " ".join(result.stdout.split())
    assert "figure1" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.slow
def test_it_writes_the_figure_and_prints_json() -> None:
    result = command(*TINY, "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert [run["lambda"] for run in summary["runs"]] == [10.0, 0.0]
    out = Path("out") / "figure1-tiny"
    assert files_in(out) == FILES
    assert "figure1.png" in result.stderr
    found = json.loads((out / "figure1.json").read_text())
    assert (found["image"], found["seed"], found["finished"]) == (4, 1, True)
    assert found["protocol"]["penalty"] == "summed_jacobian_l1"
    for run, told in zip(found["runs"], summary["runs"], strict=True):
        assert [o["step"] for o in run["observations"]] == [0, 1, 2]
        assert told["delta"]["last"] == run["observations"][-1]["delta"]
    with Image.open(out / "figure1.gif") as film:
        assert film.n_frames == 3
    text = (out / "figure1.md").read_text(encoding="utf-8")
    typed = "--preset tiny --model C --image 4 --penalty summed_jacobian_l1 --lambda 10 --seed 1"
    assert f"`minidbp figure1 {typed}`" in text


@pytest.mark.slow
def test_the_exact_norm_without_a_control(tmp_path: Path) -> None:
    result = command(*TINY, "--penalty", "jacobian_l1", "--lambda", "0", "--out", "here", "--threads", "1")
    assert result.exit_code == 0
    assert files_in(tmp_path) == {f"here/{name}" for name in FILES}
    found = json.loads((tmp_path / "here" / "figure1.json").read_text())
    assert ([run["lambda"] for run in found["runs"]], found["protocol"]["penalty"]) == ([0.0], "jacobian_l1")
    assert f"at most {max(o['delta'] for o in found['runs'][0]['observations']):.3g}" in result.stdout


def interrupt_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, made = figure1.observe, []

    def interrupted(*arguments: Any) -> Any:
        made.append(arguments)
        if len(made) > calls:
            signal.raise_signal(signal.SIGINT)
        return honest(*arguments)

    monkeypatch.setattr(figure1, "observe", interrupted)


@pytest.mark.slow
def test_ctrl_c_draws_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(2, monkeypatch)
    result = command(*TINY, "--out", "out")
    assert result.exit_code == 130
    for word in ("stopped", "lambda 10 at step 1 of 2", "without a film"):
        assert word in result.stderr
    assert files_in(Path("out")) == FILES - {"figure1.gif"}
    found = json.loads((Path("out") / "figure1.json").read_text())
    assert not found["finished"]
    assert [len(run["observations"]) for run in found["runs"]] == [2]
    assert "Stopped before the end" in (Path("out") / "figure1.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_ctrl_c_before_anything_was_seen_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(0, monkeypatch)
    result = command(*TINY, "--out", "out")
    assert result.exit_code == 130
    assert "nothing was written" in result.stderr
    assert files_in(Path("out")) == set()


@pytest.mark.slow
def test_ctrl_c_while_drawing_keeps_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figure1_pictures, "frame", stop)
    result = command(*TINY, "--out", "out")
    assert result.exit_code == 130
    assert "stopped while drawing" in result.stderr
    assert files_in(Path("out")) == FILES - {"figure1.gif"}


@pytest.mark.slow
def test_a_training_that_diverges_is_exit_code_1() -> None:
    result = command(*TINY, "--lambda", "1e99", "--out", "out")
    assert result.exit_code == 1
    assert "diverged in epoch 1" in result.stderr
    assert files_in(Path("out")) == set()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--image", "-1"), ("--image", "0 to 9999", "-1")),
        (("--image", "10000"), ("--image", "0 to 9999", "10000")),
        (("--preset", "huge"), ("huge", "smoke", "laptop", "paper")),
        (("--model", "D"), ("D", "A, B, C")),
        (("--penalty", "l1"), ("l1", "summed_jacobian_l1", "jacobian_l1")),
        (("--lambda", "-1"), ("lambda", "-1")),
        (("--lambda", "nan"), ("lambda", "nan")),
        (("--seed", "-1"), ("seed", "-1")),
        (("--threads", "0"), ("threads", "0")),
        (("--data", "nowhere"), ("nowhere",)),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple, named: tuple, tmp_path: Path) -> None:
    result = command(*TINY, "--out", "out", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("minidbp: ")]
    for word in named:
        assert word in line
    assert files_in(tmp_path) == set()


def test_an_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = command(*TINY, "--out", "file")
    assert result.exit_code == 2
    assert "file" in result.stderr
    assert files_in(tmp_path) == {"file"}

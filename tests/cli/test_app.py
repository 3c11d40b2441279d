"""What every command shares: help, how it fails, and what stays out of its way."""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from minidbp.cli import common
from minidbp.cli.common import busy, command_line, progress, updates
from minidbp.sweeps import monitor
from minidbp.training.protocol import FieldError

Command = Callable[..., Any]
SWEEPS = ("table2", "table3", "table4", "credit")
COMMANDS = (*SWEEPS, "status", "report", "train", "attack", "gradcheck", "bench", "doctor")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, command: Command) -> None:
    result = command(name, "--help")
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    options = ["--help"] if name == "bench" else ["--json"]
    if name in ("train", "attack", *SWEEPS):
        options += ["--seed", "--out"]
    if name in SWEEPS:
        options += ["--preset", "--workers", "--scheduler", "--vary", "smoke", "laptop", "paper", "minidbp status DIR"]
        options += [f"out/{name}-PRESET"]
    assert [option for option in options if option not in said] == []


def test_the_commands_are_listed(command: Command) -> None:
    result = command("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)
    assert "table2" in command().output  # nothing typed: the same help


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--colour", "red"), "--colour"),
        (("table2", "--vary"), "--vary"),
        (("table3", "--workers", "two"), "--workers"),
        (("train", "--lambda", "much"), "--lambda"),
        (("attack",), "weights"),
        (("status",), "folder"),
        (("report",), "folder"),
        (("tabel2",), "tabel2"),
    ],
)
def test_a_command_line_that_cannot_be_read(arguments: tuple[str, ...], named: str, command: Command) -> None:
    result = command(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr.lower()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped; to begin again: minidbp status somewhere"),
        (ArithmeticError("diverged"), 1, "diverged"),
        (ValueError("[red]wrong[/]"), 2, "[red]wrong[/]"),  # not taken for markup
        (TypeError("a kind"), 2, "a kind"),
        (EOFError(), 1, "a file or a connection ended too early (EOFError)"),
        (EOFError("Ran out of input"), 1, "a file or a connection ended too early (Ran out of input)"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "there is not enough memory: Unable to allocate 9 TiB"),
        (FieldError("eps", "must be small"), 2, "eps must be small"),
        (OSError(28, "No space left on device", "a.json"), 1, "a.json cannot be used: No space left on device"),
        (OSError("odd"), 1, "a file or the output cannot be used: odd"),
    ],
    ids=repr,
)
def test_errors_become_one_sentence(
    error: BaseException, code: int, said: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("minidbp.sweeps.sweep.load", fail)
    result = command("status", "somewhere")
    assert result.exit_code == code
    assert result.stderr == f"minidbp: {said}\n"
    assert result.stdout == ""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_typer_prints_meets_a_full_disk(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def write(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["minidbp", option])
    monkeypatch.setattr(sys.stdout, "write", write)
    with pytest.raises(SystemExit) as caught:
        common.main()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said == "minidbp: a file or the output cannot be used: No space left on device\n"


@pytest.mark.parametrize(
    ("option", "least"),
    [("--images", 1), ("--steps", 1), ("--restarts", 1), ("--threads", 1), ("--seed", 0)],
)
def test_a_number_below_the_least(option: str, least: int, command: Command) -> None:
    result = command("attack", "none.safetensors", option, str(least - 1))
    assert result.exit_code == 2
    assert result.stderr == f"minidbp: {option} must be at least {least}; got {least - 1}\n"
    assert "none.safetensors" in command("attack", "none.safetensors", option, str(least)).stderr  # the next mistake


def test_a_command_line_repeats_options_and_quotes() -> None:
    line = command_line(
        "attack", "a b.npz", lam=10.0, seed=0, out=None, vary=["eps=0.1", "n_train"], attack_label="true"
    )
    assert line == "minidbp attack 'a b.npz' --lam 10 --seed 0 --vary eps=0.1 --vary n_train --attack-label true"


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("title", 2) as done:
        done()
        done()
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "FIRST_LINE", 0.02)
    monkeypatch.setattr(monitor, "LINE_EVERY", 0.01)
    with progress("title", 4) as done:
        time.sleep(0.1)
        done(3)
        time.sleep(0.1)
    with busy("preparing kernels"):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "title: just begun"
    assert "title: 75%, 0 s left" in lines
    assert "preparing kernels: 0 s so far" in lines
    monkeypatch.setattr(updates, "quiet", True)
    with progress("title", 4), busy("preparing kernels"):
        time.sleep(0.1)
    assert capsys.readouterr() == ("", "")


def test_quiet_leaves_errors_and_results(command: Command, tmp_path: Path) -> None:
    for name in "attack", "gradcheck", "doctor", "notebooks", "status":
        assert "--quiet" in command(name, "--help").stdout
    quiet, loud = (command("notebooks", "--out", tmp_path / "n", *more) for more in (["--quiet"], []))
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert "written to" in loud.stderr
    assert "none cannot be read" in command("attack", "none", "--quiet").stderr


def test_h_is_help(command: Command) -> None:
    for words in (), ("train",), ("bench", "step"):
        assert command(*words, "-h").stdout == command(*words, "--help").stdout
    assert "--show-completion" in command("-h").stdout


def test_a_shell_completes_commands_and_options() -> None:
    for words, found in (
        ("minidbp tab", ["table2", "table3", "table4"]),
        ("minidbp train --pen", ["--penalty", "--penalty-target"]),
    ):
        env = {"_MINIDBP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        assert CliRunner().invoke(common.app, prog_name="minidbp", env=env).stdout.split() == found


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


@pytest.mark.slow
def test_help_waits_for_no_heavy_import() -> None:
    code = "import sys, minidbp.cli; print([m for m in ('numba', 'matplotlib', 'distributed') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--preset", "huge"), ("huge", "smoke", "laptop", "paper")),
        (("table3", "--vary", "colour=red"), ("colour", "eps")),
        (("train", "--lambda", "-1"), ("lambda", "-1")),
        (("attack", "none.safetensors"), ("none.safetensors",)),
    ],
)
def test_real_refusals(
    arguments: tuple[str, ...],
    named: tuple[str, ...],
    tmp_path: Path,
    real_command: Command,
    assert_refused: Callable[..., None],
) -> None:
    assert_refused(real_command(*arguments, "--out", tmp_path / "out"), *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_lines_between_words_but_a_command_is_one_line(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    screen = Console(file=file, width=40, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(common, "screen", screen)
    sentence, command = " ".join(f"word{k}" for k in range(12)), "minidbp table2 --out " + "a/" * 30
    common.show(None, False, sentence, Text(command, no_wrap=True), *common.named([("packages", "bold", sentence)]))
    text = file.getvalue()
    lines = text.splitlines()
    assert command in lines
    assert (sentence in lines) == (not terminal)
    assert all(len(line) <= 40 for line in lines if line != command) == terminal
    beside = [line for line in lines if line.startswith(" " * 4)]
    assert " ".join(" ".join(beside).split()) == f"packages {sentence}"
    assert (len(beside) > 1) == terminal

"""What every command shares: help, how it fails, and what stays out of its way."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from minidbp.cli import common
from minidbp.cli.common import command_line, progress
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
        (OSError("odd"), 1, "a file cannot be used: odd"),
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

"""What every command shares: help, how it fails, and what stays out of its way."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from minidbp.cli.app import app, main
from minidbp.training.protocol import FieldError

Command = Callable[..., Any]
SWEEPS = ("table2", "table3", "table4", "credit")
COMMANDS = (*SWEEPS, "status", "report", "train", "attack", "gradcheck", "bench", "doctor")

NO_WAY = "close other programs, or raise the limit if there is one (ulimit -v)"


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
        (MemoryError("conv2d ..."), 1, f"there is not enough memory: {NO_WAY}"),
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


HOSTILE = "x[/b][red]\x1b[31m\a\r\b\n\u202e:smile:y"


@pytest.mark.parametrize(
    "arguments",
    [
        (HOSTILE,),
        ("bench", HOSTILE),
        (f"--{HOSTILE}",),
        ("train", f"--{HOSTILE}"),
        ("train", "extra", HOSTILE),
        ("train", "--out", f"/dev/null/{HOSTILE}", "--data", f"/dev/null/{HOSTILE}"),
        ("train", "--config", HOSTILE),
        ("attack", HOSTILE),
        ("attack", "none", "--data", HOSTILE),
        ("table2", "--vary", HOSTILE),
        ("status", HOSTILE),
        ("report", f"/dev/null/{HOSTILE}"),
        ("gradcheck", "--page", HOSTILE),
    ],
    ids=lambda words: f"{words[0][:9]} {words[-1][:9]}" if len(words) > 1 else words[0][:9],
)
def test_a_name_is_shown_as_it_is_and_obeyed_by_nothing(arguments: tuple[str, ...], command: Command) -> None:
    said = command(*arguments).output
    words = "".join(said.replace("│", "").split())
    assert all(part in words for part in ("x[/b][red]", "[31m", ":smile:y"))
    assert all(character.isprintable() or character == "\n" for character in said)
    assert len(said.splitlines()) in (1, 5, 6)  # one sentence, or a panel of Typer's


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_typer_prints_meets_a_full_disk(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def write(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["minidbp", option])
    monkeypatch.setattr(sys.stdout, "write", write)
    with pytest.raises(SystemExit) as caught:
        main()
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


def test_a_step_of_0_is_refused(command: Command, assert_refused: Callable[..., None]) -> None:
    for step in "0", "-0.0", "-1", "nan":
        assert_refused(command("attack", "none.safetensors", "--step", step), "--step must be")


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
        assert CliRunner().invoke(app, prog_name="minidbp", env=env).stdout.split() == found


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

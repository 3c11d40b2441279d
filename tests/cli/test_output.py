"""What the commands print, on a terminal and elsewhere."""

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.text import Text

from minidbp.cli import output
from minidbp.cli.output import busy, command_line, progress, updates
from minidbp.files.console import Console
from minidbp.sweeps import monitor

Command = Callable[..., Any]
SWEEPS = ("table2", "table3", "table4", "credit")


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


def test_json_is_exact_and_nothing_in_it_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(map(chr, (*range(256), 0x202E, 0x2028, 0xDC80)))
    output.show({name: name}, True)
    text = capsys.readouterr().out
    assert json.loads(text) == {name: name}
    assert all(" " <= character <= "~" or character == "\n" for character in text)


def test_a_fact_of_the_machine_is_one_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(None, False, *output.named([("folder", "bold", "a\x1b[31m\nproblem b[/b]")]))
    assert capsys.readouterr().out.split() == ["folder", "a?[31m?problem", "b[/b]"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_lines_between_words_but_a_command_is_one_line(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    screen = Console(file=file, width=40, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(output, "screen", screen)
    sentence, command = " ".join(f"word{k}" for k in range(12)), "minidbp table2 --out " + "a/" * 30
    output.show(None, False, sentence, Text(command, no_wrap=True), *output.named([("packages", "bold", sentence)]))
    text = file.getvalue()
    lines = text.splitlines()
    assert command in lines
    assert (sentence in lines) == (not terminal)
    assert all(len(line) <= 40 for line in lines if line != command) == terminal
    beside = [line for line in lines if line.startswith(" " * 4)]
    assert " ".join(" ".join(beside).split()) == f"packages {sentence}"
    assert (len(beside) > 1) == terminal

"""What was typed, and the signal that ends it."""

import os
import shutil
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from minidbp.cli import invocation, output
from minidbp.cli.invocation import Invocation, current, interruptible, signals_noted, signals_raise
from minidbp.starting import is_command


def test_fields_of_the_protocol_have_the_options_that_set_them() -> None:
    train = Invocation(options=frozenset({"--images", "--adversarial", "--attack", "--epochs", "--penalty-target"}))
    assert [train.option(name) for name in ("n_train", "eps", "training_attack", "max_epochs", "penalty_target")] == [
        "--images", "--adversarial", "--attack", "--epochs", "--penalty-target",
    ]  # fmt: skip
    attack = Invocation(options=frozenset({"--images", "--eps", "--steps", "--step", "--restarts", "--attack-label"}))
    assert [attack.option(name) for name in ("n_test", "eps", "pgd_steps", "pgd_step", "pgd_restarts", "beta1")] == [
        "--images", "--eps", "--steps", "--step", "--restarts", "beta1",
    ]  # fmt: skip


def test_the_program_is_named_so_that_a_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    monkeypatch.setattr(shutil, "which", found.get)
    monkeypatch.setattr(sys, "argv", ["bin/minidbp"])
    assert invocation._program("minidbp") == ["bin/minidbp"]  # it is not on the path
    found["minidbp"] = str(Path("bin/minidbp").absolute())
    assert invocation._program("minidbp") == ["minidbp"]
    found["minidbp"] = "/usr/bin/minidbp"  # another one
    assert invocation._program("minidbp") == ["bin/minidbp"]
    assert invocation._program("python -m minidbp") == [sys.executable, "-m", "minidbp"]
    found["python"] = sys.executable
    assert invocation._program("python -m minidbp") == ["python", "-m", "minidbp"]


@pytest.fixture
def begun() -> Invocation:
    """A command that has just begun."""
    invocation._current.set(Invocation(words="minidbp status here"))
    return current()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_are_ctrl_c_within_the_block_only(number: signal.Signals, code: int, begun: Invocation) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible(), signals_raise(begun):
        signal.raise_signal(number)
    assert (begun.stopped, begun.exit_code) == (True, code)
    assert signal.getsignal(number) is before


def test_nohup_holds(begun: Invocation) -> None:
    """A signal that was ignored when the command began is ignored by the command too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(), signals_raise(begun):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not begun.stopped


def test_only_the_first_signal_raises(begun: Invocation) -> None:
    """Those that come later would fall into what the first one makes the command do."""
    with interruptible(), signals_raise(begun):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert begun.exit_code == 130


def test_signals_are_noted_while_a_sweep_trains(begun: Invocation) -> None:
    with interruptible(), signals_raise(begun):
        with signals_noted() as stopped:
            assert not stopped()
            signal.raise_signal(signal.SIGINT)
            assert stopped()
        signal.raise_signal(signal.SIGINT)


def test_a_signal_before_and_after_the_command_raises_nothing(begun: Invocation) -> None:
    """Click would say "Aborted!" and end with exit code 1."""
    with interruptible():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), signals_raise(begun):
            pass
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_python_ignores_comes_again(begun: Invocation, capsys: pytest.CaptureFixture) -> None:
    """Python ignores errors in callbacks of weak references, which its imports have, and prints a traceback."""

    class Something:
        pass

    with interruptible(), signals_raise(begun):
        thing = Something()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the interrupt comes while it waits
            del thing
            time.sleep(10)
    assert reference() is None
    assert capsys.readouterr().err == ""


def test_what_a_stopped_command_writes_for_too_long_is_interrupted(
    begun: Invocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it removes what is half-written."""
    monkeypatch.setattr(invocation, "AGAIN", 0.0)
    with interruptible(), signals_raise(begun):
        with signals_noted():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        signal.raise_signal(signal.SIGINT)
    assert begun.exit_code == 130


def test_a_command_that_does_not_end_is_ended(begun: Invocation, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """With its last sentence and the cursor, whatever the main thread does."""
    ended: list[int] = []
    reached, over = threading.Event(), threading.Event()

    def exit_at_once(code: int) -> None:
        ended.append(code)
        reached.set()
        over.wait()

    monkeypatch.setattr(invocation, "GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", exit_at_once)
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 2)
    begun.words = "minidbp status 'here\x1b[31m'"
    with interruptible(), signals_noted():
        signal.raise_signal(signal.SIGTERM)
        assert reached.wait(10)
    assert ended == [143]
    over.set()
    assert capfd.readouterr().err == "\x1b[?25h\nminidbp: stopped; to begin again: minidbp status 'here?[31m'\n"


def test_an_error_that_a_library_made_of_the_interrupt_is_the_interrupt(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy could not be imported") from None

    monkeypatch.setattr("minidbp.sweeps.sweep.load", convert)
    result = command("status", "somewhere")
    assert (result.exit_code, result.stderr) == (130, "minidbp: stopped; to begin again: minidbp status somewhere\n")


def test_ctrl_c_ends_the_work_of_other_threads(begun: Invocation) -> None:
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool, output.progress("attacks", 10) as advance:
        pool.submit(advance, 0).result()
        with pytest.raises(KeyboardInterrupt), interruptible(), signals_raise(begun):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(advance, 0).result()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/bin/python", "-m", "minidbp", "status"], True),
        (["/bin/python", "-X", "dev", "-m", "minidbp"], True),
        (["/bin/python", "/home/me/.local/bin/minidbp", "--help"], True),
        (["python.exe", "minidbp.exe"], True),
        (["/bin/python", "-m", "pytest", "minidbp"], False),
        (["/bin/python", "-m", "minidbp_tools"], False),
        (["/bin/python", "train.py", "-m"], False),
        (["/bin/python"], False),
    ],
)
def test_whether_the_command_is_what_imports_the_package(words: list[str], expected: bool) -> None:
    assert is_command(words) == expected

"""What was typed, and the signal that ends it."""

import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minidbp.cli import invocation, output
from minidbp.cli.invocation import Invocation, current, interruptible


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


def test_sigterm_is_ctrl_c_within_the_block_only() -> None:
    before = signal.getsignal(signal.SIGTERM)
    invocation._current.set(Invocation())
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert current().stopped
    assert current().terminated
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_the_work_of_other_threads() -> None:
    before = signal.getsignal(signal.SIGINT)
    invocation._current.set(Invocation())
    with ThreadPoolExecutor(1) as pool, output.progress("attacks", 10) as advance:
        pool.submit(advance, 0).result()
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGINT)
        assert not current().terminated
        with pytest.raises(KeyboardInterrupt):
            pool.submit(advance, 0).result()
    assert signal.getsignal(signal.SIGINT) is before

"""Too little memory: one sentence that says what to make smaller, and no traceback."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minidbp.cli import memory

Command = Callable[..., Any]

resource = pytest.importorskip("resource")  # not on Windows


def lacking(*_: Any, **__: Any) -> None:
    np.empty(1 << 50)  # 8 PiB


def no_thread(*_: Any, **__: Any) -> None:
    raise RuntimeError("can't start new thread")


def no_library(*_: Any, **__: Any) -> None:
    try:
        raise OSError("libllvmlite.so: failed to map segment from shared object")
    except OSError:
        raise OSError("Could not find/load shared object file") from None


@pytest.mark.parametrize(
    ("arguments", "ways"),
    [
        (("train",), "give fewer --images, --threads 1 or --model C"),
        (("table2", "--preset", "smoke"), "give fewer --workers, --threads 1 or --models C"),
        (("bench", "step"), "give a smaller --batch, --threads 1 or --model C"),
        (("doctor",), "close other programs, or raise the limit if there is one (ulimit -v)"),
    ],
)
@pytest.mark.parametrize("error", [lacking, no_thread, no_library])
def test_the_sentence_names_the_options_of_the_command(
    arguments: tuple[str, ...], ways: str, error: Callable, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in "minidbp.cli.inputs.data_in", "minidbp.kernels.warm_up":
        monkeypatch.setattr(place, error)
    result = command(*arguments)
    detail = " (Unable to allocate 8.00 PiB for an array with shape (1125899906842624,) and data type float64)"
    said = f"minidbp: there is not enough memory{detail if error is lacking else ''}: {ways}\n"
    assert (result.exit_code, result.stderr.splitlines()[-1] + "\n") == (1, said)


def test_a_run_without_memory_says_so_and_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidbp.sweeps.execute.execute", lacking)
    result = command("train", "--epochs", "1", "--images", "100")
    assert result.exit_code == 1
    ways = "give fewer --images, --threads 1 or --model C"
    assert f"seed 0: there is not enough memory: {ways}; to go on: minidbp train" in result.stderr


@pytest.mark.parametrize(("limit", "arguments", "least"), [(300, ("status", "."), 400), (600, ("doctor",), 1024)])
def test_a_limit_that_is_too_low(limit: int, arguments: tuple[str, ...], least: int) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "minidbp", *arguments], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20)),
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == (
        f"minidbp: there is not enough memory: the limit of this process (ulimit -v) is {limit} MB, below the "
        f"{least} MB that it needs\n"
    )


def test_no_memory_for_the_sentence_either(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    from minidbp.cli import main

    monkeypatch.setattr(sys, "argv", ["minidbp", "status", "."])
    monkeypatch.setattr(memory, "check_limit", lacking)
    monkeypatch.setattr(sys.modules["minidbp.cli.app"], "say", lacking)  # minidbp.cli.app is the Typer too
    with pytest.raises(SystemExit) as caught:
        main()
    assert (caught.value.code, capfd.readouterr().err) == (1, "minidbp: there is not enough memory\n")

"""The command `minidbp` with small presets added to table2, and what tests need to start, watch and compare sweeps.

    python tests/shared/tiny_sweep.py table2 --preset tiny --out DIR

Presets: tiny, four runs of three epochs; long, four of six; endless; diverging, as tiny, but one lambda overflows.
Where the environment names a file in TRAINED, every run that is begun adds a line to it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

if __name__ == "__main__":  # as in minidbp/starting.py, for the imports below
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from minidbp.cli import main
from minidbp.paper.experiments import TABLE2, Condition, Preset
from minidbp.sweeps import execute
from minidbp.training import Protocol

SMALL = {
    "stop_rule": "none", "max_epochs": 3, "n_train": 64, "batch_size": 32, "n_validation": 50, "n_test": 40,
    "n_tracked": 10, "pgd_steps": 1, "judged_eps": (0.1, 0.3), "apgd_steps": 1,
    "apgd_restarts": 1, "square_queries": 1, "reference_steps": 1,
}  # fmt: skip
PATIENCE = 300.0  # seconds: for a machine that does much else meanwhile


def preset(lambdas: tuple[float, ...], **changes: Any) -> Preset:
    protocol = Protocol(**{**SMALL, **changes})
    return {Condition("C", lam, protocol): 2 for lam in lambdas}


PRESETS = {
    "tiny": preset((0.0, 50.0)),
    "long": preset((0.0, 50.0), max_epochs=6),
    "endless": preset((0.0,), max_epochs=10_000),
    "diverging": preset((0.0, 1e38), reduction="sum"),
}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, __file__, *map(str, arguments)]


def table2(folder: Path, *arguments: str | Path, preset: str = "tiny") -> list[str]:
    """The command of a sweep, one thread for each run."""
    return command("table2", "--preset", preset, "--threads", "1", "--out", folder, *arguments)


def finish(line: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)


@contextmanager
def started(line: list[str], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs meanwhile; killed at the end of the block if it still does."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(line, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], Any], *processes: "subprocess.Popen[str]") -> Any:
    """Wait for something to be true, and return it; these processes must not end meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """All that it started and that still runs."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The spawned ones that train, not multiprocessing's own helper."""
    found = []
    for child in descendants(process):
        with suppress(psutil.NoSuchProcess):  # ended just now
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def passing(names: set[str]) -> set[str]:
    """Those of these files that only a sweep under way has."""
    return {name for name in names if not name.endswith((".json", ".safetensors", ".md", ".csv", ".html", ".png"))} | {
        name for name in names if name.endswith((".checkpoint.safetensors", ".progress.json"))
    }


def results_in(folder: Path, where: str = "runs") -> dict[str, Any]:
    """All runs' JSON without what is told of the machine and its clock, and without the digest of that."""
    found = {path.name: json.loads(path.read_text()) for path in (folder / where).glob("*.json")}
    for result in found.values():
        for key in "seconds", "environment", "threads", "sha256":
            del result[key]
        for epoch in result["history"]:
            del epoch["seconds"]
    return found


def assert_same(folder: Path, alone: Path) -> None:
    """Nothing left over, and every number the same to the bit."""
    assert files_in(folder) == files_in(alone)
    assert passing(files_in(folder)) == set()
    assert (folder / "table.csv").read_bytes() == (alone / "table.csv").read_bytes()
    assert results_in(folder) == results_in(alone)
    for weights in (alone / "runs").glob("*.safetensors"):
        assert (folder / "runs" / weights.name).read_bytes() == weights.read_bytes()


def _note_what_is_trained(log: str) -> None:
    honest = execute.execute

    def noted(run: Any, *arguments: Any) -> Any:
        with open(log, "a") as file:  # a short line is written at once
            file.write(f"{run.name}\n")
        return honest(run, *arguments)

    execute.execute = noted


if __name__ == "__mp_main__" and "TRAINED" in os.environ:  # a worker process
    _note_what_is_trained(os.environ["TRAINED"])

if __name__ == "__main__":
    if "TRAINED" in os.environ:
        _note_what_is_trained(os.environ["TRAINED"])
    TABLE2.presets.update(PRESETS)
    main()

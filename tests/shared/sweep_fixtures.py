"""A sweep small enough to be trained in a test, and results that were never trained."""

import dataclasses
import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.paper.experiments import TABLE2, Condition
from minidbp.sweeps import executors, sweep
from minidbp.sweeps.runs import DivergedRun, Divergence, Run, RunResult, Seconds
from minidbp.sweeps.sweep import Sweep
from minidbp.sweeps.train import Ending, train_all
from minidbp.training import Epoch, Protocol, Tracked
from minidbp.training.environment import environment
from minidbp.training.judgement import AccuracyAt, MaskingFigures

TINY = Protocol(
    stop_rule="none", max_epochs=1, n_train=64, batch_size=32, n_validation=50, n_test=40, n_tracked=10, pgd_steps=1,
    judged_eps=(0.1, 0.3), apgd_steps=1, apgd_restarts=1, square_queries=1, reference_steps=1,
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> Protocol:
    return TINY


@pytest.fixture(scope="session")
def tiny_sweep() -> Sweep:
    """Table 2 of model C alone: lambda 0 and 50, two seeds."""
    preset = {Condition("C", lam, TINY): 2 for lam in (0.0, 50.0)}
    experiment = dataclasses.replace(TABLE2, presets={"tiny": preset})
    return Sweep("table2", "Table 2, preset tiny", ["minidbp table2 --preset tiny"], experiment.runs("tiny"))


def train(there: Sweep, folder: Path, make_executor: Any = executors.in_process, **options: Any) -> tuple[Ending, str]:
    """`train_all` with two threads, and what it told."""
    told = io.StringIO()
    console = Console(file=told, width=200)
    ending = train_all(
        there.runs, folder / "runs", make_executor, JUDGE, title=there.title, data=None, threads=2, console=console,
        **options,
    )  # fmt: skip
    return ending, told.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def trained(tiny_sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that sweep after its training, without a report.  Not to be changed: see `copy`."""
    folder = tmp_path_factory.mktemp("tiny") / "deep" / "out"
    sweep.begin(tiny_sweep, folder)
    assert train(tiny_sweep, folder)[0] == Ending(finished=4, diverged=[], stopped=False)
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "out"))


def made_up_result(
    run: Run, clean: float = 98.0, fgsm: float = 20.0, pgd: float = 2.0, epochs: int = 18, **changes: Any
) -> RunResult:
    """A result that no run had, with these figures."""
    figures = {"clean": clean, "fgsm": fgsm, "pgd": pgd}
    parts: dict[str, Any] = {
        "diagnosis": MaskingFigures(pgd, pgd, 0.5, *(pgd,) * 6, word="not robust", reasons=["it is not"]),
        "by_eps": [AccuracyAt(eps, fgsm, pgd, pgd, pgd, pgd) for eps in run.protocol.attack_sizes],
        "per_class": {name: [value] * 10 for name, value in figures.items()},
        "history": [_epoch(number, clean, fgsm, pgd) for number in range(1, epochs + 1)],
        "seconds": Seconds(50.0, 10.0),
        "threads": 2,
        "environment": _environment(),
        **changes,
    }
    return RunResult(**figures, run=run, epochs=epochs, **parts)


@functools.cache
def _epoch(number: int, clean: float, fgsm: float, pgd: float) -> Epoch:
    """An epoch of a training in which nothing changes any more."""
    return Epoch(number, 0.5, 0.4, 0.1, clean, 2.0, Tracked(clean, fgsm, pgd, fgsm, pgd, 50.0))


_environment = functools.cache(environment)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., RunResult]:
    return made_up_result


def diverged(result: RunResult) -> DivergedRun:
    """The same run, had it diverged."""
    where = Divergence(3, 2, "training diverged in epoch 3, step 2")
    return DivergedRun(run=result.run, diverged=where, environment=result.environment)

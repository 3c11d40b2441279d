"""Many runs one after the other, each kept as it finishes, with progress; and the report on what is finished."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from minidbp import kernels
from minidbp.atomic import write_text
from minidbp.data import Mnist
from minidbp.experiments import figures, report
from minidbp.experiments.environment import environment
from minidbp.experiments.runs import Cost, Run, RunError, execute, find, keep
from minidbp.experiments.table2 import Row, table
from minidbp.nn import load_model
from minidbp.training import (
    DivergenceError,
    Protocol,
    accuracy,
    fgsm_accuracy,
    pgd_accuracy,
    workers,
)


@dataclass(frozen=True)
class Sweep:
    """How a sweep ended: runs finished (now or before), what failed, and whether Ctrl-C stopped it."""

    finished: int
    failures: list[str]
    stopped: bool


def prepare(folder: Path, runs_folder: str = "runs") -> Path:
    """Make the output folder and see that it can be written to.  Raises RunError if not."""
    try:
        (folder / runs_folder).mkdir(parents=True, exist_ok=True)
        probe = folder / runs_folder / ".minidbp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"--out {folder} cannot be written to: {error.strerror or error}") from None
    return folder


def run_all(
    runs: Sequence[Run],
    folder: Path,
    title: str,
    mnist: Mnist,
    threads: int | None,
    console: Console,
    runs_folder: str = "runs",
) -> Sweep:
    """Execute the runs that `folder` does not have yet; each is on disk before the next begins.

    A run that diverges is told of and the others go on; Ctrl-C ends the sweep with what is finished.
    """
    home = folder / runs_folder
    missing = [run for run in runs if find(run, home) is None]
    if len(missing) < len(runs):
        console.print(f"{len(runs) - len(missing)} of {len(runs)} runs are in {home} already", highlight=False)
    if not missing:
        return Sweep(len(runs), [], False)
    failures: list[str] = []
    with workers(threads) as team, _progress(console) as bar:
        _compile(bar)
        costs = [Cost(run).total for run in missing]
        task = bar.add_task(title, total=sum(costs), what="")
        try:
            for i, run in enumerate(missing):
                which = f", run {i + 1} of {len(missing)}: {run.name}" if len(missing) > 1 else ""
                bar.update(task, description=title + which)
                try:
                    result, model = execute(
                        run, mnist, team, lambda work, what: bar.update(task, advance=work, what=what)
                    )
                except DivergenceError as error:
                    failures.append(f"{run.name}: {error}")
                    bar.console.print(f"{run.name} diverged", style="red", markup=False)
                else:
                    keep(result, model, run, home)
                    bar.console.print(summary(result), highlight=False, soft_wrap=True)
                bar.update(task, completed=sum(costs[: i + 1]), what="")
        except KeyboardInterrupt:
            finished = sum(find(run, home) is not None for run in runs)
            return Sweep(finished, failures, True)
    return Sweep(len(runs) - len(failures), failures, False)


def _compile(bar: Progress) -> None:
    task = bar.add_task("compiling kernels, once", total=None, what="")
    kernels.warm_up()
    bar.remove_task(task)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", style="dim"),
        console=console,
        disable=not console.is_terminal,  # a file gets the lines of finished runs, not a bar
    )


def summary(result: dict[str, Any]) -> str:
    """A finished run in one line."""
    seconds, epochs = sum(result["seconds"].values()), result["epochs"]
    return (
        f"model {result['model']}, lambda {result['lambda']:g}, seed {result['seed']}: clean {result['clean']:.2f}%, "
        f"FGSM {result['fgsm']:.2f}%, PGD {result['pgd']:.2f}% "
        f"({epochs} epoch{'s' * (epochs != 1)}, {seconds:.0f} s)"
    )


def write_report(runs: Sequence[Run], folder: Path, title: str, command: str, mnist: Mnist) -> list[Row]:
    """Table (CSV and Markdown) and pictures of whatever is finished; the rows of the table.  Nothing for nothing."""
    home = folder / "runs"
    results = [result for run in runs if (result := find(run, home))]
    if not results:
        return []
    rows = table(results)
    protocols = {run.model: run.protocol for run in runs}
    write_text(folder / "table.csv", report.as_csv(rows))
    minutes = sum(sum(result["seconds"].values()) for result in results) / 60
    made_by = f"`{command}`; its {len(results)} finished runs took {minutes:.1f} minutes"
    text = report.as_markdown(rows, title, made_by, protocols, results[-1]["environment"])
    write_text(folder / "table.md", text)
    figures.save(figures.accuracy_against_lambda(rows), folder / "accuracy.png")
    models = {
        f"model {run.model}, λ = {run.lam:g}": load_model(home / f"{run.name}.npz")[0]
        for run in _extremes(runs)
        if find(run, home)
    }
    picture = figures.adversarial_twins(models, mnist.x_test, mnist.y_test, runs[0].protocol)
    figures.save(picture, folder / "images.png")
    return rows


def _extremes(runs: Sequence[Run]) -> list[Run]:
    """For each model, the first run with its smallest lambda and the first with its largest."""
    chosen = []
    for model in sorted({run.model for run in runs}):
        mine = [run for run in runs if run.model == model]
        chosen += [min(mine, key=lambda run: run.lam), max(mine, key=lambda run: run.lam)]
    return chosen


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The table for --json: mean and standard deviation (null for one run) of each figure, the paper's too."""
    return [
        {
            "model": row.model,
            "lambda": row.lam,
            "runs": row.runs,
            **{
                key: None if pair is None else [None if n != n else n for n in pair]
                for key, pair in {
                    "clean": row.clean,
                    "fgsm": row.fgsm,
                    "pgd": row.pgd,
                    "epochs": row.epochs,
                    "paper_clean": row.paper and row.paper.clean,
                    "paper_fgsm": row.paper and row.paper.fgsm,
                }.items()
            },
        }
        for row in rows
    ]


def show(rows: Sequence[Row], title: str, console: Console) -> None:
    """Print the table."""
    console.print(report.on_screen(rows, title))


def attack(
    weights: Path,
    protocol: Protocol,
    seed: int,
    folder: Path,
    mnist: Mnist,
    threads: int | None,
    console: Console,
) -> dict[str, Any]:
    """Judge the model in a weights file under the protocol's attacks; writes attack.json and images.png to `folder`."""
    model, name = load_model(weights)
    x, y = mnist.x_test[: protocol.n_test], mnist.y_test[: protocol.n_test]
    with workers(threads) as team, _progress(console) as bar:
        _compile(bar)
        clean = bar.add_task("clean test images", total=len(x), what="")
        fgsm = bar.add_task("FGSM", total=len(x), what="")
        pgd = bar.add_task("PGD", total=protocol.n_pgd, what="")
        result = {
            "model": name,
            "weights": str(weights),
            "seed": seed,
            "clean": accuracy(model, x, y, team, lambda n: bar.advance(clean, n)),
            "fgsm": fgsm_accuracy(model, x, y, protocol, team, lambda n: bar.advance(fgsm, n)),
            "pgd": pgd_accuracy(model, x, y, protocol, team, seed, lambda n: bar.advance(pgd, n)),
            "protocol": {
                k: v for k, v in dataclasses.asdict(protocol).items()
                if k.startswith("pgd") or k in ("eps", "clip", "attack_label", "n_test", "n_pgd")
            },
            "environment": environment(),
        }  # fmt: skip
    write_text(folder / "attack.json", json.dumps(result, indent=1) + "\n")
    picture = figures.adversarial_twins({f"model {name}": model}, mnist.x_test, mnist.y_test, protocol)
    figures.save(picture, folder / "images.png")
    return result

"""Commands that train many runs: the paper's tables, and what their claims ask for; and how far they are."""

import functools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from minidbp.cli.app import at_least, command, fail, messages, screen, told_where
from minidbp.cli.options import AsJson, Data, Out, Seed

Folder = Annotated[
    Path, typer.Argument(help="The --out folder of table2, table3, table4 or credit.", show_default=False)
]


def _sweep_command(name: str, about: str, laptop: str) -> None:
    """Add the command that trains the runs of the experiment of that name and reports on them."""

    def run(
        preset: Annotated[
            str, typer.Option(help=f"smoke (about a minute), laptop ({laptop}) or paper (the protocol in full: days).")
        ] = "laptop",
        out: Out = None,
        seed: Seed = 0,
        threads: Annotated[
            int | None, typer.Option(help="Threads for each run; all cores, shared out, if not given.")
        ] = None,
        workers: Annotated[int | None, typer.Option(help="Train this many runs at a time, each in a process.")] = None,
        scheduler: Annotated[
            str | None,
            typer.Option(help="Train on the workers of this Dask scheduler (tcp://...), which see --out too."),
        ] = None,
        data: Data = None,
        penalty: Annotated[
            str | None,
            typer.Option(
                help="jacobian_l1 (exact, eq. 3) or summed_jacobian_l1 (the surrogate), if not the experiment's."
            ),
        ] = None,
        penalty_target: Annotated[
            str | None, typer.Option(help="The penalised f: logits (the default) or softmax.")
        ] = None,
        reduction: Annotated[
            str | None, typer.Option(help="Of the penalty over classes and pixels: mean (the default) or sum.")
        ] = None,
        attack_label: Annotated[
            str | None, typer.Option(help="The label inside the attack: true (the default), predicted or smoothed.")
        ] = None,
        vary: Annotated[
            list[str] | None,
            typer.Option(
                help="A field of the protocol to sweep: FIELD=VALUE,VALUE or FIELD alone for all words. Repeatable."
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        at_least(0, seed=seed)
        at_least(1, threads=threads, workers=workers)
        if workers and scheduler:
            raise ValueError("--workers and --scheduler name two places to train in; give one of them")
        named = {
            "penalty": penalty,
            "penalty_target": penalty_target,
            "reduction": reduction,
            "attack_label": attack_label,
        }
        fixed = {field: value for field, value in named.items() if value is not None}
        for text in vary or []:
            if (field := text.partition("=")[0]) in fixed:
                option = f"--{field.replace('_', '-')}"
                raise ValueError(f"{option} and --vary {text} give {field} twice; give it once")
        _sweep(name, preset, out, seed, threads, workers, scheduler, data, fixed, vary or [], as_json)

    run.__name__, run.__doc__ = name, about + _WRITES.format(name=name)
    command(run)


_WRITES = """

    Writes table.md, table.csv, report.html, accuracy.png, images.png and runs/ (every run's JSON and weights) to --out,
    by default out/{name}-PRESET.  A finished run is never trained again, and one that was stopped goes on from its last
    epoch: the same command, here or elsewhere, goes on where it was.  `minidbp status DIR` tells how far it is.
    """


def _sweep(
    name: str,
    preset: str,
    out: Path | None,
    seed: int,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    data: Path | None,
    fixed: dict[str, Any],
    vary: list[str],
    as_json: bool,
) -> None:
    from minidbp.diagnosis.judge import JUDGE
    from minidbp.paper import report, tables
    from minidbp.paper.experiments import experiment_named, protocol_variants
    from minidbp.sweeps import executors, sweep
    from minidbp.sweeps.execute import mnist_in
    from minidbp.training import available_cores

    experiment = experiment_named(name)
    variants = [{**fixed, **variant} for variant in protocol_variants(vary)]
    runs = experiment.runs(preset, seed, variants)
    data = data and data.resolve()
    mnist = mnist_in(data)
    title = f"{experiment.title}, preset {preset}"
    typed = ["minidbp", name, "--preset", preset, *(["--seed", str(seed)] if seed else [])]
    typed += [part for field, value in fixed.items() for part in (f"--{field.replace('_', '-')}", value)]
    typed += [part for text in vary for part in ("--vary", text)]
    fields = [text.partition("=")[0] for text in vary]
    planned = sweep.Sweep(name, title, shlex.join(typed), runs, fields)
    folder = out or Path("out") / f"{name}-{preset}"
    sweep.begin(planned, folder)
    make_executor: Callable[[], Any] = executors.in_process
    if workers:
        threads = threads or max(1, available_cores() // workers)
        make_executor = functools.partial(executors.processes, workers, threads)
    elif scheduler:
        threads = threads or 1
        make_executor = functools.partial(executors.dask, scheduler)
    ending = sweep.train_all(
        runs, folder.resolve() / "runs", make_executor, JUDGE, title=title, data=data, threads=threads, console=messages
    )
    rows = report.write_report(planned, folder, mnist)
    if as_json:
        typer.echo(json.dumps(tables.as_json(rows), indent=1))
    elif rows:
        screen.print(report.on_screen(rows, title))
    if rows:
        told_where(folder, *report.FILES, "runs/")
    if ending.stopped:
        fail(
            f"stopped: {ending.finished} of {len(runs)} runs are finished; the same command goes on from there, "
            "each run from its last epoch",
            130,
        )
    if ending.diverged:
        fail("; ".join(ending.diverged), code=1)


_sweep_command(
    "table2",
    "Table 2: models A, B, C trained with several lambdas, clean and attacked, the paper's numbers beside ours.",
    "under 15 minutes",
)
_sweep_command(
    "table3",
    "Table 3: adversarial training with and without the penalty, models A, B, C and four eps.",
    "under 30 minutes",
)
_sweep_command("table4", "Table 4: adversarial training of model C with lambda from 0 to 1000.", "under 30 minutes")
_sweep_command(
    "credit", "Who gets the credit: accuracy against lambda, label smoothing and length of training, each by itself.",
    "under 20 minutes",
)  # fmt: skip


@command
def status(folder: Folder, as_json: AsJson = False) -> None:
    """How far a sweep is that runs here or elsewhere: runs finished, under way, diverged, and the time left."""
    import dataclasses

    from minidbp.diagnosis.judge import JUDGE
    from minidbp.sweeps.monitor import SweepMonitor, view
    from minidbp.sweeps.sweep import load

    there = load(folder)
    state = SweepMonitor(there.runs, folder / "runs", JUDGE).state()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(state), indent=1))
    else:
        screen.print(view(state, there.title))
        if not state.running and state.finished + state.diverged < state.total:
            screen.print(
                f"nothing is under way; to go on: {there.command} --out {folder}", highlight=False, soft_wrap=True
            )


@command
def report(folder: Folder, data: Data = None, as_json: AsJson = False) -> None:
    """Tables, figures and the report page of whatever a sweep has finished so far, in its folder."""
    from minidbp.data import load_mnist
    from minidbp.paper import report, tables
    from minidbp.sweeps import sweep

    there = sweep.load(folder)
    rows = report.write_report(there, folder, load_mnist(data))
    if as_json:
        typer.echo(json.dumps(tables.as_json(rows), indent=1))
    elif rows:
        screen.print(report.on_screen(rows, there.title))
    if not rows:
        fail(f"{folder} has no finished run yet", code=1)
    told_where(folder, *report.FILES)

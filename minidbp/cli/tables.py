"""Commands for the paper's results: many runs for its tables and claims, how far they are, and Figure 1."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from typer import Option

from minidbp.cli import inputs, output
from minidbp.cli import options as opt
from minidbp.cli.app import command, fail, stop
from minidbp.cli.invocation import current
from minidbp.files.atomic import write_text
from minidbp.files.reading import printable
from minidbp.training import available_cores, workers

if TYPE_CHECKING:
    from minidbp.paper.tables import Row

Folder = Annotated[Path, opt.folder("The --out folder of table2, table3, table4 or credit.")]
RunThreads = Annotated[
    int | None, opt.at_least(1, "Threads for each run; if not given, the runs share all cores.", opt.MOST_THREADS)
]
Workers = Annotated[int | None, opt.at_least(1, "Train this many runs at a time, each in a process.", opt.MOST_THREADS)]
Scheduler = Annotated[
    str | None, Option(help="Train on this Dask scheduler's workers (tcp://...), which see --out too.")
]
Penalty = Annotated[
    str | None, Option(help="jacobian_l1 (eq. 3) or summed_jacobian_l1; the experiment's if not given.")
]
Target = Annotated[str | None, Option(help="The penalised f: logits (the default) or softmax.")]
FigurePreset = Annotated[str, Option(help="smoke (under a minute), laptop (under 15 minutes) or paper (hours).")]
FigurePenalty = Annotated[str, Option(help="summed_jacobian_l1 (section 4.2) or jacobian_l1 (eq. 3, slower).")]
Reduction = Annotated[
    str | None, Option(help="The reduction of the penalty over classes and pixels: mean (the default) or sum.")
]
Label = Annotated[str | None, Option(help="The label in the attack: true (the default), predicted or smoothed.")]
Preset = Annotated[
    str,
    Option(help="smoke (a minute), laptop (up to 15 minutes), overnight (up to 10 hours) or paper (days to weeks)."),
]
Models = Annotated[str | None, Option(help="Train only these models of the preset, such as C or A,C.")]
Lambdas = Annotated[
    str | None, Option(help="Train these lambdas instead of the preset's, such as 0,50; 0 is added if it is missing.")
]
Seeds = Annotated[
    int | None,
    opt.at_least(1, "How many seeds for each model and lambda, from --seed on; the preset's if not given.", 10_000),
]
FirstSeed = Annotated[int, opt.at_least(0, "The first seed; the same seed gives the same bits.")]
Vary = Annotated[
    list[str] | None,
    Option(help="Sweep a field of the protocol: FIELD=VALUE,VALUE, or FIELD alone for all its words. Repeatable."),
]


def _sweep_command(name: str, about: str) -> None:
    """Add the command that trains the runs of the experiment of that name and reports on them."""

    def run(
        preset: Preset = "laptop",
        out: opt.Out = None,
        models: Models = None,
        lambdas: Lambdas = None,
        seeds: Seeds = None,
        seed: FirstSeed = 0,
        threads: RunThreads = None,
        workers: Workers = None,
        scheduler: Scheduler = None,
        data: opt.MnistData = None,
        penalty: Penalty = None,
        penalty_target: Target = None,
        reduction: Reduction = None,
        attack_label: Label = None,
        vary: Vary = None,
        as_json: opt.AsJson = False,
    ) -> None:
        from minidbp.cli.training import train_runs
        from minidbp.paper.experiments import Choice, check_effect, experiment_named, protocol_variants
        from minidbp.paper.report import write_report
        from minidbp.sweeps import sweep

        named = {
            "penalty": penalty, "penalty_target": penalty_target, "reduction": reduction, "attack_label": attack_label,
        }  # fmt: skip
        fixed = {field: value for field, value in named.items() if value is not None}
        varied = [text.partition("=")[0] for text in vary or []]
        for field in fixed.keys() & varied:
            raise ValueError(f"--{field.replace('_', '-')} and --vary both give {field}; give it once")
        how = output.options_line(data=data and data.resolve(), threads=threads, workers=workers, scheduler=scheduler)
        make_executor, threads = _executor(workers, scheduler, threads)
        experiment, choice = experiment_named(name), Choice.of(models, lambdas, seeds)
        variants = [{**fixed, **variant} for variant in protocol_variants(vary or [])]
        runs = experiment.runs(preset, seed, variants, choice)
        check_effect(varied, runs)
        data = data and data.resolve()
        mnist = inputs.load_mnist(data, name)
        for one in runs:
            one.check(mnist)
        title = f"{experiment.title}, preset {preset}"
        repeat = output.command_line(name, preset=preset, **choice.options(), seed=seed or None, **fixed, vary=vary)
        planned = sweep.Sweep(name, title, [repeat], runs, varied, how)
        folder = out or Path("out") / f"{name}-{preset}"
        inputs.remove_if_empty(folder / "runs")
        there = sweep.begin(planned, folder, experiment.runs(preset, seed, variants))
        if lambdas and len(choice.lambdas or ()) > len(lambdas.split(",")):
            output.say("lambda 0, which every table needs, is added")
        if more := len(there.runs) - len(runs):
            output.say(f"{folder} lists {more} other runs of this sweep; the report shows those that are finished")
        words = current().words
        ending = train_runs(
            runs, folder.resolve() / "runs", make_executor,
            lambda finished: f"stopped: {finished} of {len(runs)} runs are finished; to go on: {words}",
            title=title, data=data, threads=threads,
        )  # fmt: skip
        if ending.unreadable:  # a report never leaves out a result without a word
            fail("; ".join(ending.failed), code=1)
        with output.busy("writing the report"):
            rows, written = write_report(sweep.load(folder), folder, mnist)  # it may have been extended meanwhile
        _show_rows(rows, title, as_json)
        if rows:
            output.list_written(folder, *written, "runs/")
        if ending.stopped:
            stop()
        if bad := ending.diverged + ending.failed:
            fail("; ".join(bad), code=1)

    run.__name__ = name
    run.__doc__ = f"""{about}

    Writes table.md, table.csv, report.html, accuracy.png, epochs.png, images.png and runs/ (every run's JSON and
    weights) to --out, by default out/{name}-PRESET.  A finished run is never trained again, and an interrupted run
    resumes from its last epoch: run the same command again, here or on another machine.  With more --models, --lambdas
    or --seeds, the command extends the folder.  `minidbp status DIR` shows the progress.
    """
    command(run, config=True)


def _executor(workers: int | None, scheduler: str | None, threads: int | None) -> tuple[Callable[[], Any], int | None]:
    """The function that makes the executor of the runs, and the threads of each run."""
    from minidbp.sweeps import dask, executors

    if workers and scheduler is not None:
        raise ValueError("--workers and --scheduler name two places to train in; give one of them")
    if workers:
        threads = threads or max(1, available_cores() // workers)
        return functools.partial(executors.processes, workers, threads), threads
    if scheduler is not None:
        dask.check_address(scheduler)
        return functools.partial(dask.DaskExecutor, scheduler), threads or 1
    return executors.in_process, threads


def _show_rows(rows: Sequence["Row"], title: str, as_json: bool) -> None:
    from minidbp.paper import report, tables

    output.show(tables.as_json(rows), as_json, *([report.on_screen(rows, title)] if rows else []))


TABLE2 = "Table 2: train models A, B, C with several lambdas and compare clean and attacked accuracy with the paper's."
TABLE3 = "Table 3: train models A, B, C adversarially at four eps, with the penalty and without."
TABLE4 = "Table 4: train model C adversarially with lambda from 0 to 1000."
CREDIT = "Find what raises accuracy under FGSM: vary lambda, label smoothing and length of training, each by itself."
_sweep_command("table2", TABLE2)
_sweep_command("table3", TABLE3)
_sweep_command("table4", TABLE4)
_sweep_command("credit", CREDIT)


@command
def status(folder: Folder, as_json: opt.AsJson = False) -> None:
    """Show the progress of a sweep: finished, running, stopped and diverged runs, and the time left."""
    from minidbp.diagnosis.judge import JUDGE
    from minidbp.sweeps.monitor import SweepMonitor, view
    from minidbp.sweeps.sweep import load

    sweep = load(folder)
    state = SweepMonitor(sweep.runs, folder / "runs", JUDGE).state()
    idle = not state.running and state.finished + state.diverged + len(state.damaged) < state.total
    commands = [command.replace("minidbp", current().program, 1) for command in sweep.to_go_on(folder)]
    hint = [Text(printable(f"stopped: to go on, {command}"), no_wrap=True) for command in commands if idle]
    output.show(state, as_json, view(state, sweep.title), *hint)
    if state.damaged:
        fail("; ".join(state.damaged), code=1)


@command
def report(folder: Folder, data: opt.MnistData = None, as_json: opt.AsJson = False) -> None:
    """Write the tables, figures and report page of the runs that a sweep has finished so far, into its folder."""
    from minidbp.paper.report import write_report
    from minidbp.sweeps.sweep import load

    sweep = load(folder)
    with output.busy("writing the report"):
        rows, written = write_report(sweep, folder, inputs.load_mnist(data, "report"))
    _show_rows(rows, sweep.title, as_json)
    if not rows:
        fail(f"{folder} has no finished run yet", code=1)
    output.list_written(folder, *written)


@command(config=True)
def figure1(
    preset: FigurePreset = "laptop",
    model: opt.ModelName = "C",
    image: opt.Image = 0,
    penalty: FigurePenalty = "summed_jacobian_l1",
    lam: opt.Lambda = 10.0,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    data: opt.MnistData = None,
    as_json: opt.AsJson = False,
) -> None:
    """Draw Figure 1 from a real run: f at a test image and at its adversarial twin, during adversarial training.

    Trains twice, with the penalty and without.  Writes figure1.png, figure1.gif, figure1.md and figure1.json to --out,
    by default out/figure1-PRESET.  The command always starts again.  After Ctrl-C it writes what was observed so far,
    but no film.
    """
    from minidbp.files.plots import save
    from minidbp.paper import figure1, figure1_pictures

    inputs.check_image(image, figure1.N_TEST)
    runs = figure1.plan_runs(preset, model, lam, penalty, seed)
    mnist = inputs.load_mnist(data, "figure1")
    output.compile_kernels()
    folder = inputs.out_folder(out, f"figure1-{preset}")
    started = perf_counter()
    total = sum(figure1.steps_of(run)[0] for run in runs)
    with workers(threads) as pool, output.progress(f"training model {model}", total) as advance:
        study = figure1.make_study(runs, mnist, image, pool, advance)
    again = f"to begin again: {current().words}"
    if not study.observed:
        current().how_to_go_on = lambda: f"stopped before the first observation, nothing was written; {again}"
        stop()
    options = {"preset": preset, "model": model, "image": image, "penalty": penalty, "lambda": lam, "seed": seed}
    repeat = output.command_line("figure1", **options)
    page = figure1.as_markdown(study, repeat, perf_counter() - started)
    write_text(folder / "figure1.json", json.dumps(figure1.as_json(study)) + "\n")
    write_text(folder / "figure1.md", page)
    current().how_to_go_on = lambda: f"stopped while drawing, the numbers are in {folder / 'figure1.json'}; {again}"
    save(figure1_pictures.still(study), folder / "figure1.png")
    if not study.stopped:
        with output.progress("drawing", len(study.observed[0].observations)) as advance:
            figure1_pictures.film(study, folder / "figure1.gif", advance)
    output.show(figure1.summary_as_json(study), as_json, figure1.on_screen(study))
    output.list_written(folder, "figure1.png", "figure1.gif", "figure1.md", "figure1.json")
    if study.stopped:
        last = study.observed[-1]
        step, steps = last.observations[-1].step, figure1.steps_of(last.run)[0]
        current().how_to_go_on = lambda: (
            f"stopped in the run with lambda {last.run.lam:g} at step {step} of {steps}, the figure shows the steps "
            f"observed so far, without a film; {again}"
        )
        stop()

"""The report on a sweep, of whatever is finished: table.csv, table.md, figures, and one page of HTML with all of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich import box
from rich.table import Table

from minidbp.data import Mnist
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.files.atomic import write_text
from minidbp.files.page import as_html
from minidbp.files.plots import save
from minidbp.nn import WeightsError, load_model
from minidbp.paper import figures, sections
from minidbp.paper.experiments import experiment_named
from minidbp.paper.statistics import Result
from minidbp.paper.tables import Row, as_csv, cells, header, rows_of
from minidbp.sweeps.runs import Run, RunFailed, identity_in, labels, varied_fields
from minidbp.sweeps.sweep import Sweep, alone, results_in
from minidbp.training import Protocol
from minidbp.training.environment import in_words

FILES = ("table.md", "table.csv", "report.html", "accuracy.png", "images.png")

READ = """Test accuracy in percent, mean ± standard deviation over the runs; each column `paper` stands beside ours.
FGSM is the paper's attack; `PGD` is a stronger one on the same weights, to tell robustness from masked gradients.
λ = 0 is training without the penalty."""
FEWER = """ PGD attacks the first n_pgd of the n_test images that FGSM attacks, so the two may differ a little by that
alone."""
TWINS = """Test images, and what FGSM makes of them for models with and without the penalty, each under what its model
says of it"""


def write_report(sweep: Sweep, folder: Path, mnist: Mnist) -> list[Row]:
    """Write FILES into the folder, of whatever is finished; the rows of the table.  Nothing for nothing.

    Raises RunFailed if they cannot be written, or a run's weights cannot be read.
    """
    try:
        with alone(folder, FILES):
            return _write(sweep, folder, mnist)
    except OSError as error:
        raise RunFailed(
            f"the report cannot be written ({error.filename}: {error.strerror}); `minidbp report {folder}` tries again"
        ) from error


def _write(sweep: Sweep, folder: Path, mnist: Mnist) -> list[Row]:
    experiment, results = experiment_named(sweep.experiment), results_in(sweep, folder)
    rows = rows_of(experiment, results, varied_fields([run.identity() for run in sweep.runs]))
    if not any(row.results for row in rows):
        return []
    write_text(folder / "table.csv", as_csv(rows))
    save(figures.accuracy_along(rows, experiment.along), folder / "accuracy.png")
    models, protocol = _models_to_look_at(sweep, rows, folder / "runs")
    if models:
        save(adversarial_twins(models, mnist.x_test, mnist.y_test, protocol), folder / "images.png")
    pictures = {"accuracy.png": figures.describe(rows, experiment.along), "images.png": TWINS}
    text = as_markdown(
        sweep, rows, results, {name: text for name, text in pictures.items() if (folder / name).exists()}
    )
    write_text(folder / "table.md", text)
    write_text(folder / "report.html", as_html(text, sweep.title, folder))
    return rows


def on_screen(rows: Sequence[Row], title: str) -> Table:
    """For a terminal: accuracy in percent, the paper's column beside each of ours.

    80 columns are enough: where something varies, a cell may take two lines, the deviation on the second, and where
    two fields do, the paper's columns are left to the files.
    """
    screen = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="test accuracy in percent, mean±standard deviation over runs",
    )
    plus_minus = " ±" if rows and rows[0].varied else "±"  # lines break at blanks
    body = [[cell.replace(" ± ", plus_minus) for cell in cells(row, digits=1)] for row in rows]
    kept = [i for i, name in enumerate(header(rows)) if name != "paper" or len(rows[0].varied if rows else ()) < 2]
    for i in kept:
        name = header(rows)[i]
        widest = max((len(word) for line in body for word in line[i].split()), default=1)
        style = "dim" if name == "paper" else ""
        screen.add_column(name.replace("_", " "), justify="right", style=style, overflow="fold", min_width=widest)
    for i, line in enumerate(body):
        last_of_model = i + 1 == len(rows) or rows[i + 1].model != rows[i].model
        screen.add_row(*(line[k] for k in kept), end_section=last_of_model)
    return screen


def as_markdown(
    sweep: Sweep, rows: Sequence[Row], results: Sequence[Result], pictures: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The table, what made it, how to read it, the statistics, every choice of the protocol by model, the machine.

    pictures: files beside it, each with its description.
    """
    experiment = experiment_named(sweep.experiment)
    done = [result for result in results if result["diverged"] is None]
    minutes = sum(sum(result["seconds"].values()) for result in done) / 60
    diverged = len(results) - len(done)
    names = {run.name: label for run, label in labels(sweep.runs).items()}
    fewer = any(result["protocol"]["n_pgd"] < result["protocol"]["n_test"] for result in done)
    compared = [name for name in (*experiment.compared, *sweep.vary) if rows and name in rows[0].varied]
    parts = [
        f"# {sweep.title}",
        f"Made by `{sweep.command}`: of its {len(sweep.runs)} runs, {len(done)} are finished"
        + (f" and {diverged} diverged" if diverged else "")
        + f"; one after the other they take {minutes:.1f} minutes.",
        READ + (FEWER if fewer else ""),
        *([experiment.note] if experiment.note else []),
        sections.table(header(rows), map(cells, rows)),
        *(f"- {names[Run.of(identity_in(r)).name]}: {r['diverged']['message']}." for r in results if r["diverged"]),
        *(f"![{description}]({name})" for name, description in pictures.items()),
        *sections.verdicts(experiment, sweep.vary, done, diverged > 0),
        *sections.intervals(rows),
        *(part for name in ("lambda", *compared) for part in sections.differences(rows, name)),
        *sections.distances(experiment, sweep.vary, results),
        *sections.diagnosis(rows),
        *sections.per_class(rows),
        *sections.protocol(experiment, done),
        *_machines(done),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _machines(done: Sequence[Result]) -> list[str]:
    """Each machine that took part: what may change a result or its speed."""
    machines = list(dict.fromkeys(in_words(result["environment"]) for result in done))
    return [
        part
        for i, machine in enumerate(machines, start=1)
        for part in ("## Machine" + (f" {i}" if len(machines) > 1 else ""), machine)
    ]


def _models_to_look_at(sweep: Sweep, rows: Sequence[Row], home: Path) -> tuple[dict[str, Any], Protocol]:
    """For each model, one with the smallest and one with the largest lambda, under the last protocol of the table.

    Those only whose weights are there.
    """
    chosen = {}
    protocol = Protocol()
    for model in sorted({row.model for row in rows}):
        mine = [row for row in rows if row.model == model and row.results]
        mine = [row for row in mine if row.varied == mine[-1].varied]
        for row in {row.lam: row for row in (mine[0], mine[-1])}.values() if mine else ():
            run = Run.of(identity_in(row.results[0]))
            protocol = run.protocol
            if not (home / f"{run.name}.npz").exists():
                continue  # a folder may be handed on without its weights, which are a thousand times larger
            try:
                chosen["\n".join([f"model {model}, λ = {row.lam:g}", *row.varied_in_words()])] = load_model(
                    home / f"{run.name}.npz"
                )[0]
            except WeightsError as error:
                raise RunFailed(f"{error}; or move {run.name}.json away, and the run is trained again") from error
    return chosen, protocol

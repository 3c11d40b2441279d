"""The report on a sweep, of whatever is finished: table.csv, table.md, figures, and one page of HTML with all of it."""

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markdown_it import MarkdownIt
from rich import box
from rich.table import Table

from minidbp.atomic import write_text
from minidbp.data import Mnist
from minidbp.experiments import figures
from minidbp.experiments.diagnose_verdict import POINTS
from minidbp.experiments.page import markdown_table
from minidbp.experiments.plans import Experiment, Result
from minidbp.experiments.runs import Run, RunFailed
from minidbp.experiments.statistics import Summary, by_seed, holm, number, paired, per_class, summarise
from minidbp.experiments.sweep import Sweep, alone, results_in
from minidbp.experiments.tables import Row, as_csv, cells, header, rows_of, shown
from minidbp.experiments.verdicts import as_markdown as verdicts_as_markdown
from minidbp.nn import WeightsError, load_model
from minidbp.training import Protocol

FILES = ("table.md", "table.csv", "report.html", "accuracy.png", "images.png")

# Fields of the protocol that the paper leaves unsaid, in the order in which Protocol lists them.
UNSAID = (
    "penalised", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
)  # fmt: skip
READ = """Test accuracy in percent, mean ± standard deviation over the runs; each column `paper` stands beside ours.
FGSM is the paper's attack; `PGD` is a stronger one on the same weights, to tell robustness from masked gradients.
λ = 0 is training without the penalty."""
TWINS = """Test images, and what FGSM makes of them for models with and without the penalty, each under what its model
says of it"""
HIDDEN = """On the images that PGD attacks. Accuracy in percent under random noise (signs times ε, the worst of ten),
under PGD on the margin, and of images that withstand every attack of this page; the share of elements of the loss's
gradient that are exactly 0, in percent; the cosine of that gradient at x and at FGSM's x + δ; ‖J‖₁,₁ at both.
`minidbp diagnose` looks closer at one model: docs/diagnostics.md."""
STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ccc; } th { border-bottom: 2px solid #555; }
img { max-width: 100%; } code { background: #f2f2f2; padding: 0 0.2rem; }
"""


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
    results = results_in(sweep, folder)
    rows = rows_of(sweep.experiment, results)
    if not any(row.results for row in rows):
        return []
    write_text(folder / "table.csv", as_csv(rows))
    figures.save(figures.accuracy_along(rows, sweep.experiment.along), folder / "accuracy.png")
    models, protocol = _models_to_look_at(sweep, rows, folder / "runs")
    if models:
        figures.save(figures.adversarial_twins(models, mnist.x_test, mnist.y_test, protocol), folder / "images.png")
    pictures = {"accuracy.png": figures.describe(rows, sweep.experiment.along), "images.png": TWINS}
    text = as_markdown(
        sweep, rows, results, {name: text for name, text in pictures.items() if (folder / name).exists()}
    )
    write_text(folder / "table.md", text)
    write_text(folder / "report.html", as_html(text, sweep.title, folder))
    return rows


def on_screen(rows: Sequence[Row], title: str) -> Table:
    """For a terminal: accuracy in percent, the paper's column beside each of ours.

    80 columns are enough: where something varies, a cell may take two lines, the deviation on the second.
    """
    screen = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="test accuracy in percent, mean±standard deviation over runs",
    )
    plus_minus = " ±" if rows and rows[0].varied else "±"  # lines break at blanks
    body = [[cell.replace(" ± ", plus_minus) for cell in cells(row, digits=1)] for row in rows]
    for i, name in enumerate(header(rows)):
        widest = max((len(word) for line in body for word in line[i].split()), default=1)
        style = "dim" if name == "paper" else ""
        screen.add_column(name.replace("_", " "), justify="right", style=style, overflow="fold", min_width=widest)
    for i, line in enumerate(body):
        last_of_model = i + 1 == len(rows) or rows[i + 1].model != rows[i].model
        screen.add_row(*line, end_section=last_of_model)
    return screen


def as_markdown(
    sweep: Sweep, rows: Sequence[Row], results: Sequence[Result], pictures: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The table, what made it, how to read it, the statistics, every choice of the protocol by model, the machine.

    pictures: files beside it, each with its description.
    """
    done = [result for result in results if result["diverged"] is None]
    minutes = sum(sum(result["seconds"].values()) for result in done) / 60
    parts = [
        f"# {sweep.title}",
        f"Made by `{sweep.command}`: {len(results)} of its {len(sweep.runs)} runs are done, in {minutes:.1f} minutes.",
        READ,
        _table(header(rows), map(cells, rows)),
        *(f"{_who(r)} diverged: {r['diverged']['message']}." for r in results if r["diverged"]),
        *(f"![{description}]({name})" for name, description in pictures.items()),
        *_verdicts(sweep, done),
        *_intervals(rows),
        *_against_zero(rows),
        *_distances(sweep.experiment, sweep.vary, results),
        *_diagnosis(rows),
        *_per_class(rows),
        "## Protocol",
        "**Bold**: the paper does not say; docs/protocol.md gives the reasons.",
        _protocol(done),
        *_machines(done),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def as_html(markdown: str, title: str, folder: Path) -> str:
    """The Markdown as a page that needs no other file: the pictures of `folder` are in it."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)

    def embedded(match: re.Match[str]) -> str:
        picture = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{picture}"'

    body = re.sub(r'src="([\w.-]+\.png)"', embedded, body)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'


def _table(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return markdown_table(names, list(lines), align="---:")


def _who(result: Result) -> str:
    return f"Model {result['model']}, λ = {result['lambda']:g}, seed {result['seed']}"


def _verdicts(sweep: Sweep, done: Sequence[Result]) -> list[str]:
    parts = []
    for reading, mine in _by_reading(done, sweep.vary).items():
        found = sweep.experiment.verdicts(mine)
        if found:
            parts += [f"## The paper's claims{': ' + reading if reading else ''}", verdicts_as_markdown(found)]
    return parts


def _against_zero(rows: Sequence[Row]) -> list[str]:
    """What lambda changes, seed by seed against lambda = 0 under the same protocol."""
    bases = {(row.model, *row.varied.values()): row for row in rows if row.lam == 0}
    lines, p_values = [], []
    for row in rows:
        base = bases.get((row.model, *row.varied.values()))
        if row.lam == 0 or base is None:
            continue
        compared = [
            paired(by_seed(row.results, name), by_seed(base.results, name)) for name in ("clean", "fgsm", "pgd")
        ]
        if not compared[0].seeds:
            continue
        p_values.append(compared[1].p)
        intervals = [_interval(c.summary) for c in compared]
        lines.append([*_which(row), *intervals, str(len(compared[0].seeds))])
    if not lines:
        return []
    for line, p in zip(lines, holm(p_values), strict=True):
        line.insert(-1, number(p, 3))
    names = ["model", "λ", *rows[0].varied, "clean", "FGSM", "PGD", "p (FGSM)", "seeds"]
    return [
        "## Against λ = 0",
        "Differences in percentage points, paired by seed, with 95% t intervals; p of the paired t-test for FGSM, "
        "adjusted by Holm over this table. – stands where there are too few seeds, or all differences are equal.",
        _table(names, lines),
    ]


def _interval(found: Summary, signed: bool = True) -> str:
    mean, low, high = (number(n, signed=signed) for n in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _diagnosis(rows: Sequence[Row]) -> list[str]:
    """Robust, or gradients hidden?  The means of each condition."""
    columns = {
        "noise": "noise", "pgd_margin": "PGD, margin", "worst_case": "worst case", "zero_gradients": "dL/dx = 0",
        "gradient_cosine": "cosine", "jacobian_l1": "‖J‖ at x", "jacobian_l1_adv": "‖J‖ at x + δ",
    }  # fmt: skip
    digits = {"gradient_cosine": 2}
    lines = []
    for row in rows:
        if row.results:
            means = {name: summarise([r["diagnosis"][name] for r in row.results]).mean for name in columns}
            figures = [number(mean, digits.get(name, 1)) for name, mean in means.items()]
            lines.append([*_which(row), *figures, _sign(row.summary("fgsm").mean, means["noise"], means["worst_case"])])
    return [
        "## Robust, or gradients hidden?",
        HIDDEN,
        _table(["model", "λ", *(rows[0].varied), *columns.values(), "so FGSM"], lines),
    ]


def _sign(fgsm: float, noise: float, worst_case: float) -> str:
    """What these accuracies say of accuracy under FGSM; what is far is so for `diagnose` too."""
    if noise < fgsm - POINTS:
        return "meets a mask: noise is stronger"
    if worst_case < fgsm - POINTS:
        return "overstates: other attacks are stronger"
    return "is near the worst case"


def _which(row: Row) -> list[str]:
    """A row's first cells."""
    return [row.model, f"{row.lam:g}", *map(shown, row.varied.values())]


def _intervals(rows: Sequence[Row]) -> list[str]:
    """Where the means lie, of rows that have at least two runs."""
    names = ("clean", "fgsm", "pgd")
    lines = [
        [*_which(row), *(_interval(row.summary(name), signed=False) for name in names), str(len(row.results))]
        for row in rows
        if len(row.results) > 1
    ]
    if not lines:
        return []
    return [
        "## 95% intervals of the means",
        "By Student's t over the seeds; – where all runs are equal.",
        _table(["model", "λ", *rows[0].varied, "clean", "FGSM", "PGD", "runs"], lines),
    ]


def _per_class(rows: Sequence[Row]) -> list[str]:
    parts = []
    for name, word in ("clean", "clean"), ("fgsm", "under FGSM"):
        lines = [
            [*_which(row), *(number(summary.mean, 1) for summary in per_class(row.results, name))]
            for row in rows
            if row.results
        ]
        names = ["model", "λ", *(rows[0].varied), *map(str, range(10))]
        parts += [f"## Accuracy of each digit, {word}", _table(names, lines)]
    return parts


def _distances(experiment: Experiment, vary: Sequence[str], results: Sequence[Result]) -> list[str]:
    """Root mean square of our means minus the paper's, for each reading of what the paper does not say."""
    lines = []
    for reading, mine in _by_reading(results, vary).items():
        compared = [row for row in rows_of(experiment, mine) if row.paper and row.results]
        if compared:
            clean, fgsm = (
                summarise([(row.summary(name).mean - getattr(row.paper, name)[0]) ** 2 for row in compared]).mean ** 0.5
                for name in ("clean", "fgsm")
            )
            lines.append((fgsm, [reading or "this protocol", str(len(compared)), number(clean), number(fgsm)]))
    if not lines:
        return []
    return [
        "## Distance to the paper's table",
        "Root mean square, over the cells that the paper has too, of our mean minus the paper's, in percentage points"
        + ("; the reading that comes nearest under FGSM first." if len(lines) > 1 else "."),
        _table(["reading", "cells", "clean", "FGSM"], [line for _, line in sorted(lines, key=lambda pair: pair[0])]),
    ]


def _by_reading(results: Sequence[Result], vary: Sequence[str]) -> dict[str, list[Result]]:
    """The results by their values of the fields that `--vary` took, as text; one group, '', without."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        name = ", ".join(f"{field} = {shown(result['protocol'][field])}" for field in vary)
        groups.setdefault(name, []).append(result)
    return groups


def _protocol(done: Sequence[Result]) -> str:
    """Every field, by model; several values where a model has several."""
    models = sorted({result["model"] for result in done})
    lines = []
    for field in fields(Protocol):
        values = {m: dict.fromkeys(str(r["protocol"][field.name]) for r in done if r["model"] == m) for m in models}
        name = f"**{field.name}**" if field.name in UNSAID else field.name
        lines.append([name, *(", ".join(values[model]) for model in models)])
    return markdown_table(["field", *(f"model {model}" for model in models)], lines)


def _machines(done: Sequence[Result]) -> list[str]:
    """Each machine that took part: what may change a result or its speed."""
    shown_keys = ("minidbp", "python", "processor", "cores", "blas", "variables")
    machines = list(dict.fromkeys(json.dumps({key: r["environment"].get(key) for key in shown_keys}) for r in done))
    parts = []
    for i, machine in enumerate(map(json.loads, machines), start=1):
        title = "## Machine" + (f" {i}" if len(machines) > 1 else "")
        parts += [title, "\n".join(f"- {key}: {_said(value)}" for key, value in machine.items())]
    return parts


def _said(value: Any) -> str:
    """A part of the environment for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none set"
    if isinstance(value, list):
        return "; ".join(
            " ".join(f"{v}" for v in part.values()) if isinstance(part, Mapping) else str(part) for part in value
        )
    return str(value)


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
            run = Run.of({key: row.results[0][key] for key in ("format", "model", "lambda", "seed", "protocol")})
            protocol = run.protocol
            if not (home / f"{run.name}.npz").exists():
                continue  # a folder may be handed on without its weights, which are a thousand times larger
            try:
                chosen[f"model {model}, λ = {row.lam:g}"] = load_model(home / f"{run.name}.npz")[0]
            except WeightsError as error:
                raise RunFailed(f"{error}; or move {run.name}.json away, and the run is trained again") from error
    return chosen, protocol

"""The report on the finished runs of a sweep: table.csv, table.md, figures, and one page of HTML with all of it."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from minidbp.data import Dataset
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.files.atomic import write_text
from minidbp.files.markdown import code_span, escaped, markdown_table
from minidbp.files.page import as_html
from minidbp.files.plots import save
from minidbp.nn import N_CLASSES, Sequential, WeightsError, load_model
from minidbp.paper import claims
from minidbp.paper.experiments import Condition, Experiment, experiment_named
from minidbp.paper.figures import accuracy_along, along_epochs, describe, describe_epochs
from minidbp.paper.readings import as_if_judged, read
from minidbp.paper.statistics import Summary, by_seed, holm, number, paired, summarise
from minidbp.paper.tables import (
    THIS_RUN,
    Line,
    Row,
    accuracies,
    as_csv,
    body,
    condition_cells,
    header,
    line_cells,
    n_images,
    rows_of,
    sizes,
    span,
)
from minidbp.sweeps.runs import DivergedRun, Outcome, Run, RunFailed, RunResult, labels, shown, varied_fields
from minidbp.sweeps.sweep import Sweep, folder_lock, results_in
from minidbp.training import Protocol, Tracked
from minidbp.training.rules import RULES

FILES = ("table.md", "table.csv", "report.html", "accuracy.png", "epochs.png", "images.png")

# Fields of the protocol that the paper does not state, in the order in which Protocol lists them.
UNSAID = (
    "penalty_target", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
)  # fmt: skip

TRACKED_FIGURES = [field.name for field in fields(Tracked)]

RIGHT = "---:"  # how columns of numbers are aligned
HOW_TO_READ = """Test accuracy in percent, mean ± standard deviation over the runs. Each run is judged on test images
that its seed draws at random: n = {n_images}. All attacks get the same images. Tables of other images say so.
A heading names the size of the attack. FGSM is the paper's attack. `worst` is the worst case: the images that withstand
the strongest attacks (APGD on two losses, then Square, which uses no gradient) and every other attack of that size.
Where it leaves fewer images than FGSM, the accuracy under FGSM is no measure of robustness. λ = 0 is training without
the penalty.

The lines of a condition stand below each other. `paper` has the paper's numbers, after its own length of training.
`this run` has the runs of this folder. `ours, full length`, where there is such a line, has runs of the same condition
that minidbp ships, trained on all images. Its epochs, runs and test images are in the table; its attacks may have
another strength."""
TWINS = """Test images, and below them their FGSM images for models with and without the penalty, each with the class
that its model predicts"""
UNDECIDED = """These runs decide none of the paper's claims: a verdict needs at least two seeds of a condition, and no
condition has two {}."""
DIVERGED = """**These verdicts leave out the runs that diverged.** A claim that holds without them may not hold with
them."""
MASKING = """Accuracy, in percent: under random noise, under PGD, under PGD on the margin, and in the worst case. Noise
is random signs times ε; an image counts if it withstands each of ten draws, so a single draw leaves at least as many.
The worst case is of images that withstand every attack, the strongest set included. Then the share of elements of the
loss's gradient that are exactly 0, in percent; the cosine between that gradient at x and at FGSM's x + δ; and ‖J‖₁,₁
at both points. The verdict comes from the rules and attacks of `minidbp diagnose` (docs/diagnostics.md), and each
run's JSON holds its reasons."""
VERDICTS = """Each verdict is given by itself, at the level of 95%. Holm's rule corrects for the comparisons within a
verdict; nothing corrects for the number of verdicts. A verdict holds for the length of training in this table."""
OTHER_RULES = """The table and the verdicts above judge each model on all its test images, with the weights that the
protocol's own stop_rule and keep chose. These are the findings under every rule (stop rule, keep). They are read from
the accuracy after each epoch on fewer images, those that each run tracks (n_tracked, n = {n_tracked}). So a finding
may differ even under the protocol's own rules.
Runs in which a stop rule never holds are left out. A dash stands where none of the model are left."""
READINGS = """Each run tracks n_tracked of its test images after every epoch (n = {n_tracked}): clean, under FGSM and
PGD, at eps and at small_eps. So it can be read as if another rule had ended the training (stop rule) and chosen the
weights (keep).
The figures are means over the runs in which the stop rule holds; `runs` counts them. Where it holds in no run, there is
no line. `none` is the whole length."""
INTERVALS = """The intervals use Student's t over the seeds, which does not know that accuracy lies between 0 and 100%.
With two or three seeds they may reach beyond these bounds. A dash stands where all runs are equal."""
DIFFERENCES = """Differences in percentage points, paired by seed, with 95% t intervals. p is that of the paired t-test,
for each attack, adjusted by Holm's method over its column. A dash stands where there are too few seeds, or where
all differences are equal."""
DISTANCES = """## Distance to the paper's table

Root mean square of our mean minus the paper's, over the cells that the paper has too, in percentage points"""
PROTOCOL = """**Bold**: the paper does not state this field; docs/protocol.md gives the reasons for our values.
(in full: ...): the values of preset `paper`, where this sweep has others. With stop_rule none, training lasts
max_epochs."""


def write_report(sweep: Sweep, folder: Path, mnist: Dataset) -> tuple[list[Row], list[str]]:
    """Write FILES into the folder, from the runs that are finished; without any, write nothing.

    Returns:
        The rows of the table, and the names of the written files: without weights, there is no images.png among them.

    Raises:
        RunFailed: The files cannot be written, or a run's weights cannot be read.
    """
    try:
        with folder_lock(folder, FILES):
            return _write(sweep, folder, mnist)
    except OSError as error:
        again = shlex.join(["minidbp", "report", str(folder)])
        raise RunFailed(
            f"the report cannot be written ({error.filename}: {error.strerror}); `{again}` tries again"
        ) from error


def _write(sweep: Sweep, folder: Path, mnist: Dataset) -> tuple[list[Row], list[str]]:
    experiment, results = experiment_named(sweep.experiment), results_in(sweep, folder)
    rows = rows_of(experiment, results, varied_fields(sweep.runs))
    if not any(row.results for row in rows):
        return [], []
    write_text(folder / "table.csv", as_csv(rows))
    save(accuracy_along(rows, experiment.along), folder / "accuracy.png")
    save(along_epochs(rows), folder / "epochs.png")
    pictures = {"accuracy.png": describe(rows, experiment.along), "epochs.png": describe_epochs(rows)}
    models, protocol = _models_to_draw(rows, folder / "runs")
    if models:
        save(adversarial_twins(models, mnist, protocol), folder / "images.png")
        pictures["images.png"] = TWINS
    text = as_markdown(sweep, rows, results, pictures)
    write_text(folder / "table.md", text)
    write_text(folder / "report.html", as_html(text, sweep.title, folder, pictures))
    return rows, ["table.md", "table.csv", "report.html", *pictures]


def _models_to_draw(rows: Sequence[Row], run_dir: Path) -> tuple[dict[str, Sequential], Protocol]:
    """For each model, those with the smallest and the largest lambda, under the last protocol of the table.

    A folder may be handed on without its weights, which are a thousand times larger; then models are left out.
    """
    models = {}
    protocol = Protocol()
    for model in sorted({row.model for row in rows}):
        finished = [row for row in rows if row.model == model and row.results]
        alike = [row for row in finished if row.varied == finished[-1].varied]
        for row in {row.lam: row for row in alike[:1] + alike[-1:]}.values():
            run = row.results[0].run
            protocol = run.protocol
            weights = run.file(run_dir, "safetensors")
            varied = [f"{name} = {shown(value)}" for name, value in row.varied.items()]
            try:
                if weights.exists():
                    models["\n".join([f"model {model}, λ = {row.lam:g}", *varied])] = load_model(weights)[0]
            except WeightsError as error:
                raise RunFailed(f"{error}; or move {run.name}.json away, and the run is trained again") from error
    return models, protocol


def on_screen(rows: Sequence[Row], title: str) -> Group:
    """The table for a terminal of at least 80 columns: accuracy in percent, the lines of a condition below each other.

    A line of its own names the model and what varies.
    """
    names = accuracies(rows)
    cells = [("λ", "from", *names.values(), "epochs", "runs")]
    blocks = []  # of a model and what varies: its heading, and the number and style of each of its lines in `cells`
    for _, group in groupby(rows, key=lambda row: (row.model, row.varied)):
        block = list(group)
        varied = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in block[0].varied.items()]
        lines = [(f"{row.lam:g}" if i == 0 else "", line) for row in block for i, line in enumerate(row.lines())]
        first = len(cells)
        for lam, line in lines:
            source, *figures, _ = line_cells(line, names, digits=1)
            cells.append((lam, source.removeprefix("ours, "), *(cell.replace(" ± ", "±") for cell in figures)))
        styles = [_style(line) for _, line in lines]
        blocks.append((", ".join([f"model {block[0].model}", *varied]), list(enumerate(styles, start=first))))
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]

    def line_of(i: int, style: str) -> Text:
        lam, source, *figures = (cell.rjust(width) for cell, width in zip(cells[i], widths, strict=True))
        return Text(" ".join([lam, source.strip().ljust(widths[1]), *figures]), style=style)

    parts = [Text(title, style="bold"), line_of(0, "bold"), Text("─" * (sum(widths) + len(widths) - 1))]
    for k, (heading, numbered) in enumerate(blocks):
        parts += [Text("")] if k else []
        parts += [Text(heading, style="bold"), *(line_of(i, style) for i, style in numbered)]
    return Group(*parts, *([Text(""), Text(_caption(rows), style="italic")] if rows else []))


def _caption(rows: Sequence[Row]) -> str:
    caption = f"accuracy in percent of {n_images(rows)} random test images, mean±standard deviation over runs"
    full = {f"{row.full_length.condition.protocol.n_test:,}" for row in rows if row.full_length}
    return caption + (f"; full length: ours, of {' or '.join(sorted(full))} images" if full else "")


def _style(line: Line) -> str:
    return "" if line.source == THIS_RUN else "dim"


def as_markdown(sweep: Sweep, rows: Sequence[Row], results: Sequence[Outcome], pictures: Mapping[str, str]) -> str:
    """The table, what made it, how to read it, the statistics, the protocol of each model, and the machine.

    Args:
        pictures: The files beside the page, each with its description.
    """
    experiment = experiment_named(sweep.experiment)
    done = [result for result in results if isinstance(result, RunResult)]
    minutes = sum(result.seconds.training + result.seconds.judging for result in done) / 60
    diverged = [result for result in results if isinstance(result, DivergedRun)]
    names, commands = labels(sweep.runs), " and ".join(map(code_span, sweep.commands))
    compared = [name for name in (*experiment.compared, *sweep.vary) if rows and name in rows[0].varied]
    parts = [
        f"# {escaped(sweep.title)}",
        f"Made by {commands}: of its {len(sweep.runs)} runs, {len(done)} are finished"
        + (f" and {len(diverged)} diverged" if diverged else "")
        + f"; one after the other they take {minutes:.1f} minutes.",
        HOW_TO_READ.format(n_images=n_images(rows)),
        *([experiment.note] if experiment.note else []),
        markdown_table(header(rows), body(rows), ["---" if name == "from" else RIGHT for name in header(rows)[1:]]),
        *(f"- {escaped(f'{names[result.run]}: {result.diverged.message}.')}" for result in diverged),
        *(f"![{description}]({name})" for name, description in pictures.items()),
        *_verdicts(experiment, sweep, done, bool(diverged)),
        *_readings(rows),
        *_intervals(rows),
        *(part for name in ("lambda", *compared) for part in _differences(rows, name)),
        *_distances(experiment, sweep.vary, done),
        *_masking(rows),
        *_per_class(rows),
        *_protocol(experiment, done),
        *_machines(done),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


# The sections. Each is a heading, a text and a table, or nothing where there is nothing to show.


def _by_condition(
    rows: Sequence[Row], columns: Iterable[str], figures: Callable[[Row], Iterable[str]], least: int = 1
) -> str:
    """A table with a line for each row that has at least so many runs; empty if there is none."""
    lines = [[*condition_cells(row), *figures(row)] for row in rows if len(row.results) >= least]
    return markdown_table(["model", "λ", *rows[0].varied, *columns], lines, RIGHT) if lines else ""


def _verdicts(experiment: Experiment, sweep: Sweep, done: Sequence[RunResult], diverged: bool) -> list[str]:
    """The verdicts on the paper's claims, by variant of the protocol. `diverged`: some runs are not in `done`."""
    parts, other_rules = [], []
    models = sorted({run.model for run in sweep.runs})
    for variant, results in _by_variant(done, sweep.vary).items():
        verdicts, name = experiment.verdicts(results, models), f": {variant}" if variant else ""
        if verdicts:
            if not _are_repeated(result.run for result in done):
                when = "yet" if _are_repeated(sweep.runs) else "(`--seeds 2` adds a second one)"
                return ["## The paper's claims", UNDECIDED.format(when)]
            parts += [f"## The paper's claims{name}", claims.as_markdown(verdicts)]
            by_rule = {rules: _findings(experiment, results, models, rules) for rules in RULES}
            lines = [[v.claim, *(findings.get(v.claim, "–") for findings in by_rule.values())] for v in verdicts]
            table = markdown_table(["the paper's claim", *(f"{stop}, {keep}" for stop, keep in RULES)], lines)
            words = OTHER_RULES.format(n_tracked=span(result.run.protocol.n_tracked for result in results))
            other_rules += [f"## The claims under other rules{name}", words, table]
    return [
        *parts,
        *([VERDICTS] if other_rules else []),
        *([DIVERGED] if diverged and other_rules else []),
        *other_rules,
    ]


def _are_repeated(runs: Iterable[Run]) -> bool:
    """Whether some condition has two seeds at least, without which no verdict is possible."""
    return any(n > 1 for n in Counter(Condition(run.model, run.lam, run.protocol) for run in runs).values())


def _findings(
    experiment: Experiment, results: Sequence[RunResult], models: Sequence[str], rules: tuple[str, str]
) -> dict[str, str]:
    """The finding on each claim if the runs are read under these rules; nothing on a model whose runs cannot be."""
    judged = [as_judged for result in results if (as_judged := as_if_judged(result, *rules))]
    left = [model for model in models if any(result.run.model == model for result in judged)]
    return {verdict.claim: verdict.finding for verdict in experiment.verdicts(judged, left)} if left else {}


def _readings(rows: Sequence[Row]) -> list[str]:
    """Each condition under every stop rule and keep rule."""
    lines = []
    for row in (row for row in rows if row.results):
        for stop, keep in RULES:
            readings = [reading for result in row.results if (reading := read(result, stop, keep))]
            if not readings:
                continue
            means = [summarise([getattr(r.tracked, name) for r in readings]).mean for name in TRACKED_FIGURES]
            epochs, runs = [reading.epochs for reading in readings], f"{len(readings)} of {len(row.results)}"
            numbers = [number(mean, 1) for mean in (summarise(epochs).mean, *means)]
            lines.append([*condition_cells(row), stop, keep, *numbers, runs])
    eps, small = sizes(rows)
    figures = ["clean", f"FGSM {eps}", f"PGD {eps}", f"FGSM {small}", f"PGD {small}", "‖J‖"]
    names = ["model", "λ", *rows[0].varied, "stop rule", "keep", "epochs", *figures, "runs"]
    words = READINGS.format(n_tracked=span(row.condition.protocol.n_tracked for row in rows))
    return ["## Read under other rules", words, markdown_table(names, lines, RIGHT)]


def _by_variant(results: Sequence[RunResult], vary: Sequence[str]) -> dict[str, list[RunResult]]:
    """The results by their values of the fields that `--vary` took, as text; one group, '', without such fields."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        name = ", ".join(f"{field} = {shown(getattr(result.run.protocol, field))}" for field in vary)
        groups.setdefault(name, []).append(result)
    return groups


def _intervals(rows: Sequence[Row]) -> list[str]:
    """The intervals of the means, of rows that have at least two runs."""

    def figures(row: Row) -> list[str]:
        return [*(_interval(row.summary(name)) for name in names), str(len(row.results))]

    names = accuracies(rows)
    table = _by_condition(rows, [*names.values(), "runs"], figures, least=2)
    return ["## 95% intervals of the means", INTERVALS, table] if table else []


def _interval(summary: Summary, signed: bool = False) -> str:
    mean, low, high = (number(n, signed=signed) for n in (summary.mean, summary.low, summary.high))
    return f"{mean} [{low}, {high}]"


def _differences(rows: Sequence[Row], field: str) -> list[str]:
    """The effect of lambda, or of a field of the protocol: seed by seed against its first value, all else equal."""

    def split(row: Row) -> tuple[Any, tuple]:
        """The value of the field, and all that must be equal."""
        values = {"lambda": row.lam, **row.varied}
        return values.pop(field), (row.model, *values.items())

    values = sorted({split(row)[0] for row in rows})
    first = 0 if field == "lambda" else values[0] if values else None
    bases = {rest: row for row in rows for value, rest in [split(row)] if value == first}
    lines: list[list[str]] = []
    headings = accuracies(rows)
    p_values: dict[str, list[float]] = {name: [] for name in headings if name != "clean"}
    for row in rows:
        value, rest = split(row)
        if value == first or rest not in bases:
            continue
        compared = {name: paired(by_seed(row.results, name), by_seed(bases[rest].results, name)) for name in headings}
        n = compared["fgsm"].n
        if n:
            for name, column in p_values.items():
                column.append(compared[name].p_value())
            lines.append([*condition_cells(row), *(_interval(c, signed=True) for c in compared.values()), str(n)])
    if not lines:
        return []
    for column in p_values.values():
        for line, p in zip(lines, holm(column), strict=True):
            line.insert(-1, "< 0.001" if p < 0.001 else number(p, 3))
    tested = [f"p ({headings[name]})" for name in p_values]
    names = ["model", "λ", *rows[0].varied, *headings.values(), *tested, "seeds"]
    heading = f"## Against {'λ' if field == 'lambda' else field} = {shown(first)}"
    return [heading, DIFFERENCES, markdown_table(names, lines, RIGHT)]


def _distances(experiment: Experiment, vary: Sequence[str], results: Sequence[RunResult]) -> list[str]:
    """Root mean square of our means minus the paper's, for each variant of the protocol."""
    lines = []
    for variant, group in _by_variant(results, vary).items():
        compared = [row for row in rows_of(experiment, group) if row.paper and row.results]
        if compared:
            clean, fgsm = (
                summarise([(row.summary(name).mean - getattr(row.paper, name)[0]) ** 2 for row in compared]).mean ** 0.5
                for name in ("clean", "fgsm")
            )
            lines.append((fgsm, [variant or "this protocol", str(len(compared)), number(clean), number(fgsm)]))
    if not lines:
        return []
    order = "; the variant nearest under FGSM comes first." if len(lines) > 1 else "."
    table = [line for _, line in sorted(lines, key=itemgetter(0))]
    return [DISTANCES + order, markdown_table(["protocol", "cells", "clean", "FGSM"], table, RIGHT)]


def _masking(rows: Sequence[Row]) -> list[str]:
    """The verdict of the diagnosis, and figures of its evidence: the means over the runs of each condition."""
    columns = {
        "noise": "noise", "pgd_margin": "PGD, margin", "worst_case": "worst case", "zero_gradients": "dL/dx = 0",
        "gradient_cosine": "cosine", "jacobian_l1": "‖J‖ at x", "jacobian_l1_adv": "‖J‖ at x + δ",
    }  # fmt: skip

    def figures(row: Row) -> list[str]:
        means = {name: summarise([getattr(r.diagnosis, name) for r in row.results]).mean for name in columns}
        words = Counter(result.diagnosis.word for result in row.results)
        counted = [f"{word} ({n} of {words.total()})" if len(words) > 1 else word for word, n in words.most_common()]
        verdict = escaped(", ".join(counted))
        noise, *rest = (number(mean, 2 if name == "gradient_cosine" else 1) for name, mean in means.items())
        return [noise, number(row.summary("pgd").mean, 1), *rest, verdict]

    noise, *rest = columns.values()
    table = _by_condition(rows, [noise, "PGD", *rest, "verdict"], figures)
    return ["## Robust, or gradients masked?", MASKING, table]


def _per_class(rows: Sequence[Row]) -> list[str]:
    """Accuracy of each digit; a run without an image of a digit does not count for it."""

    def figures(row: Row, name: str) -> list[str]:
        by_digit = zip(*(result.per_class[name] for result in row.results), strict=True)
        return [number(summarise([share for share in shares if share is not None]).mean, 1) for shares in by_digit]

    parts = []
    for name, words in ("clean", "clean"), ("fgsm", "under FGSM"):
        table = _by_condition(rows, map(str, range(N_CLASSES)), partial(figures, name=name))
        parts += [f"## Accuracy of each digit, {words}", table]
    return parts


def _protocol(experiment: Experiment, done: Sequence[RunResult]) -> list[str]:
    """Every field, by model: all its values in this sweep, and those of preset `paper` where they differ."""
    models = sorted({result.run.model for result in done})
    full = experiment.presets.get("paper", {})
    lines = []
    for name in (field.name for field in fields(Protocol)):
        line = [f"**{name}**" if name in UNSAID else name]
        for model in models:
            ours = dict.fromkeys(getattr(r.run.protocol, name) for r in done if r.run.model == model)
            papers = dict.fromkeys(getattr(c.protocol, name) for c in full if c.model == model)
            differ = papers and not ours.keys() <= papers.keys()
            in_full = f" (in full: {', '.join(map(shown, papers))})" if differ else ""
            line.append(", ".join(map(shown, ours)) + in_full)
        lines.append(line)
    table = markdown_table(["field", *(f"model {model}" for model in models)], lines)
    return ["## Protocol", PROTOCOL, table]


def _machines(done: Sequence[RunResult]) -> list[str]:
    """Each machine that took part: what may change a result or its speed."""
    machines = list(dict.fromkeys(result.environment.in_words() for result in done))
    parts = []
    for i, machine in enumerate(machines, start=1):
        parts += ["## Machine" + f" {i}" * (len(machines) > 1), machine]
    return parts

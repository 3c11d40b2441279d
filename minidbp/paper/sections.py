"""The sections of a report on a sweep as Markdown: a heading, what it shows, a table.  Nothing for nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from minidbp.diagnosis.verdict import POINTS
from minidbp.files.page import markdown_table
from minidbp.paper import statistics
from minidbp.paper.claims import as_markdown as verdicts_as_markdown
from minidbp.paper.plans import Experiment
from minidbp.paper.statistics import Result, Summary, by_seed, holm, number, paired, summarise
from minidbp.paper.tables import Row, rows_of
from minidbp.sweeps.runs import shown
from minidbp.training import Protocol

# Fields of the protocol that the paper leaves unsaid, in the order in which Protocol lists them.
UNSAID = (
    "penalty_target", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
)  # fmt: skip
DIVERGED = """**Runs that diverged are left out of these verdicts**: what holds without them may not hold with them."""
HIDDEN = """On the images that PGD attacks. Accuracy in percent under random noise (signs times ε, the worst of ten),
under PGD on the margin, and of images that withstand every attack of this page; the share of elements of the loss's
gradient that are exactly 0, in percent; the cosine of that gradient at x and at FGSM's x + δ; ‖J‖₁,₁ at both.
`minidbp diagnose` looks closer at one model: docs/diagnostics.md."""


def table(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return markdown_table(names, list(lines), align="---:")


def verdicts(experiment: Experiment, vary: Sequence[str], done: Sequence[Result], diverged: bool) -> list[str]:
    """On the paper's claims, for each reading by itself; `diverged`: whether some runs are not among those done."""
    parts = []
    for reading, mine in _by_reading(done, vary).items():
        found = experiment.verdicts(mine)
        if found:
            parts += [f"## The paper's claims{': ' + reading if reading else ''}", verdicts_as_markdown(found)]
    return [*parts, DIVERGED] if parts and diverged else parts


def differences(rows: Sequence[Row], field: str) -> list[str]:
    """What lambda, or a field of the protocol, changes: seed by seed against its first value, all else being equal."""

    def of(row: Row) -> Any:
        return row.lam if field == "lambda" else row.varied[field]

    def rest(row: Row) -> tuple:
        return (
            row.model,
            *((name, value) for name, value in {"lambda": row.lam, **row.varied}.items() if name != field),
        )

    values = list(dict.fromkeys(map(of, sorted(rows, key=of))))
    first = next((value for value in values if field != "lambda" or value == 0), None)
    bases = {rest(row): row for row in rows if of(row) == first}
    lines, p_values = [], []
    for row in rows:
        base = bases.get(rest(row))
        if of(row) == first or base is None:
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
        f"## Against {'λ' if field == 'lambda' else field} = {shown(first)}",
        "Differences in percentage points, paired by seed, with 95% t intervals; p of the paired t-test for FGSM, "
        "adjusted by Holm over this table. – stands where there are too few seeds, or all differences are equal.",
        table(names, lines),
    ]


def _interval(found: Summary, signed: bool = True) -> str:
    mean, low, high = (number(n, signed=signed) for n in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def diagnosis(rows: Sequence[Row]) -> list[str]:
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
        table(["model", "λ", *(rows[0].varied), *columns.values(), "so FGSM"], lines),
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


def intervals(rows: Sequence[Row]) -> list[str]:
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
        "By Student's t over the seeds, which knows no end of accuracy: with two or three seeds they may reach beyond "
        "0 and 100. – where all runs are equal.",
        table(["model", "λ", *rows[0].varied, "clean", "FGSM", "PGD", "runs"], lines),
    ]


def per_class(rows: Sequence[Row]) -> list[str]:
    parts = []
    for name, word in ("clean", "clean"), ("fgsm", "under FGSM"):
        lines = [
            [*_which(row), *(number(summary.mean, 1) for summary in statistics.per_class(row.results, name))]
            for row in rows
            if row.results
        ]
        names = ["model", "λ", *(rows[0].varied), *map(str, range(10))]
        parts += [f"## Accuracy of each digit, {word}", table(names, lines)]
    return parts


def distances(experiment: Experiment, vary: Sequence[str], results: Sequence[Result]) -> list[str]:
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
        table(["reading", "cells", "clean", "FGSM"], [line for _, line in sorted(lines, key=lambda pair: pair[0])]),
    ]


def _by_reading(results: Sequence[Result], vary: Sequence[str]) -> dict[str, list[Result]]:
    """The results by their values of the fields that `--vary` took, as text; one group, '', without."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        name = ", ".join(f"{field} = {shown(result['protocol'][field])}" for field in vary)
        groups.setdefault(name, []).append(result)
    return groups


def protocol(experiment: Experiment, done: Sequence[Result]) -> list[str]:
    """Every field, by model; several values where a model has several, and the full protocol's where it is another."""
    models = sorted({result["model"] for result in done})
    full = experiment.presets["paper"].seeds if "paper" in experiment.presets else {}
    lines = []
    for field in fields(Protocol):
        name, line = field.name, []
        for model in models:
            ours = list(dict.fromkeys(r["protocol"][name] for r in done if r["model"] == model))
            papers = list(dict.fromkeys(getattr(c.protocol, name) for c in full if c.model == model))
            there = "" if not papers or set(ours) <= set(papers) else f" (in full: {', '.join(map(shown, papers))})"
            line.append(", ".join(map(shown, ours)) + there)
        lines.append([f"**{name}**" if name in UNSAID else name, *line])
    return [
        "## Protocol",
        "**Bold**: the paper does not say; docs/protocol.md gives the reasons. (in full: ...): what preset `paper` "
        "has, where this sweep has something else. With stop_rule none, training lasts max_epochs.",
        markdown_table(["field", *(f"model {model}" for model in models)], lines),
    ]

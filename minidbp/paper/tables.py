"""Finished runs as the rows of a table: one for each condition, with the paper's numbers and our fuller ones."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from minidbp.paper.experiments import Condition, Experiment
from minidbp.paper.full_length import FullLength, full_length
from minidbp.paper.published import Reported
from minidbp.paper.statistics import Summary, number, summarise
from minidbp.sweeps.runs import Outcome, RunResult, shown, varied_fields

FIGURES = ("clean", "fgsm", "worst", "fgsm_small", "worst_small", "pgd", "epochs")  # of a result
PAPER, FULL_LENGTH, THIS_RUN, DIVERGED = "paper", "ours, full length", "this run", "diverged"


@dataclass(frozen=True)
class Line:
    """One line of a row: where its numbers are from, and mean and standard deviation of each figure that it has."""

    source: str
    figures: Mapping[str, tuple[float, float]]
    runs: int | None = None
    n_test: int | None = None


@dataclass(frozen=True)
class Row:
    """One condition: its finished runs, the number of diverged runs, and what stands beside them (None: nothing).

    varied: the values of those fields of the protocol in which the conditions of some model differ.
    """

    condition: Condition
    varied: Mapping[str, Any]
    results: Sequence[RunResult]
    diverged: int
    paper: Reported | None
    full_length: FullLength | None

    @property
    def model(self) -> str:
        return self.condition.model

    @property
    def lam(self) -> float:
        return self.condition.lam

    def summary(self, figure: str) -> Summary:
        """Over the finished runs, of one of FIGURES; accuracies are in percent."""
        return summarise([getattr(result, figure) for result in self.results])

    def lines(self) -> list[Line]:
        """The paper's numbers, our own at full length, and those of these runs: a line for each that there is."""
        found = []
        if self.paper:
            found.append(Line(PAPER, {"clean": self.paper.clean, "fgsm": self.paper.fgsm}))
        if full := self.full_length:
            found.append(Line(FULL_LENGTH, full.figures, full.runs, full.condition.protocol.n_test))
        if self.results:
            figures = {name: (s.mean, s.sd) for name in FIGURES for s in [self.summary(name)]}
            found.append(Line(THIS_RUN, figures, len(self.results), self.condition.protocol.n_test))
        if self.diverged:
            found.append(Line(DIVERGED, {}, self.diverged))
        return found


def rows_of(experiment: Experiment, results: Iterable[Outcome], varied: Sequence[str] | None = None) -> list[Row]:
    """One row for each condition, by model, what varies, and rising lambda.

    Args:
        varied: The fields of the protocol that get a column; by default those in which the results differ.
    """
    groups: dict[Condition, list[Outcome]] = {}
    for result in results:
        run = result.run
        groups.setdefault(Condition(run.model, run.lam, run.protocol), []).append(result)
    names = varied_fields([group[0].run for group in groups.values()]) if varied is None else varied
    rows = []
    for condition, group in groups.items():
        done = [result for result in group if isinstance(result, RunResult)]
        values = {name: getattr(condition.protocol, name) for name in names}
        paper, full = experiment.paper(condition), full_length(experiment, condition, names)
        rows.append(Row(condition, values, done, len(group) - len(done), paper, full))
    return sorted(rows, key=lambda row: (row.model, tuple(row.varied.values()), row.lam))


# -- as text --------------------------------------------------------------------------------------------------------


def accuracies(rows: Sequence[Row]) -> dict[str, str]:
    """The accuracies that tables show, with their headings.

    A heading names the size of the attack, or only its symbol where rows differ in it. Where small_eps is eps in all
    rows, the attacks of that size are shown once.
    """
    eps, small = sizes(rows)
    headings = {"clean": "clean", "fgsm": f"FGSM {eps}", "worst": f"worst {eps}"}
    if any(row.condition.protocol.eps != row.condition.protocol.small_eps for row in rows):
        headings |= {"fgsm_small": f"FGSM {small}", "worst_small": f"worst {small}"}
    return headings


def sizes(rows: Sequence[Row]) -> tuple[str, str]:
    """eps and small_eps for headings: '0.3' and '0.1', or 'ε' and 'small ε' where rows differ in them."""

    def heading(values: set[float], symbol: str) -> str:
        return f"{min(values):g}" if len(values) == 1 else symbol

    protocols = [row.condition.protocol for row in rows]
    return heading({p.eps for p in protocols}, "ε"), heading({p.small_eps for p in protocols}, "small ε")


def n_images(rows: Iterable[Row]) -> str:
    """How many test images the runs are judged on: '1,000', or '500 to 1,000' where the rows differ."""
    return span(row.condition.protocol.n_test for row in rows)


def span(numbers: Iterable[int]) -> str:
    """The smallest and the largest: '500 to 1,000'; one number where they are equal."""
    ends = sorted(set(numbers))
    return f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,}"


def header(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns of `body`."""
    varied = rows[0].varied if rows else ()
    return ("model", "λ", *varied, "from", *accuracies(rows).values(), "epochs", "runs", "images")


def body(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """All lines of all rows as text, below `header`."""
    names = accuracies(rows)
    return [(*condition_cells(row), *line_cells(line, names)) for row in rows for line in row.lines()]


def line_cells(line: Line, names: Iterable[str], digits: int = 2) -> tuple[str, ...]:
    """The cells of a line, from "from" on. `digits` is for accuracies, of which `names` are shown."""
    figures = [_mean_and_sd(line.figures.get(name), digits) for name in names]
    counts = ["–" if n is None else f"{n:,}" for n in (line.runs, line.n_test)]
    return (line.source, *figures, _mean_and_sd(line.figures.get("epochs"), 0), *counts)


def condition_cells(row: Row) -> tuple[str, ...]:
    """The first cells of a row: model, lambda, and what varies."""
    return (row.model, f"{row.lam:g}", *map(shown, row.varied.values()))


def _mean_and_sd(pair: tuple[float, float] | None, digits: int) -> str:
    """'98.63 ± 0.11'; the mean alone where there is no deviation, as for one run; a dash where there is no mean."""
    if pair is None:
        return "–"
    mean, sd = pair
    return number(mean, digits) + ("" if sd != sd else f" ± {number(sd, digits)}")


# -- as numbers -----------------------------------------------------------------------------------------------------


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The table for --json: [mean, standard deviation] of each figure, null where there is none; the paper's too.

    "full_length" has what the package ships for the condition, or null.
    """
    return [
        {
            "model": row.model,
            "lambda": row.lam,
            **row.varied,
            "eps": row.condition.protocol.eps,
            "small_eps": row.condition.protocol.small_eps,
            "runs": len(row.results),
            "diverged": row.diverged,
            "n_test": row.condition.protocol.n_test,
            **{name: [_known(s.mean), _known(s.sd)] for name in FIGURES for s in [row.summary(name)]},
            **{f"{name}_interval": [_known(s.low), _known(s.high)] for name in FIGURES for s in [row.summary(name)]},
            "paper_clean": row.paper and list(row.paper.clean),
            "paper_fgsm": row.paper and list(row.paper.fgsm),
            "full_length": row.full_length and _full_length_as_json(row.full_length),
        }
        for row in rows
    ]


def _full_length_as_json(full: FullLength) -> dict[str, Any]:
    figures = {name: [_known(mean), _known(sd)] for name, (mean, sd) in full.figures.items()}
    return {"runs": full.runs, "n_test": full.condition.protocol.n_test, **figures}


def as_csv(rows: Sequence[Row]) -> str:
    """All numbers, unrounded, and the whole protocol: one line for each row. An empty field where there is none.

    low and high are the mean's 95% interval. `full_length` reads such a table.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    for i, row in enumerate(rows):
        values = _csv_line(row)
        if i == 0:
            lines.writerow(values)
        lines.writerow(values.values())  # None becomes an empty field
    return text.getvalue()


def _csv_line(row: Row) -> dict[str, Any]:
    """What varies and what counts the runs comes first; the rest of the protocol comes last."""
    line: dict[str, Any] = {"model": row.model, "lambda": row.lam, **row.varied}
    line |= {"runs": len(row.results), "diverged": row.diverged, "n_test": row.condition.protocol.n_test}
    for name in FIGURES:
        s = row.summary(name)
        parts = {"mean": s.mean, "sd": s.sd, "low": s.low, "high": s.high}
        line |= {f"{name}_{part}": _known(value) for part, value in parts.items()}
    for name in "clean", "fgsm":
        pair = getattr(row.paper, name) if row.paper else (None, None)
        line |= {f"paper_{name}_{part}": value for part, value in zip(("mean", "sd"), pair, strict=True)}
    return line | asdict(row.condition.protocol)


def _known(value: float) -> float | None:
    return None if value != value else value

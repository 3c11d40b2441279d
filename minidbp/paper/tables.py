"""Finished runs as the rows of a table: one for each condition, the paper's numbers beside ours."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minidbp.paper.experiments import Condition, Experiment
from minidbp.paper.published import Reported
from minidbp.paper.statistics import ACCURACIES, Summary, number, summarise
from minidbp.sweeps.runs import Outcome, RunResult, shown, varied_fields

FIGURES = (*ACCURACIES, "epochs")


@dataclass(frozen=True)
class Row:
    """One condition: its finished runs, the number of diverged runs, and the paper's figures (None where it has none).

    varied: the values of those fields of the protocol in which the conditions of some model differ.
    """

    model: str
    lam: float
    varied: Mapping[str, Any]
    results: Sequence[RunResult]
    diverged: int
    paper: Reported | None

    def summary(self, figure: str) -> Summary:
        """Over the finished runs, of "clean", "fgsm", "pgd" (percent) or "epochs"."""
        return summarise([getattr(result, figure) for result in self.results])


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
        diverged = len(group) - len(done)
        rows.append(Row(condition.model, condition.lam, values, done, diverged, experiment.paper(condition)))
    return sorted(rows, key=lambda row: (row.model, tuple(row.varied.values()), row.lam))


def header(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns of `cells`."""
    varied = rows[0].varied if rows else ()
    return ("model", "λ", *varied, "clean", "paper", "FGSM", "paper", "PGD", "epochs", "runs")


def cells(row: Row, digits: int = 2) -> tuple[str, ...]:
    """A row as text. `digits` is for accuracies under attack."""
    return (
        *condition_cells(row),
        _mean_and_sd(row.summary("clean")), _reported(row.paper and row.paper.clean),
        _mean_and_sd(row.summary("fgsm"), digits), _reported(row.paper and row.paper.fgsm, digits),
        _mean_and_sd(row.summary("pgd"), digits), _mean_and_sd(row.summary("epochs"), 0),
        str(len(row.results)) + (f" + {row.diverged} diverged" if row.diverged else ""),
    )  # fmt: skip


def condition_cells(row: Row) -> tuple[str, ...]:
    """The first cells of a row: model, lambda, and what varies."""
    return (row.model, f"{row.lam:g}", *map(shown, row.varied.values()))


def _mean_and_sd(summary: Summary, digits: int = 2) -> str:
    """'98.63 ± 0.11'; the mean alone for one run; a dash for none."""
    return number(summary.mean, digits) + ("" if summary.n < 2 else f" ± {number(summary.sd, digits)}")


def _reported(pair: tuple[float, float] | None, digits: int = 2) -> str:
    """The paper's mean and standard deviation, or a dash."""
    return "–" if pair is None else f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The table for --json: [mean, standard deviation] of each figure, null where there is none; the paper's too."""
    return [
        {
            "model": row.model,
            "lambda": row.lam,
            **row.varied,
            "runs": len(row.results),
            "diverged": row.diverged,
            **{name: [_known(s.mean), _known(s.sd)] for name in FIGURES for s in [row.summary(name)]},
            **{f"{name}_interval": [_known(s.low), _known(s.high)] for name in FIGURES for s in [row.summary(name)]},
            "paper_clean": row.paper and list(row.paper.clean),
            "paper_fgsm": row.paper and list(row.paper.fgsm),
        }
        for row in rows
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """All numbers, unrounded; an empty field where there is none. low and high: the mean's 95% interval."""
    ours = [f"{name}_{part}" for name in FIGURES for part in ("mean", "sd", "low", "high")]
    papers = [f"paper_{name}_{part}" for name in ("clean", "fgsm") for part in ("mean", "sd")]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["model", "lambda", *(rows[0].varied if rows else ()), "runs", "diverged", *ours, *papers])
    for row in rows:
        numbers = [_known(n) for s in map(row.summary, FIGURES) for n in (s.mean, s.sd, s.low, s.high)]
        paper = [*row.paper.clean, *row.paper.fgsm] if row.paper else [None] * 4
        condition = [row.model, row.lam, *row.varied.values()]
        lines.writerow([*condition, len(row.results), row.diverged, *numbers, *paper])  # None becomes an empty field
    return text.getvalue()


def _known(value: float) -> float | None:
    return None if value != value else value

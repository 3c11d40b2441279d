"""Fuller results of our own, which the package ships: they stand in a table beside a shorter sweep.

full_length/NAME.csv is the table.csv of a finished sweep of experiment NAME, as `tables.as_csv` writes it.
"""

import ast
import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from minidbp.paper.experiments import Condition, Experiment
from minidbp.training import Protocol

FOLDER = Path(__file__).with_suffix("")

# Fields of the protocol that make a sweep shorter and leave it the same experiment: the length of training, the amount
# of data, and the strength of our attacks. The small presets have smaller batches, so that few images give many steps.
SHORTENED = (
    "min_epochs", "max_epochs", "stop_rule", "stop_tolerance", "batch_size",
    "n_train", "n_validation", "n_test", "n_tracked",
    "judged_eps", "pgd_steps", "pgd_step", "pgd_restarts", "apgd_steps", "apgd_restarts", "square_queries",
    "reference_steps",
)  # fmt: skip


@dataclass(frozen=True)
class FullLength:
    """One condition of a shipped table: mean and standard deviation (NaN for one run) of each figure, and the runs."""

    condition: Condition
    figures: Mapping[str, tuple[float, float]]
    runs: int


def full_length(experiment: Experiment, condition: Condition, varied: Collection[str] = ()) -> FullLength | None:
    """What the package ships for the condition at full length, or None.

    All fields of the protocol but SHORTENED must be equal, and which of the experiment's lengths it has.

    Args:
        varied: Fields in which the conditions of the table differ. They must be equal too, unless the experiment itself
            compares them: then `Experiment.length` tells which of them belong together.
    """
    free = set(SHORTENED) - (set(varied) - set(experiment.compared))

    def identity(c: Condition) -> tuple[Any, ...]:
        alike = [getattr(c.protocol, field.name) for field in fields(Protocol) if field.name not in free]
        return c.model, c.lam, experiment.length(c.protocol), alike

    shipped = _shipped(FOLDER / f"{experiment.name}.csv")
    return next((full for full in shipped if identity(full.condition) == identity(condition)), None)


@cache
def _shipped(path: Path) -> list[FullLength]:
    """The conditions of a table that have finished runs; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_read(line) for line in csv.DictReader(file) if int(line["runs"])]


def _read(line: Mapping[str, str]) -> FullLength:
    """A line of a table. A field of the protocol that the table does not have yet has its default."""
    values: dict[str, Any] = {
        field.name: line[field.name] if field.type is str else ast.literal_eval(line[field.name])
        for field in fields(Protocol)
        if field.name in line
    }
    names = [name.removesuffix("_mean") for name in line if name.endswith("_mean") and not name.startswith("paper_")]
    figures = {name: (_number(line[f"{name}_mean"]), _number(line[f"{name}_sd"])) for name in names}
    return FullLength(Condition(line["model"], float(line["lambda"]), Protocol(**values)), figures, int(line["runs"]))


def _number(text: str) -> float:
    return float(text or "nan")

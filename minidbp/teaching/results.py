"""The results of results/laptop that notebooks 7 and 8 show, in any format; `minidbp.sweeps` reads only its own."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import minidbp
from minidbp.teaching.pictures import say

LAPTOP = Path(minidbp.__file__).parents[1] / "results" / "laptop"


def laptop(name: str) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """The rows of results/laptop/<name>/table.csv and the single runs, as dictionaries.

    Both are empty where the files are absent, as where only the package is installed. A sentence then says so.
    """
    path = LAPTOP / name / "table.csv"
    if not path.exists():
        say(f"*(There is no `results/laptop/{name}` here, so its results are not shown.)*")
        return [], []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    files = sorted((path.parent / "runs").glob("*.json"))
    return rows, [json.loads(file.read_text(encoding="utf-8")) for file in files]


def by_seed(runs: Iterable[dict[str, Any]], measure: str, **wanted: Any) -> dict[int, float]:
    """{seed: accuracy} of the runs whose fields, or whose protocol's fields, are as wanted.

    A training that diverged has no accuracy and is left out.
    """
    return {
        run["seed"]: run[measure]
        for run in runs
        if run[measure] is not None
        and all({**run["protocol"], **run}[field] == value for field, value in wanted.items())
    }


def either(values: Iterable[int]) -> str:
    """Different numbers as words: "2 or 3"."""
    return " or ".join(f"{value:,}" for value in sorted(set(values)))

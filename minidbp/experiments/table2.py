"""Table 2: accuracy on clean and FGSM test images for models A, B, C and several lambdas."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minidbp.experiments.paper import LAMBDAS, TABLE_2, Reported
from minidbp.experiments.runs import Run
from minidbp.training import Protocol

MODELS = ("A", "B", "C")


@dataclass(frozen=True)
class Plan:
    """What one model gets in a preset: how many seeds, and the protocol."""

    seeds: int
    protocol: Protocol


@dataclass(frozen=True)
class Preset:
    """A size of the experiment.  `about` is shown by --help."""

    about: str
    lambdas: tuple[float, ...]
    plans: Mapping[str, Plan]


def _small(epochs: int, n_train: int, batch_size: int, n_test: int, n_pgd: int) -> Protocol:
    """The paper's protocol on fewer images, for a fixed number of epochs, in smaller batches to make more of them."""
    return Protocol(
        stop_rule="none", max_epochs=epochs, n_train=n_train, batch_size=batch_size, n_test=n_test, n_pgd=n_pgd,
        pgd_steps=20, pgd_step=0.03,
    )  # fmt: skip


PRESETS = {
    "smoke": Preset(
        "does everything work: under a minute, too little training to mean anything",
        (0.0, 50.0),
        {
            "A": Plan(1, _small(1, 384, 32, 500, 100)),
            "B": Plan(1, _small(1, 192, 32, 250, 50)),
            "C": Plan(1, _small(1, 3200, 64, 1000, 200)),
        },
    ),
    "laptop": Preset(
        "the penalty's effect on fewer images and epochs: under 15 minutes on two cores",
        (0.0, 1.0, 10.0, 50.0),
        {
            "A": Plan(2, _small(2, 2560, 32, 2000, 500)),
            "B": Plan(2, _small(2, 800, 32, 2000, 500)),
            "C": Plan(3, _small(5, 8000, 64, 10_000, 1000)),
        },
    ),
    "paper": Preset(
        "the paper's protocol in full, 10 seeds, and lambda = 0: days on two cores",
        (0.0, *reversed(LAMBDAS)),
        {model: Plan(10, Protocol()) for model in MODELS},
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name.  Raises ValueError for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def plan_runs(name: str, first_seed: int = 0, **changes: Any) -> list[Run]:
    """All runs of a preset, seed by seed, so that a table stopped early has every cell.

    `changes` replace fields of the protocol, for another reading of what the paper does not say.
    """
    chosen = preset(name)
    most = max(plan.seeds for plan in chosen.plans.values())
    return [
        Run(model, lam, first_seed + k, Protocol(**{**plan.protocol.as_dict(), **changes}))
        for k in range(most)
        for model, plan in chosen.plans.items()
        if k < plan.seeds
        for lam in chosen.lambdas
    ]


class Spread(tuple[float, float]):
    """Mean and sample standard deviation; the latter is NaN for one value."""

    def __new__(cls, values: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        return super().__new__(cls, (statistics.fmean(values), deviation))


@dataclass(frozen=True)
class Row:
    """One model and lambda: ours over the finished runs, and the paper's (None where it has none)."""

    model: str
    lam: float
    runs: int
    clean: Spread
    fgsm: Spread
    pgd: Spread
    epochs: Spread
    paper: Reported | None


def table(results: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each model and lambda among the results of runs, by model and rising lambda."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["model"], result["lambda"]), []).append(result)
    rows = []
    for (model, lam), group in sorted(groups.items()):
        clean, fgsm, pgd, epochs = (Spread([r[key] for r in group]) for key in ("clean", "fgsm", "pgd", "epochs"))
        rows.append(Row(model, lam, len(group), clean, fgsm, pgd, epochs, TABLE_2.get((model, lam))))
    return rows

"""How a step's time grows with the batch, with the number of classes, and a study's with the number of lambdas."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidbp import kernels
from minidbp.data import Mnist
from minidbp.experiments.bench.gemm import blas_name
from minidbp.experiments.bench.setting import Done, Trainer, batches_of, nothing
from minidbp.nn import N_CLASSES, Linear, Sequential, build_model
from minidbp.training import Protocol, Workers, workers

BATCHES = (32, 64, 128, 256, 512)
CLASSES = (2, 5, 10, 20, 40)
LAMBDAS = (1, 2, 3, 4, 5)  # how many


def with_classes(name: str, n_classes: int, seed: int = 0) -> Sequential:
    """Model A, B or C with a last layer of this many classes."""
    model = build_model(name, seed)
    last = model.layers[-1]
    assert isinstance(last, Linear)
    return Sequential(
        [*model.layers[:-1], Linear(last.w.shape[0], n_classes, np.random.default_rng(seed))], (28, 28, 1)
    )


def time_scaling(
    name: str, lam: float, steps: int, threads: int | None, mnist: Mnist, done: Done = nothing
) -> dict[str, Any]:
    """Three series of {"at", "ms"} with the straight line through them; done() is called after each of `points()`.

    "batch": milliseconds of a step (the median of `steps`) against its images; "classes": the same at batch 128
    against the classes of a last layer of other width; "lambdas": milliseconds of `steps` steps for each of so many
    lambdas, one run after the other.  The penalty is eq. 3's.
    """
    kernels.warm_up()
    with workers(threads) as team:

        def step_ms(model: Sequential, batch: int, n_classes: int = N_CLASSES) -> float:
            done()
            return 1e3 * statistics.median(_trainer(model, lam, batch, n_classes, mnist, team).seconds(steps + 1)[1:])

        def study_ms(n_lambdas: int) -> float:
            done()
            runs = [_trainer(build_model(name), lam * (i + 1), 128, N_CLASSES, mnist, team) for i in range(n_lambdas)]
            return 1e3 * sum(sum(run.seconds(steps)) for run in runs)

        series = {
            "batch": [(n, step_ms(build_model(name), n)) for n in BATCHES],
            "classes": [(n, step_ms(with_classes(name, n), 128, n)) for n in CLASSES],
            "lambdas": [(n, study_ms(n)) for n in LAMBDAS],
        }
        threads = team.threads
    return {
        "model": name,
        "lam": lam,
        "steps": steps,
        "threads": threads,
        "blas": blas_name(),
        **{key: {"points": [{"at": n, "ms": ms} for n, ms in pairs], **line(pairs)} for key, pairs in series.items()},
    }


def points() -> int:
    """How many measurements `time_scaling` makes."""
    return len(BATCHES) + len(CLASSES) + len(LAMBDAS)


def line(pairs: Sequence[tuple[int, float]]) -> dict[str, float]:
    """The straight line through (x, y) by least squares, and r2, the share of y's variance that it explains."""
    x, y = np.array(pairs, float).T
    slope, intercept = np.polyfit(x, y, 1)
    left = float(np.sum((y - slope * x - intercept) ** 2) / max(np.sum((y - y.mean()) ** 2), 1e-300))
    return {"slope": float(slope), "intercept": float(intercept), "r2": 1 - left}


def _trainer(model: Sequential, lam: float, batch: int, n_classes: int, mnist: Mnist, team: Workers) -> Trainer:
    batches = [(x, y % n_classes) for x, y in batches_of(mnist, batch)[:20]]  # labels must exist; which do not matter
    return Trainer(model, lam, Protocol(batch_size=batch), batches, team)

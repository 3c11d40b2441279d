"""How a step's time grows with the batch, the classes and the share of active ReLUs, and a study's with its lambdas."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidbp import kernels
from minidbp.autodiff import Tensor, no_grad
from minidbp.bench.counts import active_shares
from minidbp.bench.gemm import blas_name
from minidbp.bench.setting import Done, Trainer, batches_of, nothing
from minidbp.data import Mnist
from minidbp.nn import N_CLASSES, Conv2d, Linear, ReLU, Sequential, build_model
from minidbp.training import Protocol, Workers, workers

BATCHES = (32, 64, 128, 256, 512)
CLASSES = (2, 5, 10, 20, 40)
LAMBDAS = (1, 2, 3, 4, 5)  # how many
ACTIVE = (0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the ReLUs' units that are on


def with_classes(name: str, n_classes: int, seed: int = 0) -> Sequential:
    """Model A, B or C with a last layer of this many classes."""
    model = build_model(name, seed)
    last = model.layers[-1]
    assert isinstance(last, Linear)
    return Sequential(
        [*model.layers[:-1], Linear(last.w.shape[0], n_classes, np.random.default_rng(seed))], (28, 28, 1)
    )


def with_active_share(name: str, share: float, x: np.ndarray, seed: int = 0) -> Sequential:
    """Model A, B or C whose biases are such that each hidden unit is on for this share of the images x (N, ...).

    Of a convolution, each channel is on at this share of its places; at more of them where many places have the same
    value, as on MNIST's black border.
    """
    model = build_model(name, seed)
    y = Tensor(x)
    with no_grad():
        for layer, following in zip(model.layers, [*model.layers[1:], None], strict=True):
            y = layer(y)
            if isinstance(layer, Conv2d | Linear) and isinstance(following, ReLU):
                values = y.data.reshape(-1, y.shape[-1])
                shift = 1e-3 * values.std() - np.quantile(values, 1 - share, axis=0)  # "on" is above 0, not at it
                layer.b.data = (layer.b.data + shift).astype(y.dtype)
                y = y + shift.astype(y.dtype)
    return model


def time_scaling(
    name: str, lam: float, steps: int, threads: int | None, mnist: Mnist, done: Done = nothing
) -> dict[str, Any]:
    """Four series of {"at", "ms"}; done() is called before each of `points()` measurements.

    "batch": milliseconds of a step (the median of `steps`) against its images.  "classes": the same at batch 128
    against the classes, with a last layer of that width.  "lambdas": milliseconds of `steps` steps for each of so many
    lambdas, one run after the other.  These three come with the straight line through their points.  "active":
    milliseconds of a step against the share of hidden units that are on.  The penalty is eq. 3's.
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
        images, active = mnist.x_test[:512], []
        for share in ACTIVE:
            model = with_active_share(name, share, images)
            active.append({"at": float(np.mean(active_shares(model, images))), "ms": step_ms(model, 128)})
        threads = team.threads
    return {
        "model": name,
        "lam": lam,
        "steps": steps,
        "threads": threads,
        "blas": blas_name(),
        **{key: {"points": [{"at": n, "ms": ms} for n, ms in pairs], **line(pairs)} for key, pairs in series.items()},
        "active": {"points": active},
    }


def points() -> int:
    """How many measurements `time_scaling` makes."""
    return len(BATCHES) + len(CLASSES) + len(LAMBDAS) + len(ACTIVE)


def line(pairs: Sequence[tuple[int, float]]) -> dict[str, float]:
    """The straight line through (x, y) by least squares, and r2, the share of y's variance that it explains."""
    x, y = np.array(pairs, float).T
    slope, intercept = np.polyfit(x, y, 1)
    left = float(np.sum((y - slope * x - intercept) ** 2) / max(np.sum((y - y.mean()) ** 2), 1e-300))
    return {"slope": float(slope), "intercept": float(intercept), "r2": 1 - left}


def _trainer(model: Sequential, lam: float, batch: int, n_classes: int, mnist: Mnist, team: Workers) -> Trainer:
    batches = [(x, y % n_classes) for x, y in batches_of(mnist, batch)[:20]]  # labels must exist; which do not matter
    return Trainer(model, lam, Protocol(batch_size=batch), batches, team)

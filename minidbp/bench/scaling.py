"""How the time of a step grows with batch, classes and active units, and that of a study with its lambdas."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import linregress

from minidbp import kernels
from minidbp.autodiff import Tensor, no_grad
from minidbp.bench.machine import Advance, blas_name, ignore
from minidbp.bench.step import StepSettings, Trainer, active_shares, batches_of
from minidbp.data import Dataset
from minidbp.files.plots import COLOURS
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, Conv2d, Linear, ReLU, Sequential, build_model
from minidbp.training import Protocol, workers

BATCHES = (32, 64, 128, 256, 512)
CLASSES = (2, 5, 10, 20, 40)
LAMBDAS = (1, 2, 3, 4, 5)  # numbers of lambdas
ACTIVE_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Point:
    """A measurement: milliseconds at one size."""

    at: float
    ms: float


@dataclass(frozen=True)
class Series:
    """Measurements at several sizes, with a straight line through them; None where no line is meant."""

    points: list[Point]
    slope: float | None = None
    intercept: float | None = None
    r2: float | None = None  # the share of the variance that the line explains

    @classmethod
    def with_line(cls, points: Sequence[Point]) -> "Series":
        """The points with their straight line by least squares."""
        line = linregress([p.at for p in points], [p.ms for p in points])
        return cls(list(points), float(line.slope), float(line.intercept), float(line.rvalue) ** 2)

    @property
    def formula(self) -> str:
        """The line as a formula in n with its R²; empty without a line."""
        return "" if self.slope is None else f"{self.intercept:.3g} + {self.slope:.3g} n, R² = {self.r2:.4f}"


@dataclass(frozen=True)
class Scaling:
    """Four series for one model with the exact penalty.

    `batch`: milliseconds of a step against its images.  `classes`: of a step of 128 images against the classes.
    `lambdas`: of `steps` steps for each of n lambdas, one run after another.  `active`: of a step of 128 images
    against the share of active hidden units.
    """

    model: str
    lam: float
    steps: int
    threads: int
    blas: str
    batch: Series
    classes: Series
    lambdas: Series
    active: Series

    @property
    def series(self) -> dict[str, Series]:
        return {"batch": self.batch, "classes": self.classes, "lambdas": self.lambdas, "active": self.active}


def time_scaling(settings: StepSettings, mnist: Dataset, advance: Advance = ignore) -> Scaling:
    """Measure the four series; the time of a step is the median of `settings.steps` steps.

    advance() is called after each of `n_points()` measurements.
    """
    name, lam, steps = settings.model, settings.lam, settings.steps
    kernels.warm_up()
    with workers(settings.threads) as pool:

        def trainer(model: Sequential, batch: int = 128, n_classes: int = N_CLASSES, lam: float = lam) -> Trainer:
            batches = [(x, y % n_classes) for x, y in batches_of(mnist, batch)[:20]]  # any existing label will do
            return Trainer(model, lam, Protocol(batch_size=batch), batches, pool)

        def step_point(at: float, trainer: Trainer) -> Point:
            ms = 1e3 * statistics.median(trainer.seconds(steps + 1)[1:])
            advance()
            return Point(at, ms)

        def study_point(n_lambdas: int) -> Point:
            runs = [trainer(build_model(name), lam=lam * (i + 1)) for i in range(n_lambdas)]
            ms = 1e3 * sum(sum(run.seconds(steps)) for run in runs)
            advance()
            return Point(n_lambdas, ms)

        points = [
            [step_point(n, trainer(build_model(name), n)) for n in BATCHES],
            [step_point(n, trainer(with_classes(name, n), n_classes=n)) for n in CLASSES],
            [study_point(n) for n in LAMBDAS],
        ]
        images = mnist.x_test[:512]
        models = [with_active_share(name, share, images) for share in ACTIVE_SHARES]
        active = [step_point(float(np.mean(active_shares(model, images))), trainer(model)) for model in models]
    batch, classes, lambdas = map(Series.with_line, points)
    return Scaling(name, lam, steps, pool.threads, blas_name(), batch, classes, lambdas, Series(active))


def n_points() -> int:
    """How many measurements `time_scaling` makes."""
    return len(BATCHES) + len(CLASSES) + len(LAMBDAS) + len(ACTIVE_SHARES)


def with_classes(name: str, n_classes: int, seed: int = 0) -> Sequential:
    """Model A, B or C with `n_classes` outputs."""
    model = build_model(name, seed)
    n_in = model.layers[-1].parameters()[0].shape[0]
    return Sequential([*model.layers[:-1], Linear(n_in, n_classes, np.random.default_rng(seed))], IMAGE_SHAPE)


def with_active_share(name: str, share: float, x: np.ndarray, seed: int = 0) -> Sequential:
    """Model A, B or C with biases by which each hidden unit is active for this share of the images x (N, ...).

    Each channel of a convolution is active at this share of its output positions, or at more where many positions have
    the same value, as on MNIST's blank border.
    """
    model = build_model(name, seed)
    y = Tensor(x)
    with no_grad():
        for layer, following in zip(model.layers, [*model.layers[1:], None], strict=True):
            y = layer(y)
            if isinstance(layer, Conv2d | Linear) and isinstance(following, ReLU):
                values = y.data.reshape(-1, y.shape[-1])
                above = 1e-3 * values.std()  # a ReLU is active above 0, not at 0
                shift = above - np.quantile(values, 1 - share, axis=0)
                layer.b.data = (layer.b.data + shift).astype(y.dtype)
                y = y + shift.astype(y.dtype)
    return model


def table(scaling: Scaling) -> list[list[str]]:
    """A header and a row for each series."""
    rows = [["against", "ms at each size", "straight line"]]
    for name, series in scaling.series.items():
        rows.append([name, ", ".join(f"{p.at:.3g}: {p.ms:.1f}" for p in series.points), series.formula])
    return rows


def picture(scaling: Scaling) -> Figure:
    """Four panels, the first three with the straight line through their points."""
    labels = (
        ("images in the batch", "ms per step"),
        ("classes (rows of the Jacobian)", "ms per step"),
        ("lambdas, one run after another", f"ms for {scaling.steps} steps of each"),
        ("share of active hidden units", "ms per step"),
    )
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    panels = zip(figure.subplots(1, 4), labels, scaling.series.values(), COLOURS, strict=False)
    for axes, (xlabel, ylabel), series, colour in panels:
        x, ms = [p.at for p in series.points], [p.ms for p in series.points]
        if series.slope is not None and series.intercept is not None:
            ends = np.array([0, max(x)])
            axes.plot(ends, series.intercept + series.slope * ends, color="gray", linestyle="--", linewidth=1)
            axes.set_title(series.formula, fontsize=10)
        axes.plot(x, ms, color=colour, marker="o", linestyle="")
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, None), ylim=(0, 1.1 * max(ms)))
        axes.grid(alpha=0.3)
    figure.suptitle(title(scaling), fontsize=11)
    return figure


def title(scaling: Scaling) -> str:
    return f"model {scaling.model}, exact penalty, {scaling.threads} thread{'s' * (scaling.threads != 1)}"

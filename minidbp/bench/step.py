"""The time and the arithmetic of one training step."""

import statistics
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np

from minidbp import kernels
from minidbp.autodiff import Tensor, no_grad
from minidbp.bench.machine import Advance, Contention, blas_name, gemm_gflops_per_s, ignore, peak_rss_mb, seconds_of
from minidbp.data import Dataset
from minidbp.nn import N_CLASSES, Conv2d, Linear, ReLU, Sequential, build_model
from minidbp.nn.layer import Layer
from minidbp.nn.models import check_model_name
from minidbp.robust import PENALTIES
from minidbp.robust.penalties import check_lambda
from minidbp.training import BatchGradient, Protocol, TrainingState, Workers, training_step, workers
from minidbp.training.protocol import FieldError, check_choice

NO_PENALTY = "none"
Batch = tuple[np.ndarray, np.ndarray]


class Product(NamedTuple):
    """A layer with weights: its multiply-adds, inputs and outputs for one sample, those that a ReLU turns off too."""

    name: str
    weights: Tensor
    multiply_adds: int
    n_in: int
    n_out: int


def products(model: Sequential, image: np.ndarray) -> list[Product]:
    """The layers of `model` that multiply, in order, for samples of the shape and dtype of `image`."""
    products: list[Product] = []
    n_in = image.size
    for layer, y in _layer_outputs(model, image[None]):
        if isinstance(layer, Conv2d | Linear):
            name = f"{'conv' if isinstance(layer, Conv2d) else 'linear'} {len(products) + 1}"
            positions = y.size // layer.w.shape[-1]  # each weight is used once at every output position
            products.append(Product(name, layer.w, layer.w.size * positions, n_in, y.size))
        n_in = y.size
    return products


def step_gflop(model: Sequential, image: np.ndarray, batch: int, rows: int) -> float:
    """GFLOP (a multiply-add is two) of one training step with `rows` rows of the Jacobian; 0 rows for a plain step.

    A plain step passes three times through every layer: forward, adjoint in the input (which the first layer does not
    need), adjoint in the weights.  Each row of the Jacobian adds three passes: its reverse pass down to the pixels,
    the tangent pass of its sign back up, and the gradient in the weights from both.
    """
    layers = [p.multiply_adds for p in products(model, image)]
    return 2e-9 * batch * (3 * (1 + rows) * sum(layers) - layers[0])


def active_shares(model: Sequential, x: np.ndarray) -> list[float]:
    """The share of active units of each ReLU layer on images x (N, ...): 0 to 1."""
    active = []
    for part in (x[i : i + 64] for i in range(0, len(x), 64)):  # few at a time, as model B's activations are large
        outputs = [y.data for layer, y in _layer_outputs(model, part) if isinstance(layer, ReLU)]
        active.append([float(np.mean(y > 0)) * len(part) for y in outputs])
    return [float(total / len(x)) for total in np.sum(active, axis=0)]


def _layer_outputs(model: Sequential, x: np.ndarray) -> list[tuple[Layer, Tensor]]:
    y, outputs = Tensor(x), []
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            outputs.append((layer, y))
    return outputs


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What is trained and how many steps are timed.

    `penalty` is one of PENALTIES or "none".  "none" and lambda 0 mean the same, and each implies the other.
    Raises ValueError for an unknown model or penalty and for a lambda that is negative or not finite.
    """

    model: str = "C"
    penalty: str = "jacobian_l1"
    lam: float = 10.0
    batch: int = 128
    threads: int | None = None  # one for each core
    warm: int = 50  # steps of training before those that are timed
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_model_name(self.model)
        check_lambda(self.lam)
        check_choice("penalty", self.penalty, (*PENALTIES, NO_PENALTY))
        if self.penalty == NO_PENALTY or self.lam == 0:
            object.__setattr__(self, "penalty", NO_PENALTY)
            object.__setattr__(self, "lam", 0.0)

    @property
    def protocol(self) -> Protocol:
        """The paper's protocol with this penalty and batch size."""
        protocol = Protocol(batch_size=self.batch)
        return protocol if self.penalty == NO_PENALTY else replace(protocol, penalty=self.penalty)


@dataclass
class Trainer:
    """A model, its optimiser and its batches; `step()` is exactly what `minidbp train` repeats."""

    model: Sequential
    lam: float
    protocol: Protocol
    batches: list[Batch]
    pool: Workers

    def __post_init__(self) -> None:
        self.state = TrainingState(self.model, self.lam, self.protocol, np.random.default_rng(0))
        self.steps = 0

    @property
    def next_batch(self) -> Batch:
        """The batch of the next step."""
        return self.batches[self.steps % len(self.batches)]

    def step(self) -> BatchGradient:
        """Train one step on the next batch."""
        x, y = self.next_batch
        self.steps += 1
        return training_step(self.state, x, y, self.pool)

    def seconds(self, steps: int, advance: Advance = ignore) -> list[float]:
        """Train `steps` steps and return the seconds of each; advance() is called after each."""
        return seconds_of(self.step, steps, advance)


def batches_of(mnist: Dataset, size: int) -> list[Batch]:
    """All whole batches of `size` training images and labels, in the order of the file.

    Raises ValueError for a size of 0 or one that exceeds the number of training images.
    """
    n = len(mnist.x_train)
    if not 1 <= size <= n:
        raise FieldError("batch_size", f"must be from 1 to {n}; got {size}")
    return [(mnist.x_train[i : i + size], mnist.y_train[i : i + size]) for i in range(0, n - size + 1, size)]


def first_images(mnist: Dataset, n: int) -> Dataset:
    """MNIST with the first n training images only, so that the process' memory is that of the step, not of the data."""
    return replace(mnist, x_train=mnist.x_train[:n].copy(), y_train=mnist.y_train[:n].copy())


@dataclass(frozen=True, kw_only=True)
class StepTiming(StepSettings):
    """The settings of a measurement and what was measured.

    `gflop` counts every unit, also inactive ones; `efficiency` is the rate `gflops_per_s` over that of a large matrix
    product on as many threads.  `others_share` is the share of the machine that other processes used meanwhile,
    `peak_rss_mb` the largest memory that the process has used.
    """

    blas: str
    median_ms: float
    min_ms: float
    active_share: list[float]
    gflop: float
    gflops_per_s: float
    gemm_gflops_per_s: float
    efficiency: float
    peak_rss_mb: float | None
    others_share: float | None


def time_step(settings: StepSettings, mnist: Dataset, advance: Advance = ignore) -> StepTiming:
    """Train for `settings.warm` steps, then time `settings.steps` steps; advance() is called after each.

    Raises ValueError for a batch that is larger than MNIST.
    """
    batches, model = batches_of(mnist, settings.batch), build_model(settings.model, settings.seed)
    kernels.warm_up()
    with workers(settings.threads) as pool:
        trainer = Trainer(model, settings.lam, settings.protocol, batches, pool)
        trainer.seconds(settings.warm, advance)
        contention = Contention()
        seconds = trainer.seconds(settings.steps, advance)
        others, memory = contention.share(), peak_rss_mb()
    median = statistics.median(seconds)
    rows = {NO_PENALTY: 0, "jacobian_l1": N_CLASSES}.get(settings.penalty, 1)
    gflop = step_gflop(model, mnist.x_train[0], settings.batch, rows)
    gemm = gemm_gflops_per_s(pool.threads)
    return StepTiming(
        **asdict(replace(settings, threads=pool.threads)),
        blas=blas_name(),
        median_ms=1e3 * median,
        min_ms=1e3 * min(seconds),
        active_share=active_shares(model, mnist.x_test[:512]),
        gflop=gflop,
        gflops_per_s=gflop / median,
        gemm_gflops_per_s=gemm,
        efficiency=gflop / median / gemm,
        peak_rss_mb=memory,
        others_share=others,
    )

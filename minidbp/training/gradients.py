"""The gradient of a batch's loss in the parameters, shard by shard."""

import functools
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import grad
from minidbp.kernels import empty_like
from minidbp.nn import TrainableModel, fuse
from minidbp.nn.checks import validate_sample_count
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Workers, chunk_size, footprint, shard_size, shards


class DivergenceError(ArithmeticError):
    """The loss or a gradient is NaN or infinite; `epoch` and `step` of a training count from 1, or are None."""

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch, self.step = epoch, step

    def at(self, where: str, lam: float, epoch: int, step: int) -> "DivergenceError":
        """The same error as that of a training, which diverged at this epoch and step; `where` says so in words."""
        message = f"training diverged {where}, at lambda {lam:g}: {self}; a smaller learning rate or lambda may help"
        return DivergenceError(message, epoch, step)


@dataclass(frozen=True)
class BatchGradient:
    """The loss of a batch, its two parts, and its gradient in each parameter."""

    loss: float
    cross_entropy: float
    penalty: float
    gradients: list[np.ndarray]


def batch_gradient(
    model: TrainableModel,
    x: np.ndarray,
    y: np.ndarray,
    lam: float,
    protocol: Protocol,
    pool: Workers,
    *,
    seed: int | np.random.Generator = 0,
) -> BatchGradient:
    """Eq. 3 on images x (N, ...) and labels y (N,), and its gradient, as the mean over the samples.

    In adversarial training the samples are the images and the adversarial images that the current model gives for them
    (section 4.2 of the paper). Those of PGD begin at random points, which are drawn from `seed` for the whole batch
    before it is cut. Nothing is drawn otherwise.

    The batch is cut into chunks, and each chunk into shards. The gradients of a chunk's shards are added one after
    the other, and then the chunks are added in order: one thread gives the same bits as several.

    Raises ValueError if there is no image, TypeError for images of uint8, and DivergenceError if the attack of
    adversarial training finds no finite gradient.
    """
    validate_sample_count(len(x))
    objective = protocol.objective(lam)
    rows = footprint(model, x[0]).classes if lam > 0 and protocol.penalty == "jacobian_l1" else 1
    if protocol.adversarial_training:
        rows *= 2
    size = shard_size(model, x[0], rows)
    fused = fuse(model)
    start = x
    if protocol.adversarial_training and protocol.training_attack == "pgd":
        noise = np.random.default_rng(seed).uniform(-protocol.eps, protocol.eps, x.shape)
        start = x + noise.astype(x.dtype)

    def shard_gradient(shard: slice) -> tuple[np.ndarray, list[np.ndarray]]:
        """The three values and the gradients of a shard, times its share of the batch."""
        x_shard, y_shard, share = x[shard], y[shard], (shard.stop - shard.start) / len(x)
        if protocol.adversarial_training:
            attacked = protocol.training_images(fused, x_shard, y_shard, start[shard])
            if not np.isfinite(attacked).all() and np.isfinite(x_shard).all():
                raise DivergenceError("the gradient in the images is not finite")
            x_shard = np.concatenate([x_shard, attacked])
            y_shard = np.concatenate([y_shard, y_shard])
        loss = objective(fused, x_shard, y_shard)
        penalty = 0.0 if loss.penalty is None else loss.penalty.item()
        values = share * np.array([loss.total.item(), loss.cross_entropy.item(), penalty])
        return values, [g.data for g in grad(loss.total * share, model.parameters())]

    @np.errstate(over="ignore", invalid="ignore", under="ignore")  # a new thread inherits none
    def chunk_gradient(chunk: slice) -> tuple[np.ndarray, list[np.ndarray]]:
        sums = np.zeros(3)
        total: list[np.ndarray] = []
        for shard in shards(chunk.start, chunk.stop, size):
            values, gradients = shard_gradient(shard)
            sums += values
            total = _added(total, gradients, in_place=shard.start > chunk.start + size) if total else gradients
        return sums, total

    chunks = pool.map(chunk_gradient, shards(0, len(x), chunk_size(model, x[0], len(x), rows)))
    loss, cross_entropy, penalty = map(float, np.sum([values for values, _ in chunks], axis=0))
    return BatchGradient(loss, cross_entropy, penalty, functools.reduce(_added, (gradients for _, gradients in chunks)))


def _added(total: list[np.ndarray], more: list[np.ndarray], in_place: bool = False) -> list[np.ndarray]:
    """The sums, in new arrays; `in_place` if `total` is a result of this function."""
    return [np.add(t, g, out=t if in_place else empty_like(t)) for t, g in zip(total, more, strict=True)]

"""The gradient of a batch's loss in the parameters, shard by shard."""

import functools
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import grad
from minidbp.kernels import empty_like
from minidbp.nn import N_CLASSES, Sequential
from minidbp.robust import fgsm, penalised_loss
from minidbp.training.protocol import Protocol, attack_reading
from minidbp.training.workers import Workers, lane_size, shard_size, shards


@dataclass(frozen=True)
class BatchGradient:
    """The loss of a batch, its two parts, and its gradient in each parameter."""

    loss: float
    cross_entropy: float
    penalty: float
    gradients: list[np.ndarray]


def batch_gradient(
    model: Sequential, x: np.ndarray, y: np.ndarray, lam: float, protocol: Protocol, workers: Workers
) -> BatchGradient:
    """Eq. 3 on images x (N, ...) and labels y (N,), and its gradient, as the mean over the samples.

    In adversarial training, each image and the adversarial image that FGSM makes of it now are samples (section 4.2).

    The batch is cut into lanes, each lane into shards.  A lane adds up its shards one after the other, and
    the lanes are added in order: the same bits with one thread or several.
    """
    rows = N_CLASSES if lam > 0 and protocol.penalty == "jacobian_l1" else 1
    if protocol.adversarial_training:
        rows *= 2
    size = shard_size(model, x[0], rows)

    @np.errstate(over="ignore", invalid="ignore")  # as training_step has it: threads begin without
    def lane(part: slice) -> tuple[np.ndarray, list[np.ndarray]]:
        values = np.zeros(3)
        total: list[np.ndarray] = []
        for shard in shards(part.start, part.stop, size):
            shard_values, found = _shard_gradient(model, x[shard], y[shard], lam, protocol, len(x))
            values += shard_values
            total = _added(total, found, in_place=shard.start > part.start + size) if total else found
        return values, total

    parts = workers.map(lane, shards(0, len(x), lane_size(model, x[0], len(x), rows)))
    values = np.sum([v for v, _ in parts], axis=0)
    gradients = functools.reduce(_added, (gradient for _, gradient in parts))
    loss, cross_entropy, penalty = map(float, values)
    return BatchGradient(loss, cross_entropy, penalty, gradients)


def _shard_gradient(
    model: Sequential, x: np.ndarray, y: np.ndarray, lam: float, protocol: Protocol, n: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The shard's part of the three values and of the gradients of a batch of n."""
    share = len(x) / n
    if protocol.adversarial_training:
        x = np.concatenate([x, fgsm(model, x, y, protocol.eps, **attack_reading(protocol))])
        y = np.concatenate([y, y])
    objective = penalised_loss(
        model, x, y, lam, protocol.penalty, protocol.penalty_target, protocol.reduction, protocol.label_smoothing
    )
    penalty = 0.0 if objective.penalty is None else objective.penalty.item()
    values = share * np.array([objective.loss.item(), objective.cross_entropy.item(), penalty])
    return values, [g.data for g in grad(objective.loss * share, model.parameters())]


def _added(total: list[np.ndarray], more: list[np.ndarray], in_place: bool = False) -> list[np.ndarray]:
    """The sums, in new arrays; `in_place` where `total` came from here."""
    return [np.add(t, g, out=t if in_place else empty_like(t)) for t, g in zip(total, more, strict=True)]

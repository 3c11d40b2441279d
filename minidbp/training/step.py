"""One step of training: what `train` repeats, and what `minidbp bench step` times."""

import math

import numpy as np

from minidbp.nn import Sequential
from minidbp.training.adam import Adam
from minidbp.training.gradients import BatchGradient, batch_gradient
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Workers


class DivergenceError(ArithmeticError):
    """The loss or a gradient became NaN or infinite; `epoch` and `step` of a training count from 1, or are None."""

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch, self.step = epoch, step


@np.errstate(over="ignore", invalid="ignore")  # DivergenceError says it in one sentence
def training_step(
    model: Sequential, adam: Adam, x: np.ndarray, y: np.ndarray, lam: float, protocol: Protocol, workers: Workers
) -> BatchGradient:
    """Move the model's parameters by one step of `adam` on eq. 3, for images x (N, ...) and labels y (N,).

    Raises DivergenceError, and moves nothing, if the loss or its gradient is not finite.
    """
    found = batch_gradient(model, x, y, lam, protocol, workers)
    if not (math.isfinite(found.loss) and all(np.isfinite(g.sum()) for g in found.gradients)):
        raise DivergenceError(f"the loss is {found.loss:g}, and it or its gradient is not finite")
    adam.step(found.gradients)
    return found

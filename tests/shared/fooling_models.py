"""Models that are easy to fool, built so that an attack which follows their gradient finds little.

Each takes a Tensor (N, 28, 28, 1) and returns logits (N, 10).
"""

from collections.abc import Callable

import numpy as np

from minidbp import nn
from minidbp.autodiff import Tensor, no_grad, sin, tanh
from minidbp.data import Dataset
from minidbp.diagnosis.trials import Function
from minidbp.training import Protocol, TrainingState, training_step, workers

Model = Callable[[Tensor], Tensor]


def leak(scale: float, seed: int = 9) -> Model:
    """A random linear map of the pixels: its gradient is smooth and useless."""
    w = (scale / 28 * np.random.default_rng(seed).normal(size=(784, 10))).astype(np.float32)
    return lambda x: x.reshape((x.shape[0], -1)) @ w


def near_binary(mnist: Dataset, steps: int = 400, steepness: float = 1000.0) -> Model:
    """tanh features that became steeper in training, and are all but -1 and 1 afterwards; and a leak."""
    rng = np.random.default_rng(5)
    factor = [1.0]
    model = nn.Sequential([
        nn.Flatten(), nn.Linear(784, 128, rng, np.float32), Function(lambda z: tanh(z * np.float32(factor[0]))),
        nn.Linear(128, 10, rng, np.float32),
    ])  # fmt: skip
    state = TrainingState(model, 0.0, Protocol(), rng)
    with workers(1) as pool:
        for step in range(steps):
            factor[0] = 30 ** (step / steps)
            indices = rng.integers(0, len(mnist.x_train), 128)
            training_step(state, mnist.x_train[indices], mnist.y_train[indices], pool)
    factor[0] = steepness
    useless = leak(0.02)
    return lambda x: model(x) + useless(x)


def whole_answers(model: Model, decoy: Model | None = None) -> Model:
    """10 for the class that `model` predicts, without a gradient, and in all logits what the decoy adds."""
    useless = decoy or leak(0.01)

    def answer(x: Tensor) -> Tensor:
        with no_grad():
            predicted = np.argmax(model(Tensor(x.data)).data, axis=1)
        return Tensor(10 * np.eye(10, dtype=np.float32)[predicted]) + useless(x)

    return answer


def stairs(model: Model, levels: int = 4) -> Model:
    """`model` on pixels that are rounded to a few levels, without a gradient; and a leak."""
    useless = leak(0.01)

    def rounded(x: Tensor) -> Tensor:
        return model(Tensor(np.round(x.data * levels).astype(np.float32) / np.float32(levels))) + useless(x)

    return rounded


def backwards(model: Model) -> Model:
    """`model` itself, but each gradient has the wrong sign."""
    return lambda x: model(2 * x.detach() - x)


def rippled(model: Model) -> Model:
    """The logits, all multiplied by one factor between 0.1 and 1 that changes fast with the pixels."""
    w = np.random.default_rng(3).normal(size=(784, 1)).astype(np.float32)
    return lambda x: model(x) * (0.55 + 0.45 * sin((x.reshape((x.shape[0], -1)) @ w) * np.float32(300)))


def scaled(model: Model, factor: float = 1e4) -> Model:
    """Logits so large that the softmax has rounded to 0 and 1, and the cross-entropy has no gradient."""
    return lambda x: model(x) * np.float32(factor)


def by_chance(model: Model) -> Model:
    """Logits with noise, new at every call."""
    rng = np.random.default_rng(0)
    return lambda x: model(x) + rng.normal(scale=1, size=(x.shape[0], 10)).astype(np.float32)

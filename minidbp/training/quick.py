"""A model that knows its digits after a few seconds, for lessons and pictures; results come from `train`."""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from minidbp.nn import Sequential, build_model
from minidbp.training.adam import Adam
from minidbp.training.protocol import Protocol
from minidbp.training.step import training_step
from minidbp.training.workers import workers


def quickly_trained(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    steps: int = 300,
    lam: float = 0.0,
    protocol: Protocol | None = None,
    seed: int = 0,
    dtype: DTypeLike = "float32",
    threads: int | None = None,
    on_step: Callable[[], None] | None = None,
) -> Sequential:
    """Model `name` after `steps` steps of the protocol's Adam on eq. 3, on random batches of x (N, 28, 28, 1), y (N,).

    Trains in float32 and returns a model of `dtype` (float64 for comparison with finite differences).  The same seed
    gives the same bits.  on_step is called after each step.  Raises ValueError for a model, steps or threads that are
    not, and DivergenceError if the loss stops being finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    protocol = protocol or Protocol()
    rng = np.random.default_rng(seed)
    model = build_model(name, seed=seed, padding=protocol.padding, initialiser=protocol.initialiser)
    adam = Adam(model.parameters(), protocol.learning_rate, protocol.beta1, protocol.beta2, protocol.adam_eps)
    with workers(threads) as team:
        for _ in range(steps):
            batch = rng.integers(0, len(x), protocol.batch_size)
            training_step(model, adam, x[batch], y[batch], lam, protocol, team)
            if on_step:
                on_step()
    return model.astype(dtype)

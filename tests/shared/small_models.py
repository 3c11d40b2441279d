"""Small models for attacks."""

import numpy as np

from minidbp import nn
from minidbp.autodiff import Tensor
from minidbp.robust.penalties import Model


def linear(w: np.ndarray, b: np.ndarray | None = None) -> nn.Sequential:
    layer = nn.Linear(*w.shape, np.random.default_rng(0), w.dtype)
    layer.w.data = w
    layer.b.data = np.zeros(w.shape[1], w.dtype) if b is None else b
    return nn.Sequential([layer])


def small_net(dtype: str = "float64", seed: int = 0) -> nn.Sequential:
    """Model C in miniature, with weights large enough that some points are sure and others are not."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential([nn.Linear(8, 12, rng, dtype), nn.ReLU(), nn.Linear(12, 4, rng, dtype)])
    for p in model.parameters():
        p.data = rng.normal(0, 1, p.shape).astype(dtype)
    return model


def right(model: Model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.argmax(model(Tensor(x)).data, axis=1) == y

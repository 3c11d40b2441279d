"""Models of a stranger: a class with layers among its attributes, and an object that is no Layer."""

import numpy as np

import minidbp as mdb
from minidbp import nn


class OwnLayer(nn.Layer):
    """Images (N, ...) of `pixels` pixels to (N, classes): a residual block, Dropout, and a head in a Sequential."""

    def __init__(self, seed: int = 0, pixels: int = 784, classes: int = 10) -> None:
        rng = np.random.default_rng(seed)
        self.first = nn.Linear(pixels, 16, rng)
        self.blocks = [nn.Linear(16, 16, rng)]
        self.dropout = nn.Dropout(0.1, np.random.default_rng(seed + 1))
        self.head = nn.Sequential([nn.ReLU(), nn.Linear(16, classes, rng)])
        self.unused = nn.Linear(2, 2, rng)

    def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
        h = self.first(x.reshape(len(x.data), -1))
        for block in self.blocks:
            h = h + self.dropout(mdb.relu(block(h)))
        return self.head(h)


class Foreign:
    """No Layer: only a call and `parameters()`. It compares by value, so it has no hash."""

    def __init__(self, seed: int = 0, pixels: int = 784, classes: int = 10) -> None:
        weights = np.random.default_rng(seed).normal(0, 0.05, (pixels, classes)).astype(np.float32)
        self.tensors = mdb.Tensor(weights, requires_grad=True), mdb.Tensor(weights[0], requires_grad=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
        w, b = self.tensors
        return mdb.tanh(x.reshape(len(x.data), -1)) @ w + b

    def parameters(self) -> tuple[mdb.Tensor, ...]:
        return self.tensors


OWN = {"a Layer": OwnLayer, "no Layer": Foreign}

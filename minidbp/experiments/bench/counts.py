"""How many operations a step has, from the layers' shapes, if every unit counts (none is skipped for being off)."""

from typing import NamedTuple

import numpy as np

from minidbp.autodiff import Tensor, no_grad
from minidbp.nn import Conv2d, Linear, ReLU, Sequential


class Product(NamedTuple):
    """A layer with weights: its name, its multiply-adds for one sample, and whether it is the first of its model."""

    name: str
    multiply_adds: int
    first: bool


def products(model: Sequential, image: np.ndarray) -> list[Product]:
    """The layers of `model` that multiply, in order, for samples of the shape and dtype of `image`."""
    found: list[Product] = []
    y = Tensor(image[None])
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            if isinstance(layer, Conv2d | Linear):
                w = layer.w
                kind = "conv" if isinstance(layer, Conv2d) else "linear"
                # each weight is used once for each place of the output
                found.append(Product(f"{kind} {len(found) + 1}", w.size * (y.size // w.shape[-1]), not found))
    return found


def step_gflop(model: Sequential, image: np.ndarray, batch: int, rows: int) -> float:
    """GFLOP (a multiply-add is two) of one training step with `rows` rows of Jacobian; 0 rows for a plain step.

    A plain step passes three times through every layer: forward, adjoint in the input (which the first layer does not
    need), adjoint in the weights.  Each row of the Jacobian adds three more: its reverse pass down to the pixels, the
    tangent pass of its sign back up, and the weights' gradient from both.
    """
    layers = products(model, image)
    passes = sum(p.multiply_adds * (3 * (1 + rows) - p.first) for p in layers)
    return 2e-9 * batch * passes


def active_shares(model: Sequential, x: np.ndarray) -> list[float]:
    """For each ReLU layer, the share of its units that images x (N, ...) switch on: 0 to 1."""
    shares: list[float] = []
    y = Tensor(x)
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            if isinstance(layer, ReLU):
                shares.append(float(np.mean(y.data > 0)))
    return shares

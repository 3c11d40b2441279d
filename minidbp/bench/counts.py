"""How many operations a step has, from the layers' shapes, if every unit counts (none is skipped for being off)."""

from typing import NamedTuple

import numpy as np

from minidbp.autodiff import Tensor, no_grad
from minidbp.nn import Conv2d, Linear, ReLU, Sequential


class Product(NamedTuple):
    """A layer with weights, for one sample: its multiply-adds, the numbers it takes and gives."""

    name: str
    weights: Tensor
    multiply_adds: int
    n_in: int
    n_out: int


def products(model: Sequential, image: np.ndarray) -> list[Product]:
    """The layers of `model` that multiply, in order, for samples of the shape and dtype of `image`."""
    found: list[Product] = []
    y = Tensor(image[None])
    with no_grad():
        for layer in model.layers:
            x, y = y, layer(y)
            if isinstance(layer, Conv2d | Linear):
                name = f"{'conv' if isinstance(layer, Conv2d) else 'linear'} {len(found) + 1}"
                places = y.size // layer.w.shape[-1]  # of the output: each weight is used once for each
                found.append(Product(name, layer.w, layer.w.size * places, x.size, y.size))
    return found


def step_gflop(model: Sequential, image: np.ndarray, batch: int, rows: int) -> float:
    """GFLOP (a multiply-add is two) of one training step with `rows` rows of Jacobian; 0 rows for a plain step.

    A plain step passes three times through every layer: forward, adjoint in the input (which the first layer does not
    need), adjoint in the weights.  Each row of the Jacobian adds three more: its reverse pass down to the pixels, the
    tangent pass of its sign back up, and the weights' gradient from both.
    """
    layers = [p.multiply_adds for p in products(model, image)]
    return 2e-9 * batch * (3 * (1 + rows) * sum(layers) - layers[0])


def active_shares(model: Sequential, x: np.ndarray) -> list[float]:
    """For each ReLU layer, the share of its units that images x (N, ...) switch on: 0 to 1."""
    parts = [_active(model, x[i : i + 64]) for i in range(0, len(x), 64)]  # few at a time: they are large in model B
    return [float(np.sum(layer) / len(x)) for layer in zip(*parts, strict=True)]


def _active(model: Sequential, x: np.ndarray) -> list[float]:
    """The shares of images x, summed over them."""
    sums: list[float] = []
    y = Tensor(x)
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            if isinstance(layer, ReLU):
                sums.append(float(np.mean(y.data > 0)) * len(x))
    return sums

"""Models A, B and C of the paper's Table 1."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff.tensor import DTYPES
from minidbp.kernels import ConvGeometry
from minidbp.nn.layer import Layer
from minidbp.nn.layers import INITIALISERS, Conv2d, Flatten, Linear, ReLU, Sequential

IMAGE_SHAPE = (28, 28, 1)
N_CLASSES = 10

# (filters, kernel, stride) of each convolution in Table 1, and the widths of the fully connected layers
CONVOLUTIONS: dict[str, Sequence[tuple[int, int, int]]] = {
    "A": ((64, 8, 2), (128, 6, 2), (128, 5, 1)),
    "B": ((128, 3, 1), (64, 3, 2)),
    "C": (),
}
FULLY_CONNECTED: dict[str, Sequence[int]] = {"A": (10,), "B": (128, 10), "C": (512, 256, 128, 10)}
N_PARAMETERS = {"A": 710_218, "B": 1_460_938, "C": 567_434}  # the last line of Table 1

# The paper does not give the padding. "same_first" (the first convolution SAME, the others VALID) gives its numbers of
# parameters. With VALID throughout, the third kernel of model A is larger than its input.
PADDINGS = ("same_first", "same")


def check_model_name(name: str) -> None:
    """Raise ValueError unless `name` is one of the paper's models."""
    if name not in N_PARAMETERS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(N_PARAMETERS)}")


def build_model(
    name: str,
    seed: int | np.random.Generator = 0,
    dtype: DTypeLike = "float32",
    initialiser: str = "glorot_uniform",
    padding: str = "same_first",
) -> Sequential:
    """Model A, B or C with new weights from `seed`: images (N, 28, 28, 1) in [0, 1] to logits (N, 10).

    A ReLU follows every layer except the last.

    Raises:
        ValueError: the name, initialiser or padding is unknown.
        TypeError: the dtype is neither float32 nor float64.
    """
    check_model_name(name)
    for what, value, choices in (("initialiser", initialiser, INITIALISERS), ("padding", padding, PADDINGS)):
        if value not in choices:
            raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")
    if np.dtype(dtype) not in DTYPES:
        raise TypeError(f"a model's dtype is float32 or float64; got {np.dtype(dtype)}")
    rng = np.random.default_rng(seed)
    initialise = INITIALISERS[initialiser]
    layers: list[Layer] = []
    size, channels = IMAGE_SHAPE[1:]
    for i, (filters, kernel, stride) in enumerate(CONVOLUTIONS[name]):
        pad = "same" if padding == "same" or (padding == "same_first" and i == 0) else "valid"
        layers.append(Conv2d(channels, filters, kernel, rng, stride, pad, dtype=dtype, initialiser=initialise))
        layers.append(ReLU())
        size = ConvGeometry.of((size, size), (kernel, kernel), stride, pad).output[0]
        channels = filters
    layers.append(Flatten())
    width = size * size * channels
    for units in FULLY_CONNECTED[name]:
        layers += [Linear(width, units, rng, dtype, initialise), ReLU()]
        width = units
    return Sequential(layers[:-1], IMAGE_SHAPE)

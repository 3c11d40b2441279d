"""Models A, B and C of the paper's Table 1."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff.tensor import DTYPES
from minidbp.kernels import ConvGeometry
from minidbp.nn.layer import Layer
from minidbp.nn.layers import INITIALISERS, Conv2d, Flatten, Linear, ReLU, Sequential

IMAGE_SHAPE = (28, 28, 1)
N_CLASSES = 10

# (filters, kernel, stride) of each convolution in Table 1, and the widths of the hidden fully connected layers
CONVOLUTIONS: dict[str, Sequence[tuple[int, int, int]]] = {
    "A": ((64, 8, 2), (128, 6, 2), (128, 5, 1)),
    "B": ((128, 3, 1), (64, 3, 2)),
    "C": (),
}
FULLY_CONNECTED: dict[str, Sequence[int]] = {"A": (), "B": (128,), "C": (512, 256, 128)}
MOST_PARAMETERS = 1 << 27  # of a model for other images: in float64 they take 1 GiB
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
    *,
    input_shape: tuple[int, ...] = IMAGE_SHAPE,
    n_classes: int = N_CLASSES,
) -> Sequential:
    """Model A, B or C with new weights from `seed`: images (N, H, W, C) in [0, 1] to logits (N, n_classes).

    A ReLU follows every layer except the last.  The defaults are the paper's: (28, 28, 1) and 10.

    Args:
        input_shape: (H, W, C) of an image.

    Raises:
        ValueError: the name, initialiser or padding is unknown, the images are too small for the model's kernels or
            give it more than MOST_PARAMETERS, or there are fewer than two classes.
        TypeError: the dtype is neither float32 nor float64.
    """
    check_model_name(name)
    for what, value, choices in (("initialiser", initialiser, INITIALISERS), ("padding", padding, PADDINGS)):
        if value not in choices:
            raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")
    if np.dtype(dtype) not in DTYPES:
        raise TypeError(f"a model's dtype is float32 or float64; got {np.dtype(dtype)}")
    check_model_input(name, padding, input_shape, n_classes)
    rng = np.random.default_rng(seed)
    initialise = INITIALISERS[initialiser]
    layers: list[Layer] = []
    *size, channels = input_shape
    for (filters, kernel, stride), pad in _convolutions(name, padding):
        layers.append(Conv2d(channels, filters, kernel, rng, stride, pad, dtype=dtype, initialiser=initialise))
        layers.append(ReLU())
        channels = filters
    layers.append(Flatten())
    n_in = math.prod(_after_convolutions(name, padding, size)) * channels
    for units in (*FULLY_CONNECTED[name], n_classes):
        layers += [Linear(n_in, units, rng, dtype, initialise), ReLU()]
        n_in = units
    return Sequential(layers[:-1], tuple(input_shape))


def check_model_input(name: str, padding: str, input_shape: Sequence[int], n_classes: int) -> None:
    """Raise ValueError unless model `name` can take images of this shape (H, W, C) and give this many logits."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (H, W, C), each at least 1; got {tuple(input_shape)!s:.80}")
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2; got {n_classes}")
    height, width, channels = input_shape
    least = next(size for size in itertools.count(1) if _fits(name, padding, (size, size)))
    if min(height, width) < least:
        others = " or ".join(other for other in N_PARAMETERS if _fits(other, padding, (height, width)))
        raise ValueError(
            f"model {name} needs images of at least {least}x{least} pixels; got {height}x{width}, which fit "
            f"model {others}"
        )
    if (n := count_parameters(name, padding, input_shape, n_classes)) > MOST_PARAMETERS:
        raise ValueError(
            f"for images of {height}x{width}x{channels} in {n_classes} classes, model {name} would have {n:,} "
            f"parameters, more than {MOST_PARAMETERS:,}: make the images smaller"
        )


def count_parameters(name: str, padding: str, input_shape: Sequence[int], n_classes: int) -> int:
    """How many parameters model `name` has for images of this shape (H, W, C)."""
    *size, channels = input_shape
    total = 0
    for (filters, kernel, _), _ in _convolutions(name, padding):
        total += (kernel**2 * channels + 1) * filters
        channels = filters
    n_in = math.prod(_after_convolutions(name, padding, size)) * channels
    for units in (*FULLY_CONNECTED[name], n_classes):
        total += (n_in + 1) * units
        n_in = units
    return total


def _convolutions(name: str, padding: str) -> Iterator[tuple[tuple[int, int, int], str]]:
    """Filters, kernel and stride of each convolution, and its padding."""
    for i, convolution in enumerate(CONVOLUTIONS[name]):
        yield convolution, "same" if padding == "same" or i == 0 else "valid"


def _after_convolutions(name: str, padding: str, size: Sequence[int]) -> Sequence[int]:
    """The size (h, w) of the last convolution's output.  Raises ValueError where a kernel does not fit."""
    for (_, kernel, stride), pad in _convolutions(name, padding):
        size = ConvGeometry.of(size, (kernel, kernel), stride, pad).output
    return size


def _fits(name: str, padding: str, size: Sequence[int]) -> bool:
    try:
        _after_convolutions(name, padding, size)
    except ValueError:
        return False
    return True

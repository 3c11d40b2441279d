"""Layers: functions of a Tensor with the parameters they own, and the initial values of their weights."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor, conv2d, masked, relu, sigmoid, softplus, tanh, where
from minidbp.autodiff.tensor import COMPLEX
from minidbp.kernels import Padding
from minidbp.nn.checks import refuse_bytes
from minidbp.nn.layer import Layer, TrainableModel, is_layer, parameters_in

Initialiser = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Weights (..., inputs, outputs) from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)); float64.

    Glorot and Bengio 2010, Keras' default. The leading axes are a kernel's, and each of its taps counts.
    """
    a = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return rng.uniform(-a, a, shape)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Weights (..., inputs, outputs) from N(0, 2 / fan_in): He et al. 2015, made for ReLU; float64."""
    return rng.normal(0.0, math.sqrt(2 / math.prod(shape[:-1])), shape)


INITIALISERS = {"glorot_uniform": glorot_uniform, "he_normal": he_normal}


def _check_generator(what: str, rng: np.random.Generator) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{what} must be a Generator such as np.random.default_rng(0); got {rng!r}")


def _new_parameters(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike, initialiser: Initialiser
) -> tuple[Tensor, Tensor]:
    """Weights of this shape from `initialiser`, and biases of zero."""
    if not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
        raise ValueError(f"the sizes of a layer must be whole numbers of at least 1; got {shape}")
    _check_generator("the rng of a layer", rng)
    w = initialiser(shape, rng).astype(dtype)
    # The filters are one after the other in memory: kernels that skip inactive units are faster then.
    w = np.moveaxis(np.ascontiguousarray(np.moveaxis(w, -1, 0)), 0, -1)
    return Tensor(w, requires_grad=True), Tensor(np.zeros(shape[-1], dtype), requires_grad=True)


class Linear(Layer):
    """x (N, in) to `x W + b` (N, out); W (in, out) comes from `initialiser`, b (out,) is zero."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
        initialiser: Initialiser = glorot_uniform,
    ) -> None:
        self.w, self.b = _new_parameters((n_in, n_out), rng, dtype, initialiser)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.w.shape[0]}, {self.w.shape[1]})"


class Conv2d(Layer):
    """x (N, H, W, in) to `conv2d(x, W) + b` (N, h, w, out); W (k, k, in, out) comes from `initialiser`, b is zero."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int,
        rng: np.random.Generator,
        stride: int = 1,
        padding: Padding = "valid",
        *,
        dtype: DTypeLike = "float32",
        initialiser: Initialiser = glorot_uniform,
    ) -> None:
        self.w, self.b = _new_parameters((kernel, kernel, n_in, n_out), rng, dtype, initialiser)
        self.stride, self.padding = stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return conv2d(x, self.w, self.b, self.stride, self.padding)

    def __repr__(self) -> str:
        k, _, n_in, n_out = self.w.shape
        name = type(self).__name__
        return f"{name}({n_in}, {n_out}, kernel={k}, stride={self.stride}, padding={self.padding!r})"


class ReLU(Layer):
    """max(x, 0), with derivative 0 at 0."""

    def __call__(self, x: Tensor) -> Tensor:
        return relu(x)


class Tanh(Layer):
    """`tanh(x)` of each element, in (-1, 1): smooth, so that second derivatives exist everywhere."""

    def __call__(self, x: Tensor) -> Tensor:
        return tanh(x)


class Sigmoid(Layer):
    """`1 / (1 + exp(-x))` of each element, in (0, 1)."""

    def __call__(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Softplus(Layer):
    """`log(1 + exp(x))` of each element: a smooth ReLU, whose derivative is the sigmoid."""

    def __call__(self, x: Tensor) -> Tensor:
        return softplus(x)


class _Pool2d(Layer):
    """What poolings share: windows of `kernel` x `kernel` pixels, `stride` apart, and no padding."""

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        self.kernel, self.stride = kernel, kernel if stride is None else stride
        for name in "kernel", "stride":
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{type(self).__name__}: the {name} must be an integer of at least 1; got {value!r}")

    def _check(self, x: Tensor) -> None:
        name, k = type(self).__name__, self.kernel
        if x.ndim != 4:
            raise ValueError(f"{name}: x must have the axes (N, H, W, C); got shape {x.shape}")
        _, height, width, _ = x.shape
        if min(height, width) < k:
            raise ValueError(f"{name}: a kernel of {k}x{k} does not fit into images of {height}x{width}")

    def _of_windows(self, x: Tensor, axis: int) -> list[Tensor]:
        """Element 0, 1, ..., k - 1 of every window along an axis: shifted images."""
        end = (x.shape[axis] - self.kernel) // self.stride * self.stride + 1
        return [x[(slice(None),) * axis + (slice(a, a + end, self.stride),)] for a in range(self.kernel)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kernel}, stride={self.stride})"


class AvgPool2d(_Pool2d):
    """x (N, H, W, C) to the means over windows of `kernel` x `kernel` pixels, (N, h, w, C); no padding.

    `y[n, i, j, c] = sum_ab x[n, i s + a, j s + b, c] / k^2`, with `h = (H - k) // s + 1`, for kernel k and stride s.

    Args:
        stride: The pixels between windows; None means `kernel`, and no pixel is in two windows.

    Raises:
        ValueError: kernel or stride is below 1; in a call, x has other axes, or is smaller than the kernel.
    """

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        # the sum over windows is a sum of shifted images: first down, then across
        column_sums = functools.reduce(operator.add, self._of_windows(x, 1))
        return functools.reduce(operator.add, self._of_windows(column_sums, 2)) * (1 / self.kernel**2)


class MaxPool2d(_Pool2d):
    """x (N, H, W, C) to the maxima over windows of `kernel` x `kernel` pixels, (N, h, w, C); no padding.

    `y[n, i, j, c] = max_ab x[n, i s + a, j s + b, c]`, with `h = (H - k) // s + 1`, for kernel k and stride s. The
    derivative belongs to the maximum, and in a tie to the first in the order of rows, as in PyTorch.

    Args:
        stride: The pixels between windows; None means `kernel`, and no pixel is in two windows.

    Raises:
        ValueError: kernel or stride is below 1; in a call, x has other axes, or is smaller than the kernel.
    """

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        # first across, then down: of equal maxima the one in the upper row wins, and then the left one
        row_maxima = functools.reduce(_first_larger, self._of_windows(x, 2))
        return functools.reduce(_first_larger, self._of_windows(row_maxima, 1))


def _first_larger(a: Tensor, b: Tensor) -> Tensor:
    """`max(a, b)`, whose derivative is a's where the two are equal; NaN wins."""
    return where((a >= b) | np.isnan(a.data), a, b)


class Dropout(Layer):
    """x to `m x / (1 - rate)`, of x's shape, with a new random mask m in each call (inverted dropout).

    An entry of m is 0 with the probability `rate`, else 1, so that the mean of the output is x. For derivatives m is a
    constant. With `training = False` the output is x: `eval()` of a model sets this, `train()` undoes it.

    Args:
        rate: The share of values that become 0, in [0, 1).
        rng: Draws the masks. Calls in several threads share it, and then no seed decides which call gets which mask.

    Raises:
        ValueError: rate is outside [0, 1).
        TypeError: rng is not a numpy Generator.
    """

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: the rate must lie in [0, 1); got {rate}")
        _check_generator("Dropout: rng", rng)
        self.rate, self.rng, self.training = rate, rng, True

    def __call__(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = self.rng.random(x.shape) >= self.rate  # float64 for every dtype of x: a seed gives one mask
        return masked(x, mask=mask) * (1 / (1 - self.rate))

    def __repr__(self) -> str:
        return f"Dropout({self.rate:g})"


class Flatten(Layer):
    """x (N, ...) to (N, product of the rest)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


NUMBERED = {"w": "W", "b": "b"}  # what a Sequential calls the weights and biases of a layer, before its number


class Sequential(Layer):
    """Layers one after the other; itself a layer. `parameters()` is [W1, b1, W2, b2, ...], by name and order.

    The layers with parameters have the numbers 1, 2, ..., and those of a Sequential inside this one count too. The
    attributes w and b of layer 3 have the names "W3" and "b3", and any other parameter of it has its path after the
    number: "3.scale". Layers may share parameters, and a layer may occur twice: each parameter is listed once.

    A call raises ValueError for samples of another shape than `input_shape`, if that is given, and TypeError for
    samples of another dtype than the parameters, or of uint8.

    Raises:
        TypeError: `layers` is no list, or an item of it is no Layer and has no method `parameters`.
    """

    def __init__(self, layers: Sequence[TrainableModel], input_shape: tuple[int, ...] | None = None) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"Sequential takes a list of layers, as in Sequential([first, second]); got {layers!r:.60}")
        self.layers: list[Any] = list(layers)
        self.input_shape = input_shape
        for layer in self.layers:
            if not is_layer(layer):
                raise TypeError(f"Sequential: a layer must be a Layer or have a method parameters(); got {layer!r:.60}")
        for name, parameter in self.named_parameters().items():
            parameter.name = name

    def __call__(self, x: TensorLike) -> Tensor:
        refuse_bytes(x)
        y = as_tensor(x)
        if self.input_shape and y.shape[1:] != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(f"this model takes images of shape (N, {wanted}); got {y.shape}")
        dtype = next((p.dtype for p in self.parameters()), y.dtype)
        if y.dtype not in (dtype, COMPLEX):
            integers = "; a Tensor of integers is float64" if y.dtype == np.float64 else ""
            raise TypeError(f"this model takes {dtype} images; got {y.dtype} (convert them with .astype{integers})")
        for layer in self.layers:
            y = layer(y)
        return y

    def _own_parameters(self, seen: set[int]) -> list[tuple[str, Tensor]]:
        listed, number = [], 0
        for layer in self._flat():
            if own := parameters_in(layer, seen):
                number += 1
                for path, parameter in own:
                    name = f"{NUMBERED[path]}{number}" if path in NUMBERED else f"{number}.{path}"
                    listed.append((name, parameter))
        if type(self) is not Sequential:  # a subclass may have parameters besides those of its layers
            listed += super()._own_parameters(seen)
        return listed

    def _flat(self) -> list[Any]:
        """The layers, and in place of each Sequential its own."""
        flat: list[Any] = []
        for layer in self.layers:
            if type(layer) is Sequential:  # a subclass may have more than its layers
                flat.extend(layer._flat())
            else:
                flat.append(layer)
        return flat

    def __repr__(self) -> str:
        return f"{type(self).__name__}(\n  " + ",\n  ".join(map(repr, self.layers)) + "\n)"

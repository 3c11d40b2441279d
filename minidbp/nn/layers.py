"""Layers: functions of a Tensor with the parameters they own, and the initial values of their weights."""

import copy
import functools
import math
import operator
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor, conv2d, masked, relu, sigmoid, softplus, tanh
from minidbp.autodiff.tensor import COMPLEX
from minidbp.kernels import Padding

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


class Layer(typing.Protocol):
    """Anything that maps a Tensor (N, ...) to a Tensor and lists its parameters, weights before biases."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def parameters(self) -> list[Tensor]:
        """The leaves among the attributes that require a gradient, each once: a stored activation is none."""
        tensors = [v for v in vars(self).values() if isinstance(v, Tensor)]
        return _each_once([t for t in tensors if t.requires_grad and t._node is None])

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _each_once(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors without repetitions, as a parameter that two layers share must be counted and updated once."""
    return list({id(t): t for t in tensors}.values())


def _new_parameters(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: DTypeLike, initialiser: Initialiser
) -> tuple[Tensor, Tensor]:
    """Weights of this shape from `initialiser`, and biases of zero."""
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


class AvgPool2d(Layer):
    """x (N, H, W, C) to the means over windows of `kernel` x `kernel` pixels, (N, h, w, C); no padding.

    `y[n, i, j, c] = sum_ab x[n, i s + a, j s + b, c] / k^2`, with `h = (H - k) // s + 1`, for kernel k and stride s.

    Args:
        stride: The pixels between windows; None means `kernel`, and no pixel is in two windows.

    Raises:
        ValueError: kernel or stride is below 1; in a call, x has other axes, or is smaller than the kernel.
    """

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        self.kernel, self.stride = kernel, kernel if stride is None else stride
        for name in "kernel", "stride":
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"AvgPool2d: the {name} must be an integer of at least 1; got {value!r}")

    def __call__(self, x: Tensor) -> Tensor:
        k = self.kernel
        if x.ndim != 4:
            raise ValueError(f"AvgPool2d: x must have the axes (N, H, W, C); got shape {x.shape}")
        _, height, width, _ = x.shape
        if min(height, width) < k:
            raise ValueError(f"AvgPool2d: a kernel of {k}x{k} does not fit into images of {height}x{width}")
        ends = [(size - k) // self.stride * self.stride + 1 for size in (height, width)]
        # the sum over windows is a sum of shifted images: first down, then across
        rows = [x[:, a : a + ends[0] : self.stride] for a in range(k)]
        column_sums = functools.reduce(operator.add, rows)
        columns = [column_sums[:, :, b : b + ends[1] : self.stride] for b in range(k)]
        return functools.reduce(operator.add, columns) * (1 / k**2)

    def __repr__(self) -> str:
        return f"AvgPool2d({self.kernel}, stride={self.stride})"


class Dropout(Layer):
    """x to `m x / (1 - rate)`, of x's shape, with a new random mask m in each call (inverted dropout).

    An entry of m is 0 with the probability `rate`, else 1, so that the mean of the output is x. For derivatives m is a
    constant. With `training = False` the output is x: `Sequential.eval()` sets this, `Sequential.train()` undoes it.

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
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"Dropout: rng must be a Generator such as np.random.default_rng(0); got {rng!r}")
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


class Sequential:
    """Layers one after the other; itself a layer. `parameters()` is [W1, b1, W2, b2, ...], by name and order.

    Layers may share parameters, and a layer may occur twice: `parameters()` lists each parameter once.

    A call raises ValueError for samples of another shape than `input_shape`, if that is given, and TypeError for
    samples of another dtype than the parameters.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: tuple[int, ...] | None = None) -> None:
        self.layers, self.input_shape = list(layers), input_shape
        named: set[int] = set()
        number = 0
        for layer in self._flat():
            own = {id(p) for p in layer.parameters()} - named
            number += bool(own)
            for letter, parameter in zip("Wb", layer.parameters(), strict=False):
                if id(parameter) in own:
                    parameter.name = f"{letter}{number}"
            named |= own

    def __call__(self, x: TensorLike) -> Tensor:
        y = as_tensor(x)
        if self.input_shape and y.shape[1:] != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(f"this model takes images of shape (N, {wanted}); got {y.shape}")
        dtype = next((p.dtype for p in self.parameters()), y.dtype)
        if y.dtype not in (dtype, COMPLEX):
            raise TypeError(f"this model takes {dtype} images; got {y.dtype} (convert them with .astype)")
        for layer in self.layers:
            y = layer(y)
        return y

    def parameters(self) -> list[Tensor]:
        return _each_once(p for layer in self.layers for p in layer.parameters())

    def _flat(self) -> Iterator[Layer]:
        """The layers, and in place of each Sequential its own."""
        for layer in self.layers:
            if isinstance(layer, Sequential):
                yield from layer._flat()
            else:
                yield layer

    def train(self, mode: bool = True) -> "Sequential":
        """Set `training` of each layer that has it, such as Dropout, at any depth; returns this model itself."""
        for layer in self._flat():
            if hasattr(layer, "training"):
                layer.training = mode
        return self

    def eval(self) -> "Sequential":
        """`train(False)`, for evaluation: Dropout then changes nothing."""
        return self.train(False)

    def astype(self, dtype: DTypeLike) -> "Sequential":
        """A copy with parameters of this dtype, such as float64 for comparison with finite differences.

        Layers that share a parameter share its copy.
        The copy's Dropouts have generators of their own, and so the same masks as the model's from then on.
        """
        return self._astype(dtype, {})

    def _astype(self, dtype: DTypeLike, copied: dict[int, Any]) -> "Sequential":
        """`copied`: deepcopy's memory of what it has copied; layers that share something share its copy too."""
        layers: list[Layer] = []
        for layer in self.layers:
            if isinstance(layer, Sequential):
                layers.append(layer._astype(dtype, copied))
                continue
            twin = copy.copy(layer)
            for name, value in vars(twin).items():
                if isinstance(value, Tensor) and value._node is None:  # a stored activation stays
                    if id(value) not in copied:
                        copied[id(value)] = Tensor(value.data.astype(dtype), value.requires_grad)
                    setattr(twin, name, copied[id(value)])
                elif isinstance(value, np.random.Generator):
                    setattr(twin, name, copy.deepcopy(value, copied))
            layers.append(twin)
        return Sequential(layers, self.input_shape)

    def __repr__(self) -> str:
        return "Sequential(\n  " + ",\n  ".join(map(repr, self.layers)) + "\n)"

"""Layers: functions of a Tensor with the parameters they own, and the initial values of their weights."""

import copy
import math
import typing
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor, conv2d, relu
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
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


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


class Flatten(Layer):
    """x (N, ...) to (N, product of the rest)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


class Sequential:
    """Layers one after the other; itself a layer. `parameters()` is [W1, b1, W2, b2, ...], by name and order.

    A call raises ValueError for samples of another shape than `input_shape`, if that is given, and TypeError for
    samples of another dtype than the parameters.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: tuple[int, ...] | None = None) -> None:
        self.layers, self.input_shape = list(layers), input_shape
        owners = [layer for layer in self.layers if layer.parameters()]
        for number, layer in enumerate(owners, start=1):
            for letter, parameter in zip("Wb", layer.parameters(), strict=False):
                parameter.name = f"{letter}{number}"

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
        return [p for layer in self.layers for p in layer.parameters()]

    def astype(self, dtype: DTypeLike) -> "Sequential":
        """A copy with parameters of this dtype, such as float64 for comparison with finite differences."""
        layers = [layer.astype(dtype) if isinstance(layer, Sequential) else copy.copy(layer) for layer in self.layers]
        for layer in layers:
            for name, value in vars(layer).items():
                if isinstance(value, Tensor):
                    setattr(layer, name, Tensor(value.data.astype(dtype), value.requires_grad))
        return Sequential(layers, self.input_shape)

    def __repr__(self) -> str:
        return "Sequential(\n  " + ",\n  ".join(map(repr, self.layers)) + "\n)"

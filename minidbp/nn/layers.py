"""Layers: functions of a Tensor with the parameters they own."""

import copy
import typing
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor, conv2d, relu
from minidbp.autodiff.tensor import COMPLEX
from minidbp.kernels import Padding
from minidbp.nn.initialisers import glorot_uniform

Initialiser = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def _filters_apart(w: np.ndarray) -> np.ndarray:
    """(..., O) with the O filters one after the other in memory: kernels that skip inactive units are faster then."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(w, -1, 0)), 0, -1)


class Layer(typing.Protocol):
    """Anything that maps a Tensor (N, ...) to a Tensor and lists its parameters, weights before biases."""

    def __call__(self, x: Tensor) -> Tensor: ...
    def parameters(self) -> list[Tensor]: ...


class Linear:
    """x (N, in) to `x W + b` (N, out); W (in, out) comes from `initialiser`, b (out,) is zero."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
        initialiser: Initialiser = glorot_uniform,
    ) -> None:
        self.w = Tensor(_filters_apart(initialiser((n_in, n_out), rng).astype(dtype)), requires_grad=True)
        self.b = Tensor(np.zeros(n_out, dtype), requires_grad=True)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b

    def parameters(self) -> list[Tensor]:
        return [self.w, self.b]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.w.shape[0]}, {self.w.shape[1]})"


class Conv2d:
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
        w = initialiser((kernel, kernel, n_in, n_out), rng).astype(dtype)
        self.w = Tensor(_filters_apart(w), requires_grad=True)
        self.b = Tensor(np.zeros(n_out, dtype), requires_grad=True)
        self.stride, self.padding = stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return conv2d(x, self.w, self.b, self.stride, self.padding)

    def parameters(self) -> list[Tensor]:
        return [self.w, self.b]

    def __repr__(self) -> str:
        k, _, n_in, n_out = self.w.shape
        name = type(self).__name__
        return f"{name}({n_in}, {n_out}, kernel={k}, stride={self.stride}, padding={self.padding!r})"


class ReLU:
    """max(x, 0), with derivative 0 at 0."""

    def __call__(self, x: Tensor) -> Tensor:
        return relu(x)

    def parameters(self) -> list[Tensor]:
        return []

    def __repr__(self) -> str:
        return "ReLU()"


class Flatten:
    """x (N, ...) to (N, product of the rest)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))

    def parameters(self) -> list[Tensor]:
        return []

    def __repr__(self) -> str:
        return "Flatten()"


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

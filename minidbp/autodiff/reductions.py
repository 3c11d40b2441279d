"""Means, maxima, norms and softmax over axes, each rule beside its formula.  `sum` is in `shapes.py`."""

import math
from typing import Any

import numpy as np

from minidbp.autodiff.elementwise import constant, exp, masked, where
from minidbp.autodiff.shapes import Axis, normal_axes, repeat_to_match, reshape, sum
from minidbp.autodiff.tensor import COMPLEX, Tensor, TensorLike, as_tensor, operation


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """`sum(x, axis) / n` over one axis, several, or all; NaN over no elements."""
    x = as_tensor(x)
    n = math.prod(x.shape[a] for a in normal_axes("mean", x, axis))
    return sum(x, axis, keepdims) / n


@operation
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """`max(x, axis)` over one axis, several, or all; elements that tie share the derivative equally.

    Raises:
        ValueError: over no elements.
    """
    return _extremum("max", np.maximum, x, axis, keepdims)


@operation
def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """`min(x, axis)` over one axis, several, or all; elements that tie share the derivative equally.

    Raises:
        ValueError: over no elements.
    """
    return _extremum("min", np.minimum, x, axis, keepdims)


def _extremum(name: str, ufunc: np.ufunc, x: Tensor, axis: Axis, keepdims: bool) -> Any:
    """The value and the rule of max or min."""
    axes = normal_axes(name, x, axis)
    if 0 in (x.shape[a] for a in axes):
        word = {"max": "largest", "min": "smallest"}[name]
        raise ValueError(f"{name}: a tensor of shape {x.shape} has no {word} value over axis {axis}")
    extremum = ufunc.reduce(x.data.real, axis=axes, keepdims=True)
    ties = (x.data.real == extremum).astype(extremum.dtype)
    share = constant(ties / np.maximum(ties.sum(axis=axes, keepdims=True), 1))
    if x.dtype == COMPLEX:
        extremum = np.sum(x.data * share.data, axis=axes, keepdims=True)
    value = extremum if keepdims else extremum.squeeze(axes)
    return value, lambda g, out: repeat_to_match(g, out, x, axes) * share


@operation
def norm(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """`sqrt(sum(x^2, axis))`, the 2-norm over one axis, several, or all, without overflow; `d = <x, dx> / norm(x)`.

    Where the norm is 0, derivatives of every order are 0.  The second derivative of `norm(x)**2` is then 0 too, where 2
    is right: write `sum(x * x)` for the square.
    """
    axes = normal_axes("norm", x, axis)
    largest = np.max(np.abs(x.data.real), axis=axes, keepdims=True, initial=0)
    scale = np.where((largest > 0) & (largest < np.inf), largest, 1)
    value = np.sqrt(np.sum((x.data / scale) ** 2, axis=axes, keepdims=True)) * scale
    zero = constant((value.real == 0).astype(scale.dtype))
    value = np.where(zero.data, 0, value)  # of a complex number too
    nonzero = np.broadcast_to(zero.data == 0, x.shape)

    def rule(g: Tensor, out: Tensor) -> Tensor:
        divisor = reshape(out, zero.shape) + zero  # 1 where the norm is 0
        return repeat_to_match(g, out, x, axes) * masked(x / divisor, mask=nonzero)

    return value if keepdims else value.squeeze(axes), rule


@operation
def logsumexp(x: Tensor, axis: Axis = -1, keepdims: bool = False) -> Any:
    """`log(sum(exp(x), axis))` over one axis, several, or all, without overflow; `d = softmax(x) dx`."""
    axes = normal_axes("logsumexp", x, axis)
    top = np.max(x.data.real, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), top.dtype.type(0), top)  # inf - inf would be NaN
    with np.errstate(divide="ignore", over="ignore"):  # log(0) and, beside an inf, exp(1e4) are intended
        value = np.log(np.sum(np.exp(x.data - top), axis=axes, keepdims=True)) + top
    kept, empty = value.shape, np.isneginf(value.real)  # empty: all entries are -inf, and the derivative is 0

    def rule(g: Tensor, out: Tensor) -> Tensor:
        total = reshape(out, kept)
        if empty.any():  # -inf + inf would be NaN
            total = where(empty, 0.0, total)
        return repeat_to_match(g, out, x, axes) * exp(x - total)

    return value if keepdims else value.squeeze(axes), rule


def log_softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`x - logsumexp(x)`: the logarithm of softmax, without overflow or log(0)."""
    x = as_tensor(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` over one axis or several, without overflow."""
    return exp(log_softmax(x, axis))

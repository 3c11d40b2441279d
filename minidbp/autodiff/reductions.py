"""Means, maxima and softmax over axes, each rule beside its formula.  `sum` is in `shapes.py`."""

import math
from typing import Any

import numpy as np

from minidbp.autodiff.elementwise import constant, exp
from minidbp.autodiff.shapes import Axis, keepdims_shape, normal_axes, repeat_to_match, reshape, sum
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
    axes = normal_axes("max", x, axis)
    if 0 in (x.shape[a] for a in axes):
        raise ValueError(f"max: a tensor of shape {x.shape} has no largest value over axis {axis}")
    top = np.max(x.data.real, axis=axes, keepdims=True)
    ties = (x.data.real == top).astype(top.dtype)
    share = constant(ties / np.maximum(ties.sum(axis=axes, keepdims=True), 1))
    if x.dtype == COMPLEX:
        top = np.sum(x.data * share.data, axis=axes, keepdims=True)
    return top if keepdims else top.squeeze(axes), lambda g, out: repeat_to_match(g, out, x, axes) * share


@operation
def logsumexp(x: Tensor, axis: Axis = -1, keepdims: bool = False) -> Any:
    """`log(sum(exp(x), axis))` over one axis, several, or all, without overflow; `d = softmax(x) dx`."""
    axes = normal_axes("logsumexp", x, axis)
    top = np.max(x.data.real, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), top.dtype.type(0), top)  # inf - inf would be NaN
    with np.errstate(divide="ignore", over="ignore"):  # log(0) and, beside an inf, exp(1e4) are intended
        value = np.log(np.sum(np.exp(x.data - top), axis=axes, keepdims=True)) + top
    return (
        value if keepdims else value.squeeze(axes),
        lambda g, out: repeat_to_match(g, out, x, axes) * exp(x - reshape(out, keepdims_shape(x.shape, axes))),
    )


def log_softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`x - logsumexp(x)`: the logarithm of softmax, without overflow or log(0)."""
    x = as_tensor(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` over one axis or several, without overflow."""
    return exp(log_softmax(x, axis))

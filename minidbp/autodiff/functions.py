"""Functions made of the operations below them: mean, max, log-sum-exp, softmax."""

import math
from functools import partial

import numpy as np

from minidbp.autodiff.elementwise import exp
from minidbp.autodiff.reduce import Axis, broadcast_to, kept, normal_axes, sum
from minidbp.autodiff.shape import reshape
from minidbp.autodiff.tensor import COMPLEX, Tensor, TensorLike, as_tensor, locally_constant, record


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over one axis, several, or all; NaN over no elements."""
    x = as_tensor(x)
    count = math.prod(x.shape[a] for a in normal_axes("mean", x, axis))
    return sum(x, axis, keepdims) / count


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value over one axis, several, or all; elements that tie share the derivative equally.

    Raises ValueError over no elements.
    """
    x = as_tensor(x)
    axes = normal_axes("max", x, axis)
    if 0 in (x.shape[a] for a in axes):
        raise ValueError(f"max: a tensor of shape {x.shape} has no largest value over axis {axis}")
    top = np.max(x.data.real, axis=axes, keepdims=True)
    where = (x.data.real == top).astype(top.dtype)
    share = locally_constant(where / np.maximum(where.sum(axis=axes, keepdims=True), 1), "max")
    if x.dtype == COMPLEX:
        top = np.sum(x.data * share, axis=axes, keepdims=True)
    data = top if keepdims else top.reshape([n for i, n in enumerate(x.shape) if i not in axes])

    def back(g: Tensor, out: Tensor) -> Tensor:
        lead = g.shape[: g.ndim - out.ndim]
        return broadcast_to(reshape(g, lead + kept(x.shape, axes)), lead + x.shape) * share

    return record("max", data, (x,), (back,), again=partial(max, axis=axes, keepdims=keepdims))


def logsumexp(x: TensorLike, axis: Axis = -1, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over one axis or several, without overflow; d = softmax(x) dx."""
    x = as_tensor(x)
    axes = normal_axes("logsumexp", x, axis)
    top = np.max(x.data.real, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), top.dtype.type(0), top)  # inf - inf would be NaN
    with np.errstate(divide="ignore", over="ignore"):  # log(0) and, beside an inf, exp(1e4) are meant
        data = np.log(np.sum(np.exp(x.data - top), axis=axes, keepdims=True)) + top

    def back(g: Tensor, out: Tensor) -> Tensor:
        lead = g.shape[: g.ndim - out.ndim]
        return reshape(g, lead + kept(x.shape, axes)) * exp(x - reshape(out, kept(x.shape, axes)))

    shape = data.shape if keepdims else [n for i, n in enumerate(x.shape) if i not in axes]
    again = partial(logsumexp, axis=axes, keepdims=keepdims)
    return record("logsumexp", data.reshape(shape), (x,), (back,), again=again)


def log_softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """x - logsumexp(x): the logarithm of softmax, without overflow or log(0)."""
    x = as_tensor(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """exp(x) / sum(exp(x)) over one axis or several, without overflow."""
    return exp(log_softmax(x, axis))

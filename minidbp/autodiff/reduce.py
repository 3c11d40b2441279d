"""Sums, and their adjoint: broadcasting."""

from functools import partial

import numpy as np

from minidbp.autodiff.shape import Shape, reshape
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, record

Axis = int | tuple[int, ...] | None


def normal_axes(name: str, x: Tensor, axis: Axis) -> tuple[int, ...]:
    """The axes as sorted numbers from 0.  Raises ValueError for one that x does not have, or has twice."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    normal = sorted(a + x.ndim if a < 0 else a for a in axes)
    if any(not 0 <= a < x.ndim for a in normal) or len(set(normal)) < len(normal):
        raise ValueError(f"{name}: axis {axis} does not fit a tensor of shape {x.shape}")
    return tuple(normal)


def kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape after a reduction over `axes` that keeps them as size 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over one axis, several, or all."""
    x = as_tensor(x)
    axes = normal_axes("sum", x, axis)

    def back(g: Tensor, out: Tensor) -> Tensor:
        lead = g.shape[: g.ndim - out.ndim]
        return broadcast_to(reshape(g, lead + kept(x.shape, axes)), lead + x.shape)

    again = partial(sum, axis=axes, keepdims=keepdims)
    return record("sum", np.sum(x.data, axis=axes, keepdims=keepdims), (x,), (back,), again=again)


def broadcast_to(x: TensorLike, shape: Shape) -> Tensor:
    """x repeated to `shape` by NumPy's rules, without a copy.  Raises ValueError if it does not fit."""
    x = as_tensor(x)
    if x.shape == shape:
        return x
    try:
        data = np.broadcast_to(x.data, shape)
    except ValueError:
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not broadcast to {shape}") from None
    again = partial(broadcast_to, shape=shape)
    return record("broadcast_to", data, (x,), (lambda g, out: unbroadcast(g, x.shape, g.ndim - out.ndim),), again=again)


def unbroadcast(g: Tensor, shape: Shape, lead: int) -> Tensor:
    """The adjoint of broadcasting: g summed to `shape` over the axes that were repeated, behind `lead` leading axes."""
    target = g.shape[:lead] + shape
    if g.shape == target:
        return g
    added = g.ndim - len(target)
    repeated = tuple(range(lead, lead + added)) + tuple(
        lead + added + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + added + i] != 1
    )
    return reshape(sum(g, repeated), target)

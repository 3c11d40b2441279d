"""The operations on elements, axes and indices, each rule beside its formula.  Products are in `linear.py`.

Operands broadcast as NumPy's do, and a rule then ends in `unbroadcast`: an operand that was repeated receives the sum
of its cotangents.  At a kink, the derivative is what the docstring says.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minidbp import kernels
from minidbp.autodiff.tensor import (
    COMPLEX,
    DTYPES,
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    from_array,
    locally_constant,
    operation,
)

Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None


# -- two operands ------------------------------------------------------------------------------------------------------


@operation
def add(a: Tensor, b: Tensor) -> Any:
    """`a + b`."""
    return _broadcast(np.add, a, b), lambda g, out: unbroadcast(g, a, out), lambda g, out: unbroadcast(g, b, out)


@operation
def subtract(a: Tensor, b: Tensor) -> Any:
    """`a - b`."""
    return _broadcast(np.subtract, a, b), lambda g, out: unbroadcast(g, a, out), lambda g, out: unbroadcast(-g, b, out)


@operation
def multiply(a: Tensor, b: Tensor) -> Any:
    """`a * b`; `d = b da + a db`."""
    return (
        _broadcast(np.multiply, a, b),
        lambda g, out: unbroadcast(g * b, a, out),
        lambda g, out: unbroadcast(g * a, b, out),
    )


@operation
def divide(a: Tensor, b: Tensor) -> Any:
    """`a / b`; `d = da / b - (a / b) db / b`."""
    return (
        _broadcast(np.divide, a, b),
        lambda g, out: unbroadcast(g / b, a, out),
        lambda g, out: unbroadcast(-(g * out / b), b, out),
    )


@operation
def maximum(a: Tensor, b: Tensor) -> Any:
    """`max(a, b)`; where the two are equal, each has derivative 1/2."""
    a_is_larger = _broadcast(np.greater, a, b)
    equal = a.data.real == b.data.real
    number = a.data.real.dtype.type
    share_a = constant(np.where(equal, number(0.5), a_is_larger.astype(number)))
    share_b = constant(np.where(equal, number(0.5), (b.data.real > a.data.real).astype(number)))
    # NumPy's maximum propagates NaN, but it compares the imaginary parts of complex numbers too
    is_complex = COMPLEX in (a.dtype, b.dtype)
    value = a.data * share_a.data + b.data * share_b.data if is_complex else np.maximum(a.data, b.data)
    return value, lambda g, out: unbroadcast(g * share_a, a, out), lambda g, out: unbroadcast(g * share_b, b, out)


@operation
def power(x: Tensor, p: Tensor) -> Any:
    """`x ** p`; `d = p x^(p-1) dx + x^p log(x) dp`.  The second term needs x > 0; it is absent for a constant p."""
    return (
        _broadcast(np.power, x, p),
        lambda g, out: unbroadcast(g * p * x ** _one_less(p), x, out),
        lambda g, out: unbroadcast(g * out * log(x), p, out),
    )


def _one_less(p: Tensor) -> Tensor:
    """p - 1; but a constant p = 0 stays 0, since `0 * x^-1` would be NaN at x = 0."""
    return p - 1 if p.requires_grad else from_array(np.where(p.data == 0, p.data, p.data - 1))


def constant(array: np.ndarray) -> Tensor:
    """A Tensor of a locally constant array, for rules to multiply with."""
    return from_array(locally_constant(array))


def _broadcast(ufunc: np.ufunc, a: Tensor, b: Tensor) -> np.ndarray:
    """The ufunc's value.  Raises ValueError, with its name and both shapes, if a and b do not broadcast together."""
    try:
        return ufunc(a._data, b._data)
    except ValueError:
        name = "maximum" if ufunc is np.greater else ufunc.__name__
        raise ValueError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast together") from None


def unbroadcast(g: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """The adjoint of broadcasting x to out: g, summed to x's shape over the axes that were repeated.

    The leading axes that g has in front of out's stay.  For x (1, 3), out (2, 3) and g (10, 2, 3), the result is the
    sum over axis 1, (10, 1, 3).
    """
    lead = g.ndim - out.ndim
    target = g.shape[:lead] + x.shape
    if g.shape == target:
        return g
    added = g.ndim - len(target)
    repeated = [i for i, n in enumerate(x.shape, start=lead + added) if n == 1 and g.shape[i] != 1]
    return reshape(sum(g, (*range(lead, lead + added), *repeated)), target)


# -- one operand -------------------------------------------------------------------------------------------------------


@operation
def negative(x: Tensor) -> Any:
    """`-x`."""
    return -x.data, lambda g, out: -g


@operation
def exp(x: Tensor) -> Any:
    """`exp(x)`; `d = exp(x) dx`."""
    return np.exp(x.data), lambda g, out: g * out


@operation
def log(x: Tensor) -> Any:
    """`log(x)`, the natural logarithm; `d = dx / x`."""
    return np.log(x.data), lambda g, out: g / x


@operation
def relu(x: Tensor) -> Any:
    """`max(x, 0)`; the derivative is 1 where x > 0 and 0 elsewhere, at 0 too."""
    mask = locally_constant(x.data.real > 0)
    value = x.data * mask if x.dtype == COMPLEX else np.maximum(x.data, 0)  # NumPy's maximum propagates NaN
    return value, lambda g, out: masked(g, mask=mask)


@operation
def masked(x: Tensor, *, mask: np.ndarray) -> Any:
    """`where(mask, x, 0)` for a constant Boolean mask; x may have extra leading axes, which share the mask."""
    return kernels.masked(x.data, mask), lambda g, out: masked(g, mask=mask)


@operation
def abs(x: Tensor) -> Any:
    """`|x|`; the derivative is sign(x), which is 0 at 0."""
    if x.dtype == COMPLEX:
        signs = np.sign(x.data.real)
        value = x.data * signs
    else:
        value, signs = kernels.absolute(x.data)
    sign_x = constant(signs)
    return value, lambda g, out: g * sign_x


@operation
def sign(x: Tensor) -> Any:
    """`sign(x)`: -1, 0 or 1.  Its derivative is 0 or does not exist, so differentiating through it is an error.

    Raises:
        NotDifferentiableError: when a derivative is taken through it.
    """

    def rule(g: Tensor, out: Tensor) -> Tensor:
        raise NotDifferentiableError(
            "sign has no useful derivative (0 wherever it exists): "
            "take the sign of x.detach() to treat it as a constant on purpose"
        )

    return locally_constant(np.sign(x.data.real).astype(x.dtype)), rule


@operation
def astype(x: Tensor, *, dtype: DTypeLike) -> Any:
    """`x as dtype`, float32 or float64: the one operation that changes a dtype.  Raises TypeError for any other."""
    if np.dtype(dtype) not in DTYPES:
        raise TypeError(f"astype: a Tensor holds float32 or float64; got {np.dtype(dtype)}")
    return x.data.astype(dtype), lambda g, out: astype(g, dtype=x.dtype)


# -- sums and maxima ---------------------------------------------------------------------------------------------------


@operation
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """`sum(x, axis)` over one axis, several, or all; each element receives the cotangent of its sum."""
    axes = normal_axes("sum", x, axis)
    return x.data.sum(axes, keepdims=keepdims), lambda g, out: _repeat(g, out, x, axes)


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
    return top if keepdims else top.squeeze(axes), lambda g, out: _repeat(g, out, x, axes) * share


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
        lambda g, out: _repeat(g, out, x, axes) * exp(x - reshape(out, _keepdims_shape(x.shape, axes))),
    )


def log_softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`x - logsumexp(x)`: the logarithm of softmax, without overflow or log(0)."""
    x = as_tensor(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` over one axis or several, without overflow."""
    return exp(log_softmax(x, axis))


@operation
def broadcast_to(x: Tensor, *, shape: Shape) -> Any:
    """`x repeated to shape` by NumPy's rules, without a copy.  Raises ValueError if the shape does not fit."""
    try:
        value = np.broadcast_to(x.data, shape)
    except ValueError:
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not broadcast to {shape}") from None
    return value, lambda g, out: unbroadcast(g, x, out)


def normal_axes(name: str, x: Tensor, axis: Axis) -> tuple[int, ...]:
    """The axes as sorted numbers from 0.  Raises ValueError for one that x does not have, or that is given twice."""
    n = x.ndim
    if axis is None:
        return tuple(range(n))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    normal = sorted([a + n if a < 0 else a for a in axes])
    if (normal and not 0 <= normal[0] <= normal[-1] < n) or len(set(normal)) < len(normal):
        raise ValueError(f"{name}: axis {axis} does not fit a tensor of shape {x.shape}")
    return tuple(normal)


def _keepdims_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape after a reduction over `axes` that keeps them with size 1."""
    sizes = list(shape)
    for axis in axes:
        sizes[axis] = 1
    return tuple(sizes)


def _repeat(g: Tensor, out: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """g, a cotangent of x reduced over `axes`, repeated to x's shape; extra leading axes stay."""
    lead = g.shape[: g.ndim - out.ndim]
    return broadcast_to(_reshape(g, shape=lead + _keepdims_shape(x.shape, axes)), lead + x.shape)


# -- axes and indices --------------------------------------------------------------------------------------------------


def reshape(x: TensorLike, *shape: Any) -> Tensor:
    """The same values in order, in another shape (one size may be -1).  Raises ValueError if the sizes do not agree."""
    return _reshape(x, shape=_one_tuple(shape))


@operation
def _reshape(x: Tensor, *, shape: Shape) -> Any:
    """`x as shape`."""
    try:
        value = x.data.reshape(shape)
    except (ValueError, TypeError):
        raise ValueError(f"reshape: a tensor of shape {x.shape} cannot become {shape}") from None
    return value, lambda g, out: _reshape(g, shape=g.shape[: g.ndim - out.ndim] + x.shape)


def transpose(x: TensorLike, *axes: Any) -> Tensor:
    """Axis i of the result is axis axes[i] of x; without axes, all in reverse.  ValueError if not a permutation."""
    x = as_tensor(x)
    order = _one_tuple(axes) if axes else tuple(reversed(range(x.ndim)))
    order = tuple([a + x.ndim if a < 0 else a for a in order])
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {order} are not a permutation of a tensor of shape {x.shape}")
    return _transpose(x, axes=order)


@operation
def _transpose(x: Tensor, *, axes: Shape) -> Any:
    """`transpose(x, axes)`."""

    def rule(g: Tensor, out: Tensor) -> Tensor:
        lead = g.ndim - out.ndim
        return _transpose(g, axes=(*range(lead), *(lead + axes.index(i) for i in range(x.ndim))))

    return x.data.transpose(axes), rule


def move_axis(x: TensorLike, source: int, destination: int) -> Tensor:
    """x with one axis moved and the order of the others kept."""
    x = as_tensor(x)
    order = [i for i in range(x.ndim) if i != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return transpose(x, tuple(order))


def _one_tuple(values: tuple[Any, ...]) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(values[0]) if len(values) == 1 and not isinstance(values[0], (int, np.integer)) else values


def getitem(x: TensorLike, index: Any) -> Tensor:
    """`x[index]`, by NumPy's rules: numbers, slices, None, Ellipsis, arrays of integers or of Booleans.

    An element that is picked twice receives both cotangents.  Raises IndexError as NumPy does.
    """
    x = as_tensor(x)
    return _getitem(x, index=_plain_index(index, x))


@operation
def _getitem(x: Tensor, *, index: tuple[Any, ...], lead: int = 0) -> Any:
    """`x[index]`, behind the first `lead` axes."""
    shape = x.shape[lead:]
    for part in index:
        if isinstance(part, np.ndarray):
            locally_constant(part)  # an index that was computed, such as an argmax, jumps at a kink
    return _pick(x.data, index, lead), lambda g, out: _put(g, index=index, shape=shape)


@operation
def _put(g: Tensor, *, index: tuple[Any, ...], shape: Shape) -> Any:
    """`zeros(shape) with g added at [index]`: the adjoint of getitem.  g may have extra leading axes."""
    # the number of axes of x[index] is found on an array that takes no memory
    lead = g.ndim - _pick(np.broadcast_to(np.float32(0), shape), index, 0).ndim
    value = np.zeros(shape + g.shape[:lead], g.dtype)
    added = np.moveaxis(g.data, range(lead), range(-lead, 0)) if lead else g.data
    if any(isinstance(part, np.ndarray) for part in index):
        np.add.at(value, index, added)
    else:
        value[index] = added
    value = np.moveaxis(value, range(-lead, 0), range(lead)) if lead else value
    return value, lambda u, out: _getitem(u, index=index, lead=u.ndim - len(shape))  # u may have more axes than g


def _pick(data: np.ndarray, index: tuple[Any, ...], lead: int) -> np.ndarray:
    """data[index] behind the first `lead` axes.

    NumPy moves the result axes of separated index arrays to the front.  The `lead` axes are put last while indexing, so
    that this does not touch them.
    """
    if not lead:
        return data[index]
    picked = np.moveaxis(data, range(lead), range(-lead, 0))[index]
    return np.moveaxis(picked, range(-lead, 0), range(lead))


def _plain_index(index: Any, x: Tensor) -> tuple[Any, ...]:
    """The index as a tuple without Ellipsis, arrays copied, so that it can index an array with more trailing axes."""
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [p if p is None or p is Ellipsis or isinstance(p, slice) else _index_array(p) for p in parts]
    used = 0  # how many axes of x the parts index
    for p in parts:
        if p is not None and p is not Ellipsis:
            used += p.ndim if isinstance(p, np.ndarray) and p.dtype == bool else 1
    if used > x.ndim:
        raise IndexError(f"getitem: {used} indices are too many for a tensor of shape {x.shape}")
    ellipses = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("getitem: an index can only have one Ellipsis ('...')")
    for i in ellipses:
        parts[i : i + 1] = [slice(None)] * (x.ndim - used)
    return tuple(parts)


def _index_array(part: Any) -> Any:
    if isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return part
    array = np.array(part, np.intp) if isinstance(part, list) and not part else np.array(part)
    if isinstance(part, Tensor) or array.dtype.kind not in "biu":
        raise IndexError(f"getitem: an index must be numbers, slices or arrays of integers or booleans; got {part!r}")
    array.flags.writeable = False
    return array

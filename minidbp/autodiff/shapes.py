"""The linear operations: sums and repeats, axes, joining, indices.

Each moves elements or adds them.  The adjoint, which is its rule, is another of them.
"""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from minidbp.autodiff.tensor import Rule, Tensor, TensorLike, as_operands, as_tensor, locally_constant, operation

Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None


# -- sums and repeats --------------------------------------------------------------------------------------------------


@operation
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Any:
    """`sum(x, axis)` over one axis, several, or all; each element receives the cotangent of its sum."""
    axes = normal_axes("sum", x, axis)
    return x.data.sum(axes, keepdims=keepdims), lambda g, out: repeat_to_match(g, out, x, axes)


@operation
def broadcast_to(x: Tensor, *, shape: Shape) -> Any:
    """`x repeated to shape` by NumPy's rules, without a copy.  Raises ValueError if the shape does not fit."""
    try:
        value = np.broadcast_to(x.data, shape)
    except ValueError:
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not broadcast to {shape}") from None
    return value, lambda g, out: unbroadcast(g, x, out)


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


def normal_axes(name: str, x: Tensor, axis: Axis, added: int = 0) -> tuple[int, ...]:
    """The axes as sorted numbers from 0, for x with so many axes added.

    Raises ValueError for an axis that is not there or is given twice, TypeError for what is no axis.
    """
    n = x.ndim + added
    if axis is None:
        return tuple(range(n))
    normal = sorted([a + n if a < 0 else a for a in _as_tuple(name, axis)])
    if (normal and not 0 <= normal[0] <= normal[-1] < n) or len(set(normal)) < len(normal):
        raise ValueError(f"{name}: axis {axis} does not fit a tensor of shape {x.shape}")
    return tuple(normal)


def _as_tuple(name: str, axis: int | Iterable[int]) -> tuple[int, ...]:
    """One axis or several as a tuple."""
    if isinstance(axis, (int, np.integer)):
        return (int(axis),)
    try:
        return tuple(map(operator.index, axis))
    except TypeError:
        raise TypeError(f"{name}: an axis must be a whole number; got {axis!r}") from None


def keepdims_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape after a reduction over `axes` that keeps them with size 1."""
    sizes = list(shape)
    for axis in axes:
        sizes[axis] = 1
    return tuple(sizes)


def repeat_to_match(g: Tensor, out: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """g, a cotangent of x reduced over `axes`, repeated to x's shape; extra leading axes stay."""
    lead = g.shape[: g.ndim - out.ndim]
    return broadcast_to(_reshape(g, shape=lead + keepdims_shape(x.shape, axes)), lead + x.shape)


# -- axes --------------------------------------------------------------------------------------------------------------


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


def moveaxis(x: TensorLike, source: int | Shape, destination: int | Shape) -> Tensor:
    """x with one axis moved, or several, and the order of the others kept.

    Raises:
        ValueError: for an axis that x does not have, or if source and destination differ in length.
    """
    x = as_tensor(x)
    starts, ends = _as_tuple("moveaxis", source), _as_tuple("moveaxis", destination)
    for axis in (source, destination):
        normal_axes("moveaxis", x, axis)  # refuses what x does not have
    if len(starts) != len(ends):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must be equally many axes")
    starts, ends = (tuple([a % x.ndim for a in axes]) for axes in (starts, ends))
    order = [i for i in range(x.ndim) if i not in starts]
    for end, start in sorted(zip(ends, starts, strict=True)):
        order.insert(end, start)
    return transpose(x, tuple(order))


def expand_dims(x: TensorLike, axis: int | Shape) -> Tensor:
    """x with new axes of size 1: `axis` says where they are in the result.  Raises ValueError if they do not fit."""
    x = as_tensor(x)
    new = normal_axes("expand_dims", x, axis, added=len(_as_tuple("expand_dims", axis)))
    sizes = iter(x.shape)
    return reshape(x, tuple([1 if i in new else next(sizes) for i in range(x.ndim + len(new))]))


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """x without these axes, which must have size 1; without all axes of size 1 if axis is None.

    Raises:
        ValueError: for an axis that has another size.
    """
    x = as_tensor(x)
    axes = normal_axes("squeeze", x, axis)
    if axis is None:
        axes = tuple([a for a in axes if x.shape[a] == 1])
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} of a tensor of shape {x.shape} does not have size 1")
    return reshape(x, tuple([n for a, n in enumerate(x.shape) if a not in axes]))


def _one_tuple(values: tuple[Any, ...]) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(values[0]) if len(values) == 1 and not isinstance(values[0], (int, np.integer)) else values


# -- joining -----------------------------------------------------------------------------------------------------------


def concatenate(xs: Iterable[TensorLike], axis: int | None = 0) -> Tensor:
    """The tensors joined along an axis that they have; with axis=None, all their elements in one row.

    Each receives its own part of the cotangent.

    Raises:
        ValueError: if there is no tensor, or they differ in shape on another axis.
        TypeError: if they differ in dtype.
    """
    tensors = _joined("concatenate", xs)
    if axis is None:
        return _concatenate(*[reshape(x, -1) for x in tensors], axis=0)
    axis = _join_axis("concatenate", tensors[0], axis)
    rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in tensors]
    for x, others in zip(tensors, rest, strict=True):
        if x.ndim != tensors[0].ndim or others != rest[0]:
            shapes = f"{tensors[0].shape} and {x.shape}"
            raise ValueError(f"concatenate: shapes {shapes} do not fit together along axis {axis}")
    return _concatenate(*tensors, axis=axis)


def stack(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, side by side along a new axis, which is `axis` of the result.

    Raises:
        ValueError: if there is no tensor, or they differ in shape.
        TypeError: if they differ in dtype.
    """
    tensors = _joined("stack", xs)
    axis = _join_axis("stack", tensors[0], axis, added=1)
    for x in tensors:
        if x.shape != tensors[0].shape:
            raise ValueError(f"stack: all shapes must be the same; got {tensors[0].shape} and {x.shape}")
    return _concatenate(*[expand_dims(x, axis) for x in tensors], axis=axis)


def _joined(name: str, xs: Iterable[TensorLike]) -> tuple[Tensor, ...]:
    if not isinstance(xs, Iterable):
        raise TypeError(f"{name}: the first argument must be a list of tensors; got {type(xs).__name__}")
    tensors = as_operands(name, tuple(xs))
    if not tensors:
        raise ValueError(f"{name}: there must be at least one tensor")
    return tensors


def _join_axis(name: str, x: Tensor, axis: int, added: int = 0) -> int:
    if not isinstance(axis, (int, np.integer)):  # such as a second tensor: the list was forgotten
        raise TypeError(f"{name}: the axis must be a whole number; got {type(axis).__name__}")
    return normal_axes(name, x, axis, added)[0]


@operation
def _concatenate(*xs: Tensor, axis: int) -> Any:
    """`concatenate(xs, axis)`."""
    ends = np.cumsum([x.shape[axis] for x in xs]).tolist()
    behind = (slice(None),) * (xs[0].ndim - axis - 1)

    def rule_of(x: Tensor, end: int) -> Rule:
        part = (Ellipsis, slice(end - x.shape[axis], end), *behind)  # the axes that g has in front are in the Ellipsis
        return lambda g, out: getitem(g, part)

    return np.concatenate([x.data for x in xs], axis), *map(rule_of, xs, ends)


# -- indices -----------------------------------------------------------------------------------------------------------


def getitem(x: TensorLike, index: Any) -> Tensor:
    """`x[index]`, by NumPy's rules: numbers, slices, None, Ellipsis, arrays of integers or of Booleans.

    An element that is picked twice receives both cotangents.  Raises IndexError as NumPy does.
    """
    x = as_tensor(x)
    parts, n_axes = _index_parts(index, x)
    i = next((i for i, p in enumerate(parts) if p is Ellipsis), None)
    if i is None:
        return _getitem(x, index=tuple(parts))
    # Without an Ellipsis, an index can also index arrays with more trailing axes.  An Ellipsis of no axes would still
    # separate index arrays, and so decide where their axes go: None separates them too, and adds an axis of size 1.
    separates = n_axes == 0 and any(isinstance(p, np.ndarray) for p in parts)
    y = _getitem(x, index=(*parts[:i], *([None] if separates else [slice(None)] * n_axes), *parts[i + 1 :]))
    return reshape(y, np.broadcast_to(np.float32(0), x.shape)[tuple(parts)].shape) if separates else y


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


def _index_parts(index: Any, x: Tensor) -> tuple[list[Any], int]:
    """The parts of an index, arrays copied, and how many axes of x an Ellipsis among them stands for."""
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [p if p is None or p is Ellipsis or isinstance(p, slice) else _index_array(p) for p in parts]
    used = 0  # how many axes of x the parts index
    for p in parts:
        if p is not None and p is not Ellipsis:
            used += p.ndim if isinstance(p, np.ndarray) and p.dtype == bool else 1
    if used > x.ndim:
        raise IndexError(f"getitem: {used} indices are too many for a tensor of shape {x.shape}")
    if len([p for p in parts if p is Ellipsis]) > 1:
        raise IndexError("getitem: an index can only have one Ellipsis ('...')")
    return parts, x.ndim - used


def _index_array(part: Any) -> Any:
    if isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return part
    array = np.array(part, np.intp) if isinstance(part, list) and not part else np.array(part)
    if isinstance(part, Tensor) or array.dtype.kind not in "biu":
        raise IndexError(f"getitem: an index must be numbers, slices or arrays of integers or booleans; got {part!r}")
    array.flags.writeable = False
    return array

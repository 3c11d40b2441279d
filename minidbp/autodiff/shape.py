"""Operations that move values and leave them as they are: reshape, transpose, indexing.

Each rule is the inverse movement.  `lead` counts the extra leading axes of a cotangent, which stay in front.
"""

from functools import partial
from typing import Any

import numpy as np

from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, locally_constant, record

Shape = tuple[int, ...]


def _unpack(values: tuple[Any, ...]) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(values[0]) if len(values) == 1 and not isinstance(values[0], (int, np.integer)) else values


def reshape(x: TensorLike, *shape: Any) -> Tensor:
    """The same values in order, in another shape (one size may be -1).  Raises ValueError if the sizes do not agree."""
    x, target = as_tensor(x), _unpack(shape)
    try:
        data = x.data.reshape(target)
    except (ValueError, TypeError):
        raise ValueError(f"reshape: a tensor of shape {x.shape} cannot become {target}") from None
    return record(
        "reshape",
        data,
        (x,),
        (lambda g, out: reshape(g, g.shape[: g.ndim - out.ndim] + x.shape),),
        again=lambda x: reshape(x, target),
    )


def transpose(x: TensorLike, *axes: Any) -> Tensor:
    """Axis i of the result is axis axes[i] of x; without axes, all in reverse.  ValueError if not a permutation."""
    x = as_tensor(x)
    order = _unpack(axes) if axes else tuple(reversed(range(x.ndim)))
    order = tuple(a + x.ndim if a < 0 else a for a in order)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {order} are not a permutation of a tensor of shape {x.shape}")
    return _in_order(x, order)


def _in_order(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    inverse = tuple(axes.index(i) for i in range(x.ndim))

    def back(g: Tensor, out: Tensor) -> Tensor:
        lead = g.ndim - out.ndim
        return transpose(g, tuple(range(lead)) + tuple(lead + i for i in inverse))

    return record("transpose", x.data.transpose(axes), (x,), (back,), again=partial(_in_order, axes=axes))


def move_axis(x: TensorLike, source: int, destination: int) -> Tensor:
    """x with one axis moved and the order of the others kept."""
    x = as_tensor(x)
    order = [i for i in range(x.ndim) if i != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return transpose(x, tuple(order))


def getitem(x: TensorLike, index: Any) -> Tensor:
    """x[index], by NumPy's rules: numbers, slices, None, Ellipsis, arrays of numbers or of booleans.

    An element that is picked twice receives both cotangents.  Raises IndexError as NumPy does.
    """
    x = as_tensor(x)
    return _getitem(x, _plain_index(index, x), 0)


def _getitem(x: Tensor, index: tuple[Any, ...], lead: int) -> Tensor:
    """x[index] behind the first `lead` axes."""
    shape = x.shape[lead:]
    again = partial(_getitem, index=index, lead=lead)
    return record("getitem", _pick(x.data, index, lead), (x,), (lambda g, out: _put(g, index, shape),), again=again)


def _put(g: Tensor, index: tuple[Any, ...], shape: Shape) -> Tensor:
    """The adjoint of getitem: zeros of `shape` with g added at `index`; g may have extra leading axes."""
    lead = g.ndim - _pick(np.broadcast_to(np.float32(0), shape), index, 0).ndim
    data = np.zeros(shape + g.shape[:lead], g.dtype)
    values = np.moveaxis(g.data, range(lead), range(-lead, 0)) if lead else g.data
    if any(isinstance(part, np.ndarray) for part in index):
        np.add.at(data, index, values)
    else:
        data[index] = values
    data = np.moveaxis(data, range(-lead, 0), range(lead)) if lead else data
    # h, the cotangent of the result, may bring leading axes of its own in front of g's
    again = partial(_put, index=index, shape=shape)
    return record("put", data, (g,), (lambda h, out: _getitem(h, index, h.ndim - len(shape)),), again=again)


def _pick(data: np.ndarray, index: tuple[Any, ...], lead: int) -> np.ndarray:
    """data[index] behind the first `lead` axes.

    Those axes are put last for the moment: behind an index they are whole whatever it holds, while in front of one
    with arrays apart from each other NumPy would move them.
    """
    if not lead:
        return data[index]
    picked = np.moveaxis(data, range(lead), range(-lead, 0))[index]
    return np.moveaxis(picked, range(-lead, 0), range(lead))


def _plain_index(index: Any, x: Tensor) -> tuple[Any, ...]:
    """The index as a tuple with Ellipsis written out and arrays copied, so that it means the same to a wider array."""
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [p if p is None or p is Ellipsis or isinstance(p, slice) else _index_array(p) for p in parts]
    used = sum(
        p.ndim if isinstance(p, np.ndarray) and p.dtype == bool else 1
        for p in parts
        if p is not None and p is not Ellipsis
    )
    if used > x.ndim:
        raise IndexError(f"getitem: {used} indices are too many for a tensor of shape {x.shape}")
    where = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(where) > 1:
        raise IndexError("getitem: an index can only have one Ellipsis ('...')")
    if where:
        parts[where[0] : where[0] + 1] = [slice(None)] * (x.ndim - used)
    return tuple(parts)


def _index_array(part: Any) -> Any:
    if isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return part
    array = np.array(part, np.intp) if isinstance(part, list) and not part else np.array(part)
    if isinstance(part, Tensor) or array.dtype.kind not in "biu":
        raise IndexError(f"getitem: an index must be numbers, slices or arrays of integers or booleans; got {part!r}")
    return locally_constant(array, "getitem")

"""The operations on elements, each rule beside its formula.

Operands broadcast as NumPy's do, and a rule then ends in `unbroadcast`: an operand that was repeated receives the sum
of its cotangents.  At a kink, the derivative is what the docstring says.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minidbp import kernels
from minidbp.autodiff.shapes import unbroadcast
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
    return _extremum(np.maximum, np.greater, a, b)


@operation
def minimum(a: Tensor, b: Tensor) -> Any:
    """`min(a, b)`; where the two are equal, each has derivative 1/2."""
    return _extremum(np.minimum, np.less, a, b)


def _extremum(ufunc: np.ufunc, wins: np.ufunc, a: Tensor, b: Tensor) -> Any:
    """The ufunc's value and the rules: an operand's derivative is 1 where it wins, and 1/2 where the two are equal."""
    value = _broadcast(ufunc, a, b)  # propagates NaN
    x, y = a.data.real, b.data.real
    equal, number = x == y, x.dtype.type
    share_a = constant(np.where(equal, number(0.5), wins(x, y).astype(number)))
    share_b = constant(np.where(equal, number(0.5), wins(y, x).astype(number)))
    if value.dtype == COMPLEX:  # the ufunc compares the imaginary parts too
        value = a.data * share_a.data + b.data * share_b.data
    return value, lambda g, out: unbroadcast(g * share_a, a, out), lambda g, out: unbroadcast(g * share_b, b, out)


def where(condition: ArrayLike, a: TensorLike, b: TensorLike) -> Tensor:
    """a where the condition is True, b elsewhere; all three broadcast together.

    The condition is a Boolean array and counts as constant.  a and b receive their cotangents where they were chosen,
    and 0 elsewhere.  A factor of 0 does not remove an infinite derivative: write `log(where(x > 0, x, 1))`, not
    `where(x > 0, log(x), 0)`.

    Raises:
        TypeError: if the condition is a Tensor or not Boolean.
        ValueError: if the shapes do not broadcast together.
    """
    chosen = None if isinstance(condition, Tensor) else np.array(condition)
    if chosen is None or chosen.dtype != bool:
        given = "a Tensor" if chosen is None else f"{chosen.dtype}"
        raise TypeError(f"where: condition must be a Boolean array, such as x > 0; got {given}")
    chosen.flags.writeable = False
    return _where(a, b, condition=chosen)


@operation
def _where(a: Tensor, b: Tensor, *, condition: np.ndarray) -> Any:
    """`where(condition, a, b)`."""
    try:
        value = np.where(condition, a.data, b.data)
    except ValueError:
        shapes = f"{condition.shape}, {a.shape} and {b.shape}"
        raise ValueError(f"where: shapes {shapes} do not broadcast together") from None
    locally_constant(condition)  # one that was computed, such as x > 0, jumps at a kink
    chosen = np.broadcast_to(condition, value.shape)
    return (
        value,
        lambda g, out: unbroadcast(masked(g, mask=chosen), a, out),
        lambda g, out: unbroadcast(masked(g, mask=~chosen), b, out),
    )


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
        raise ValueError(f"{ufunc.__name__}: shapes {a.shape} and {b.shape} do not broadcast together") from None


# -- one operand -------------------------------------------------------------------------------------------------------


@operation
def negative(x: Tensor) -> Any:
    """`-x`."""
    return -x.data, lambda g, out: -g


@operation
def copy(x: Tensor) -> Any:
    """`x`, as a result of its own: derivatives go through."""
    return x.data.view(), lambda g, out: g


@operation
def exp(x: Tensor) -> Any:
    """`exp(x)`; `d = exp(x) dx`."""
    return np.exp(x.data), lambda g, out: g * out


@operation
def log(x: Tensor) -> Any:
    """`log(x)`, the natural logarithm; `d = dx / x`."""
    return np.log(x.data), lambda g, out: g / x


@operation
def sqrt(x: Tensor) -> Any:
    """`sqrt(x)`; `d = dx / (2 sqrt(x))`, which is infinite at 0: use `norm` for a length."""
    return np.sqrt(x.data), lambda g, out: g / (2 * out)


@operation
def sin(x: Tensor) -> Any:
    """`sin(x)`, x in radians; `d = cos(x) dx`."""
    return np.sin(x.data), lambda g, out: g * cos(x)


@operation
def cos(x: Tensor) -> Any:
    """`cos(x)`, x in radians; `d = -sin(x) dx`."""
    return np.cos(x.data), lambda g, out: -(g * sin(x))


@operation
def tanh(x: Tensor) -> Any:
    """`tanh(x)`; `d = (1 - tanh(x)^2) dx`."""
    return np.tanh(x.data), lambda g, out: g * (1 - out * out)


@operation
def sigmoid(x: Tensor) -> Any:
    """`1 / (1 + exp(-x))`, without overflow; `d = sigmoid(x) sigmoid(-x) dx`."""
    positive = x.data.real > 0
    small = np.exp(np.where(positive, -x.data, x.data))
    value = np.where(positive, 1, small) / (1 + small)
    # sigmoid(-x) rather than 1 - sigmoid(x), which rounds to 0 for large x
    return value, lambda g, out: g * (out * sigmoid(-x))


@operation
def softplus(x: Tensor) -> Any:
    """`log(1 + exp(x))`, without overflow; `d = sigmoid(x) dx`."""
    positive = x.data.real > 0
    small = np.exp(np.where(positive, -x.data, x.data))
    value = np.where(positive, x.data, 0) + np.log1p(small)
    return value, lambda g, out: g * sigmoid(x)


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


def clip(x: TensorLike, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Tensor:
    """`min(max(x, low), high)`; the derivative is 1 where `low <= x <= high`, at the ends too, and 0 elsewhere.

    low and high are constants: numbers, arrays that broadcast with x, or None for no limit.

    Raises:
        TypeError: if low or high is a Tensor.
        ValueError: if the shapes do not broadcast together.
    """
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise TypeError("clip: low and high are constants and cannot be Tensors; use maximum and minimum instead")
    x = as_tensor(x)
    dtype = x.data.real.dtype
    return _clip(
        x,
        low=as_tensor(-np.inf if low is None else low, dtype).data,
        high=as_tensor(np.inf if high is None else high, dtype).data,
    )


@operation
def _clip(x: Tensor, *, low: np.ndarray, high: np.ndarray) -> Any:
    """`min(max(x, low), high)`."""
    number = x.data.real
    try:
        value = np.clip(number, low, high)
    except ValueError:
        shapes = f"{x.shape}, {low.shape} and {high.shape}"
        raise ValueError(f"clip: shapes {shapes} do not broadcast together") from None
    inside = locally_constant((number >= low) & (number <= high))
    if x.dtype == COMPLEX:
        value = np.where(inside, x.data, value)
    return value, lambda g, out: unbroadcast(masked(g, mask=inside), x, out)


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

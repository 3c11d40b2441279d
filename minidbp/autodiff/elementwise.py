"""The operations on elements, each rule beside its formula.

Operands broadcast as NumPy's do, and a rule then ends in `unbroadcast`: an operand that was repeated receives the sum
of its cotangents.  At a kink, the derivative is what the docstring says.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minidbp import kernels
from minidbp.autodiff.shapes import unbroadcast
from minidbp.autodiff.tensor import (
    COMPLEX,
    DTYPES,
    NotDifferentiableError,
    Tensor,
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

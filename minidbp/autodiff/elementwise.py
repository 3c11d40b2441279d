"""Operations that treat each element by itself, with NumPy's broadcasting.

The rules of a binary operation end in `unbroadcast`: an operand that was repeated receives the sum of its cotangents.
At a kink the derivative is what the function's docstring says; everywhere else it is the derivative.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from minidbp import kernels
from minidbp.autodiff.reduce import unbroadcast
from minidbp.autodiff.tensor import (
    COMPLEX,
    DTYPES,
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    locally_constant,
    operands,
    record,
    wrap,
)


def _binary(
    name: str,
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a: Tensor,
    b: Tensor,
    rule_a: Callable[[Tensor, Tensor], Tensor],
    rule_b: Callable[[Tensor, Tensor], Tensor],
    again: Callable[..., Tensor],
) -> Tensor:
    check_broadcast(name, a, b)
    return record(
        name,
        function(a.data, b.data),
        (a, b),
        (
            lambda g, out: unbroadcast(rule_a(g, out), a.shape, g.ndim - out.ndim),
            lambda g, out: unbroadcast(rule_b(g, out), b.shape, g.ndim - out.ndim),
        ),
        again=again,
    )


def check_broadcast(name: str, a: Tensor, b: Tensor) -> None:
    """Raise ValueError, with the operation's name and both shapes, unless a and b broadcast together."""
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast together") from None


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """a + b."""
    a, b = operands("add", a, b)
    return _binary("add", np.add, a, b, lambda g, out: g, lambda g, out: g, add)


def subtract(a: TensorLike, b: TensorLike) -> Tensor:
    """a - b."""
    a, b = operands("subtract", a, b)
    return _binary("subtract", np.subtract, a, b, lambda g, out: g, lambda g, out: negative(g), subtract)


def multiply(a: TensorLike, b: TensorLike) -> Tensor:
    """a * b; d(ab) = b da + a db."""
    a, b = operands("multiply", a, b)
    return _binary("multiply", np.multiply, a, b, lambda g, out: g * b, lambda g, out: g * a, multiply)


def divide(a: TensorLike, b: TensorLike) -> Tensor:
    """a / b; d(a/b) = da / b - (a/b) db / b."""
    a, b = operands("divide", a, b)
    return _binary("divide", np.divide, a, b, lambda g, out: g / b, lambda g, out: -(g * out / b), divide)


def negative(x: TensorLike) -> Tensor:
    """-x."""
    x = as_tensor(x)
    return record("negative", -x.data, (x,), (lambda g, out: negative(g),), again=negative)


def power(x: TensorLike, p: TensorLike) -> Tensor:
    """x ** p.  d = p x^(p-1) dx + x^p log(x) dp; the second term needs x > 0 and is taken only if p is a variable."""
    if isinstance(p, Tensor):
        x, p = operands("power", x, p)
        # a constant p = 0 has no p - 1: 0 * x^-1 would be NaN where x is 0
        less = p - 1 if p.requires_grad else wrap(np.where(p.data == 0, p.data, p.data - 1))
        return _binary("power", np.power, x, p, lambda g, out: g * p * x**less, lambda g, out: g * out * log(x), power)
    x, exponent = as_tensor(x), np.asarray(p)
    if exponent.ndim:
        return power(x, as_tensor(p, x.dtype))
    n = exponent.item()

    def back(g: Tensor, out: Tensor) -> Tensor:
        return g * (n * x ** (n - 1) if n else 0.0)  # at n = 0, 0 * x^-1 would be NaN where x is 0

    return record("power", np.power(x.data, x.dtype.type(n)), (x,), (back,), again=partial(power, p=n))


def exp(x: TensorLike) -> Tensor:
    """e^x; d = e^x dx."""
    x = as_tensor(x)
    return record("exp", np.exp(x.data), (x,), (lambda g, out: g * out,), again=exp)


def log(x: TensorLike) -> Tensor:
    """The natural logarithm; d = dx / x."""
    x = as_tensor(x)
    return record("log", np.log(x.data), (x,), (lambda g, out: g / x,), again=log)


def relu(x: TensorLike) -> Tensor:
    """max(x, 0); the derivative is 1 where x > 0 and 0 elsewhere, at 0 too."""
    x = as_tensor(x)
    mask = locally_constant(x.data.real > 0, "relu")
    # NumPy's maximum hands NaN on, but orders complex numbers by their imaginary part too
    data = x.data * mask if x.dtype == COMPLEX else np.maximum(x.data, 0)
    return record("relu", data, (x,), (lambda g, out: masked(g, mask),), again=relu)


def masked(g: TensorLike, mask: np.ndarray) -> Tensor:
    """g where the constant `mask` is true, 0 elsewhere; g may have extra leading axes, which share the mask."""
    g = as_tensor(g)
    known = g.support is mask
    mask = locally_constant(mask.copy() if mask.flags.writeable else mask, "masked")
    # what is right already is not masked again, nor are many rows: what is off in them will be skipped, not multiplied
    loose = g._loose if known else g.ndim > mask.ndim and g.dtype != COMPLEX
    data = g._data if known else g.data if loose else kernels.masked(g.data, mask)
    again = partial(masked, mask=mask)
    return record("masked", data, (g,), (lambda h, out: masked(h, mask),), support=mask, loose=loose, again=again)


def abs(x: TensorLike) -> Tensor:
    """|x|; the derivative is sign(x), which is 0 at 0."""
    x = as_tensor(x)
    if x.dtype == COMPLEX:
        signs = np.sign(x.data.real)
        data = x.data * signs
    else:
        data, signs = kernels.absolute(x.data)
    signs = locally_constant(signs, "abs")
    return record("abs", data, (x,), (lambda g, out: g * signs,), again=abs)


def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1.  Differentiating through it raises ValueError: the derivative is 0, or does not exist."""
    x = as_tensor(x)

    def back(g: Tensor, out: Tensor) -> Tensor:
        raise NotDifferentiableError(
            "sign has no useful derivative (0 wherever it exists): "
            "take the sign of x.detach() to treat it as a constant on purpose"
        )

    signs = locally_constant(np.sign(x.data.real).astype(x.dtype), "sign")
    return record("sign", signs, (x,), (back,), again=sign)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of a and b; where they are equal, each has derivative 1/2."""
    a, b = operands("maximum", a, b)
    check_broadcast("maximum", a, b)
    x, y = a.data.real, b.data.real
    share_a = locally_constant((x > y) + 0.5 * (x == y), "maximum")
    share_b = locally_constant((y > x) + 0.5 * (x == y), "maximum")

    def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # as in relu
        return a * share_a + b * share_b if COMPLEX in (a.dtype, b.dtype) else np.maximum(a, b)

    return _binary("maximum", larger, a, b, lambda g, out: g * share_a, lambda g, out: g * share_b, maximum)


def astype(x: TensorLike, dtype: DTypeLike) -> Tensor:
    """x as float32 or float64: the one operation that changes a dtype.  Raises TypeError for any other."""
    x = as_tensor(x)
    if np.dtype(dtype) not in DTYPES:
        raise TypeError(f"astype: a Tensor holds float32 or float64; got {np.dtype(dtype)}")
    return record(
        "astype", x.data.astype(dtype), (x,), (lambda g, out: astype(g, x.dtype),), again=partial(astype, dtype=dtype)
    )

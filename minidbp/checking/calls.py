"""A function and its rules, called in several ways: what must hold before any difference is taken."""

import numpy as np

from minidbp.autodiff.differentiate import operation_names
from minidbp.autodiff.tensor import Tensor
from minidbp.checking.causes import AFFINE, CHANGING, LAYOUT, LEADING_AXES, NARROW, NOT_LINEAR
from minidbp.checking.errors import UndecidedError
from minidbp.checking.noise import smoothly_changing
from minidbp.checking.points import MACHINE_EPS, index_of
from minidbp.checking.subject import Subject, named_leaves

MANY = 20_000  # the most elements of cotangents that are passed at once


def check_values(s: Subject) -> None:
    """f must have finite float64 values, the same ones at every call, and constants that are constant."""
    for y in s.ys:
        if y.dtype != np.float64:
            came_out = f"{y.dtype} came out of {operation_names([y])}"
            raise TypeError(f"an operation changed the dtype: float64 went in, {came_out}")
    name = "the function" if s.order == 1 else f"its derivative of order {s.order - 1}"
    for what, arrays in (("input {} is", s.xs), (f"{name} ({s.name}) is", [y.data for y in s.ys])):
        for k, array in enumerate(arrays):
            finite = np.isfinite(array)
            if not finite.all():
                at = index_of(int(np.argmin(finite)), array.shape)
                raise UndecidedError(f"{what.format(k)} {array[at]} at {at}: choose inputs where it is finite")
    for y, other in zip(s.ys, s.f(named_leaves(s.xs)), strict=True):
        if other is y:
            raise s.error(f"{s.name} returns a Tensor from an earlier call", 0, CHANGING)
        if not np.array_equal(y.data, other.data):
            raise s.error(f"{s.name} returns other values when it is called again", 0, CHANGING)
    if name := smoothly_changing(s.f, s.xs, s.rng):
        cause = "locally_constant is for masks, signs and indices: a rule must use this value as a Tensor"
        raise s.error(f"{name} declares an array locally constant that changes smoothly", 0, cause)


def compare_calls(s: Subject) -> None:
    """The rules must be linear in the cotangent, carry leading axes over, and not depend on memory layouts."""
    fortran_leaves = named_leaves([np.array(x, order="F") for x in s.xs])  # the same numbers in another layout
    for y, fortran_y in zip(s.ys, s.f(fortran_leaves), strict=True):
        if y.size:
            _compare_calls_of(s, y, fortran_y, fortran_leaves)
        else:
            s.pull(y, s.leaves, np.zeros(y.shape))  # the rules must take it


def _compare_calls_of(s: Subject, y: Tensor, fortran_y: Tensor, fortran_leaves: list[Tensor]) -> None:
    """`compare_calls` of one output."""
    if not np.allclose(fortran_y.data, y.data, rtol=1e-9, atol=1e-12 * float(np.abs(y.data).max())):
        raise s.error(f"{s.name} returns other values for inputs in Fortran order", 0, LAYOUT)

    def pull(u: np.ndarray) -> list[np.ndarray]:
        return s.pull(y, s.leaves, u)

    # as many cotangents as y has rows: a rule that exchanges the two axes then returns the right shape
    n = y.shape[0] if y.ndim and y.shape[0] * y.size <= MANY else 2
    many = s.rng.standard_normal((max(n, 2), *y.shape))
    v, w, same = many[0], many[-1], np.broadcast_to(many.flat[0], y.shape)
    of_v, of_w, of_many, of_nested = pull(v), pull(w), pull(many), pull(many.reshape(1, *many.shape))
    calls = [
        ("the same cotangent again", pull(v), of_v, CHANGING),
        ("a cotangent of zeros", pull(np.zeros(y.shape)), [np.zeros(x.shape) for x in s.xs], AFFINE),
        ("a cotangent -2^20 times as large", [g / -(2.0**20) for g in pull(v * -(2.0**20))], of_v, NOT_LINEAR),
        ("a cotangent 2^-20 times as large", [g * 2.0**20 for g in pull(v / 2.0**20)], of_v, NOT_LINEAR),
        ("a sum of two cotangents", pull(v + w), [a + b for a, b in zip(of_v, of_w, strict=True)], NOT_LINEAR),
        ("one cotangent than for many at once", of_v, [g[0] for g in of_many], LEADING_AXES),
        ("one cotangent than for many at once", of_w, [g[-1] for g in of_many], LEADING_AXES),
        ("two leading axes", [g[0, -1] for g in of_nested], of_w, LEADING_AXES),
        ("a cotangent in Fortran order", pull(np.array(v, order="F")), of_v, LAYOUT),
        ("a broadcast cotangent", pull(same), pull(np.array(same)), LAYOUT),
        ("inputs in Fortran order", s.pull(fortran_y, fortran_leaves, v), of_v, LAYOUT),
    ]
    # Intermediate values may be as large as v y or v x, whatever cancels in the end, and so is their rounding.
    size = 1000 * float(np.abs(y.data).max()) + 64 * s.largest
    rounding = MACHINE_EPS * size * float(np.abs(many).max())
    for what, pulled, expected, cause in calls:
        for i, (got, wanted) in enumerate(zip(pulled, expected, strict=True)):
            difference = np.abs(got - wanted)
            if not (difference <= 1e-9 * np.abs(wanted).max(initial=0.0) + rounding).all():
                at = index_of(int(np.argmax(np.nan_to_num(difference, nan=np.inf))), got.shape)
                message = (
                    f"the rules of {s.name} give another answer for {what}: "
                    f"in input {i} at {at}, {got[at]:.10g} instead of {wanted[at]:.10g}"
                )
                narrow = difference[at] <= 1e-5 * np.abs(wanted).max()  # the accuracy of float32
                raise s.error(message, i, NARROW if narrow else cause)

"""Finite differences that recognise kinks, and the complex step, which has no rounding error.

A difference quotient across a kink of relu, abs, max or maximum is neither side's derivative.  So the pattern of a
function (on which side of each kink every element lies) is recorded at every point that a difference uses, and a step
that changes the pattern is made smaller.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.differentiate import Function, grad
from minidbp.autodiff.tensor import (
    COMPLEX,
    NotDifferentiableError,
    Pattern,
    Tensor,
    TensorLike,
    from_array,
    no_grad,
    recorded_pattern,
    recording,
)

Arrays = Sequence[np.ndarray]
Functions = Callable[[list[Tensor]], list[Tensor]]

STEPS = tuple(2e-3 / 8**k for k in range(7))  # truncation dominates the error at the first, rounding at the last
MACHINE_EPS = float(np.finfo(np.float64).eps)


class Difference(NamedTuple):
    """The derivative of each output along a direction, the error that rounding may have caused, and the step."""

    values: list[np.ndarray]
    rounding: float
    step: float


def directional_difference(f: Functions, xs: Arrays, direction: Arrays) -> Difference:
    """d/dt f(x + t d) at t = 0, by central differences with steps h and h/2 and Richardson's extrapolation.

    The first step is 2e-3.  It is divided by 8 while the pattern of a kink changes between the five points, or while
    the two differences disagree.

    Raises:
        NotDifferentiableError: No step is small enough.  The message names the operation and the element.
    """
    here, pattern = _evaluate(f, xs)
    size = max((float(np.abs(y).max(initial=0.0)) for y in here), default=0.0)
    why = ""
    for h in STEPS:
        points = []
        for t in (-1.0, -0.5, 0.5, 1.0):
            values, other = _evaluate(f, [x + t * h * d for x, d in zip(xs, direction, strict=True)])
            finite = zip(map(np.isfinite, here), map(np.isfinite, values), strict=True)
            change = _first_change(pattern, other)
            if not change and any(a.sum() > b.sum() for a, b in finite):
                change = "the function leaves its domain"
            if change:
                why = change
                break
            points.append(values)
        if len(points) < 4:
            continue
        far_back, near_back, near, far = points
        coarse = [(a - b) / (2 * h) for a, b in zip(far, far_back, strict=True)]
        fine = [(a - b) / h for a, b in zip(near, near_back, strict=True)]
        values = [(4 * b - a) / 3 for a, b in zip(coarse, fine, strict=True)]
        rounding = 20 * MACHINE_EPS * size / h
        scale = _largest(values)
        # A kink that no operation declared: the slopes ahead and behind differ, and by as much at half the step.
        bend = _largest([(a - 2 * m + b) / h for a, m, b in zip(far, here, far_back, strict=True)])
        near_bend = _largest([2 * (a - 2 * m + b) / h for a, m, b in zip(near, here, near_back, strict=True)])
        kinked = near_bend > 0.75 * bend and bend > 1e-3 * scale + 10 * rounding
        unsettled = _largest([v - b for v, b in zip(values, fine, strict=True)])
        if unsettled <= 1e-4 * scale + rounding and not kinked:
            return Difference(values, rounding, h)
        why = why or "the difference quotients do not settle as the step shrinks"
    raise NotDifferentiableError(f"not differentiable here: {why}")


def _largest(values: Arrays) -> float:
    """The largest absolute value.  NaN counts as 0 here: the comparisons report it later."""
    return max((float(np.nan_to_num(np.abs(a)).max(initial=0.0)) for a in values), default=0.0)


def _evaluate(f: Functions, xs: Arrays) -> tuple[list[np.ndarray], Pattern]:
    """The values of f, without a graph, and the pattern of its kinks."""
    with no_grad(), recorded_pattern() as pattern:
        values = [y.data for y in f([from_array(np.array(x)) for x in xs])]
    return values, pattern


def _first_change(before: Pattern, after: Pattern) -> str:
    """Where two patterns differ, as 'relu has a kink at element (0, 3)'; empty if they are equal."""
    if [name for name, _ in before] != [name for name, _ in after]:
        return "the function takes another path"
    for (name, a), (_, b) in zip(before, after, strict=True):
        if a.shape != b.shape:
            return f"{name} changes its shape"
        different = ~((a == b) | ((a != a) & (b != b)))
        if different.any():
            return f"{name} has a kink at element {tuple(np.argwhere(different)[0].tolist())}"
    return ""


def complex_step_hvp(f: Function, x: TensorLike, v: TensorLike, h: float = 1e-30) -> np.ndarray:
    """H v = Im(grad f(x + i h v)) / h for a scalar f of a real x: one backward pass in complex numbers.

    No two nearly equal numbers are subtracted, so h can be so small that the truncation error of order h^2 vanishes:
    the result is exact to rounding (Squire and Trapp 1998).  Masks, signs and the positions of maxima depend on the
    real part.  The function works in float64 only; f may use constants and parameters of float64, but not astype.
    """
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    if x.shape != v.shape:
        raise ValueError(f"complex_step_hvp: v must have the input's shape {x.shape}; got {v.shape}")
    z = from_array((x + 1j * h * v).astype(COMPLEX))
    z.requires_grad = True
    with recording(True):
        y = f(z)
    return grad(y, z)[0].data.imag / h

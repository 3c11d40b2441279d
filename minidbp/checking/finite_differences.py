"""Numerical derivatives that know about kinks, and one that has no rounding error.

A difference quotient across a kink of relu, abs, max or maximum is neither side's derivative.  So the pattern of a
function (which side of each kink every element is on) is recorded at every point that a difference uses, and a step
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
    no_grad,
    recorded_pattern,
    recording,
    wrap,
)

Arrays = Sequence[np.ndarray]
Functions = Callable[[list[Tensor]], list[Tensor]]  # several Tensors to several Tensors

STEPS = tuple(2e-3 / 8**k for k in range(7))  # from where truncation rules to where rounding does
MACHINE_EPS = float(np.finfo(np.float64).eps)


class Difference(NamedTuple):
    """The derivative of each output along a direction, how far rounding may have moved it, and the step."""

    values: list[np.ndarray]
    rounding: float
    step: float


def directional_difference(f: Functions, xs: Arrays, direction: Arrays) -> Difference:
    """d/dt f(x + t d) at t = 0, by central differences with steps h and h/2 and Richardson's extrapolation.

    Begins with a step of 2e-3 and takes an eighth of it while the pattern of a kink changes between the five points,
    or the two differences disagree.  Raises NotDifferentiableError, with the operation and the element, if that never
    ends: so an answer never depends on a kink by luck.
    """
    here, pattern = evaluate(f, xs)
    size = max((float(np.abs(y).max(initial=0.0)) for y in here), default=0.0)
    why = ""
    for h in STEPS:
        points = []
        for t in (-1.0, -0.5, 0.5, 1.0):
            values, other = evaluate(f, [x + t * h * d for x, d in zip(xs, direction, strict=True)])
            if crossed := first_change(pattern, other):
                why = crossed
                break
            points.append(values)
        if len(points) < 4:
            continue
        if any(
            np.isfinite(y).sum() > np.isfinite(z).sum() for values in points for y, z in zip(here, values, strict=True)
        ):
            why = "the function leaves its domain"
            continue
        far_back, near_back, near, far = points
        wide = [(a - b) / (2 * h) for a, b in zip(far, far_back, strict=True)]
        narrow = [(a - b) / h for a, b in zip(near, near_back, strict=True)]
        values = [(4 * n - w) / 3 for n, w in zip(narrow, wide, strict=True)]
        rounding = 20 * MACHINE_EPS * size / h
        scale = _largest(values)
        unsettled = _largest([v - n for v, n in zip(values, narrow, strict=True)])
        if unsettled <= 1e-4 * scale + rounding and not _kinked(here, points, h, scale, rounding):
            return Difference(values, rounding, h)
        why = why or "the difference quotients do not settle as the step shrinks"
    raise NotDifferentiableError(f"not differentiable here: {why}")


def _kinked(here: list[np.ndarray], points: list[list[np.ndarray]], h: float, scale: float, rounding: float) -> bool:
    """Whether slopes ahead and behind differ, and by as much at half the step: a kink that no operation declared."""
    far_back, near_back, near, far = points
    wide = _largest([(a - 2 * m + b) / h for a, m, b in zip(far, here, far_back, strict=True)])
    narrow = _largest([2 * (a - 2 * m + b) / h for a, m, b in zip(near, here, near_back, strict=True)])
    return narrow > 0.75 * wide and wide > 1e-3 * scale + 10 * rounding


def _largest(values: Arrays) -> float:
    """The largest absolute value; NaN counts as 0 here (comparisons show it later)."""
    return max((float(np.nan_to_num(np.abs(a)).max(initial=0.0)) for a in values), default=0.0)


def evaluate(f: Functions, xs: Arrays) -> tuple[list[np.ndarray], Pattern]:
    """The values of f, without a graph, and the pattern of its kinks."""
    with no_grad(), recorded_pattern() as pattern:
        values = [y.data for y in f([wrap(np.array(x)) for x in xs])]
    return values, pattern


def first_change(before: Pattern, after: Pattern) -> str:
    """Where two patterns differ, as 'relu at element (0, 3)'; empty if they do not."""
    if [name for name, _ in before] != [name for name, _ in after]:
        return "the function takes another path"
    for (name, a), (_, b) in zip(before, after, strict=True):
        if a.shape != b.shape:
            return f"{name} changes its shape"
        different = ~((a == b) | ((a != a) & (b != b)))
        if different.any():
            at = tuple(int(i) for i in np.argwhere(different)[0])
            return f"{name} has a kink at element {at}"
    return ""


def complex_step_hvp(f: Function, x: TensorLike, v: TensorLike, h: float = 1e-30) -> np.ndarray:
    """H v = Im(grad f(x + i h v)) / h for a scalar f of a real x: one backward pass in complex numbers.

    No two nearly equal numbers are subtracted, so h can be so small that the truncation error of order h^2 vanishes:
    the result is exact to rounding (Squire and Trapp 1998).  Masks, signs and places of maxima go by the real part.
    float64 only; f may use constants and parameters of float64, but not astype.
    """
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    if x.shape != v.shape:
        raise ValueError(f"complex_step_hvp: v must have the input's shape {x.shape}; got {v.shape}")
    z = wrap((x + 1j * h * v).astype(COMPLEX))
    z.requires_grad = True
    with recording(True):
        y = f(z)
    return grad(y, z)[0].data.imag / h

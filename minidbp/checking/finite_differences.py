"""Finite differences with an estimate of their error, which recognise kinks.

A difference quotient across a kink of relu, abs, max or maximum is neither side's derivative.  So the pattern of a
function (on which side of each kink every element lies) is recorded at every point that a difference uses, and a step
that changes the pattern is made smaller.

A difference has two errors.  Truncation shrinks with the step: it is estimated from three step sizes.  Rounding grows
as the step shrinks: it comes from the noise in the function's values (`noise.py`).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.tensor import NotDifferentiableError
from minidbp.checking.points import (
    MACHINE_EPS,
    Arrays,
    Functions,
    evaluate,
    first_change,
    in_input,
    largest,
    moved,
    random_signs,
    step_scale,
)

# Powers of two: x + h is then exact for most x.
STEPS = tuple(2.0 ** (-9 - 3 * k) for k in range(15))  # from the first on, smaller while something is in the way
SHORT_STEP = STEPS[6]  # 7e-9: a shorter step must still show more than rounding
LONG_STEPS = tuple(2.0 ** (-6 + 3 * k) for k in range(4))  # for a derivative that rounding hides at the first step
NOISE_MARGIN = 40.0  # a difference with steps down to h / 4 multiplies the noise by 4 / h; ten standard deviations
TRIES = 20  # directions that are drawn while kinks are in the way

JUMPS = "the function jumps, at a point that no operation declares a kink"
BENDS = "the slopes on its two sides differ, at a point that no operation declares a kink"
UNSTEADY = "the difference quotients do not settle as the step shrinks"
UNSETTLED = (JUMPS, BENDS, UNSTEADY)


class Difference(NamedTuple):
    """The derivative of each output along a direction, and how wrong it may be: truncation and rounding.

    `why` says what ruled out a longer step; it is empty at the first step.  `unsettled` says what is wrong with this
    one, as with every other step; the errors say by how much.
    """

    values: list[np.ndarray]
    errors: list[np.ndarray]
    step: float
    why: str = ""
    unsettled: str = ""


class Differences:
    """The directional derivatives of f at xs: central differences with steps h, h/2, h/4, extrapolated (Richardson).

    Args:
        noise: How much rounding changes each output, as `rounding_noise` measures it; half a unit in the last place
            of the largest output if it is not given.
    """

    def __init__(self, f: Functions, xs: Arrays, noise: Arrays | None = None) -> None:
        self.f, self.xs = f, xs
        self.here, self.pattern = evaluate(f, xs)
        self.largest = max(1.0, largest(xs))
        self.noise = noise or [np.array(MACHINE_EPS / 2 * largest(self.here))] * len(self.here)

    def along(self, direction: Arrays) -> Difference:
        """`estimate`, but raises NotDifferentiableError if no step settles."""
        difference = self.estimate(direction)
        if difference.unsettled:
            raise NotDifferentiableError(f"not differentiable here: {difference.why}")
        return difference

    def estimate(self, direction: Arrays) -> Difference:
        """d/dt f(x + t d) at t = 0, from the longest step that settles; if none does, from the most accurate one.

        The first step is about 2e-3.  It is divided by 8 while the pattern of a kink changes between the points, or
        while the differences disagree.

        Raises:
            NotDifferentiableError: Each step changes a pattern.  The message names the operation and the element.
        """
        why, best = "", None
        for h in self._steps(direction):
            difference = self._at_step(direction, h)
            if isinstance(difference, str):
                why = why or difference
                continue
            # a staircase is flat between its steps, and so is a function that rounding quantises
            flat = why in UNSETTLED and not any(map(np.any, difference.values))
            shows = (h >= SHORT_STEP and not best) or self._rounding(h) <= 1e-2 * largest(difference.values)
            if not difference.unsettled and shows and not flat:
                return difference._replace(why=why)
            why = why or difference.unsettled
            if not flat and (best is None or largest(difference.errors) < largest(best.errors)):
                best = difference
        if best is None:
            raise NotDifferentiableError(f"not differentiable here: {why}")
        return best._replace(why=why, unsettled=why)

    def refined(self, direction: Arrays) -> Difference:
        """Each element from the step, of all steps, that gives it the smallest error.

        The steps grow.  A longer one counts only if it agrees with those before: it may jump over a whole oscillation.

        Raises:
            NotDifferentiableError: as `estimate`.
        """
        best, last = None, ""
        for h in (*reversed(list(self._steps(direction))), *LONG_STEPS):
            other = self._at_step(direction, h)
            if isinstance(other, str):
                last = other
                continue
            if best is None:
                best = other
                continue
            better = [  # over a short step, rounding may leave a value unchanged
                ((e < error) & (np.abs(v - value) <= e + error)) | ((value == 0) & (v != 0) & (h <= STEPS[0]))
                for e, error, v, value in zip(other.errors, best.errors, other.values, best.values, strict=True)
            ]
            values, errors = (
                [np.where(*parts) for parts in zip(better, new, old, strict=True)]
                for new, old in ((other.values, best.values), (other.errors, best.errors))
            )
            best = best._replace(values=values, errors=errors)
        if best is None:
            raise NotDifferentiableError(f"not differentiable here: {last}")
        return best

    def _steps(self, direction: Arrays) -> Iterator[float]:
        """The steps, the longest first, that move every element of xs that the direction moves."""
        shortest = 64 * MACHINE_EPS * self._relative(direction)
        return (h for h in STEPS if h >= min(SHORT_STEP, shortest))

    def _relative(self, direction: Arrays) -> float:
        """The largest element of xs, relative to the direction there."""
        moving = [(d != 0) & (x != 0) for x, d in zip(self.xs, direction, strict=True)]
        return largest([np.abs(x[m] / d[m]) for x, d, m in zip(self.xs, direction, moving, strict=True)])

    def _rounding(self, h: float) -> float:
        """What rounding may do to a difference; intermediate values may be as large as the inputs."""
        return (NOISE_MARGIN / h + 8.0) * largest(self.noise) + 4 * MACHINE_EPS * self.largest / h

    def _at_step(self, direction: Arrays, h: float) -> Difference | str:
        """The difference with the step h, or why there is none."""
        points: list[list[np.ndarray]] = []
        for t in (-1.0, 1.0, -0.5, 0.5, -0.25, 0.25):
            values, pattern = evaluate(self.f, moved(self.xs, direction, t * h))
            if kink := first_change(self.pattern, pattern):
                return kink
            finite = zip(map(np.isfinite, self.here), map(np.isfinite, values), strict=True)
            if any(a.sum() > b.sum() for a, b in finite):
                return "the function leaves its domain"
            points.append(values)
        with np.errstate(all="ignore"):  # where the function is not finite, nor is the difference
            parts = [self._of_output(k, [p[k] for p in points], h) for k in range(len(self.here))]
            values, changes, bends, near_bends, noise = map(list, zip(*parts, strict=True))
            uneven = 4 * MACHINE_EPS * self._relative(direction) / h  # rounding makes the steps unequal
            errors = [c + e + uneven * np.abs(v) for c, e, v in zip(changes, noise, values, strict=True)]
            # At half the step, a kink that no operation declared bends as much, and a jump twice as much.
            kinks = [
                np.where(np.abs(b) > 0.75 * np.abs(a), np.abs(a) + np.abs(b), 0.0)
                for a, b in zip(bends, near_bends, strict=True)
            ]
            errors = [e + k for e, k in zip(errors, kinks, strict=True)]
        scale, bend, near_bend, rounding = largest(values), largest(bends), largest(near_bends), self._rounding(h)
        unsettled = ""
        if near_bend > 0.75 * bend and bend > 1e-3 * scale + 10 * rounding:
            unsettled = BENDS if near_bend < 1.5 * bend else JUMPS
        elif largest(changes) > 1e-2 * scale + rounding:
            unsettled = UNSTEADY
        return Difference(values, errors, h, unsettled=unsettled)

    def _of_output(self, k: int, values: list[np.ndarray], h: float) -> tuple[np.ndarray, ...]:
        """The derivative of output k, its change between extrapolations, its bends, and what rounding may do to it."""
        here, (back, far, half_back, half, near_back, near) = self.here[k], values
        coarse, fine, finest = (far - back) / (2 * h), (half - half_back) / h, (near - near_back) / (h / 2)
        first, second = (4 * fine - coarse) / 3, (4 * finest - fine) / 3
        bend, near_bend = (far - 2 * here + back) / h, (half - 2 * here + half_back) / (h / 2)
        rounding = np.broadcast_to((NOISE_MARGIN / h + 8.0) * self.noise[k], here.shape)
        return (16 * second - first) / 15, np.abs(second - first), bend, near_bend, rounding


def directional_difference(f: Functions, xs: Arrays, direction: Arrays) -> Difference:
    """`Differences(f, xs).along(direction)`."""
    return Differences(f, xs).along(direction)


def smooth_difference(
    differences: Differences, i: int, where: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Difference]:
    """A direction of random signs in input i that crosses no kink, 0 outside the mask `where`; the difference along it.

    Raises:
        NotDifferentiableError: Kinks are in the way of all 20 directions that were drawn.
    """
    why, x = "", differences.xs[i]
    for _ in range(TRIES):
        d = random_signs(x.shape, rng) * step_scale(x) * where
        try:
            return d, differences.along(in_input(i, d, differences.xs))
        except NotDifferentiableError as error:
            why = str(error)
    raise NotDifferentiableError(f"{why} (in each of {TRIES} random directions of input {i})")


class Slope(NamedTuple):
    """A derivative along a direction: by the rules, by differences, the size that errors are relative to, the error."""

    analytic: float
    numeric: float
    size: float
    error: float

    def allowed(self, rtol: float) -> float:
        return rtol * self.size + self.error


def smooth_slope(
    f: Functions, xs: Arrays, i: int, gradient: np.ndarray, rng: np.random.Generator, where: np.ndarray | None = None
) -> Slope:
    """The slope of f, which returns one number, along a direction in input i that crosses no kink.

    Errors are relative to `|g d|`, the root mean square of such slopes: one that is small by luck has no smaller
    allowance.  See `smooth_difference` for `where` and errors.
    """
    d, difference = smooth_difference(
        Differences(f, xs), i, np.ones(xs[i].shape, bool) if where is None else where, rng
    )
    terms, numeric = gradient * d, float(difference.values[0])
    size = max(float(np.linalg.norm(terms)), abs(numeric) / math.sqrt(np.count_nonzero(d) or 1))
    return Slope(float(terms.sum()), numeric, size, float(difference.errors[0]))

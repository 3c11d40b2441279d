"""Finite differences with an error estimate, which recognise kinks; and the complex step, which has no rounding error.

A difference quotient across a kink of relu, abs, max or maximum is neither side's derivative.  So the pattern of a
function (on which side of each kink every element lies) is recorded at every point that a difference uses, and a step
that changes the pattern is made smaller.

A difference has two errors.  Truncation shrinks with the step: it is estimated from three step sizes.  Rounding grows
as the step shrinks: it comes from the noise in the function's values, which `rounding_noise` measures.
"""

from collections.abc import Callable, Sequence
from math import factorial
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

# Powers of two: x + h is then exact for most x.
STEPS = tuple(2.0 ** (-9 - 3 * k) for k in range(15))  # from the first on, smaller while something is in the way
SHORT_STEP = STEPS[6]  # 7e-9: a shorter step must still show more than rounding
LONG_STEPS = tuple(2.0 ** (-6 + 3 * k) for k in range(4))  # for a derivative that rounding hides at the first step
MACHINE_EPS = float(np.finfo(np.float64).eps)
JUMPS = "the function jumps, at a point that no operation declares a kink"
BENDS = "the slopes on its two sides differ, at a point that no operation declares a kink"
UNSTEADY = "the difference quotients do not settle as the step shrinks"
UNSETTLED = (JUMPS, BENDS, UNSTEADY)
NOISE_SPACINGS = (2.0**-24, 2.0**-18, 2.0**-12)  # of the points, relative to each input element
LARGEST_NOISE = 1e-4  # relative to an output
NOISE_MARGIN = 40.0  # a difference with steps down to h / 4 multiplies the noise by 4 / h; ten standard deviations


class Difference(NamedTuple):
    """The derivative of each output along a direction, and how wrong it may be: truncation and rounding.

    `why` says what ruled out a longer step; it is empty at the first step.
    """

    values: list[np.ndarray]
    errors: list[np.ndarray]
    step: float
    why: str = ""


class Differences:
    """The directional derivatives of f at xs: central differences with steps h, h/2, h/4, extrapolated (Richardson).

    Args:
        noise: How much rounding changes each output, as `rounding_noise` measures it; half a unit in the last place
            of the largest output if it is not given.
    """

    def __init__(self, f: Functions, xs: Arrays, noise: Arrays | None = None) -> None:
        self.f, self.xs = f, xs
        self.here, self.pattern = evaluate(f, xs)
        self.largest = max(1.0, _largest(xs))
        self.noise = noise or [np.array(MACHINE_EPS / 2 * _largest(self.here))] * len(self.here)

    def along(self, direction: Arrays) -> Difference:
        """d/dt f(x + t d) at t = 0.

        The first step is about 2e-3.  It is divided by 8 while the pattern of a kink changes between the points, or
        while the differences disagree.

        Raises:
            NotDifferentiableError: No step is small enough.  The message names the operation and the element.
        """
        why, shortest = "", self._shortest_step(direction)
        for h in STEPS:
            if h < SHORT_STEP and h < shortest:
                break
            difference = self._at_step(direction, h, why in UNSETTLED)
            if not isinstance(difference, str):
                if why in UNSETTLED and not any(map(np.any, difference.values)):
                    break  # a staircase is flat between its steps, and so is a function that rounding quantises
                return difference._replace(why=why)
            why = why or difference
        raise NotDifferentiableError(f"not differentiable here: {why}")

    def best_along(self, direction: Arrays) -> Difference:
        """`along`, where each element comes from the step, of nine, that gives it the smallest error."""
        best = self.along(direction)
        for h in (*LONG_STEPS, *(best.step / 8**k for k in range(1, 5))):
            other = self._at_step(direction, h)
            if not isinstance(other, str):
                better = [
                    (e < error) & (np.abs(v - value) <= e + error)  # a long step may jump over a whole oscillation
                    for e, error, v, value in zip(other.errors, best.errors, other.values, best.values, strict=True)
                ]
                values, errors = (
                    [np.where(*parts) for parts in zip(better, new, old, strict=True)]
                    for new, old in ((other.values, best.values), (other.errors, best.errors))
                )
                best = best._replace(values=values, errors=errors)
        return best

    def _shortest_step(self, direction: Arrays) -> float:
        """The shortest step that still moves every element of xs that the direction moves."""
        moving = [(d != 0) & (x != 0) for x, d in zip(self.xs, direction, strict=True)]
        ratios = [np.abs(x[m] / d[m]) for x, d, m in zip(self.xs, direction, moving, strict=True)]
        return 64 * MACHINE_EPS * _largest(ratios)

    def _at_step(self, direction: Arrays, h: float, significant: bool = False) -> Difference | str:
        """The difference with the step h, or why there is none; with `significant`, one that rounding does not hide."""
        points: list[list[np.ndarray]] = []
        for t in (-1.0, 1.0, -0.5, 0.5, -0.25, 0.25):
            values, pattern = evaluate(self.f, moved(self.xs, direction, t * h))
            if kink := _first_change(self.pattern, pattern):
                return kink
            finite = zip(map(np.isfinite, self.here), map(np.isfinite, values), strict=True)
            if any(a.sum() > b.sum() for a, b in finite):
                return "the function leaves its domain"
            points.append(values)
        with np.errstate(all="ignore"):  # where the function is not finite, nor is the difference
            parts = [self._of_output(k, [p[k] for p in points], h) for k in range(len(self.here))]
        scale = _largest([value for value, *_ in parts])
        unsettled = bend = near_bend = rounding = 0.0
        for _, change, bends, near_bends, noise in parts:
            unsettled, rounding = max(unsettled, _largest([change])), max(rounding, _largest([noise]))
            bend, near_bend = max(bend, _largest([bends])), max(near_bend, _largest([near_bends]))
        rounding += 4 * MACHINE_EPS * self.largest / h  # intermediate values may be as large as the inputs
        if (h < SHORT_STEP or significant) and rounding > 1e-2 * scale:
            return "rounding hides the derivative at so small a step"
        # At half the step, a kink that no operation declared bends as much, and a jump twice as much.
        if near_bend > 0.75 * bend and bend > 1e-3 * scale + 10 * rounding:
            return BENDS if near_bend < 1.5 * bend else JUMPS
        if unsettled > 1e-2 * scale + rounding:
            return UNSTEADY
        return Difference([value for value, *_ in parts], [change + noise for _, change, _, _, noise in parts], h)

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


def rounding_noise(f: Functions, xs: Arrays, rng: np.random.Generator) -> list[np.ndarray]:
    """How much rounding changes each output: the standard deviation, at least half a unit in its last place.

    f is computed at nine points along a random direction, so close together that a smooth function is nearly a
    polynomial of low degree there.  Its differences of high order are then noise alone: Hamming's difference table
    (Moré and Wild, "Estimating computational noise", 2011).  Two spacings are used, as rounding may leave a value in
    the computation unchanged over the smaller one; a third one where it leaves the output unchanged over both.
    """
    here, pattern = evaluate(f, xs)
    noise = [MACHINE_EPS / 2 * np.abs(y) for y in here]
    unchanged = [np.ones(y.shape, bool) for y in here]
    largest = max(1.0, _largest(xs))
    for spacing in NOISE_SPACINGS:
        if spacing == NOISE_SPACINGS[-1] and not any(map(np.any, unchanged)):
            break
        direction = _relative_direction(xs, rng, spacing)
        points: list[list[np.ndarray]] = []
        for t in range(-4, 5):
            values, other = evaluate(f, moved(xs, direction, t))
            if _first_change(pattern, other):
                return noise
            points.append(values)
        for k in range(len(here)):
            table = np.stack([values[k] for values in points])
            counts = unchanged[k] if spacing == NOISE_SPACINGS[-1] else np.ones(here[k].shape, bool)
            noise[k] = np.where(counts, np.fmax(noise[k], _noise_in(table, largest)), noise[k])
            unchanged[k] &= (table == table[0]).all(axis=0)
    return noise


def _noise_in(table: np.ndarray, largest: float) -> np.ndarray:
    """The standard deviation of the noise in equally spaced values of a smooth function, along axis 0.

    It is 0 where the differences are too large for noise, beside the values and the `largest` input: the function then
    varies within the spacing.
    """
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(table).max(axis=0), np.finfo(np.float64).tiny)  # squares neither over- nor underflow
        estimates = []
        for order in (5, 6, 7):
            shrink = factorial(order) ** 2 / factorial(2 * order)
            estimates.append(np.sqrt(shrink * np.mean(np.diff(table / size, order, axis=0) ** 2, axis=0)))
        noise = np.asarray(size * np.min(estimates, axis=0))
        return np.where((noise < LARGEST_NOISE * size) | (noise < 1e-12 * largest), noise, 0.0)


def smoothly_changing(f: Functions, xs: Arrays, rng: np.random.Generator) -> str:
    """The operation that declared an array locally constant which changes smoothly with the inputs; empty if none.

    Such an array changes by as much more as the inputs move more.  A mask, a sign or an index jumps, or stays.
    """
    direction = tiny_direction(xs, rng)
    patterns = [evaluate(f, moved(xs, direction, t))[1] for t in (0, 1, 4)]
    for (name, here), (_, near), (_, far) in zip(*patterns, strict=False):
        if here.dtype.kind == "f" and here.shape == near.shape == far.shape:
            a, b = _largest([near - here]), _largest([far - here])
            if 0 < 2 * a < b < 8 * a:
                return name or "a rule"
    return ""


def moved(xs: Arrays, direction: Arrays, t: float) -> list[np.ndarray]:
    """x + t d, input by input."""
    return [np.asarray(x + t * d) for x, d in zip(xs, direction, strict=True)]


def step_scale(x: np.ndarray) -> np.ndarray:
    """The unit of a step in each element: 1, or 2^-14 of a large element's size, rounded to a power of two."""
    return np.exp2(np.ceil(np.log2(np.maximum(np.abs(x) * 2.0**-14, 1.0))))


def random_signs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random signs, times random sizes from 1/2 to 1: with sizes of 1, terms of equal size could cancel exactly."""
    return np.asarray((rng.integers(0, 2, shape) * 2.0 - 1.0) * rng.uniform(0.5, 1.0, shape))


def in_input(i: int, direction: np.ndarray, xs: Arrays) -> list[np.ndarray]:
    """A direction in input i alone."""
    return [direction if j == i else np.zeros_like(x) for j, x in enumerate(xs)]


def tiny_direction(xs: Arrays, rng: np.random.Generator) -> list[np.ndarray]:
    """Random signs times 6e-8 of each element, of 1 where an element is 0."""
    return _relative_direction(xs, rng, NOISE_SPACINGS[0])


def _relative_direction(xs: Arrays, rng: np.random.Generator, size: float) -> list[np.ndarray]:
    return [size * random_signs(x.shape, rng) * np.where(x == 0, 1.0, np.abs(x)) for x in xs]


def _largest(values: Arrays) -> float:
    """The largest absolute value.  NaN counts as 0 here: the comparisons report it later."""
    return max((float(np.nan_to_num(np.abs(a)).max(initial=0.0)) for a in values), default=0.0)


def evaluate(f: Functions, xs: Arrays) -> tuple[list[np.ndarray], Pattern]:
    """The values of f, without a graph, and the pattern of its kinks."""
    with no_grad(), recorded_pattern() as pattern, np.errstate(all="ignore"):  # a step may leave the domain
        values = [y.data for y in f([from_array(np.array(x)) for x in xs])]
    return values, pattern


def _first_change(before: Pattern, after: Pattern) -> str:
    """Where two patterns differ, as 'relu has a kink at element (0, 3)'; empty if they are equal."""
    if [name for name, _ in before] != [name for name, _ in after]:
        return "the function takes another path"
    for (name, a), (_, b) in zip(before, after, strict=True):
        if a.shape != b.shape:
            return f"{name or 'a rule'} changes its shape"
        different = ~((a == b) | ((a != a) & (b != b)))
        if different.any():
            return f"{name or 'a rule'} has a kink at element {tuple(np.argwhere(different)[0].tolist())}"
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
    z = from_array(np.asarray(x + 1j * h * v, COMPLEX))
    z.requires_grad = True
    with recording(True):
        y = f(z)
    return np.asarray(grad(y, z)[0].data.imag / h)

"""How much rounding changes the values of a function: measured from its values, and bounded by its graph."""

from math import factorial
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.differentiate import grad, inputs_first
from minidbp.autodiff.tensor import Tensor, from_array
from minidbp.checking.points import (
    MACHINE_EPS,
    Arrays,
    Functions,
    evaluate,
    first_change,
    largest,
    moved,
    random_signs,
    unit_cotangents,
)

SPACINGS = (2.0**-24, 2.0**-18, 2.0**-12)  # of the points, relative to each input element
LARGEST_NOISE = 1e-4  # relative to an output
OSCILLATION = 1e4  # times the noise of closer points is no noise


class Noise(NamedTuple):
    """For each output, how much rounding changes it, and how much it does so between the closest points that differ."""

    largest: list[np.ndarray]
    closest: list[np.ndarray]


def rounding_noise(f: Functions, xs: Arrays, rng: np.random.Generator) -> Noise:
    """How much rounding changes each output: the standard deviation, at least half a unit in its last place.

    f is computed at nine points along a random direction, so close together that a smooth function is nearly a
    polynomial of low degree there.  Its differences of high order are then noise alone: Hamming's difference table
    (Moré and Wild, "Estimating computational noise", 2011).  Two spacings are used, as rounding may leave a value in
    the computation unchanged over the smaller one; a third one where it leaves the output unchanged over both.
    """
    here, pattern = evaluate(f, xs)
    noise = [MACHINE_EPS / 2 * np.abs(y) for y in here]
    closest = [np.array(e) for e in noise]
    unchanged = [np.ones(y.shape, bool) for y in here]
    largest_x = max(1.0, largest(xs))
    for spacing in SPACINGS:
        if spacing == SPACINGS[-1] and not any(map(np.any, unchanged)):
            break
        direction = _relative_direction(xs, rng, spacing)
        points: list[list[np.ndarray]] = []
        for t in range(-4, 5):
            values, other = evaluate(f, moved(xs, direction, t))
            if first_change(pattern, other):
                return Noise(noise, closest)
            points.append(values)
        for k in range(len(here)):
            table = np.stack([values[k] for values in points])
            e = _noise_in(table, largest_x)
            is_noise = spacing < SPACINGS[-1] and e < OSCILLATION * closest[k]
            e = np.where(unchanged[k] | is_noise, e, 0.0)
            noise[k], closest[k] = np.fmax(noise[k], e), np.where(unchanged[k], np.fmax(noise[k], e), closest[k])
            unchanged[k] &= (table == table[0]).all(axis=0)
    return Noise(noise, closest)


def _noise_in(table: np.ndarray, largest_x: float) -> np.ndarray:
    """The standard deviation of the noise in equally spaced values of a smooth function, along axis 0.

    It is 0 where the differences are too large for noise, compared with the values and the largest input: the function
    then varies within the spacing.
    """
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(table).max(axis=0), np.finfo(np.float64).tiny)  # squares neither over- nor underflow
        estimates = []
        for order in (5, 6, 7):
            shrink = factorial(order) ** 2 / factorial(2 * order)
            estimates.append(np.sqrt(shrink * np.mean(np.diff(table / size, order, axis=0) ** 2, axis=0)))
        noise = np.asarray(size * np.min(estimates, axis=0))
        return np.where((noise < LARGEST_NOISE * size) | (noise < 1e-12 * largest_x), noise, 0.0)


def rounding_bound(y: Tensor, elements: np.ndarray | None = None) -> np.ndarray:
    """The largest error of each element of y if every value t in its graph has the relative error eps; or of some.

    To first order, this is `eps sum |dy/dt| |t|` over all t.  It sees a cancellation that leaves a value without noise.
    """
    ts = [t for t in inputs_first([y]) if t.requires_grad]
    elements = np.arange(y.size) if elements is None else elements
    if not ts:
        return MACHINE_EPS * np.abs(y.data.reshape(-1)[elements])
    bounds = [np.zeros(0)]
    for rows in unit_cotangents(y.shape, elements):
        gradients = grad(y, ts, from_array(rows), allow_unused=True)
        terms = [np.abs(g.data * t.data).reshape(len(rows), -1).sum(axis=1) for g, t in zip(gradients, ts, strict=True)]
        bounds.append(MACHINE_EPS * np.sum(terms, axis=0))
    return np.concatenate(bounds)


def smoothly_changing(f: Functions, xs: Arrays, rng: np.random.Generator) -> str:
    """The operation that declared an array locally constant which changes smoothly with the inputs; empty if none.

    Such an array changes by as much more as the inputs move more.  A mask, a sign or an index jumps, or stays.
    """
    direction = tiny_direction(xs, rng)
    patterns = [evaluate(f, moved(xs, direction, t))[1] for t in (0, 1, 4)]
    for (name, here), (_, near), (_, far) in zip(*patterns, strict=False):
        if here.dtype.kind == "f" and here.shape == near.shape == far.shape:
            a, b = largest([near - here]), largest([far - here])
            if 0 < 2 * a < b < 8 * a:
                return name or "a rule"
    return ""


def tiny_direction(xs: Arrays, rng: np.random.Generator) -> list[np.ndarray]:
    """Random signs times 6e-8 of each element, of 1 where an element is 0."""
    return _relative_direction(xs, rng, SPACINGS[0])


def _relative_direction(xs: Arrays, rng: np.random.Generator, size: float) -> list[np.ndarray]:
    return [size * random_signs(x.shape, rng) * np.where(x == 0, 1.0, np.abs(x)) for x in xs]

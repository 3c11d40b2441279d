"""A function's values and kinks at one point, and the points around it."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from minidbp.autodiff.tensor import Pattern, Tensor, from_array, no_grad, recorded_pattern

Arrays = Sequence[np.ndarray]
Functions = Callable[[list[Tensor]], list[Tensor]]

ROWS = 256  # of a Jacobian, in one backward pass
MACHINE_EPS = float(np.finfo(np.float64).eps)


def evaluate(f: Functions, xs: Arrays) -> tuple[list[np.ndarray], Pattern]:
    """The values of f, without a graph, and the pattern of its kinks."""
    with no_grad(), recorded_pattern() as pattern, np.errstate(all="ignore"):  # a step may leave the domain
        values = [y.data for y in f([from_array(np.array(x)) for x in xs])]
    return values, pattern


def first_change(before: Pattern, after: Pattern) -> str:
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


def largest(values: Arrays) -> float:
    """The largest absolute value.  NaN counts as 0 here: the comparisons report it later."""
    return max((float(np.nan_to_num(np.abs(a)).max(initial=0.0)) for a in values), default=0.0)


def moved(xs: Arrays, direction: Arrays, t: float) -> list[np.ndarray]:
    """x + t d, input by input."""
    return [np.asarray(x + t * d) for x, d in zip(xs, direction, strict=True)]


def in_input(i: int, direction: np.ndarray, xs: Arrays) -> list[np.ndarray]:
    """A direction in input i alone."""
    return [direction if j == i else np.zeros_like(x) for j, x in enumerate(xs)]


def random_signs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random signs, times random sizes from 1/2 to 1: with sizes of 1, terms of equal size could cancel exactly."""
    return np.asarray((rng.integers(0, 2, shape) * 2.0 - 1.0) * rng.uniform(0.5, 1.0, shape))


def step_scale(x: np.ndarray) -> np.ndarray:
    """The unit of a step in each element: 1, or 2^-14 of a large element's size, rounded to a power of two."""
    return np.exp2(np.ceil(np.log2(np.maximum(np.abs(x) * 2.0**-14, 1.0))))


def unit_cotangents(shape: tuple[int, ...], elements: np.ndarray) -> Iterator[np.ndarray]:
    """A cotangent for each of these elements of an output, 1 there and 0 elsewhere: (n, *shape), some 256 at a time."""
    for part in np.split(elements, range(ROWS, elements.size, ROWS)) if elements.size else ():
        rows = np.zeros((part.size, math.prod(shape)))
        rows[np.arange(part.size), part] = 1.0
        yield rows.reshape(part.size, *shape)


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """The elements of all arrays in one vector."""
    return np.concatenate([a.reshape(-1) for a in arrays])


def index_of(element: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element that is given by its number."""
    return tuple(int(k) for k in np.unravel_index(element, shape)) if shape else ()


def part_of(element: int, sizes: list[int]) -> tuple[int, slice]:
    """The number of the part that holds an element of concatenated parts, and the elements of that part."""
    ends = np.cumsum(sizes)
    k = int(np.searchsorted(ends, element, side="right"))
    return k, slice(int(ends[k]) - sizes[k], int(ends[k]))

"""A large Jacobian J against finite differences along directions of random signs.

One difference along d gives `J d`, the slopes of all outputs, so each output is compared by itself.  That finds a wrong
element where each output depends on few elements, whatever their number.  Where many elements enter one output, such as
a loss, the slope along d is a sum over them.  There, random signs d and an allowance of `rtol |g d|`, g being the
gradient, find an element that is off by 1e-3 among a million of similar size.  So each input is taken in blocks of
elements whose gradients are of similar size.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.differentiate import grad_or_zeros
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, from_array
from minidbp.checking.finite_differences import (
    MACHINE_EPS,
    Arrays,
    Difference,
    Differences,
    Functions,
    in_input,
    random_signs,
    step_scale,
)

BLOCKS, BLOCK_SIZE = 8, 64  # an input has at most so many blocks, and a block at least so many elements
TRIES = 20  # directions that are drawn while kinks are in the way


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


def blocks_of_similar_size(gradient: np.ndarray) -> Iterator[np.ndarray]:
    """Masks that part the elements into blocks, by the size of the gradient there."""
    order = np.argsort(np.abs(gradient), axis=None)
    for elements in np.array_split(order, min(BLOCKS, max(1, gradient.size // BLOCK_SIZE))):
        mask = np.zeros(gradient.size, bool)
        mask[elements] = True
        yield mask.reshape(gradient.shape)


class Tangents:
    """`J d` by the rules: `u^T J` is linear in u, and `J d` is its derivative in u along d.

    A rule that leaves the graph, such as one that uses `g.data`, is right at order 1 and has no such derivative.  It
    shows by <u, J d> and <u^T J, d> not being equal; `along` then returns None.
    """

    def __init__(self, ys: Sequence[Tensor], leaves: Sequence[Tensor], us: Arrays, gradients: Arrays) -> None:
        self.us = [Tensor(u, requires_grad=True) for u in us]
        self.gradients = gradients
        try:
            self.rows: list[Tensor] = grad_or_zeros(ys, leaves, self.us, True)
        except Exception:  # whatever a rule raises that cannot be differentiated
            self.rows = []

    def along(self, i: int, d: np.ndarray) -> list[np.ndarray] | None:
        """`J d` for d in input i, output by output."""
        if not self.rows:
            return None
        try:
            products = [t.data for t in grad_or_zeros([self.rows[i]], self.us, [from_array(d)], False)]
        except Exception:  # as above
            return None
        terms = self.gradients[i] * d
        product = sum(float(np.sum(u.data * p)) for u, p in zip(self.us, products, strict=True))
        same = abs(product - float(terms.sum())) <= 1e-9 * float(np.linalg.norm(terms)) + MACHINE_EPS
        return products if same else None

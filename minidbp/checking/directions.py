"""A large Jacobian J against finite differences along directions of random signs.

One difference along d gives `J d`, the slopes of all outputs, so each output is compared by itself.  That finds a wrong
element where each output depends on few elements, whatever their number.  Where many elements enter one output, such as
a loss, the slope along d is a sum over them.  There, random signs d and an allowance of `rtol |g d|`, g being the
gradient, find an element that is off by 1e-3 among a million of similar size.  So each input is taken in blocks of
elements whose gradients are of similar size.  Halving a direction that is wrong then finds the element.
"""

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.differentiate import grad
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, from_array
from minidbp.checking.errors import GradcheckError
from minidbp.checking.finite_differences import Difference, Differences, smooth_difference
from minidbp.checking.noise import rounding_bound, rounding_noise
from minidbp.checking.points import (
    MACHINE_EPS,
    ROWS,
    Arrays,
    flat,
    in_input,
    index_of,
    part_of,
    random_signs,
    step_scale,
)
from minidbp.checking.subject import Subject
from minidbp.checking.verdicts import (
    DOUBTFUL,
    NEGLIGIBLE,
    RULE_ROUNDING,
    UNDECIDED,
    ZERO,
    ZERO_ERROR,
    check_precision,
    undecided,
)

PARTS, PART_SIZE = 4, 64  # an input is cut into up to 4 blocks of equal size, of at least 64 elements each,
POWERS = 4  # and also at powers of a hundred of the gradient, down to 1e-8 of its largest element
DIRECTIONS = 2  # in a block that is alone; many blocks confirm each other


def compare_directions(s: Subject) -> None:
    """`J d` and <u, J d> for random signs u and d, in each block of each input."""
    comparison = _Comparison(s)
    for i, gradient in enumerate(comparison.gradients):
        blocks = list(_blocks(gradient)) if gradient.size else []
        for block in blocks:
            for _ in range(DIRECTIONS if len(blocks) == 1 else 1):
                d, difference = smooth_difference(comparison.differences, i, block, s.rng)
                verdict, why = comparison.judge(i, d, difference), difference.why
                if verdict.is_wrong or (verdict.doubtful and not why):  # a kink would bar the longer steps again
                    verdict = comparison.judge_again(i, d)
                    while verdict.is_wrong and comparison.bound_rounding(verdict):
                        verdict = comparison.judge_again(i, d)
                if verdict.is_wrong:
                    raise comparison.error(i, *comparison.narrowed(i, d, verdict))
                if verdict.hidden:
                    slope = (float(slopes[-1]) for slopes in (verdict.analytic, verdict.numeric, verdict.errors))
                    raise undecided(why, *slope)
    check_precision(s.name, comparison.noise.closest[-1:], [np.array(comparison.bound)])


class _Verdict(NamedTuple):
    """The slopes of all outputs along a direction, and last that of <u, y>: which are wrong, if <u, y> can be judged.

    The slopes of the outputs are left out if the rules do not give them (see `_Tangents`).
    """

    analytic: np.ndarray
    numeric: np.ndarray
    errors: np.ndarray
    allowed: np.ndarray
    doubtful: bool
    hidden: bool

    @property
    def wrong(self) -> np.ndarray:
        return ~(np.abs(self.analytic - self.numeric) <= self.allowed)

    @property
    def is_wrong(self) -> bool:
        return bool(self.wrong.any())


class _Comparison:
    """What all directions share: differences of f's outputs y and of <u, y>, and the gradient of <u, y>."""

    def __init__(self, s: Subject) -> None:
        us = [random_signs(y.shape, s.rng) for y in s.ys]

        def with_product(ts: list[Tensor]) -> list[Tensor]:
            ys = s.f(ts)
            products = [(y * u).sum() for y, u in zip(ys, us, strict=True)]
            return [*ys, functools.reduce(operator.add, products)]

        self.s = s
        self.noise = rounding_noise(with_product, s.xs, s.rng)
        self.bound = rounding_bound(with_product(s.leaves)[-1])[0]
        noise = [*self.noise.largest[:-1], np.fmax(self.noise.largest[-1], self.bound / 10)]
        self.differences = Differences(with_product, s.xs, noise)
        self.gradients = [g.data for g in grad(s.ys, s.leaves, [from_array(u) for u in us], allow_unused=True)]
        scaled = [g * step_scale(x) for g, x in zip(self.gradients, s.xs, strict=True)]
        self.norms = [float(np.linalg.norm(g)) for g in scaled]
        self.bounded: set[int] = set()  # the elements of the outputs whose rounding was bounded, by number
        self.tangents = _Tangents(s.ys, s.leaves, us, self.gradients)

    def judge(self, i: int, d: np.ndarray, difference: Difference) -> _Verdict:
        """The slopes along d in input i, by the rules and by `difference`."""
        terms, Jd = self.gradients[i] * d, self.tangents.along(i, d)
        slope = float(terms.sum())
        analytic = np.append(Jd, slope)
        numeric, errors = (flat(arrays)[-analytic.size :] for arrays in (difference.values, difference.errors))
        size = max(float(np.linalg.norm(terms)), abs(numeric[-1]) / math.sqrt(terms.size))
        sizes = np.append(np.abs(numeric[:-1]), size)
        of_product = RULE_ROUNDING * max(self.norms) + 4 * self.bound
        rounding = np.append(np.full(Jd.size, 1e-12 * np.abs(Jd).max(initial=0.0)), of_product)
        constant = size <= ZERO * self.s.largest and errors[-1] <= ZERO_ERROR
        judged = not constant and bool(slope or numeric[-1])
        small = NEGLIGIBLE * max(self.norms[i], min(max(self.norms), 1.0))
        doubtful = errors[-1] > max(DOUBTFUL * size, RULE_ROUNDING * max(self.norms))
        hidden = errors[-1] > max(UNDECIDED * size, small)
        allowed = self.s.rtol * sizes + errors + rounding
        return _Verdict(analytic, numeric, errors, allowed, judged and bool(doubtful), judged and bool(hidden))

    def judge_again(self, i: int, d: np.ndarray) -> _Verdict:
        """`judge`, by the best of all steps."""
        return self.judge(i, d, self.differences.refined(in_input(i, d, self.s.xs)))

    def bound_rounding(self, verdict: _Verdict) -> bool:
        """Put `rounding_bound` of the elements that seem wrong, some 256 of them, into the noise; False if it is there.

        There may be too many outputs to bound them all.
        """
        rows = np.flatnonzero(verdict.wrong[:-1])[:ROWS]
        if not rows.size or rows[0] in self.bounded:
            return False
        self.bounded.update(rows.tolist())
        for k, (y, start) in enumerate(zip(self.s.ys, np.cumsum([0, *(y.size for y in self.s.ys)]), strict=False)):
            part = rows[(rows >= start) & (rows < start + y.size)] - start
            if part.size:
                noise = self.differences.noise[k].reshape(-1)
                noise[part] = np.fmax(noise[part], rounding_bound(y, part) / 10)
        return True

    def error(self, i: int, d: np.ndarray, verdict: _Verdict) -> GradcheckError:
        """The error for the first slope that is wrong."""
        analytic, numeric, row = verdict.analytic, verdict.numeric, int(np.argmax(verdict.wrong))
        s, output = self.s, "the sum of all outputs with random signs"
        if row < analytic.size - 1:
            k, rows = part_of(row, [y.size for y in s.ys])
            output = f"output {k} at {index_of(row - rows.start, s.ys[k].shape)}"
        moved = np.flatnonzero(d)
        where, unit = f"along a random direction of input {i}", 1.0
        if moved.size == 1:
            where, unit = f"in the element of input {i} at {index_of(int(moved[0]), d.shape)}", float(d.flat[moved[0]])
        message = (
            f"{s.derivative} is wrong: {where}, {output} has the slope {numeric[row] / unit:.10g} by differences "
            f"(error at most {verdict.errors[row] / abs(unit):.1g}) but {analytic[row] / unit:.10g} by its rules"
        )
        compared = [a[:, None] if analytic.size == 1 else a[:-1, None] for a in (analytic, numeric, verdict.allowed)]
        cause = s.cause(*compared, np.zeros(len(compared[0])), np.zeros(()))
        return s.error(message, i, cause)

    def narrowed(self, i: int, d: np.ndarray, verdict: _Verdict) -> tuple[np.ndarray, _Verdict]:
        """A wrong direction in one element of input i, found by halving d; d itself if kinks are in the way."""
        elements, narrow = np.flatnonzero(d), (d, verdict)
        while elements.size > 1:
            for half in np.array_split(elements, 2):
                part = np.zeros(d.shape)
                part.flat[half] = d.flat[half]
                try:
                    of_part = self.judge(i, part, self.differences.along(in_input(i, part, self.s.xs)))
                    if of_part.doubtful and not of_part.is_wrong:
                        of_part = self.judge_again(i, part)
                except NotDifferentiableError:
                    continue
                if of_part.is_wrong:
                    elements, narrow = half, (part, of_part)
                    break
            else:
                return d, verdict
        return narrow


def _blocks(gradient: np.ndarray) -> Iterator[np.ndarray]:
    """Masks that part the elements into blocks of similar gradients."""
    size = np.abs(gradient).reshape(-1)
    order = np.argsort(size)
    with np.errstate(divide="ignore"):
        power = np.maximum(np.floor(np.log10(size[order] / (size.max(initial=0.0) or 1.0)) / 2), -POWERS)
    share = np.arange(size.size) * min(PARTS, max(1, size.size // PART_SIZE)) // max(1, size.size)
    ends = np.flatnonzero((np.diff(power) != 0) | (np.diff(share) != 0)) + 1
    for elements in np.split(order, ends):
        mask = np.zeros(size.size, bool)
        mask[elements] = True
        yield mask.reshape(gradient.shape)


class _Tangents:
    """`J d` by the rules: `u^T J` is linear in u, and `J d` is its derivative in u along d.

    A rule that leaves the graph, such as one that uses `g.data`, is right at order 1 and has no such derivative.  Then
    <u, J d> and <u^T J, d> are not equal, and `along` returns no elements.
    """

    def __init__(self, ys: Sequence[Tensor], leaves: Sequence[Tensor], us: Arrays, gradients: Arrays) -> None:
        self.us = [Tensor(u, requires_grad=True) for u in us]
        self.gradients = gradients
        try:
            self.rows: tuple[Tensor, ...] = grad(ys, leaves, self.us, True, allow_unused=True)
        except Exception:  # whatever a rule raises that cannot be differentiated
            self.rows = ()

    def along(self, i: int, d: np.ndarray) -> np.ndarray:
        """The elements of `J d` for d in input i."""
        if not self.rows:
            return np.zeros(0)
        try:
            products = [t.data for t in grad(self.rows[i], self.us, from_array(d), allow_unused=True)]
        except Exception:  # as above
            return np.zeros(0)
        terms = self.gradients[i] * d
        product = sum(float(np.sum(u.data * p)) for u, p in zip(self.us, products, strict=True))
        same = abs(product - float(terms.sum())) <= 1e-9 * float(np.linalg.norm(terms)) + MACHINE_EPS
        return flat(products) if same else np.zeros(0)

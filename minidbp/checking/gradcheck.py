"""Is a derivative right?  Compare it with differences, at any order.

The second derivative is the first derivative of the backward pass: of F(x, v) = v^T J(x), in x and in v.  The third is
the same done to F.  So one comparison, `_check_first`, serves every order.  Cotangents are random, from a seeded
generator: with a vector of ones, errors can cancel (every row of softmax's Jacobian sums to 0).
"""

import math
from collections.abc import Sequence

import numpy as np

from minidbp.autodiff.differentiate import Function, grad_or_zeros, operations, several
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, TensorLike, as_tensor, recording, wrap
from minidbp.checking.finite_differences import (
    MACHINE_EPS,
    Difference,
    Functions,
    directional_difference,
)
from minidbp.checking.likely_cause import likely_cause

FULL = 20_000  # entries of a Jacobian up to which every one is compared
DIRECTIONS = 2  # for larger ones
TRIES = 20  # directions to draw when kinks are in the way

ORDINALS = {1: "first", 2: "second", 3: "third"}


class GradcheckError(AssertionError):
    """A derivative does not agree with differences; the message says where, both values, and the likely cause.

    Attributes: order, operations (names in the graph), input (its number), cause (empty if not recognised).
    """

    def __init__(self, message: str, order: int, operations: list[str], input: int, cause: str) -> None:
        super().__init__(message)
        self.order, self.operations, self.input, self.cause = order, operations, input, cause


def gradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the first derivative of f in each of its inputs agrees with differences; see `check_derivatives`."""
    return check_order(f, inputs, 1, rtol, seed)


def gradgradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the derivatives of v^T J(x), in x and in v, agree with differences; see `check_derivatives`.

    Order 2 alone: that v^T J(x) is itself right is gradcheck's to say.
    """
    return check_order(f, inputs, 2, rtol, seed)


def check_derivatives(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int = 2, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """True if all derivatives of f up to `order` agree with differences; raises an error if not.

    f takes the inputs, float64, as Tensors and returns one Tensor.  Every entry of the Jacobian is compared if it has
    up to 20,000, and a few random directions otherwise.  An entry may be wrong by rtol times the largest entry of that
    input's Jacobian, plus what rounding does to a difference of f's values: a tiny derivative has a tiny allowance.
    The rules are called with one cotangent and with many, with inputs and cotangents contiguous, not, and broadcast.

    Raises GradcheckError for a wrong derivative; NotDifferentiableError where a kink is too close to tell; TypeError
    if an input, or what f makes of it, is not float64; ValueError for an order below 1.
    """
    if order < 1:
        raise ValueError(f"check_derivatives: the order must be at least 1; got {order}")
    return _check(f, inputs, list(range(1, order + 1)), rtol, seed)


def check_order(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """`check_derivatives` of one order alone."""
    return _check(f, inputs, [order], rtol, seed)


def _check(f: Function, inputs: TensorLike | Sequence[TensorLike], orders: list[int], rtol: float, seed: int) -> bool:
    xs = [_array(value, i) for i, value in enumerate(several(inputs))]
    rng = np.random.default_rng(seed)

    level: Functions = lambda ts: [f(*ts)]  # noqa: E731
    for order in range(1, max(orders) + 1):
        if order in orders:
            _check_first(level, xs, order, rtol, rng)
        if order < max(orders):
            vs = [rng.standard_normal(y.shape) for y in level(_leaves(xs))]
            level, xs = pulled_back(level, len(xs)), xs + vs
    return True


def pulled_back(f: Functions, n: int) -> Functions:
    """F(x, v) = v^T J(x), one output for each of f's n inputs: its derivatives are f's next ones."""

    def pull(ts: list[Tensor]) -> list[Tensor]:
        create_graph = any(t.requires_grad for t in ts)
        xs = [t if t.requires_grad else _variable(t) for t in ts[:n]]
        with recording(True):
            ys = f(xs)
        return grad_or_zeros(ys, xs, ts[n:], create_graph)

    return pull


def _variable(t: Tensor) -> Tensor:
    t = t.detach()
    t.requires_grad = True
    return t


def _check_first(f: Functions, xs: list[np.ndarray], order: int, rtol: float, rng: np.random.Generator) -> None:
    """Compare the first derivatives of f, which are the `order`-th of the function under test."""
    leaves = _leaves(xs)
    ys = f(leaves)
    for y in ys:
        if y.dtype != np.float64:
            raise TypeError(f"an operation changed the dtype: float64 went in, {y.dtype} came out of {operations([y])}")
    report = _Report(order, operations(ys), rtol)
    n, m = sum(x.size for x in xs), sum(y.size for y in ys)
    if n * m <= FULL:
        _compare_all(f, xs, leaves, ys, report, rng)
    else:
        _compare_directions(f, xs, leaves, ys, report, rng)
    for i, (x, leaf) in enumerate(zip(xs, leaves, strict=True)):  # leaves hold copies of their own
        if not np.array_equal(x, leaf.data, equal_nan=True):
            raise GradcheckError(f"input {i} was changed by the computation", order, report.operations, i, "")


def _compare_all(
    f: Functions,
    xs: list[np.ndarray],
    leaves: list[Tensor],
    ys: list[Tensor],
    report: "_Report",
    rng: np.random.Generator,
) -> None:
    """Every entry of the Jacobian of every output in every input."""
    columns: list[list[Difference]] = []
    for i, x in enumerate(xs):
        columns.append([])
        for j in range(x.size):
            direction = [np.zeros_like(other) for other in xs]
            direction[i].flat[j] = 1.0
            columns[-1].append(directional_difference(f, xs, direction))
    turned_leaves = _leaves([np.array(x, order="F") for x in xs])  # the same numbers, laid out the other way
    turned_ys = f(turned_leaves)
    for k, y in enumerate(ys):
        rows = np.eye(y.size).reshape(y.size, *y.shape)
        analytic = _pull_one(y, leaves, rows)
        v, same = rng.standard_normal(y.shape), np.broadcast_to(rng.standard_normal(), y.shape)
        size = float(np.abs(v).max(initial=0.0) * np.abs(y.data).max(initial=0.0))
        others = [
            ("one cotangent", v, _pull_one(y, leaves, v)),
            ("a non-contiguous cotangent", v, _pull_one(y, leaves, np.array(v, order="F"))),
            ("a broadcast cotangent", same, _pull_one(y, leaves, same)),
            ("non-contiguous inputs", v, _pull_one(turned_ys[k], turned_leaves, v)),
        ]
        for i, x in enumerate(xs):
            a = analytic[i].reshape(y.size, x.size)
            if not a.size:
                continue
            numeric = np.stack([d.values[k].reshape(-1) for d in columns[i]], axis=1)
            rounding = max(d.rounding for d in columns[i])
            step = max(d.step for d in columns[i])
            report.compare(a, numeric, rounding, step, k, i, y.shape, x.shape)
            for what, u, pulled in others:
                report.consistent(what, pulled[i].reshape(-1), u.reshape(-1) @ a, size, i, x.shape)


def _compare_directions(
    f: Functions,
    xs: list[np.ndarray],
    leaves: list[Tensor],
    ys: list[Tensor],
    report: "_Report",
    rng: np.random.Generator,
) -> None:
    """<u, J d> for random u and d, input by input: for functions with large Jacobians."""
    us = [rng.standard_normal(y.shape) for y in ys]

    def along(ts: list[Tensor]) -> list[Tensor]:
        return [(y * u).sum() for y, u in zip(f(ts), us, strict=True)]

    gradients = [g.data for g in grad_or_zeros(ys, leaves, [wrap(u) for u in us], False)]
    for i, x in enumerate(xs):
        if not x.size:
            continue
        for _ in range(DIRECTIONS):
            d, found = smooth_direction(along, xs, i, gradients[i], rng)
            analytic = float(np.vdot(gradients[i], d))
            numeric = float(np.sum(found.values))
            # what <g, d> is for a d that is random: errors are measured against that, not against a lucky small value
            scale = float(np.linalg.norm(gradients[i]) * np.linalg.norm(d)) / math.sqrt(x.size)
            report.compare_direction(analytic, numeric, scale, found, i)


def smooth_direction(
    f: Functions,
    xs: list[np.ndarray],
    i: int,
    gradient: np.ndarray,
    rng: np.random.Generator,
    where: np.ndarray | None = None,
) -> tuple[np.ndarray, Difference]:
    """A direction in input i along which no kink is crossed, and the difference along it.

    Random, of length 1, plus the gradient under test made as long: along a random direction alone, the derivative is
    smaller than the gradient by the root of the dimension, and rounding would hide errors.  It is 0 outside of `where`,
    a mask, as the gradient must be then.
    """
    why = ""
    size = float(np.linalg.norm(gradient))
    for _ in range(TRIES):
        d = rng.standard_normal(xs[i].shape)
        if where is not None:
            d = d * where
        d = d / np.linalg.norm(d)
        if size > 0:  # on the gradient's side: in one dimension they would cancel
            d = (d if np.vdot(d, gradient) >= 0 else -d) + gradient / size
        direction = [d if j == i else np.zeros_like(x) for j, x in enumerate(xs)]
        try:
            return d, directional_difference(f, xs, direction)
        except NotDifferentiableError as error:
            why = str(error)
    raise NotDifferentiableError(f"{why} (in each of {TRIES} random directions of input {i})")


class _Report:
    """Compares, and says what is wrong."""

    def __init__(self, order: int, names: list[str], rtol: float) -> None:
        self.order, self.operations, self.rtol = order, names, rtol

    def compare(
        self, analytic: np.ndarray, numeric: np.ndarray, rounding: float, step: float,
        output: int, input: int, y: tuple[int, ...], x: tuple[int, ...],
    ) -> None:  # fmt: skip
        difference = np.abs(analytic - numeric)
        allowed = self.rtol * float(np.abs(numeric).max()) + rounding
        if (difference <= allowed).all():  # False for NaN too
            return
        row, column = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape)
        at, of = _index(column, x), _index(row, y)
        cause = likely_cause(analytic, numeric, allowed, y, x, self.order)
        self.fail(
            f"the {ORDINALS.get(self.order, self.order)} derivative of {self._what()} is wrong: output {output} at "
            f"{of}, in input {input} at {at}, is {numeric[row, column]:.10g} by differences (step {step:.1g}) but "
            f"{analytic[row, column]:.10g} by its rule; {np.sum(~(difference <= allowed))} of {difference.size} "
            f"entries differ by more than {allowed:.1g}",
            input,
            cause,
        )

    def consistent(
        self, what: str, found: np.ndarray, expected: np.ndarray, size: float, input: int, x: tuple[int, ...]
    ) -> None:
        # rounding on the way is that of values as large as v y, whatever cancels in the end
        allowed = 1e-9 * float(np.abs(expected).max(initial=0.0)) + 1000 * MACHINE_EPS * size
        difference = np.abs(found - expected)
        if (difference <= allowed).all():
            return
        j = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        self.fail(
            f"the rules of {self._what()} give another answer for {what} than for many cotangents at "
            f"once: at {_index(j, x)} of input {input}, {found[j]:.10g} and {expected[j]:.10g}",
            input,
            "a rule that does not carry the extra leading axes of a cotangent, or counts on its memory layout",
        )

    def compare_direction(self, analytic: float, numeric: float, scale: float, found: Difference, input: int) -> None:
        allowed = self.rtol * max(scale, abs(numeric)) + found.rounding
        if abs(analytic - numeric) <= allowed:
            return
        cause = likely_cause(np.array([[analytic]]), np.array([[numeric]]), allowed, (), (), self.order)
        self.fail(
            f"the {ORDINALS.get(self.order, self.order)} derivative of {self._what()} along a random direction of "
            f"input {input} is {numeric:.10g} by differences (step {found.step:.1g}) but {analytic:.10g} by its rules "
            f"(allowed difference {allowed:.1g})",
            input,
            cause,
        )

    def fail(self, message: str, input: int, cause: str) -> None:
        tail = f"; likely cause: {cause}" if cause else ""
        raise GradcheckError(message + tail, self.order, self.operations, input, cause)

    def _what(self) -> str:
        if not self.operations:
            return "f, which left no graph,"
        return " -> ".join(self.operations[:8]) + (" -> ..." if len(self.operations) > 8 else "")


def _index(flat: int | np.integer, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(flat, shape)) if shape else ()


def _pull_one(y: Tensor, leaves: list[Tensor], v: np.ndarray) -> list[np.ndarray]:
    cotangent = wrap(v.view() if 0 in v.strides else v.copy(order="K"))  # a copy would lose a broadcast's strides
    pulled = [g.data for g in grad_or_zeros([y], leaves, [cotangent], False)]
    if not np.array_equal(cotangent.data, v):
        raise GradcheckError("a rule changed the cotangent it was given", 1, operations([y]), 0, "")
    return pulled


def _leaves(xs: list[np.ndarray]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True, name=f"input {i}") for i, x in enumerate(xs)]


def _array(value: TensorLike, i: int) -> np.ndarray:
    x = as_tensor(value)
    if x.dtype != np.float64:
        raise TypeError(f"gradcheck needs float64, where differences are exact enough; input {i} is {x.dtype}")
    return np.array(x.data, order="C")

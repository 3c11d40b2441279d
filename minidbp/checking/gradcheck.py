"""gradcheck: the derivatives of a function compared with finite differences, at any order.

The second derivative is the first derivative of the backward pass: of F(x, v) = v^T J(x), in x and in v.  The third is
the same done to F.  So one comparison, `_Comparison`, serves every order.  The cotangents are random, from a seeded
generator: with a vector of ones, errors can cancel (every row of softmax's Jacobian sums to 0).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.differentiate import Function, as_list, grad_or_zeros, operation_names
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, TensorLike, as_tensor, from_array, recording
from minidbp.checking.finite_differences import MACHINE_EPS, Arrays, Difference, Functions, directional_difference

MAX_ENTRIES = 20_000  # of a Jacobian: up to here every entry is compared, beyond it random directions
DIRECTIONS = 2  # for each input
TRIES = 20  # directions that are drawn while kinks are in the way

ORDINALS = {1: "first", 2: "second", 3: "third"}
UNEVEN = "a rule that does not carry the extra leading axes of a cotangent, or relies on its memory layout"


class GradcheckError(AssertionError):
    """A derivative differs from finite differences.  The message says where, both values, and the likely cause.

    Attributes:
        order: The order of the wrong derivative.
        operations: The names of the operations in the graph.
        input: The number of the input.
        cause: The likely cause, empty if none was recognised.
    """

    def __init__(self, message: str, order: int, operations: list[str], input: int, cause: str = "") -> None:
        super().__init__(f"{message}; likely cause: {cause}" if cause else message)
        self.order, self.operations, self.input, self.cause = order, operations, input, cause


def gradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the first derivative of f in each of its inputs agrees with differences; see `check_derivatives`."""
    return check_order(f, inputs, 1, rtol, seed)


def gradgradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the derivatives of v^T J(x), in x and in v, agree with differences; see `check_derivatives`.

    This checks order 2 alone.  Whether v^T J(x) itself is right is checked by `gradcheck`.
    """
    return check_order(f, inputs, 2, rtol, seed)


def check_derivatives(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int = 2, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """True if all derivatives of f up to `order` agree with finite differences; raises an error if not.

    Every entry of the Jacobian is compared if there are at most 20,000, else a few random directions.  The rules are
    called with one cotangent and with many, and with inputs and cotangents in as_list memory layouts.

    Args:
        f: Takes the inputs as float64 Tensors and returns one Tensor.
        inputs: One input or a sequence of them.
        order: The highest order.
        rtol: How wrong an entry may be, relative to the largest entry of that input's Jacobian; what rounding does to
            a difference of f's values is allowed beside it.  So a tiny derivative has a tiny allowance.
        seed: For the random cotangents and directions.

    Raises:
        GradcheckError: A derivative is wrong.
        NotDifferentiableError: A kink is too close to decide.
        TypeError: An input, or what f makes of it, is not float64.
        ValueError: The order is below 1.
    """
    if order < 1:
        raise ValueError(f"check_derivatives: the order must be at least 1; got {order}")
    return all(check_order(f, inputs, k, rtol, seed) for k in range(1, order + 1))


def check_order(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """`check_derivatives` of one order alone."""
    rng = np.random.default_rng(seed)
    xs = [_float64_array(value, i) for i, value in enumerate(as_list(inputs))]
    _Comparison(*pull_back(lambda ts: [f(*ts)], xs, order - 1, rng), order, rtol, rng).run()
    return True


def pull_back(
    f: Functions, xs: list[np.ndarray], times: int, rng: np.random.Generator
) -> tuple[Functions, list[np.ndarray]]:
    """`vjp_function` applied `times` times to f, and the arrays to call the result with: xs, then random cotangents."""
    for _ in range(times):
        vs = [rng.standard_normal(y.shape) for y in f(_leaves(xs))]
        f, xs = vjp_function(f, len(xs)), [*xs, *vs]
    return f, xs


def vjp_function(f: Functions, n: int) -> Functions:
    """F(x, v) = v^T J(x), with one output for each of f's n inputs: the derivatives of F are f's next ones."""

    def pulled(ts: list[Tensor]) -> list[Tensor]:
        create_graph = any(t.requires_grad for t in ts)
        xs = [t if t.requires_grad else t.detach() for t in ts[:n]]
        for x in xs:
            x.requires_grad = True
        with recording(True):
            ys = f(xs)
        return grad_or_zeros(ys, xs, ts[n:], create_graph)

    return pulled


class Slope(NamedTuple):
    """A derivative along a direction: by the rules, by differences, and the size that errors are relative to."""

    analytic: float
    numeric: float
    size: float
    rounding: float
    step: float

    def allowed(self, rtol: float) -> float:
        return rtol * self.size + self.rounding


def smooth_slope(
    f: Functions, xs: Arrays, i: int, gradient: np.ndarray, rng: np.random.Generator, where: np.ndarray | None = None
) -> Slope:
    """The slope of the sum of f's outputs along a direction in input i that crosses no kink.

    The direction is random, of length 1, plus the gradient under test scaled to length 1.  Along a random direction
    alone, the slope is smaller than the gradient by the root of the dimension, and rounding would hide errors.  It is 0
    outside the mask `where`.

    Raises:
        NotDifferentiableError: Kinks are in the way of all 20 directions that were drawn.
    """
    why = ""
    where = np.ones(xs[i].shape, bool) if where is None else where
    gradient = np.where(where, gradient, 0.0)
    length = float(np.linalg.norm(gradient))
    for _ in range(TRIES):
        d = rng.standard_normal(xs[i].shape) * where
        d = d / np.linalg.norm(d)
        if length > 0:  # on the gradient's side: in one dimension the two would cancel
            d = (d if np.vdot(d, gradient) >= 0 else -d) + gradient / length
        try:
            difference = directional_difference(f, xs, _in_input(i, d, xs))
        except NotDifferentiableError as error:
            why = str(error)
            continue
        analytic, numeric = float(np.vdot(gradient, d)), float(np.sum(difference.values))
        # the size of <gradient, d> for a random d: a slope that is small by luck has no smaller allowance
        size = max(length * float(np.linalg.norm(d)) / math.sqrt(d.size), abs(numeric))
        return Slope(analytic, numeric, size, difference.rounding, difference.step)
    raise NotDifferentiableError(f"{why} (in each of {TRIES} random directions of input {i})")


class _Comparison:
    """The first derivatives of f at xs against differences; they are the `order`-th ones of the function under test."""

    def __init__(self, f: Functions, xs: list[np.ndarray], order: int, rtol: float, rng: np.random.Generator) -> None:
        self.f, self.xs, self.order, self.rtol, self.rng = f, xs, order, rtol, rng
        self.leaves = _leaves(xs)
        self.ys = f(self.leaves)
        self.operations = operation_names(self.ys)
        names = " -> ".join([*self.operations[:8], *(["..."] if len(self.operations) > 8 else [])])
        self.subject = names or "f, which left no graph,"
        self.derivative = f"the {ORDINALS.get(order, f'{order}th')} derivative of {self.subject}"

    def run(self) -> None:
        for y in self.ys:
            if y.dtype != np.float64:
                came_out = f"{y.dtype} came out of {operation_names([y])}"
                raise TypeError(f"an operation changed the dtype: float64 went in, {came_out}")
        if sum(x.size for x in self.xs) * sum(y.size for y in self.ys) <= MAX_ENTRIES:
            columns = [[self._column(i, j) for j in range(x.size)] for i, x in enumerate(self.xs)]
            for k in range(len(self.ys)):
                self._compare_entries(k, columns)
        else:
            self._compare_directions()
        for i, (x, leaf) in enumerate(zip(self.xs, self.leaves, strict=True)):  # the leaves hold copies
            if not np.array_equal(x, leaf.data, equal_nan=True):
                raise self._error(f"input {i} was changed by the computation", i)

    def _column(self, i: int, j: int) -> Difference:
        """The derivatives in element j of input i, by differences."""
        unit = np.zeros_like(self.xs[i])
        unit.flat[j] = 1.0
        return directional_difference(self.f, self.xs, _in_input(i, unit, self.xs))

    def _compare_entries(self, k: int, columns: list[list[Difference]]) -> None:
        """Every entry of output k's Jacobian, then the same rules called in other ways."""
        y = self.ys[k]
        fortran_leaves = _leaves([np.array(x, order="F") for x in self.xs])  # the same numbers in another layout
        fortran_y = self.f(fortran_leaves)[k]
        jacobians = self._pull(y, self.leaves, np.eye(y.size).reshape(y.size, *y.shape))
        v, same = self.rng.standard_normal(y.shape), np.broadcast_to(self.rng.standard_normal(), y.shape)
        variants = [
            ("one cotangent", v, self._pull(y, self.leaves, v)),
            ("a non-contiguous cotangent", v, self._pull(y, self.leaves, np.array(v, order="F"))),
            ("a broadcast cotangent", same, self._pull(y, self.leaves, same)),
            ("non-contiguous inputs", v, self._pull(fortran_y, fortran_leaves, v)),
        ]
        # intermediate values may be as large as v y, whatever cancels in the end: so is their rounding
        rounding = 1000 * MACHINE_EPS * float(np.abs(v).max(initial=0.0) * np.abs(y.data).max(initial=0.0))
        for i, x in enumerate(self.xs):
            if not x.size or not y.size:
                continue
            J = jacobians[i].reshape(y.size, x.size)
            self._compare_jacobian(J, columns[i], k, i)
            for what, u, pulled in variants:
                expected, got = u.reshape(-1) @ J, pulled[i].reshape(-1)
                difference = np.abs(got - expected)
                if not (difference <= 1e-9 * float(np.abs(expected).max()) + rounding).all():
                    j = _worst(difference)
                    message = (
                        f"the rules of {self.subject} give another answer for {what} than for many cotangents at "
                        f"once: at {_index(j, x.shape)} of input {i}, {got[j]:.10g} and {expected[j]:.10g}"
                    )
                    raise self._error(message, i, UNEVEN)

    def _compare_jacobian(self, analytic: np.ndarray, columns: list[Difference], k: int, i: int) -> None:
        x, y = self.xs[i].shape, self.ys[k].shape
        numeric = np.stack([d.values[k].reshape(-1) for d in columns], axis=1)
        difference = np.abs(analytic - numeric)
        allowed = self.rtol * float(np.abs(numeric).max()) + max(d.rounding for d in columns)
        if (difference <= allowed).all():  # False for NaN too
            return
        row, column = np.unravel_index(_worst(difference), difference.shape)
        message = (
            f"{self.derivative} is wrong: output {k} at {_index(row, y)}, "
            f"in input {i} at {_index(column, x)}, is {numeric[row, column]:.10g} by differences "
            f"(step {max(d.step for d in columns):.1g}) but {analytic[row, column]:.10g} by its rule; "
            f"{np.sum(~(difference <= allowed))} of {difference.size} entries differ by more than {allowed:.1g}"
        )
        raise self._error(message, i, likely_cause(analytic, numeric, allowed, y, x, order=self.order))

    def _compare_directions(self) -> None:
        """<u, J d> for random u and d, input by input."""
        us = [self.rng.standard_normal(y.shape) for y in self.ys]

        def dot_u(ts: list[Tensor]) -> list[Tensor]:
            return [(y * u).sum() for y, u in zip(self.f(ts), us, strict=True)]

        gradients = grad_or_zeros(self.ys, self.leaves, [from_array(u) for u in us], False)
        for i, gradient in ((i, g.data) for i, g in enumerate(gradients) if g.size):
            for _ in range(DIRECTIONS):
                slope = smooth_slope(dot_u, self.xs, i, gradient, self.rng)
                allowed, (analytic, numeric) = slope.allowed(self.rtol), slope[:2]
                if not abs(analytic - numeric) <= allowed:
                    message = (
                        f"{self.derivative} along a random direction of input {i} "
                        f"is {numeric:.10g} by differences (step {slope.step:.1g}) but {analytic:.10g} by its rules "
                        f"(allowed difference {allowed:.1g})"
                    )
                    one_by_one = np.array([[analytic]]), np.array([[numeric]])
                    raise self._error(message, i, likely_cause(*one_by_one, allowed, (), (), order=self.order))

    def _pull(self, y: Tensor, leaves: list[Tensor], v: np.ndarray) -> list[np.ndarray]:
        """The cotangents of the leaves for the cotangent v of y."""
        cotangent = from_array(v.view() if 0 in v.strides else v.copy(order="K"))  # a copy loses a broadcast's strides
        pulled = [g.data for g in grad_or_zeros([y], leaves, [cotangent], False)]
        if not np.array_equal(cotangent.data, v):
            raise self._error("a rule changed the cotangent that was passed to it", 0)
        return pulled

    def _error(self, message: str, i: int, cause: str = "") -> GradcheckError:
        return GradcheckError(message, self.order, self.operations, i, cause)


def likely_cause(
    analytic: np.ndarray, numeric: np.ndarray, allowed: float, y: tuple[int, ...], x: tuple[int, ...], *, order: int
) -> str:
    """The most likely cause of a wrong Jacobian, in words; empty if none is recognised.

    Args:
        analytic, numeric: The Jacobian by the rules and by differences, of shape (size of y, size of x).
        allowed: The difference that is no error.
        y, x: The shapes of the output and of the input.
        order: The order of the derivative.
    """
    if not np.isfinite(analytic).all():
        return "the rule divides by zero or overflows"
    if not (np.isfinite(numeric).all() and np.isfinite(allowed)):
        return "the function itself is not finite here"
    if np.abs(analytic).max() <= allowed:
        if order == 1:
            return "the derivative is lost: a value was detached, or captured as a constant"
        return "a term of the backward pass was captured as a constant: a raw array saved in a rule, a detached value"
    factor = float(np.vdot(numeric, analytic) / np.vdot(numeric, numeric)) if np.any(numeric) else np.nan
    if np.abs(analytic - factor * numeric).max() <= 10 * allowed:
        return "the sign is wrong" if abs(factor + 1) < 1e-4 else f"the result is {factor:.6g} times what it should be"
    for what, shape, offset in ("gradient", x, len(y)), ("cotangent", y, 0):
        if len(shape) >= 2 and shape[-1] == shape[-2]:
            last = offset + len(shape) - 1
            swapped = analytic.reshape(*y, *x).swapaxes(last, last - 1).reshape(analytic.shape)
            if np.abs(swapped - numeric).max() <= allowed:
                return f"the {what} is transposed"
    wrong = np.abs(analytic - numeric) > allowed
    if np.abs(analytic[wrong]).max() <= allowed:
        return "a term is dropped: the entries that are wrong are 0"
    if np.allclose(np.sort(analytic, axis=None), np.sort(numeric, axis=None), rtol=0, atol=allowed):
        return "the right numbers stand in the wrong places: an axis, a stride or a flip"
    if np.allclose(analytic.sum(axis=1), numeric.sum(axis=1), rtol=0, atol=allowed * analytic.shape[1]):
        return "each output's derivative is spread over the wrong elements of the input"
    ratio = analytic[wrong] / np.where(numeric[wrong] == 0, np.nan, numeric[wrong])
    if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-4 * np.abs(ratio).max():
        return f"some entries are {ratio.mean():.6g} times what they should be: a term is missing or counted twice"
    return ""


def _worst(difference: np.ndarray) -> int:
    """The flat index of the largest difference, or of a NaN."""
    return int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))


def _index(flat: int | np.integer, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(flat, shape)) if shape else ()


def _in_input(i: int, direction: np.ndarray, xs: Arrays) -> list[np.ndarray]:
    """A direction in input i alone."""
    return [direction if j == i else np.zeros_like(x) for j, x in enumerate(xs)]


def _leaves(xs: list[np.ndarray]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True, name=f"input {i}") for i, x in enumerate(xs)]


def _float64_array(value: TensorLike, i: int) -> np.ndarray:
    x = as_tensor(value)
    if x.dtype != np.float64:
        raise TypeError(f"gradcheck needs float64, where differences are accurate enough; input {i} is {x.dtype}")
    return np.array(x.data, order="C")

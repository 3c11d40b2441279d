"""The first derivatives of one function against finite differences, each entry of the Jacobian or along directions."""

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np

from minidbp.autodiff.differentiate import constant_operands, grad_or_zeros, operation_names
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, from_array
from minidbp.checking.causes import AFFINE, CHANGING, LAYOUT, LEADING_AXES, NARROW, NOT_LINEAR, likely_cause
from minidbp.checking.directions import Tangents, blocks_of_similar_size, smooth_difference
from minidbp.checking.errors import GradcheckError, UndecidedError
from minidbp.checking.finite_differences import (
    MACHINE_EPS,
    Difference,
    Differences,
    Functions,
    in_input,
    moved,
    random_signs,
    rounding_noise,
    smoothly_changing,
    step_scale,
    tiny_direction,
)

MAX_ENTRIES, MAX_COLUMNS = 20_000, 1_000  # of a Jacobian: up to here every entry is compared, beyond it directions
ROWS = 256  # of the Jacobian, in one backward pass
DIRECTIONS = 2  # in each block of elements

DOUBTFUL = 1e-4  # a difference that may be further off than this, relative to the derivative, gets a second look
JUDGED = 3e-3  # and one that then may be further off than this decides nothing
NEGLIGIBLE = 1e-5  # relative to the largest entry of the same output: rounding may hide entries smaller than this
NEGLIGIBLE_OUTPUT = 1e-8  # relative to the largest entry of all: rounding may hide the derivative of such an output
ZERO, ZERO_ERROR = 8 * MACHINE_EPS, 1e-9  # relative to the largest value, and absolute: the output is constant
RULE_ROUNDING = 8 * MACHINE_EPS  # of a rule, relative to the largest entry of the same output

ORDINALS = {1: "first", 2: "second", 3: "third"}


class Comparison:
    """The first derivatives of f at xs against differences; they are the `order`-th ones of the function under test."""

    def __init__(self, f: Functions, xs: list[np.ndarray], order: int, rtol: float, rng: np.random.Generator) -> None:
        self.f, self.xs, self.order, self.rtol, self.rng = f, xs, order, rtol, rng
        self.leaves = _leaves(xs)
        self.ys = f(self.leaves)
        self.largest = max(1.0, *(float(np.abs(a).max(initial=0.0)) for a in (*xs, *(y.data for y in self.ys))))
        self.operations = operation_names(self.ys)
        names = " -> ".join([*self.operations[:8], *(["..."] if len(self.operations) > 8 else [])])
        self.subject = names or "f, which left no graph,"
        self.derivative = f"the {ORDINALS.get(order, f'{order}th')} derivative of {self.subject}"

    def run(self) -> None:
        self._check_values()
        for k in range(len(self.ys)):
            self._compare_calls(k)
        self.noise = rounding_noise(self.f, self.xs, self.rng)
        self.differences = Differences(self.f, self.xs, self.noise)
        rows, columns = sum(y.size for y in self.ys), sum(x.size for x in self.xs)
        if rows * columns <= MAX_ENTRIES and columns <= MAX_COLUMNS:
            self._compare_entries()
        else:
            self._compare_directions()

    # -- before any comparison -----------------------------------------------------------------------------------------

    def _check_values(self) -> None:
        """f must have finite float64 values, the same ones at every call, and constants that are constant."""
        for y in self.ys:
            if y.dtype != np.float64:
                came_out = f"{y.dtype} came out of {operation_names([y])}"
                raise TypeError(f"an operation changed the dtype: float64 went in, {came_out}")
        name = "the function" if self.order == 1 else f"its derivative of order {self.order - 1}"
        for what, arrays in (("input {} is", self.xs), (f"{name} ({self.subject}) is", [y.data for y in self.ys])):
            for k, array in enumerate(arrays):
                finite = np.isfinite(array)
                if not finite.all():
                    at = index_of(int(np.argmin(finite)), array.shape)
                    raise UndecidedError(f"{what.format(k)} {array[at]} at {at}: choose inputs where it is finite")
        for y, other in zip(self.ys, self.f(_leaves(self.xs)), strict=True):
            if other is y:
                raise self.error(f"{self.subject} returns a Tensor from an earlier call", 0, CHANGING)
            if not np.array_equal(y.data, other.data):
                raise self.error(f"{self.subject} returns other values when it is called again", 0, CHANGING)
        if name := smoothly_changing(self.f, self.xs, self.rng):
            cause = "locally_constant is for masks, signs and indices: a rule must use this value as a Tensor"
            raise self.error(f"{name} declares an array locally constant that changes smoothly", 0, cause)

    # -- every entry ---------------------------------------------------------------------------------------------------

    def _compare_entries(self) -> None:
        """The whole Jacobian J: a row for each element of the outputs, a column for each element of the inputs."""
        if not any(x.size for x in self.xs) or not any(y.size for y in self.ys):
            return
        J = np.concatenate([self._jacobian(y) for y in self.ys])
        places = [(i, j) for i, x in enumerate(self.xs) for j in range(x.size)]  # of the columns
        differences = [self._column(i, j) for i, j in places]
        numeric = np.stack([flat(d.values) for d in differences], axis=1)
        error = np.stack([flat(d.errors) for d in differences], axis=1)
        refined = np.zeros(len(places), bool)  # the columns that had a second look
        while True:
            wrong, doubtful, hidden, excess = self._judge(J, numeric, error)
            left = (wrong | doubtful).any(axis=0) & ~refined
            if (wrong & refined).any() or not left.any():
                break
            column = int(np.argmax(np.where(left, excess.max(axis=0), -1.0)))  # the worst first
            best = self._column(*places[column], refine=True)
            numeric[:, column], error[:, column] = flat(best.values), flat(best.errors)
            refined[column] = True
        if wrong.any():
            self._report_entry(J, numeric, error, np.where(wrong, excess, -1.0))
        if hidden.any():
            row, column = np.argwhere(hidden)[0]
            raise undecided(differences[column].why, J[row, column], numeric[row, column], error[row, column])

    def _judge(self, J: np.ndarray, numeric: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, ...]:
        """Which entries are wrong, need a second look, are hidden by rounding; and the errors per what is allowed."""
        size = np.fmax(np.abs(J), np.abs(numeric))
        of_output = size.max(axis=1, keepdims=True, initial=0.0)
        difference, allowed = np.abs(J - numeric), self.rtol * np.abs(numeric) + error + RULE_ROUNDING * of_output
        differs = ~(difference <= allowed)  # for NaN too
        rounds = difference <= 4 * MACHINE_EPS * self.largest  # as much as intermediate values may be rounded
        negligible = NEGLIGIBLE_OUTPUT * float(of_output.max())
        constant = (of_output <= max(ZERO * self.largest, negligible)) & (error <= max(ZERO_ERROR, negligible))
        constant &= ~(differs & (np.abs(numeric) > 1e3 * error))  # a tiny function is no constant
        judgeable = ~constant & ((numeric != 0) | (J != 0))
        wrong, uncertain = differs & ~rounds, np.maximum(error, np.where(differs, difference, 0.0))
        doubtful = wrong | judgeable & (uncertain > DOUBTFUL * size) & (np.abs(J) > RULE_ROUNDING * of_output)
        hidden = ~wrong & judgeable & (uncertain > JUDGED * size) & (uncertain > NEGLIGIBLE * of_output)
        with np.errstate(all="ignore"):
            return wrong, doubtful | hidden, hidden, np.nan_to_num(difference / allowed, nan=np.inf)

    def _jacobian(self, y: Tensor) -> np.ndarray:
        """(size of y, size of all inputs), by the rules; a few hundred rows in each backward pass."""
        blocks = [np.zeros((0, sum(x.size for x in self.xs)))]
        for start in range(0, y.size, ROWS):
            n = min(ROWS, y.size - start)
            pulled = self.pull(y, self.leaves, np.eye(n, y.size, start).reshape(n, *y.shape))
            blocks.append(np.concatenate([g.reshape(n, -1) for g in pulled], axis=1))
        return np.concatenate(blocks)

    def _column(self, i: int, j: int, refine: bool = False) -> Difference:
        """The derivatives in element j of input i, by differences; with `refine`, from the best of many steps."""
        unit, scale = np.zeros_like(self.xs[i]), float(step_scale(self.xs[i].flat[j]))
        unit.flat[j] = scale
        method = self.differences.best_along if refine else self.differences.along
        difference = method(in_input(i, unit, self.xs))
        values, errors = ([a / scale for a in arrays] for arrays in (difference.values, difference.errors))
        return difference._replace(values=values, errors=errors)

    def _report_entry(self, J: np.ndarray, numeric: np.ndarray, error: np.ndarray, excess: np.ndarray) -> None:
        """Raise the error for the entry with the largest excess, which is -1 where an entry is right."""
        row, column = map(int, np.unravel_index(int(np.argmax(excess)), excess.shape))
        k, rows = _part(row, [y.size for y in self.ys])
        i, columns = _part(column, [x.size for x in self.xs])
        y, x, part = self.ys[k].data, self.xs[i], (rows, columns)
        message = (
            f"{self.derivative} is wrong: output {k} at {index_of(row - rows.start, y.shape)}, "
            f"in input {i} at {index_of(column - columns.start, x.shape)}, is {numeric[row, column]:.10g} "
            f"by differences (error at most {error[row, column]:.1g}) but {J[row, column]:.10g} by its rule; "
            f"{np.sum(excess[part] >= 0)} of {excess[part].size} entries differ"
        )
        allowed = self.rtol * np.abs(numeric[part]) + error[part]
        raise self.error(message, i, self._cause(J[part], numeric[part], allowed, y, x))

    # -- along directions ----------------------------------------------------------------------------------------------

    def _compare_directions(self) -> None:
        """`J d` and <u, J d> for random signs u and d, in each block of each input."""
        us = [random_signs(y.shape, self.rng) for y in self.ys]

        def with_product(ts: list[Tensor]) -> list[Tensor]:
            """f's outputs, and the sum over them of <u, y>."""
            ys = self.f(ts)
            products = [(y * u).sum() for y, u in zip(ys, us, strict=True)]
            return [*ys, functools.reduce(operator.add, products)]

        differences = Differences(with_product, self.xs, rounding_noise(with_product, self.xs, self.rng))
        gradients = [g.data for g in grad_or_zeros(self.ys, self.leaves, [from_array(u) for u in us], False)]
        total = math.sqrt(sum(float(np.sum((g * step_scale(x)) ** 2)) for g, x in zip(gradients, self.xs, strict=True)))
        tangents = Tangents(self.ys, self.leaves, us, gradients)
        for i, gradient in enumerate(gradients):
            for block in blocks_of_similar_size(gradient):
                for _ in range(DIRECTIONS if gradient.size else 0):
                    d, difference = smooth_difference(differences, i, block, self.rng)
                    Jd = tangents.along(i, d)
                    wrong, hidden = self._judge_direction(i, gradient * d, Jd, difference, total)
                    if wrong or hidden:
                        difference = differences.best_along(in_input(i, d, self.xs))
                        wrong, hidden = self._judge_direction(i, gradient * d, Jd, difference, total)
                    if wrong:
                        raise wrong
                    if hidden:
                        slope, error = float(difference.values[-1]), float(difference.errors[-1])
                        raise undecided(difference.why, float(np.sum(gradient * d)), slope, error)

    def _judge_direction(
        self, i: int, terms: np.ndarray, Jd: list[np.ndarray] | None, difference: Difference, total: float
    ) -> tuple[GradcheckError | None, bool]:
        """The error if a slope is wrong, and whether rounding hides the slope of <u, y>.

        terms: the products of gradient and direction, element by element.  total: the norm of the whole gradient.
        """
        numeric, error = flat(difference.values), flat(difference.errors)
        slope, size = float(terms.sum()), max(float(np.linalg.norm(terms)), abs(numeric[-1]) / math.sqrt(terms.size))
        if Jd is None:
            analytic, numeric, error = np.array([slope]), numeric[-1:], error[-1:]
            sizes, rounding = np.array([size]), np.array([RULE_ROUNDING * total])
        else:
            analytic = np.append(flat(Jd), slope)
            sizes = np.append(np.abs(numeric[:-1]), size)
            rounding = np.append(np.full(numeric.size - 1, 1e-12 * np.abs(analytic[:-1]).max()), RULE_ROUNDING * total)
        allowed = self.rtol * sizes + error + rounding
        wrong = ~(np.abs(analytic - numeric) <= allowed)
        if not wrong.any():
            small = (size <= ZERO * self.largest and error[-1] <= ZERO_ERROR) or error[-1] <= NEGLIGIBLE * total
            return None, bool(error[-1] > JUDGED * size and not small and (slope or numeric[-1]))
        row = int(np.argmax(wrong))
        where = "the sum of all outputs with random signs"
        if row < wrong.size - 1:
            k, rows = _part(row, [y.size for y in self.ys])
            where = f"output {k} at {index_of(row - rows.start, self.ys[k].shape)}"
        message = (
            f"{self.derivative} is wrong: along a random direction of input {i}, {where} has the slope "
            f"{numeric[row]:.10g} by differences (error at most {error[row]:.1g}) but {analytic[row]:.10g} by its rules"
        )
        compared = [a[:-1, None] if Jd else a[:, None] for a in (analytic, numeric, allowed)]
        cause = self._cause(*compared, np.zeros(len(compared[0])), np.zeros(()))
        return self.error(message, i, cause), False

    # -- the same rules, called in other ways --------------------------------------------------------------------------

    def _compare_calls(self, k: int) -> None:
        """The rules must be linear in the cotangent, carry leading axes over, and not depend on memory layouts."""
        y = self.ys[k]
        if not y.size:
            return
        fortran_leaves = _leaves([np.array(x, order="F") for x in self.xs])  # the same numbers in another layout
        fortran_y = self.f(fortran_leaves)[k]
        if not np.allclose(fortran_y.data, y.data, rtol=1e-9, atol=1e-12 * float(np.abs(y.data).max())):
            raise self.error(f"{self.subject} returns other values for inputs in Fortran order", 0, LAYOUT)

        def pull(u: np.ndarray) -> list[np.ndarray]:
            return self.pull(y, self.leaves, u)

        n = y.shape[0] if y.ndim and y.shape[0] * y.size <= MAX_ENTRIES else 2  # as many as fit a wrong transpose
        many = self.rng.standard_normal((max(n, 2), *y.shape))
        v, w, same = many[0], many[-1], np.broadcast_to(many.flat[0], y.shape)
        of_v, of_w, of_many, of_nested = pull(v), pull(w), pull(many), pull(many.reshape(1, *many.shape))
        calls = [
            ("the same cotangent again", pull(v), of_v, CHANGING),
            ("a cotangent of zeros", pull(np.zeros(y.shape)), [np.zeros(x.shape) for x in self.xs], AFFINE),
            ("a cotangent -2^20 times as large", [g / -(2.0**20) for g in pull(v * -(2.0**20))], of_v, NOT_LINEAR),
            ("a cotangent 2^-20 times as large", [g * 2.0**20 for g in pull(v / 2.0**20)], of_v, NOT_LINEAR),
            ("a sum of two cotangents", pull(v + w), [a + b for a, b in zip(of_v, of_w, strict=True)], NOT_LINEAR),
            ("one cotangent than for many at once", of_v, [g[0] for g in of_many], LEADING_AXES),
            ("one cotangent than for many at once", of_w, [g[-1] for g in of_many], LEADING_AXES),
            ("two leading axes", [g[0, -1] for g in of_nested], of_w, LEADING_AXES),
            ("a cotangent in Fortran order", pull(np.array(v, order="F")), of_v, LAYOUT),
            ("a broadcast cotangent", pull(same), pull(np.array(same)), LAYOUT),
            ("inputs in Fortran order", self.pull(fortran_y, fortran_leaves, v), of_v, LAYOUT),
        ]
        # Intermediate values may be as large as v y or v x, whatever cancels in the end, and so is their rounding.
        size = 1000 * float(np.abs(y.data).max()) + 64 * self.largest
        rounding = MACHINE_EPS * size * float(np.abs(many).max())
        for what, pulled, expected, cause in calls:
            for i, (got, wanted) in enumerate(zip(pulled, expected, strict=True)):
                difference = np.abs(got - wanted)
                if not (difference <= 1e-9 * np.abs(wanted).max(initial=0.0) + rounding).all():
                    at = index_of(int(np.argmax(np.nan_to_num(difference, nan=np.inf))), got.shape)
                    message = (
                        f"the rules of {self.subject} give another answer for {what}: "
                        f"in input {i} at {at}, {got[at]:.10g} instead of {wanted[at]:.10g}"
                    )
                    narrow = difference[at] <= 1e-5 * np.abs(wanted).max()  # the accuracy of float32
                    raise self.error(message, i, NARROW if narrow else cause)

    def pull(self, y: Tensor, leaves: list[Tensor], v: np.ndarray) -> list[np.ndarray]:
        """The cotangents of the leaves for the cotangent v of y."""
        v = np.asarray(v)  # arithmetic on arrays of shape () gives scalars
        cotangent = from_array(v.view() if 0 in v.strides else v.copy(order="K"))  # a copy loses a broadcast's strides
        try:
            pulled = [g.data for g in grad_or_zeros([y], leaves, [cotangent], False)]
        except NotDifferentiableError:
            raise
        except Exception as error:
            if not (notes := getattr(error, "__notes__", [])):  # the engine's own message names the operation
                raise
            raise self.error(f"{type(error).__name__}: {error}; {' '.join(notes)}", 0) from error
        if not np.array_equal(cotangent.data, v):
            raise self.error("a rule changed the cotangent that was passed to it", 0)
        for i, (x, leaf) in enumerate(zip(self.xs, leaves, strict=True)):  # the leaves hold copies
            if not np.array_equal(x, leaf.data):
                raise self.error(f"input {i} was changed by the computation", i)
        return pulled

    def _cause(self, *comparison: np.ndarray) -> str:
        """The likely cause: from the graph, where it shows there, or from the numbers that are compared."""
        further = self.f(_leaves(moved(self.xs, tiny_direction(self.xs, self.rng), 1.0)))
        for (name, here), (_, there) in zip(constant_operands(self.ys), constant_operands(further), strict=False):
            if here.shape == there.shape and not np.array_equal(here, there):
                return f"{name} was given a constant that depends on the inputs: a raw array, or a detached value"
        if cause := likely_cause(*comparison, order=self.order):
            return cause
        sizes = [max(float(np.abs(y.data).max(initial=0.0)), 1e-300) for y in self.ys]
        accuracy = max(float(e.max(initial=0.0)) / size for e, size in zip(self.noise, sizes, strict=False))
        return NARROW if accuracy > 1e-10 else ""

    def error(self, message: str, i: int, cause: str = "") -> GradcheckError:
        return GradcheckError(message, self.order, self.operations, i, cause)


def undecided(why: str, analytic: float, numeric: float, error: float) -> Exception:
    """The error for a derivative that the differences do not decide; `why` is what kept their steps small."""
    if why:
        return NotDifferentiableError(f"not differentiable here: {why}")
    return UndecidedError(
        f"the rule says {analytic:.6g}, differences say {numeric:.6g} with an error of up to {error:.1g}, as rounding "
        "in the function's values hides the derivative: leave out large terms that do not depend on the input"
    )


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """The elements of all arrays in one vector."""
    return np.concatenate([a.reshape(-1) for a in arrays])


def index_of(element: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element that is given by its number."""
    return tuple(int(k) for k in np.unravel_index(element, shape)) if shape else ()


def _part(element: int, sizes: list[int]) -> tuple[int, slice]:
    """The number of the part that holds an element of concatenated parts, and the elements of that part."""
    ends = np.cumsum(sizes)
    k = int(np.searchsorted(ends, element, side="right"))
    return k, slice(int(ends[k]) - sizes[k], int(ends[k]))


def _leaves(xs: Sequence[np.ndarray]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True, name=f"input {i}") for i, x in enumerate(xs)]

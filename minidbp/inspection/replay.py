"""Trace.check: is each step's rule the derivative of its operation at the inputs that the step had?

The rules are those that the computation used.  They are compared, along one random direction for each input, with
differences of the operation, which is run again in float64.  So a trace in float32 can be checked too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff.tensor import COMPLEX, Node, NotDifferentiableError, Tensor, from_array, recording, traced_by
from minidbp.checking.finite_differences import smooth_slope
from minidbp.inspection.steps import Leaf, Step, order_in_words
from minidbp.inspection.table import Table
from minidbp.inspection.values import watched

AGREES, WRONG, KINK, NO_DERIVATIVE, NOT_CHECKED = "agrees", "WRONG", "kink", "no derivative", "not checked"

# Allowed errors: of a derivative relative to its size along a random direction, of a value relative to the largest.
# float32 rounds by 6e-8, and a sum of thousands that cancel by much more.
RULE_TOLERANCE = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-4}
VALUE_TOLERANCE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}


@dataclass(frozen=True)
class ReplayedStep:
    """One step: the verdict, the largest relative error of its derivatives (None if none was compared), and why."""

    step: Step
    verdict: str
    error: float | None
    detail: str


@dataclass(frozen=True, repr=False)
class ReplayReport:
    """The result of `Trace.check`, with one row for each step."""

    rows: list[ReplayedStep]

    @property
    def wrong(self) -> list[ReplayedStep]:
        """The rows of the steps whose rule or value is wrong."""
        return [row for row in self.rows if row.verdict == WRONG]

    @property
    def ok(self) -> bool:
        """Whether no step is wrong."""
        return not self.wrong

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{self._table()!r}\n{self._summary()}"

    def _repr_html_(self) -> str:
        return f"{self._table()._repr_html_()}<p>{self._summary()}</p>"

    def _summary(self) -> str:
        verdicts = [row.verdict for row in self.rows]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        return f"{len(self.rows)} steps against finite differences: {counts or 'nothing to check'}"

    def _table(self) -> Table:
        rows = []
        for row in self.rows:
            s, error = row.step, "" if row.error is None else f"{row.error:.1e}"
            rows.append((s.label, s.name, s.formula, order_in_words(s.order), row.verdict, error, row.detail))
        columns = ("step", "operation", "formula", "order", "verdict", "error", "detail")
        return Table(columns, rows, [row.step.order for row in self.rows])


class _CheckEnded(Exception):
    """Ends the check of a step.  Its arguments are the verdict and the detail."""


def replay(steps: Sequence[Step], seed: int = 0) -> ReplayReport:
    """`Trace.check` of these steps."""
    rng = np.random.default_rng(seed)
    with traced_by(None), recording(False), np.errstate(all="ignore"):
        return ReplayReport([_replay(step, rng) for step in steps])


def _replay(step: Step, rng: np.random.Generator) -> ReplayedStep:
    errors: list[float] = []
    try:
        verdict, detail = AGREES, _compare(step, errors, rng)
    except _CheckEnded as end:
        verdict, detail = end.args
    except NotDifferentiableError as error:
        verdict, detail = KINK, str(error)
    return ReplayedStep(step, verdict, max(errors, default=None), detail)


def _compare(step: Step, errors: list[float], rng: np.random.Generator) -> str:
    """Compare the step's value and rules, append the errors of the rules, and return the detail for the report."""
    if step.node.function is watched:
        raise _CheckEnded(NOT_CHECKED, "it changes nothing, and would show what the check computes")
    if COMPLEX in (step.dtype, *(i.dtype for i in step.inputs)):
        raise _CheckEnded(NOT_CHECKED, "complex numbers: differences are taken of real ones")
    xs = [i.value.astype(np.float64) for i in step.inputs]
    try:
        exact = _run(step, [from_array(x.copy()) for x in xs]).data
    except Exception as error:  # whatever an operation raises
        raise _CheckEnded(NOT_CHECKED, f"it cannot be run again: {_in_words(error)}") from None
    if exact.dtype != np.float64:
        raise _CheckEnded(NOT_CHECKED, f"it rounds to {exact.dtype}: too inaccurate for a difference")
    _compare_values(step, exact)
    if not np.isfinite(exact).all():
        raise _CheckEnded(NOT_CHECKED, "its value is not finite: no difference to take")
    node, left_out = _node(step), 0
    for i, x in enumerate(xs):
        if x.size and exact.size:
            left_out += _compare_rule(step, node, i, xs, errors, rng)
    return f"{left_out} elements that are 0, on a kink, left out" if left_out else ""


def _run(step: Step, inputs: Sequence[Tensor]) -> Tensor:
    return step.node.function(*inputs, **step.node.static)


def _node(step: Step) -> Node:
    """The step's node, whose rules read its inputs; a new one at the inputs of then if they have new data now."""
    if not step.node.changed_inputs():
        return step.node
    leaves = [Tensor(i.value, requires_grad=True) for i in step.inputs]
    with recording(True):
        return _run(step, leaves)._node  # type: ignore[return-value]


def _compare_values(step: Step, exact: np.ndarray) -> None:
    if exact.shape != step.shape:
        raise _CheckEnded(WRONG, f"run again it has the shape {exact.shape} instead of {step.shape}")
    value, finite = step.value, np.isfinite(exact)
    largest = float(np.abs(exact[finite]).max(initial=0.0))
    same = np.array_equal(value[~finite], exact[~finite].astype(value.dtype), equal_nan=True)
    error = float(np.abs(value[finite] - exact[finite]).max(initial=0.0)) / (largest or 1.0)
    if not same or not error <= VALUE_TOLERANCE[step.dtype]:
        raise _CheckEnded(WRONG, f"run again in float64 the value differs by {error:.1e} of the largest")


def _compare_rule(
    step: Step, node: Node, i: int, xs: list[np.ndarray], errors: list[float], rng: np.random.Generator
) -> int:
    """Compare the rule of input i, append its errors, and return how many elements on a kink were left out."""
    us = rng.standard_normal((2, *step.shape)).astype(step.dtype)  # two cotangents at once, as a leading axis
    gradients, single = _pull(step, node, i, us), _pull(step, node, i, us[0, ...])
    constant = isinstance(step.inputs[i], Leaf) and not step.node.inputs[i].requires_grad
    if constant and not np.isfinite(gradients).all():
        return 0  # a derivative that was never asked for, as that of x ** p in a constant p where x < 0
    tolerance = RULE_TOLERANCE[step.dtype]
    if not np.allclose(single, gradients[0], rtol=0, atol=tolerance * np.abs(gradients).max()):
        raise _CheckEnded(WRONG, f"its rule for input {i} gives another answer for one cotangent than for two at once")
    u = from_array(us.astype(np.float64).sum(axis=0, keepdims=True).reshape(step.shape))

    def product(ts: list[Tensor]) -> list[Tensor]:
        return [(_run(step, ts) * u).sum()]

    left_out, gradient = 0, gradients.sum(axis=0)
    try:
        slope = smooth_slope(product, xs, i, gradient, rng)
    except NotDifferentiableError:
        smooth = xs[i] != 0  # relu and |x| have their kinks at 0
        if smooth.all() or not smooth.any():
            raise
        left_out = int(np.sum(~smooth))
        slope = smooth_slope(product, xs, i, gradient, rng, smooth)
    error = abs(slope.analytic - slope.numeric)
    errors.append(error / slope.size if slope.size else error)
    if not error <= slope.allowed(tolerance):
        raise _CheckEnded(
            WRONG,
            f"its rule for input {i} ({step.inputs[i].label}) gives {slope.analytic:.6g} along a random direction, "
            f"differences {slope.numeric:.6g}",
        )
    return left_out


def _pull(step: Step, node: Node, i: int, u: np.ndarray) -> np.ndarray:
    """The cotangent of input i, in float64, by the step's rule, for the cotangent u of the step."""
    try:
        return node.vjp(i, from_array(u.copy()), step.tensor).data.astype(np.float64)
    except NotDifferentiableError as error:  # as sign's rule does
        raise _CheckEnded(NO_DERIVATIVE, str(error)) from None
    except Exception as error:  # whatever a wrong rule raises
        raise _CheckEnded(WRONG, f"its rule for input {i} cannot be used: {_in_words(error)}") from None


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

"""Each step of a trace by itself: is its rule the derivative of its operation at the inputs that it had?

The rules are those that the computation used.  They are held against differences of the operation, which is run again
in float64, along one random direction for each input; so a trace in float32 can be checked too.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from minidbp.autodiff.tensor import COMPLEX, NotDifferentiableError, Rule, Tensor, recording, traced_by, wrap
from minidbp.checking.gradcheck import smooth_direction
from minidbp.inspection.steps import Step, order_in_words
from minidbp.inspection.table import Table
from minidbp.inspection.values import snapshot

AGREES, WRONG, KINK, NONE, UNCHECKED = "agrees", "WRONG", "kink", "no derivative", "not checked"

# Allowed errors of a derivative, relative to what it is along a random direction, and of a value, relative to the
# largest.  float32 rounds by 6e-8, and a sum of thousands that cancel by much more.
RULE = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-4}
VALUE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}


class ReplayedStep(NamedTuple):
    """One step: the verdict, the largest relative error of its derivatives (None if none was compared), and why."""

    step: Step
    verdict: str
    error: float | None
    detail: str


class ReplayReport:
    """What `Trace.check` found: `rows`, one for each step; `wrong`, those whose rule is; `ok`, that there are none."""

    def __init__(self, rows: Sequence[ReplayedStep]) -> None:
        self.rows = list(rows)

    @property
    def wrong(self) -> list[ReplayedStep]:
        return [row for row in self.rows if row.verdict == WRONG]

    @property
    def ok(self) -> bool:
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
        columns = ("step", "operation", "formula", "order", "verdict", "error", "detail")
        rows = [
            (
                row.step.label,
                row.step.name,
                row.step.formula,
                order_in_words(row.step.order),
                row.verdict,
                "" if row.error is None else f"{row.error:.1e}",
                row.detail,
            )
            for row in self.rows
        ]
        return Table(columns, rows, [row.step.order for row in self.rows])


class _NotRight(Exception):
    """A rule or a value that is wrong, and how."""


class _NoDerivative(Exception):
    """What a rule says that has none."""


def check_steps(steps: Iterable[Step], seed: int = 0) -> ReplayReport:
    """`Trace.check` of these steps."""
    rng = np.random.default_rng(seed)
    with traced_by(None), recording(False), np.errstate(all="ignore"):
        return ReplayReport([_check(step, rng) for step in steps])


def _check(step: Step, rng: np.random.Generator) -> ReplayedStep:
    if step.again is None:
        return ReplayedStep(step, UNCHECKED, None, "no way to run it again: give record the operation as `again`")
    if step.name == "watch":
        return ReplayedStep(step, UNCHECKED, None, "it changes nothing, and would show what the check makes")
    if COMPLEX in (step.dtype, *(i.dtype for i in step.inputs)):
        return ReplayedStep(step, UNCHECKED, None, "complex numbers: differences are taken of real ones")
    xs = [i.value.astype(np.float64) for i in step.inputs]
    try:
        exact = step.again(*map(wrap, map(np.copy, xs))).data
    except Exception as error:  # whatever somebody's operation raises
        return ReplayedStep(step, UNCHECKED, None, f"it cannot be run again: {_in_words(error)}")
    if exact.dtype != np.float64:
        return ReplayedStep(step, UNCHECKED, None, f"it rounds to {exact.dtype}: too coarse for a difference")
    errors: list[float] = []
    try:
        _compare_values(step, exact)
        if not np.isfinite(exact).all():
            return ReplayedStep(step, UNCHECKED, None, "its value is not finite: no difference to take")
        left_out = [_check_input(step, i, xs, errors, rng) for i in range(len(xs))]
    except _NotRight as error:
        return ReplayedStep(step, WRONG, max(errors, default=None), str(error))
    except NotDifferentiableError as error:
        return ReplayedStep(step, KINK, max(errors, default=None), str(error))
    except _NoDerivative as error:
        return ReplayedStep(step, NONE, max(errors, default=None), str(error))
    detail = f"{sum(left_out)} elements that are 0, on a kink, left out" if any(left_out) else ""
    return ReplayedStep(step, AGREES, max(errors, default=None), detail)


def _compare_values(step: Step, exact: np.ndarray) -> None:
    if exact.shape != step.shape:
        raise _NotRight(f"run again it has the shape {exact.shape} instead of {step.shape}")
    value, finite = step.value, np.isfinite(exact)
    largest = float(np.abs(exact[finite]).max(initial=0.0))
    same = np.array_equal(value[~finite], exact[~finite].astype(value.dtype), equal_nan=True)
    off = float(np.abs(value[finite] - exact[finite]).max(initial=0.0)) / (largest or 1.0)
    if not same or not off <= VALUE[step.dtype]:
        raise _NotRight(f"run again in float64 the value differs by {off:.1e} of the largest")


def _check_input(step: Step, i: int, xs: list[np.ndarray], errors: list[float], rng: np.random.Generator) -> int:
    """Compare the rules of input i, append their errors, and return how many elements on a kink were left out."""
    if not xs[i].size or not step.tensor.size:
        return 0
    rule, inside = _rules(step, i)
    left_out = _compare(step, i, rule, xs, None, errors, rng)
    support = step.inputs[i].tensor.support
    if inside is not None and support is not None:  # what it returns counts inside only
        _compare(step, i, inside, xs, np.broadcast_to(support, xs[i].shape), errors, rng)
    return left_out


def _rules(step: Step, i: int) -> "tuple[Rule, Rule | None]":
    """The rule of input i and the one for inside its support, at the inputs that the step had."""
    if all(t._version == version for t, version in step.tensors):
        return step.rules[i], step.inside[i]
    leaves = [snapshot(given.tensor) for given in step.inputs]  # some were given new data, which the rules would use
    for leaf in leaves:
        leaf.requires_grad = True
    with recording(True):
        operation = step.again(*leaves)._operation  # type: ignore[misc]
    assert operation is not None
    return operation.rules[i], operation.inside[i]


def _compare(
    step: Step,
    i: int,
    rule: Rule,
    xs: list[np.ndarray],
    where: np.ndarray | None,
    errors: list[float],
    rng: np.random.Generator,
) -> int:
    us = rng.standard_normal((2, *step.shape)).astype(step.dtype)  # two cotangents at once, as a leading axis
    found, alone = _pulled(step, i, rule, us), _pulled(step, i, rule, us[0, ...])
    exactly = [wrap(us[k, ...].astype(np.float64)) for k in range(2)]
    tolerance = RULE[step.dtype]
    inside = ... if where is None else where
    if not np.allclose(alone[inside], found[0][inside], rtol=0, atol=tolerance * np.abs(found).max()):
        raise _NotRight(f"its rule for input {i} gives another answer for one cotangent than for two at once")

    def along(ts: list[Tensor]) -> list[Tensor]:
        y = step.again(*ts)  # type: ignore[misc]
        return [(y * u).sum() for u in exactly]

    if where is not None:
        found = np.where(where, found, 0.0)
    left_out = 0
    try:
        d, difference = smooth_direction(along, xs, i, found[0], rng, where)
    except NotDifferentiableError:
        smooth = xs[i] != 0  # where relu and |x| have their kinks
        if where is not None or smooth.all() or not smooth.any():
            raise
        left_out = int(np.sum(~smooth))
        d, difference = smooth_direction(along, xs, i, np.where(smooth, found[0], 0.0), rng, smooth)
    for g, numeric in zip(found, difference.values, strict=True):
        analytic = float(np.vdot(g, d))
        scale = max(float(np.linalg.norm(g) * np.linalg.norm(d)) / math.sqrt(g.size), abs(float(numeric)))
        off = abs(analytic - float(numeric))
        errors.append(off / scale if scale else off)
        if not off <= tolerance * scale + difference.rounding:
            raise _NotRight(
                f"its rule for input {i} ({step.inputs[i].label}) gives {analytic:.6g} along a random direction, "
                f"differences {float(numeric):.6g}"
            )
    return left_out


def _pulled(step: Step, i: int, rule: Rule, u: np.ndarray) -> np.ndarray:
    """The cotangent of input i in float64, which `rule` makes of u."""
    try:
        g = rule(wrap(u.copy()), step.tensor)
    except NotDifferentiableError as error:  # as sign's does
        raise _NoDerivative(str(error)) from None
    except Exception as error:  # whatever a wrong rule stumbles over
        raise _NotRight(f"its rule for input {i} cannot be used: {_in_words(error)}") from None
    expected = u.shape[: u.ndim - len(step.shape)] + step.inputs[i].shape
    if not isinstance(g, Tensor) or g.shape != expected:
        got = g.shape if isinstance(g, Tensor) else type(g).__name__
        raise _NotRight(f"its rule for input {i} returns {got} where a Tensor of shape {expected} is meant")
    return g.data.astype(np.float64)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

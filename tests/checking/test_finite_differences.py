"""Differences that keep clear of kinks, with an estimate of their error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import NotDifferentiableError, Tensor, operation
from minidbp.checking.finite_differences import STEPS, directional_difference

RNG = np.random.default_rng(0)


def along(f: Callable[[Tensor], Tensor], x: Any, d: Any = None) -> Any:
    x = np.asarray(x, float)
    d = np.ones_like(x) if d is None else np.asarray(d, float)
    return directional_difference(lambda ts: [f(ts[0])], [x], [d])


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (mdb.exp, np.exp),
        (lambda t: t**5, lambda x: 5 * x**4),
        (mdb.log, lambda x: 1 / x),
        (lambda t: 3 * t, lambda x: 3),
    ],
)
def test_smooth_functions_are_accurate_to_ten_digits(f: Any, derivative: Any) -> None:
    x = np.array([0.3, 1.0, 2.5])
    difference = along(f, x)
    np.testing.assert_allclose(difference.values[0], derivative(x) * np.ones(3), rtol=2e-10)
    assert difference.step == STEPS[0]


@pytest.mark.parametrize(
    ("f", "x", "element", "operation"),
    [
        (mdb.relu, [1.0, 0.0, -1.0], (1,), "relu"),
        (mdb.abs, [[1.0, 2.0], [3.0, 0.0]], (1, 1), "abs"),
        (mdb.sign, [1.0, 0.0], (1,), "sign"),
        (lambda t: mdb.maximum(t, 0.5), [0.7, 0.5], (1,), "maximum"),
        (lambda t: t.max(), [1.0, 2.0, 2.0], (1,), "max"),
        (lambda t: t.max(1), [[0.0, 5.0], [7.0, 7.0]], (1, 0), "max"),
    ],
)
def test_at_a_kink_the_operation_and_the_element_are_named(f: Any, x: Any, element: Any, operation: str) -> None:
    d = RNG.standard_normal(np.shape(x))
    with pytest.raises(NotDifferentiableError) as caught:
        along(f, x, d)
    assert str(caught.value) == f"not differentiable here: {operation} has a kink at element {element}"


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 3e-8])
def test_near_a_kink_the_step_becomes_smaller(distance: float) -> None:
    difference = along(lambda t: mdb.relu(t) * 3, [1.0, distance, -distance])
    assert difference.step < distance
    np.testing.assert_allclose(difference.values[0], [3, 3, 0], atol=float(difference.errors[0].max()))


def test_nearer_than_the_smallest_step_is_at_the_kink() -> None:
    with pytest.raises(NotDifferentiableError, match=r"relu has a kink at element \(0,\)"):
        along(mdb.relu, [STEPS[-1] / 4])


def test_a_kink_that_no_operation_declares_shows_itself() -> None:
    @operation
    def raw(t: Tensor) -> Any:
        return np.abs(t.data), lambda g, out: g

    with pytest.raises(NotDifferentiableError, match="the slopes on its two sides differ"):
        along(raw, [1.0, 0.0])


def test_a_jump_shows_itself() -> None:
    @operation
    def jump(t: Tensor) -> Any:
        return np.floor(t.data), lambda g, out: g

    with pytest.raises(NotDifferentiableError, match="the function jumps"):
        along(jump, [0.5, 1.0])


def test_a_kink_that_no_step_crosses_is_no_trouble() -> None:
    difference = along(lambda t: mdb.relu(t[0]) + t[1] ** 2, [0.0, 2.0], [0.0, 1.0])
    np.testing.assert_allclose(difference.values[0], 4, rtol=1e-9)


def test_the_pattern_of_the_backward_pass_counts_too() -> None:
    """sign(J) is a kink of the penalty, although J is made by a backward pass."""
    w = np.array([[1.0, -2.0], [0.5, 0.0]])  # J has an exact 0

    def penalty(t: Tensor) -> Tensor:
        return mdb.robust.jacobian_l1(lambda x: x @ t, np.ones((1, 2)))

    with pytest.raises(NotDifferentiableError, match="abs has a kink"):
        along(penalty, w, RNG.standard_normal((2, 2)))

"""Large Jacobians: one wrong element of many is found, and named, whatever their number."""

from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor, operation
from minidbp.checking import GradcheckError, UndecidedError
from minidbp.checking.gradcheck import MAX_COLUMNS, MAX_ENTRIES, check_order


def one_wrong(element: int, factor: float, order: int = 1) -> Any:
    """exp whose derivative of the given order is wrong by `factor` in one element."""

    @operation
    def bad_exp(x: Tensor) -> Any:
        wrong = np.ones(x.size)
        wrong[element] = factor
        slope = mdb.exp if order == 1 else one_wrong(element, factor, order - 1)
        return np.exp(x.data), lambda g, out: g * slope(x) * (wrong.reshape(x.shape) if order == 1 else 1)

    return bad_exp


@pytest.mark.parametrize("n", [200, 2_000, 20_000, pytest.param(200_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reduce", [lambda y: y, lambda y: y.sum(), lambda y: (y * y).mean()])
def test_one_wrong_element_of_many(n: int, reduce: Any) -> None:
    rng = np.random.default_rng(n)
    for seed in range(3 if n <= 20_000 else 1):
        element, x = int(rng.integers(n)), rng.standard_normal(n)
        with pytest.raises(GradcheckError, match=rf"input 0 at \({element},\)"):
            mdb.gradcheck(lambda t, e=element: reduce(one_wrong(e, 1.001)(t)), x, seed=seed)
        assert mdb.gradcheck(lambda t: reduce(mdb.exp(t)), x, seed=seed)


@pytest.mark.parametrize("n", [200, 3_000])
def test_one_wrong_second_derivative_of_many(n: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    f = one_wrong(n // 3, 0.999, order=2)
    assert mdb.gradcheck(f, x)
    with pytest.raises(GradcheckError, match="second derivative"):
        mdb.gradgradcheck(f, x)


def test_small_gradients_have_directions_of_their_own() -> None:
    """An element whose gradient is a millionth of the others' is off by 1%."""
    sizes = np.where(np.arange(3000) % 10 == 0, 1e-6, 1.0)
    wrong = np.ones(3000)
    wrong[1230] = 1.01

    @operation
    def scaled(x: Tensor) -> Any:
        return np.sum(sizes * x.data**2), lambda g, out: g.reshape(*g.shape, 1) * x * (2 * sizes * wrong)

    with pytest.raises(GradcheckError, match=r"input 0 at \(1230,\)"):
        mdb.gradcheck(scaled, np.random.default_rng(0).uniform(1, 2, 3000))


def test_a_rule_that_leaves_the_graph_is_right_at_order_1() -> None:
    """Then there is no J d by the rules, and the sum of all outputs decides."""

    @operation
    def raw(x: Tensor) -> Any:
        return np.exp(x.data), lambda g, out: Tensor(g.data * np.exp(x.data))

    x = np.random.default_rng(0).standard_normal(300)
    assert mdb.gradcheck(raw, x)
    with pytest.raises(GradcheckError, match="second derivative"):
        mdb.gradgradcheck(raw, x)


@pytest.mark.parametrize("n", [MAX_COLUMNS, MAX_COLUMNS + 1])
def test_both_sides_of_the_limit(n: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    assert n * 3 <= MAX_ENTRIES
    assert check_order(lambda t: mdb.exp(t.reshape(1, n) @ np.eye(n, 3)), x, 1)


@pytest.mark.parametrize("reduce", [lambda y: y, lambda y: y.sum()])
def test_values_of_a_lower_precision_do_not_pass(reduce: Any) -> None:
    @operation
    def in_float32(x: Tensor) -> Any:
        return np.sin(x.data).astype(np.float32).astype(float), lambda g, out: g * mdb.cos(x)

    with pytest.raises((UndecidedError, GradcheckError)):
        mdb.gradcheck(lambda t: reduce(in_float32(t)), np.random.default_rng(0).standard_normal(2000))

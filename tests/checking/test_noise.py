"""The noise in a function's values, measured and bounded, and constants that are none."""

from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor, operation
from minidbp.checking.noise import rounding_bound, rounding_noise, smoothly_changing

X = np.random.default_rng(0).standard_normal(6)
EPS = np.finfo(float).eps


def noise(f: Any, x: np.ndarray = X, seed: int = 0) -> np.ndarray:
    return rounding_noise(lambda ts: [f(ts[0])], [x], np.random.default_rng(seed)).largest[0]


@operation
def in_float32(x: Tensor) -> Any:
    return np.sin(x.data).astype(np.float32).astype(float), lambda g, out: g


@pytest.mark.parametrize("f", [mdb.exp, mdb.sin, lambda t: 1e-30 * mdb.exp(t), lambda t: 1e200 * mdb.exp(t)])
def test_smooth_functions_have_the_noise_of_float64(f: Any) -> None:
    y = np.abs(f(Tensor(X)).data)
    assert (noise(f) >= EPS / 2 * y).all()
    assert (noise(f) <= 4 * EPS * y).all()


def test_a_lower_precision_shows() -> None:
    assert (noise(in_float32) > 1e-9).all()


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e12])
def test_cancellation_shows_in_the_noise_and_in_the_bound(offset: float) -> None:
    def f(t: Tensor) -> Tensor:
        return (t + offset) - offset

    for e in (noise(f), rounding_bound(f(Tensor(X, requires_grad=True)))):
        assert np.median(e) > EPS / 64 * offset  # some values happen to stay the same at all nine points
        assert (e < 8 * EPS * offset).all()


def test_the_bound_sees_what_leaves_no_noise() -> None:
    """1 - 1 + 0 x is exactly 0 for every x near, but rounding may change it by eps."""
    bound = rounding_bound((X / X.sum()).sum() - mdb.sum(Tensor(X, requires_grad=True) * 0 + X / X.sum()))
    assert EPS < bound < 100 * EPS


def test_the_bound_of_many_outputs_is_each_output_s_own() -> None:
    x = Tensor(np.random.default_rng(1).standard_normal(600), requires_grad=True)
    np.testing.assert_allclose(rounding_bound(mdb.exp(x)), EPS * np.exp(x.data) * (1 + np.abs(x.data)), rtol=1e-12)


def test_a_constant_that_is_none_is_named() -> None:
    @operation
    def bad_sin(x: Tensor) -> Any:
        slope = mdb.locally_constant(np.cos(x.data))
        return np.sin(x.data), lambda g, out: g * slope

    rng = np.random.default_rng(0)
    assert smoothly_changing(lambda ts: [bad_sin(ts[0])], [X], rng) == "bad_sin"
    for f in (mdb.relu, mdb.abs, lambda t: t.max(), lambda t: mdb.where(t > 0, t, 0.0), lambda t: mdb.maximum(t, 1e-9)):
        assert smoothly_changing(lambda ts, f=f: [f(ts[0])], [np.append(X, 1e-9)], rng) == ""

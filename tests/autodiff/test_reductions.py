"""Values, kinks and errors of means, maxima and softmax.  Derivatives: test_derivatives.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import minidbp as mdb
from minidbp.autodiff import Tensor

VALUES = np.random.default_rng(0).standard_normal((2, 3, 4))
INF = np.inf


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (2, 0)])
def test_reductions_are_numpys_and_scipys(axis: Any, keepdims: bool) -> None:
    np.testing.assert_allclose(mdb.mean(VALUES, axis, keepdims).data, VALUES.mean(axis, keepdims=keepdims), rtol=1e-14)
    np.testing.assert_array_equal(mdb.max(VALUES, axis, keepdims).data, VALUES.max(axis, keepdims=keepdims))
    np.testing.assert_array_equal(mdb.min(VALUES, axis, keepdims).data, VALUES.min(axis, keepdims=keepdims))
    length = np.sqrt((VALUES**2).sum(axis, keepdims=keepdims))
    np.testing.assert_allclose(mdb.norm(VALUES, axis, keepdims).data, length, rtol=1e-14)
    np.testing.assert_allclose(
        mdb.logsumexp(VALUES, axis, keepdims).data, scipy.special.logsumexp(VALUES, axis, keepdims=keepdims), rtol=1e-14
    )


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (0, 5)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "norm", "logsumexp"])
def test_an_axis_that_is_not_there(name: str, axis: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: axis .* does not fit a tensor of shape \(2, 3, 4\)"):
        getattr(mdb, name)(VALUES, axis)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_softmax_is_scipys(axis: Any) -> None:
    np.testing.assert_allclose(mdb.softmax(VALUES, axis).data, scipy.special.softmax(VALUES, axis), rtol=1e-14)
    np.testing.assert_allclose(mdb.log_softmax(VALUES, axis).data, scipy.special.log_softmax(VALUES, axis), rtol=1e-13)


def test_max_and_min_share_ties() -> None:
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    np.testing.assert_array_equal(mdb.grad(x.max(1).sum(), x)[0].data, [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_array_equal(mdb.grad(x.max(), x)[0].data, [[0, 0.5, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(mdb.grad((-x).min(1).sum(), x)[0].data, [[0, -0.5, -0.5], [-1 / 3] * 3])
    np.testing.assert_array_equal(mdb.grad((-x).min(), x)[0].data, [[0, -0.5, -0.5], [0, 0, 0]])


@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((2, 0), 1), ((0, 2), 0), ((2, 0), None)])
def test_max_over_nothing(shape: tuple[int, ...], axis: int | None) -> None:
    with pytest.raises(ValueError, match=rf"max: a tensor of shape .* has no largest value over axis {axis}"):
        mdb.max(np.ones(shape), axis)
    with pytest.raises(ValueError, match=rf"min: a tensor of shape .* has no smallest value over axis {axis}"):
        mdb.min(np.ones(shape), axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "value", "weights"),
    [
        ([1e4, 1e4], 1e4 + np.log(2), [0.5, 0.5]),
        ([-1e4, -1e4], -1e4 + np.log(2), [0.5, 0.5]),
        ([1e4, -1e4], 1e4, [1, 0]),
        ([0, -INF], 0, [1, 0]),
        ([5], 5, [1]),
        ([-INF, -INF], -INF, [0, 0]),
        ([INF, 0], INF, None),  # None: there is no derivative to speak of
        ([INF, 1e4, -INF], INF, None),
        ([INF, INF], INF, None),
        ([], -INF, None),
    ],
)
def test_logsumexp_at_the_extremes(x: list[float], value: float, weights: list[float] | None, dtype: type) -> None:
    t = Tensor(np.array(x, dtype), requires_grad=True)
    y = mdb.logsumexp(t)
    np.testing.assert_allclose(y.data, dtype(value), rtol=1e-15)
    assert y.dtype == dtype
    if weights is not None:
        # float32 keeps 1e4 + log 2 to 5e-4 only, and the derivative exp(x - y) with it
        np.testing.assert_allclose(mdb.grad(y, t)[0].data, weights, atol=5e-4 if dtype == np.float32 else 1e-12)


def test_rows_of_minus_infinity_have_derivative_0_at_every_order() -> None:
    x = Tensor([[-INF, -INF], [0.0, -INF], [0.0, 0.0]], requires_grad=True)
    (g,) = mdb.grad(mdb.logsumexp(x).sum(), x, create_graph=True)
    assert g.data.tolist() == [[0, 0], [1, 0], [0.5, 0.5]]
    (h,) = mdb.grad(g, x, np.array([[1.0, 2.0]] * 3), create_graph=True)
    np.testing.assert_allclose(h.data, [[0, 0], [0, 0], [-0.25, 0.25]])
    (third,) = mdb.grad(h.sum(), x)
    np.testing.assert_allclose(third.data, np.zeros((3, 2)), atol=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("axis", "keepdims"), [(1, False), (1, True), (None, False)])
def test_where_the_norm_is_0_every_derivative_is_0(axis: int | None, keepdims: bool, dtype: type) -> None:
    values = np.array([[0.0, -0.0], [3.0, 4.0]], dtype)[: 1 if axis is None else 2]
    derivative = Tensor(values, requires_grad=True)
    x, rng = derivative, np.random.default_rng(0)
    for order in range(4):
        derivative = mdb.norm(x, axis, keepdims) if order == 0 else derivative
        u = rng.standard_normal(derivative.shape).astype(dtype)
        with np.errstate(all="raise"):
            (derivative,) = mdb.grad((derivative * u).sum() + x.sum() * 0, x, create_graph=True)
        assert derivative.data[0].tolist() == [0, 0]
        assert np.isfinite(derivative.data).all()


def test_the_square_of_a_norm_and_the_sum_of_squares_at_0() -> None:
    """The norm's second derivative is a convention there, and the sum of squares has none."""
    zero = np.zeros(3)
    assert (mdb.hessian(lambda x: (x * x).sum(), zero).data == 2 * np.eye(3)).all()  # type: ignore[union-attr]
    assert (mdb.hessian(lambda x: mdb.norm(x) ** 2, zero).data == 0).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e-30), (np.float32, 1e30), (np.float64, 1e-300), (float, 1e300)]
)
def test_the_norm_of_tiny_and_of_huge_numbers(dtype: type, size: float) -> None:
    x = Tensor(np.array([3 * size, -4 * size], dtype), requires_grad=True)
    y = mdb.norm(x)
    np.testing.assert_allclose(y.data, 5 * size, rtol=1e-6)
    np.testing.assert_allclose(mdb.grad(y, x)[0].data, [0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "value"), [([INF, 1.0], INF), ([np.nan, 1.0], np.nan), ([INF, np.nan], np.nan), ([], 0.0)]
)
def test_the_norm_of_what_is_not_finite_is_numpys(x: list[float], value: float) -> None:
    np.testing.assert_equal(mdb.norm(np.array(x)).item(), value)
    np.testing.assert_equal(float(np.linalg.norm(np.array(x))), value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ahead", [1e2, 1e3, 1e4])
def test_softmax_far_ahead(ahead: float, dtype: type) -> None:
    x = Tensor(np.array([[ahead, 0.0, -ahead]], dtype), requires_grad=True)
    p = mdb.softmax(x)
    np.testing.assert_allclose(p.data, [[1, np.exp(-ahead), 0]], atol=1e-40)
    np.testing.assert_array_equal(mdb.log_softmax(x).data, [[0, -ahead, -2 * ahead]])
    J = mdb.jacobian(mdb.softmax, x, create_graph=True)
    np.testing.assert_allclose(J.data, np.zeros((1, 3, 3)), atol=1e-40)
    (g,) = mdb.grad(mdb.abs(J).sum(), x)
    np.testing.assert_allclose(g.data, np.zeros((1, 3)), atol=1e-40)
    # the loss of a confident mistake keeps its gradient
    (g,) = mdb.grad(-mdb.log_softmax(x)[0, 2], x)
    np.testing.assert_allclose(g.data, [[1, 0, -1]], atol=1e-40)


def test_softmax_beside_minus_infinity() -> None:
    x = Tensor([0.0, 0.0, -INF], requires_grad=True)
    assert mdb.softmax(x).data.tolist() == [0.5, 0.5, 0]
    np.testing.assert_allclose(mdb.grad(mdb.softmax(x)[0], x)[0].data, [0.25, -0.25, 0])


@pytest.mark.parametrize("f", [mdb.softmax, mdb.log_softmax, lambda x: mdb.logsumexp(x, keepdims=True)])
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 1)])
def test_small_batches(f: Any, shape: tuple[int, int]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = f(x)
    assert len(y) == len(x)
    assert mdb.grad(y, x, np.ones((2, *y.shape)))[0].shape == (2, *shape)


def test_the_mean_of_nothing_is_nan_as_numpys_is() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(mdb.mean(np.ones((0, 2)), 0).data).all()
        assert mdb.mean(np.ones((0, 2)), 1).shape == (0,)


@pytest.mark.parametrize("f", [mdb.softmax, mdb.log_softmax, mdb.logsumexp, mdb.sigmoid, mdb.softplus, mdb.exp])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_underflow_to_0_is_no_error_whatever_numpy_is_told(f: Callable, dtype: str) -> None:
    x = mdb.Tensor(np.array([[0.0, -100.0, -2000.0], [1.0, -87.0, -744.0]], dtype), requires_grad=True)
    with np.errstate(all="raise"):
        y = f(x)
        (g,) = mdb.grad((y * y).sum(), x, create_graph=True)
        (h,) = mdb.grad(g.sum(), x)
        J = mdb.jacobian(lambda t: f(t).reshape(2, -1), x)
    assert all(np.isfinite(t.data).all() for t in (y, g, h, J))


def test_an_overflow_stays_an_error_if_numpy_is_told_to_raise() -> None:
    with np.errstate(all="raise"):
        for f, x in (mdb.exp, [-1000.0, 1000.0]), (mdb.log, [-1.0]), (lambda t: t - t, [np.inf]):
            with pytest.raises(FloatingPointError):
                f(mdb.Tensor(x))
        with mdb.autodiff.tensor.recorded_pattern() as pattern:
            mdb.where(np.array([True]), mdb.Tensor([1.0]), 0.0)
            mdb.relu(mdb.Tensor([1.0])) * mdb.exp(mdb.Tensor([-1000.0]))
    assert [name for name, _ in pattern] == ["where", "relu"]

"""Values, kinks and errors of means, maxima and softmax.  Derivatives: test_derivatives.py."""

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
    np.testing.assert_allclose(
        mdb.logsumexp(VALUES, axis, keepdims).data, scipy.special.logsumexp(VALUES, axis, keepdims=keepdims), rtol=1e-14
    )


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (0, 5)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "logsumexp"])
def test_an_axis_that_is_not_there(name: str, axis: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: axis .* does not fit a tensor of shape \(2, 3, 4\)"):
        getattr(mdb, name)(VALUES, axis)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_softmax_is_scipys(axis: Any) -> None:
    np.testing.assert_allclose(mdb.softmax(VALUES, axis).data, scipy.special.softmax(VALUES, axis), rtol=1e-14)
    np.testing.assert_allclose(mdb.log_softmax(VALUES, axis).data, scipy.special.log_softmax(VALUES, axis), rtol=1e-13)


def test_max_shares_ties() -> None:
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    np.testing.assert_array_equal(mdb.grad(x.max(1).sum(), x)[0].data, [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_array_equal(mdb.grad(x.max(), x)[0].data, [[0, 0.5, 0.5], [0, 0, 0]])


@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((2, 0), 1), ((0, 2), 0), ((2, 0), None)])
def test_max_over_nothing(shape: tuple[int, ...], axis: int | None) -> None:
    with pytest.raises(ValueError, match=rf"max: a tensor of shape .* has no largest value over axis {axis}"):
        mdb.max(np.ones(shape), axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "value", "weights"),
    [
        ([1e4, 1e4], 1e4 + np.log(2), [0.5, 0.5]),
        ([-1e4, -1e4], -1e4 + np.log(2), [0.5, 0.5]),
        ([1e4, -1e4], 1e4, [1, 0]),
        ([0, -INF], 0, [1, 0]),
        ([5], 5, [1]),
        ([-INF, -INF], -INF, None),  # None: there is no derivative to speak of
        ([INF, 0], INF, None),
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

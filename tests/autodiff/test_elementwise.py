"""Values, kinks and errors of the operations on elements.  Derivatives: test_derivatives.py."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import minidbp as mdb
from minidbp.autodiff import Tensor, astype, elementwise, masked

A, B = np.array([[1.5, -0.5, 2.0], [0.25, -3.0, 1.0]]), np.array([2.0, 0.5, -1.0])


@pytest.mark.parametrize("f", [operator.add, operator.sub, operator.mul, operator.truediv, lambda a, b: abs_of(a) ** b])
@pytest.mark.parametrize(("a", "b"), [(A, B), (B, A), (A, 2.0), (2.0, A), (A[:, :1], B)])
def test_operators_are_numpys(f: Callable[..., Any], a: Any, b: Any) -> None:
    expected = f(a, b)
    for got in f(Tensor(a), Tensor(b)), f(Tensor(a), b), f(a, Tensor(b)):
        assert isinstance(got, Tensor)
        np.testing.assert_array_equal(got.data, expected)


def abs_of(x: Any) -> Any:
    return mdb.abs(x) if isinstance(x, Tensor) else np.abs(x)


@pytest.mark.parametrize(
    ("f", "numpy"),
    [
        (mdb.exp, np.exp),
        (mdb.abs, np.abs),
        (mdb.sign, np.sign),
        (operator.neg, np.negative),
        (mdb.relu, lambda x: np.where(x > 0, x, 0)),
        (mdb.sin, np.sin),
        (mdb.cos, np.cos),
        (mdb.tanh, np.tanh),
        (lambda x: mdb.sqrt(mdb.abs(x)), lambda x: np.sqrt(np.abs(x))),
        (lambda x: mdb.maximum(x, B), lambda x: np.maximum(x, B)),
        (lambda x: mdb.minimum(x, B), lambda x: np.minimum(x, B)),
        (lambda x: mdb.clip(x, -1, B), lambda x: np.clip(x, -1, B)),
        (lambda x: x.clip(-1), lambda x: np.clip(x, -1, None)),
        (lambda x: x.clip(high=1), lambda x: np.clip(x, None, 1)),
        (lambda x: mdb.clip(x), lambda x: x),
        (lambda x: mdb.where(B > 0, x, 1), lambda x: np.where(B > 0, x, 1)),
        (lambda x: mdb.where([[True], [False]], B, x), lambda x: np.where([[True], [False]], B, x)),
        (lambda x: mdb.where(True, x, np.zeros((2, 1, 1))), lambda x: np.where(True, x, np.zeros((2, 1, 1)))),
        (lambda x: mdb.log(mdb.abs(x)), lambda x: np.log(np.abs(x))),
    ],
)
def test_functions_are_numpys(f: Callable[..., Tensor], numpy: Callable[..., np.ndarray]) -> None:
    np.testing.assert_array_equal(f(Tensor(A)).data, numpy(A))


@pytest.mark.parametrize(
    ("f", "at", "first", "second"),
    [
        (mdb.relu, [-1.0, -0.0, 0.0, 1.0], [0, 0, 0, 1], [0, 0, 0, 0]),
        (mdb.abs, [-1.0, -0.0, 0.0, 1.0], [-1, 0, 0, 1], [0, 0, 0, 0]),
        (lambda x: mdb.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1], [0, 0, 0]),
        (lambda x: mdb.maximum(1.0, x), [0.0, 1.0, 2.0], [0, 0.5, 1], [0, 0, 0]),
        (lambda x: mdb.maximum(x, x), [0.0, 1.0], [1, 1], [0, 0]),
        (lambda x: mdb.minimum(x, 1.0), [0.0, 1.0, 2.0], [1, 0.5, 0], [0, 0, 0]),
        (lambda x: mdb.minimum(1.0, x), [0.0, 1.0, 2.0], [1, 0.5, 0], [0, 0, 0]),
        (lambda x: mdb.clip(x, 0, 1), [-1.0, 0.0, 0.5, 1.0, 2.0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]),
        (lambda x: mdb.clip(x, 1, 0), [-1.0, 0.0, 0.5, 1.0, 2.0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        (lambda x: mdb.where(x > 0, x**2, -x), [-1.0, 0.0, 2.0], [-1, -1, 4], [0, 0, 2]),
        (lambda x: x**3, [0.0, 2.0], [0, 12], [0, 12]),
        (lambda x: x**2, [0.0], [0], [2]),
        (lambda x: x**1, [0.0], [1], [0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0], [0, 0]),
        (lambda x: x ** np.array([0, 1, 2, 3]), [0.0, 0.0, 0.0, 0.0], [0, 1, 0, 0], [0, 0, 2, 0]),
        (lambda x: x ** np.array([0, 1, 2, 3]), [2.0, 2.0, 2.0, 2.0], [0, 1, 4, 12], [0, 0, 2, 12]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_derivative_at_the_kink(
    f: Any, at: list[float], first: list[float], second: list[float], dtype: type
) -> None:
    x = Tensor(np.array(at, dtype), requires_grad=True)
    (g,) = mdb.grad(f(x).sum(), x)
    np.testing.assert_array_equal(g.data, first)
    # x^2 beside it, so that there is a second derivative to ask for
    (g,) = mdb.grad((f(x) + x * x).sum(), x, create_graph=True)
    np.testing.assert_array_equal(mdb.grad(g.sum(), x)[0].data, np.add(second, 2))


def test_maximum_shares_a_tie() -> None:
    a, b = Tensor([1.0, 2.0, 3.0], requires_grad=True), Tensor([3.0, 2.0, 1.0], requires_grad=True)
    of_a, of_b = mdb.grad(mdb.maximum(a, b).sum(), [a, b])
    assert of_a.data.tolist() == [0, 0.5, 1]
    assert of_b.data.tolist() == [1, 0.5, 0]


def test_sign_has_no_derivative_at_any_order() -> None:
    x = Tensor([1.0, -2.0], requires_grad=True)
    with pytest.raises(ValueError, match="sign has no useful derivative"):
        mdb.grad(mdb.sign(x).sum(), x)
    (g,) = mdb.grad((x * mdb.sign(x.detach())).sum(), x)
    assert g.data.tolist() == [1, -1]
    (g,) = mdb.grad((x**3).sum(), x, create_graph=True)
    with pytest.raises(ValueError, match="sign has no useful derivative"):
        mdb.grad(mdb.sign(g).sum(), x)
    assert mdb.grad((g * mdb.sign(g.detach())).sum(), x)[0].data.tolist() == [6, -12]


def test_masked_shares_its_mask_with_leading_axes() -> None:
    g = np.ones((2, 3, 2))
    mask = np.array([[True, False], [False, False], [True, True]])
    np.testing.assert_array_equal(masked(g, mask).data, g * mask)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool, complex])
def test_astype_refuses_other_dtypes(dtype: type) -> None:
    with pytest.raises(TypeError, match=f"astype: a Tensor holds float32 or float64; got {np.dtype(dtype)}"):
        astype(A, dtype)


def test_astype_is_differentiable_across_dtypes() -> None:
    x = Tensor(B, requires_grad=True)
    y = x.astype("float32")
    assert y.dtype == np.float32
    (g,) = mdb.grad(y * y, x, np.ones((2, 3)), create_graph=True)
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g.data, np.stack([2 * B, 2 * B]))
    assert mdb.grad(g.sum(), x)[0].data.tolist() == [4, 4, 4]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"])
@pytest.mark.parametrize(("a", "b"), [((2, 3), (2,)), ((2, 3), (3, 2)), ((0,), (2,))])
def test_shapes_that_do_not_broadcast(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(elementwise, name)(np.ones(a), Tensor(np.ones(b)))
    assert str(caught.value) == f"{name}: shapes {a} and {b} do not broadcast together"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = mdb.relu(mdb.abs(x) * mdb.exp(x) + mdb.maximum(x, 0) / (x**2))
    assert y.shape == shape
    assert mdb.grad(y, x, np.ones((5, *shape)))[0].shape == (5, *shape)


@pytest.mark.parametrize(("f", "sign"), [(mdb.maximum, 1), (mdb.minimum, -1)])
def test_maximum_and_minimum_have_no_gradient_where_an_operand_is_nan(f: Any, sign: int) -> None:
    a, b = (Tensor(values, requires_grad=True) for values in ([np.nan, 1.0, 3.0 * sign], [1.0, np.nan, 2.0 * sign]))
    y = f(a, b)
    assert np.isnan(y.data).tolist() == [True, True, False]
    for_a, for_b = mdb.grad(y, [a, b], np.ones(3))
    assert for_a.data.tolist() == [0.0, 0.0, 1.0]
    assert for_b.data.tolist() == [0.0, 0.0, 0.0]


FAR = np.array([-1e4, -700.0, -80.0, -30.0, -1.0, 0.0, 1.0, 30.0, 80.0, 700.0, 1e4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_softplus_far_out(dtype: type) -> None:
    x, rtol = Tensor(FAR.astype(dtype), requires_grad=True), 4 * float(np.finfo(dtype).eps)
    s, tiny = scipy.special.expit(FAR), float(np.finfo(dtype).tiny)  # below tiny, numbers lose digits
    with np.errstate(over="raise", invalid="raise"):
        y, z = mdb.sigmoid(x), mdb.softplus(x)
        (slope,) = mdb.grad(y.sum(), x, create_graph=True)
        (bend,) = mdb.grad(slope.sum(), x)
        (slope_of_z,) = mdb.grad(z.sum(), x)
    np.testing.assert_allclose(y.data, s, rtol, tiny)
    np.testing.assert_allclose(z.data, np.logaddexp(0, FAR), rtol, tiny)
    np.testing.assert_allclose(slope_of_z.data, s, rtol, tiny)
    # 1 - sigmoid(30) keeps few digits, and 1 - sigmoid(80) none
    np.testing.assert_allclose(slope.data, s * scipy.special.expit(-FAR), rtol, tiny)
    np.testing.assert_allclose(bend.data, -s * scipy.special.expit(-FAR) * np.tanh(FAR / 2), 4 * rtol, tiny)


def test_where_gives_no_cotangent_to_what_was_not_chosen() -> None:
    a, b = Tensor([1.0, np.nan, np.inf], requires_grad=True), Tensor([np.nan, 2.0, 3.0], requires_grad=True)
    y = mdb.where([True, False, False], a, b)
    assert y.data.tolist() == [1, 2, 3]
    for_a, for_b = mdb.grad(y, [a, b], np.array([np.nan, 5.0, 6.0]))
    np.testing.assert_array_equal(for_a.data, [np.nan, 0, 0])
    np.testing.assert_array_equal(for_b.data, [0, 5, 6])
    x = Tensor([-1.0, 0.0, 2.0], requires_grad=True)  # what the docstring says to write
    (g,) = mdb.grad(mdb.log(mdb.where(x > 0, x, 1)).sum(), x)
    assert g.data.tolist() == [0, 0, 0.5]


def test_the_condition_of_where_is_copied() -> None:
    condition, x = np.array([True, False]), Tensor([1.0, 2.0], requires_grad=True)
    view = condition.view()
    view.flags.writeable = False
    y = mdb.where(view, x, 0)
    condition[:] = False
    assert mdb.grad(y.sum(), x)[0].data.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mdb.where(Tensor(A), A, B), TypeError, "where: condition must be a Boolean array.*; got a Tensor"),
        (lambda: mdb.where([1, 0, 1], A, B), TypeError, "where: condition must be a Boolean array.*; got int64"),
        (lambda: mdb.where(A, A, B), TypeError, "where: condition must be a Boolean array.*; got float64"),
        (
            lambda: mdb.where([True, False], A, B),
            ValueError,
            r"where: shapes \(2,\), \(2, 3\) and \(3,\) do not broadcast",
        ),
        (lambda: mdb.clip(A, Tensor(B)), TypeError, "clip: low and high are constants .* use maximum and minimum"),
        (lambda: mdb.clip(A, [Tensor(1.0), 0.0, 0.0]), TypeError, "derivatives would be lost"),
        (
            lambda: mdb.clip(A, [1.0, 2.0]),
            ValueError,
            r"clip: shapes \(2, 3\), \(2,\) and \(\) do not broadcast together",
        ),
    ],
)
def test_what_where_and_clip_refuse(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

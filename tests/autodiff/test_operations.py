"""Values, kinks and errors of the operations on elements, axes and indices.  Derivatives: test_derivatives.py."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidbp as mdb
from minidbp.autodiff import Tensor, astype, broadcast_to, masked, move_axis, operations, reshape, transpose, vjp
from minidbp.autodiff import sum as sum_

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
        (lambda x: mdb.maximum(x, B), lambda x: np.maximum(x, B)),
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


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum"])
@pytest.mark.parametrize(("a", "b"), [((2, 3), (2,)), ((2, 3), (3, 2)), ((0,), (2,))])
def test_shapes_that_do_not_broadcast(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(operations, name)(np.ones(a), Tensor(np.ones(b)))
    assert str(caught.value) == f"{name}: shapes {a} and {b} do not broadcast together"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = mdb.relu(mdb.abs(x) * mdb.exp(x) + mdb.maximum(x, 0) / (x**2))
    assert y.shape == shape
    assert mdb.grad(y, x, np.ones((5, *shape)))[0].shape == (5, *shape)


CUBE = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, 2, (0, 2), (-1, 0), (), np.int64(1)])
def test_sum_is_numpys(axis: Any, keepdims: bool) -> None:
    np.testing.assert_array_equal(sum_(CUBE, axis, keepdims).data, CUBE.sum(axis, keepdims=keepdims))
    np.testing.assert_array_equal(Tensor(CUBE).sum(axis, keepdims=keepdims).data, CUBE.sum(axis, keepdims=keepdims))


@pytest.mark.parametrize(
    ("shape", "axis", "result"), [((0, 3), 0, (3,)), ((0, 3), 1, (0,)), ((0,), None, ()), ((2, 0, 3), (0, 1), (3,))]
)
def test_sums_over_nothing_are_zero(shape: tuple[int, ...], axis: Any, result: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = x.sum(axis)
    np.testing.assert_array_equal(y.data, np.zeros(result))
    assert mdb.grad(y, x, np.ones((4, *result)))[0].shape == (4, *shape)


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (0, 5)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "logsumexp"])
def test_an_axis_that_is_not_there(name: str, axis: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: axis .* does not fit a tensor of shape \(2, 3, 4\)"):
        getattr(mdb, name)(CUBE, axis)


def test_broadcast_to_copies_nothing() -> None:
    x = Tensor(np.ones((3, 1)))
    assert np.shares_memory(broadcast_to(x, (2, 3, 4)).data, x.data)


@pytest.mark.parametrize("shape", [(2, 4), (3,), ()])
def test_what_does_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"broadcast_to: a tensor of shape \(2, 3\) does not broadcast to \("):
        broadcast_to(np.ones((2, 3)), shape)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.lists(st.integers(1, 2), max_size=2))
def test_the_adjoint_of_broadcasting_sums(shapes: hnp.BroadcastableShapes, lead: list[int]) -> None:
    a, b = (np.ones(shape) for shape in shapes.input_shapes)
    g = np.random.default_rng(0).integers(-9, 9, (*lead, *shapes.result_shape)).astype(np.float64)
    for i, got in enumerate(vjp(lambda a, b: a + b, [a, b], g)[1]):
        shape = shapes.input_shapes[i]
        # by hand: bring the shape to full length with ones, then sum over all axes where it is 1
        full = (1,) * (len(shapes.result_shape) - len(shape)) + shape
        axes = tuple(len(lead) + k for k, n in enumerate(full) if n == 1)
        np.testing.assert_array_equal(got.data, g.sum(axes).reshape((*lead, *shape)))


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (Tensor(CUBE).reshape(6, 4), CUBE.reshape(6, 4)),
        (Tensor(CUBE).reshape((4, -1)), CUBE.reshape(4, 6)),
        (Tensor(CUBE).reshape([24]), CUBE.reshape(24)),
        (reshape(CUBE, np.int64(24)), CUBE.reshape(24)),
        (Tensor(np.ones((1, 1))).reshape(), np.ones(())),
        (Tensor(np.ones((0, 3))).reshape(3, 0), np.ones((3, 0))),
        (Tensor(CUBE).T, CUBE.T),
        (Tensor(CUBE).transpose(1, 0, 2), CUBE.transpose(1, 0, 2)),
        (transpose(CUBE, (-1, 0, 1)), CUBE.transpose(2, 0, 1)),
        (move_axis(CUBE, 0, -1), np.moveaxis(CUBE, 0, -1)),
        (move_axis(CUBE, -1, 1), np.moveaxis(CUBE, -1, 1)),
    ],
)
def test_values_are_numpys(got: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(got.data, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reshape(CUBE, 5, 5), r"reshape: a tensor of shape \(2, 3, 4\) cannot become \(5, 5\)"),
        (lambda: reshape(CUBE, (-1, -1)), r"reshape: .* cannot become \(-1, -1\)"),
        (lambda: reshape(CUBE, "ab"), "reshape: .* cannot become"),
        (lambda: transpose(CUBE, 0, 1), r"transpose: axes \(0, 1\) are not a permutation of .* \(2, 3, 4\)"),
        (lambda: transpose(CUBE, (0, 0, 1)), "transpose: axes"),
        (lambda: transpose(CUBE, (0, 1, 3)), "transpose: axes"),
    ],
)
def test_what_does_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@given(st.data())
def test_indexing_is_numpys(data: st.DataObject) -> None:
    x = data.draw(hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=4), elements=st.integers(0, 99)))
    basic = hnp.basic_indices(x.shape, allow_newaxis=True)
    index = data.draw(st.one_of(basic, hnp.integer_array_indices(x.shape), st.just(x > 50)))
    y = Tensor(x, requires_grad=True)[index]
    np.testing.assert_array_equal(y.data, x[index])
    # the adjoint: <y, g> = <x, put(g)>, also behind two leading axes
    rng = np.random.default_rng(0)
    g = rng.integers(-9, 9, (3, 2, *y.shape)).astype(np.float64)
    _, back = vjp(lambda t: t[index], x, g)
    assert back.shape == (3, 2, *x.shape)
    for k in np.ndindex(3, 2):
        assert np.vdot(y.data, g[k]) == np.vdot(x, back.data[k])


@pytest.mark.parametrize(
    "index", [[], ([], 0), True, (Ellipsis, 0), (0, None), (slice(None), [True, False, True]), np.int8(1), (0, [1], 0)]
)
def test_rarer_indices_are_numpys(index: Any) -> None:
    np.testing.assert_array_equal(Tensor(CUBE)[index].data, CUBE[tuple(index) if isinstance(index, tuple) else index])


def test_an_element_picked_twice_receives_both_cotangents() -> None:
    x = Tensor(np.zeros(3), requires_grad=True)
    assert mdb.grad(x[[0, 2, 0]], x, np.array([1.0, 10.0, 100.0]))[0].data.tolist() == [101, 0, 10]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (2, "out of bounds"),
        ((0, 0, 0, 0), r"getitem: 4 indices are too many for a tensor of shape \(2, 3, 4\)"),
        (np.ones((2, 3, 4, 1), bool), "4 indices are too many"),
        (1.0, "getitem: an index must be .* got 1.0"),
        ([0.5], "getitem: an index must be"),
        ("a", "getitem: an index must be"),
        (Tensor([0.0]), "getitem: an index must be"),
        ((Ellipsis, Ellipsis), "one Ellipsis"),
    ],
)
def test_wrong_indices(index: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        Tensor(CUBE)[index]


def test_iteration_stops() -> None:
    assert [row.data.tolist() for row in Tensor(CUBE[:, 0, :2])] == CUBE[:, 0, :2].tolist()
    with pytest.raises(TypeError, match="has no length"):
        list(Tensor(1.0))


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


def test_maximum_has_no_gradient_where_an_operand_is_nan() -> None:
    a, b = (Tensor(values, requires_grad=True) for values in ([np.nan, 1.0, 3.0], [1.0, np.nan, 2.0]))
    for_a, for_b = mdb.grad(mdb.maximum(a, b), [a, b], np.ones(3))
    assert for_a.data.tolist() == [0.0, 0.0, 1.0]
    assert for_b.data.tolist() == [0.0, 0.0, 0.0]

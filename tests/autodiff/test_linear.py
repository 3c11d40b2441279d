"""Values, identities and errors of matmul and the conv family.  Derivatives: test_gradcheck.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidbp as mdb
from minidbp.autodiff import Tensor
from minidbp.kernels import ConvGeometry, reference


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=3, max_side=3, min_side=1))
def test_matmul_is_numpys(shapes: hnp.BroadcastableShapes) -> None:
    a, b = (normal(*shape, seed=i) for i, shape in enumerate(shapes.input_shapes))
    expected = np.matmul(a, b)
    for got in Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b), mdb.matmul(a, b):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got.data, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b", "shape"),
    [((0, 3), (3, 2), (0, 2)), ((2, 0), (0, 3), (2, 3)), ((2, 0, 3), (3, 4), (2, 0, 4)), ((0,), (0,), ())],
)
def test_matmul_of_nothing(a: tuple[int, ...], b: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x, y = Tensor(np.ones(a), requires_grad=True), Tensor(np.ones(b), requires_grad=True)
    product = x @ y
    np.testing.assert_array_equal(product.data, np.zeros(shape))
    assert [g.shape for g in mdb.grad(product, [x, y], np.ones((2, *shape)))] == [(2, *a), (2, *b)]


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3), (2, 3)), ((3,), (2,)), ((2, 3), (2,)), ((3,), (2, 3)), ((), (3,)), ((3,), ()), ((2, 2, 3), (3, 3, 2))],
)
def test_matmul_shapes_that_do_not_fit(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        mdb.matmul(np.ones(a), Tensor(np.ones(b)))
    assert str(caught.value) == f"matmul: shapes {a} and {b} do not fit together"


@pytest.mark.parametrize(
    ("stride", "padding"),
    [(1, "valid"), (2, "same"), ((1, 3), 2), ((2, 1), (0, 1)), (3, ((0, 2), (1, 0)))],
)
def test_the_conv_family_is_its_reference(stride: Any, padding: Any) -> None:
    x, w, b = normal(2, 7, 6, 3), normal(3, 2, 3, 4, seed=1), normal(4, seed=2)
    geometry = ConvGeometry.of((7, 6), (3, 2), stride, padding)
    y = mdb.conv2d(x, w, b, stride, padding)
    np.testing.assert_allclose(y.data, reference.conv2d(x, w, geometry) + b, rtol=0, atol=1e-13)
    g = normal(*y.shape, seed=3)
    got = mdb.conv2d_transpose(g, w, (7, 6), stride, padding)
    np.testing.assert_allclose(got.data, reference.conv2d_transpose(g, w, geometry), rtol=0, atol=1e-13)
    got = mdb.conv2d_weight_grad(x, g, (3, 2), stride, padding)
    np.testing.assert_allclose(got.data, reference.conv2d_weight_grad(x, g, geometry), rtol=0, atol=1e-12)


side = st.integers(1, 3)


@given(st.tuples(side, side), st.tuples(side, side), st.sampled_from(["valid", "same", 1]), st.tuples(side, side, side))
def test_derivatives_of_each_are_the_other_two(
    kernel: tuple[int, int], stride: tuple[int, int], padding: Any, sizes: tuple[int, int, int]
) -> None:
    n, n_in, n_out = sizes
    x, w = Tensor(normal(n, 5, 4, n_in), True), Tensor(normal(*kernel, n_in, n_out, seed=1), True)
    y = mdb.conv2d(x, w, stride=stride, padding=padding)
    g = Tensor(normal(*y.shape, seed=2), requires_grad=True)
    t = (y * g).sum()
    back, filters = (
        mdb.conv2d_transpose(g, w, (5, 4), stride, padding),
        mdb.conv2d_weight_grad(x, g, kernel, stride, padding),
    )
    scale = np.linalg.norm(x.data) * np.linalg.norm(w.data) * np.linalg.norm(g.data)
    for form in (x * back).sum(), (w * filters).sum():
        assert abs(form.item() - t.item()) <= 1e-12 * scale
        # all three are one function T of the same three arrays, so they have the same derivatives
        for got, expected in zip(mdb.grad(form, [x, w, g]), mdb.grad(t, [x, w, g]), strict=True):
            np.testing.assert_allclose(got.data, expected.data, rtol=0, atol=1e-12 * scale)


X, W, G = np.ones((2, 5, 4, 3)), np.ones((3, 2, 3, 6)), np.ones((2, 3, 3, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mdb.conv2d(X[0], W), r"conv2d: x must have the axes \(N, H, W, I\); got shape \(5, 4, 3\)"),
        (lambda: mdb.conv2d(X, W[0]), r"conv2d: w must have the axes \(kh, kw, I, O\); got shape \(2, 3, 6\)"),
        (lambda: mdb.conv2d(X[..., :2], W), r"conv2d: x \(2, 5, 4, 2\) has 2 channels, but w \(3, 2, 3, 6\) takes 3"),
        (lambda: mdb.conv2d(X, W, np.ones(3)), r"conv2d: bias must have shape \(6,\) .* \(3, 2, 3, 6\); got \(3,\)"),
        (lambda: mdb.conv2d(X, W, 1.0), r"conv2d: bias must have shape \(6,\) .*; got \(\)"),
        (lambda: mdb.conv2d(X[:, :2], W), "kernel of 3x2 does not fit into an image of 2x4"),
        (lambda: mdb.conv2d(X, W, stride=0), "stride must be at least 1; got 0"),
        (lambda: mdb.conv2d(X, W, padding="full"), "padding must be .* got 'full'"),
        (
            lambda: mdb.conv2d_transpose(G, W, (6, 4)),
            r"conv2d_transpose: g must have shape \(N, 4, 3, 6\) to go with w \(3, 2, 3, 6\) .* got \(2, 3, 3, 6\)",
        ),
        (lambda: mdb.conv2d_transpose(G[..., :5], W, (5, 4)), r"conv2d_transpose: .* got \(2, 3, 3, 5\)"),
        (lambda: mdb.conv2d_transpose(G[0], W, (5, 4)), r"conv2d_transpose: g must have the axes \(N, h, w, O\)"),
        (
            lambda: mdb.conv2d_weight_grad(X, G, (2, 2)),
            r"conv2d_weight_grad: g must have shape \(2, 4, 3, O\) to go with x \(2, 5, 4, 3\) .* got \(2, 3, 3, 6\)",
        ),
        (lambda: mdb.conv2d_weight_grad(X[:1], G, (3, 2)), r"conv2d_weight_grad: g must have shape \(1, 3, 3, O\)"),
        (lambda: mdb.conv2d_weight_grad(X, G[0], (3, 2)), r"conv2d_weight_grad: g must have the axes \(N, h, w, O\)"),
    ],
)
def test_conv_shapes_that_do_not_fit(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [0, 1])
def test_conv_of_small_batches(n: int) -> None:
    x, w = Tensor(normal(n, 5, 5, 2), requires_grad=True), Tensor(normal(3, 3, 2, 4, seed=1), requires_grad=True)
    y = mdb.conv2d(x, w, stride=2, padding="same")
    assert y.shape == (n, 3, 3, 4)
    of_x, of_w = mdb.grad(y, [x, w], np.ones((7, *y.shape)), create_graph=True)
    assert (of_x.shape, of_w.shape) == ((7, n, 5, 5, 2), (7, 3, 3, 2, 4))
    assert np.abs(of_w.data).sum() > 0 or n == 0
    assert mdb.grad(mdb.abs(of_x).sum(), w)[0].shape == w.shape


NUMBERS = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((), (2, 3)), ((2,), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 2, 3), (3, 4)),
        ((3,), (2, 3, 4)), ((5, 3), (2, 3, 4)), ((2, 1, 3), (2, 2, 3, 4)), ((0, 3), (2, 3, 4)), ((2, 0), (3, 0, 4)),
    ],
)  # fmt: skip
def test_dot_is_numpys(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = NUMBERS.standard_normal(a), NUMBERS.standard_normal(b)
    for got in mdb.dot(x, y), Tensor(x).dot(y):
        np.testing.assert_allclose(got.data, np.dot(x, y), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("a", "b", "axis"), [((2, 3), (2, 3), 0), ((3,), (2,), 0), ((2, 3), (3, 2, 4), 1)])
def test_what_dot_refuses(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^dot: shapes .* do not fit together: .* size 3, axis {axis} of the second 2$"
    ):
        mdb.dot(np.ones(a), np.ones(b))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        (" i j , j k -> k i ", [(2, 3), (3, 4)]),
        ("ij->ji", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("i,i", [(3,), (3,)]),
        ("i,j->ij", [(2,), (3,)]),
        ("nij,nj->ni", [(2, 3, 4), (2, 4)]),
        ("ij,ij->ij", [(2, 3), (1, 3)]),
        ("ij,ij->i", [(2, 1), (2, 3)]),
        ("ij,ij->i", [(2, 3), (2, 1)]),
        ("ij,jk,kl,li->", [(2, 3), (3, 4), (4, 5), (5, 2)]),
        ("aB,Bc->ac", [(2, 3), (3, 4)]),
        ("B,a", [(2,), (3,)]),
        ("i,->i", [(3,), ()]),
        (",", [(), ()]),
        ("", [()]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
    ],
)
def test_einsum_is_numpys(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [NUMBERS.standard_normal(shape) for shape in shapes]
    got = mdb.einsum(subscripts, *arrays)
    assert got.shape == np.einsum(subscripts, *arrays).shape
    np.testing.assert_allclose(got.data, np.einsum(subscripts, *arrays), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("...i->i", np.ones((2, 3))), "einsum: '...i->i' has an ellipsis; give every axis a letter"),
        (("ii->i", np.ones((2, 2))), "einsum: 'i' stands twice in 'ii'; take the diagonal first"),
        (("ij,jk", np.ones((2, 3))), r"einsum: 'ij,jk' must have a letter for each axis .* \(2, 3\)"),
        (("i", np.ones((2, 3))), r"einsum: 'i' must have a letter for each axis"),
        (("i",), "einsum: 'i' must have a letter for each axis .* none"),
        (("ij,jk", np.ones((2, 3)), np.ones((2, 3))), "einsum: 'j' has the sizes 3 and 2 in 'ij,jk'"),
        (("i->j", np.ones(2)), "einsum: 'j' of the result 'j' must stand there once, and in an operand"),
        (("i->ii", np.ones(2)), "einsum: 'i' of the result 'ii'"),
        (("i1", np.ones((2, 2))), "einsum: subscripts are letters, commas and one '->'; got 'i1'"),
        (("i->i->i", np.ones(2)), "einsum: subscripts are letters"),
    ],
)
def test_what_einsum_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mdb.einsum(*arguments)


def test_einsum_refuses_other_types() -> None:
    with pytest.raises(TypeError, match="einsum: the subscripts must be a string; got ndarray"):
        mdb.einsum(np.ones(2), [0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="einsum: operands must have one dtype"):
        mdb.einsum("i,i", Tensor([1.0]), Tensor(np.ones(1, np.float32)))

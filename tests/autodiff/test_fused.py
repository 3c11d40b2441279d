"""The masked conv family and the fused operations against dense NumPy and against the same in separate steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidbp as mdb
from minidbp import Tensor
from minidbp.autodiff import linear
from minidbp.kernels import ConvGeometry


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


GEOMETRY = ConvGeometry.of((5, 5), (3, 3), 1, "valid")
IMAGE = {"geometry": GEOMETRY, "mask": normal(2, 3, 3, 20, seed=1) > 0.3}
MATRIX = {"geometry": None, "mask": normal(4, 20, seed=1) > 0.3}


@pytest.mark.parametrize("lead", [(), (10,), (2, 5)])
def test_masked_products_of_matrices_are_numpys(lead: tuple[int, ...]) -> None:
    """Values and both derivatives of each; the leading axes of g, a cotangent, share the mask."""
    mask = MATRIX["mask"]
    x, w, g = normal(*lead, 4, 64, seed=2), normal(64, 20, seed=3), normal(*lead, 4, 20, seed=4)
    xs, ws, gs = (Tensor(a, requires_grad=True) for a in (x, w, g))
    values = {
        "conv2d": (linear._conv2d(xs, ws, **MATRIX), mask * (x @ w)),
        "transpose": (linear._conv2d_transpose(gs, ws, **MATRIX), (mask * g) @ w.T),
        "weight_grad": (linear._conv2d_weight_grad(xs, gs, **MATRIX), x.reshape(-1, 64).T @ (mask * g).reshape(-1, 20)),
    }
    for got, expected in values.values():
        np.testing.assert_allclose(got.data, expected, rtol=1e-12, atol=1e-12)
    outputs, images, filters = values["conv2d"][1], values["transpose"][1], values["weight_grad"][1]
    for got, expected in zip(mdb.grad(values["conv2d"][0], [xs, ws], g), (images, filters), strict=True):
        np.testing.assert_allclose(got.data, expected, rtol=1e-12, atol=1e-12)
    for got, expected in zip(mdb.grad(values["transpose"][0], [gs, ws], x), (outputs, filters), strict=True):
        np.testing.assert_allclose(got.data, expected, rtol=1e-12, atol=1e-12)
    for got, expected in zip(mdb.grad(values["weight_grad"][0], [xs, gs], w), (images, outputs), strict=True):
        np.testing.assert_allclose(got.data, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("static", [IMAGE, MATRIX], ids=["image", "matrix"])
def test_each_row_of_many_cotangents(static: dict) -> None:
    """A cotangent with leading axes K gives the same as its K rows one by one, in every argument of each function."""
    w = Tensor(normal(3, 3, 16, 20, seed=2) if static is IMAGE else normal(16, 20, seed=2), requires_grad=True)
    x = Tensor(normal(2, 5, 5, 16, seed=3) if static is IMAGE else normal(4, 16, seed=3), requires_grad=True)
    g = Tensor(normal(*static["mask"].shape, seed=4), requires_grad=True)
    for f, inputs in (
        (linear._conv2d, (x, w)),
        (linear._conv2d_transpose, (g, w)),
        (linear._conv2d_weight_grad, (x, g)),
    ):
        y = f(*inputs, **static)
        rows = normal(2, 3, *y.shape, seed=5)
        together = mdb.grad(y, inputs, rows)
        for k in np.ndindex(2, 3):
            for got, expected in zip(together, mdb.grad(y, inputs, rows[k]), strict=True):
                np.testing.assert_allclose(got.data[k], expected.data, rtol=1e-12, atol=1e-12)


def plain(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return mdb.relu(x @ w + b)


def plain_conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return mdb.relu(mdb.conv2d(x, w, b, (1, 2), "same"))


def fused_conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return mdb.conv2d_relu(x, w, b, (1, 2), "same")


@pytest.mark.parametrize("order", [1, 2, 3])
@given(seed=st.integers(0, 1000), sizes=st.tuples(*[st.integers(1, 4)] * 3))
def test_fused_is_plain(order: int, seed: int, sizes: tuple[int, int, int]) -> None:
    """Values and derivatives to 1e-12 of the largest, with nets of two layers so that masks meet."""
    n, i, o = sizes
    for fused, separate, shapes in (
        (mdb.linear_relu, plain, [(n, i), (i, o), (o,), (o, i), (i,)]),
        (fused_conv, plain_conv, [(n, 3, 4, i), (2, 3, i, o), (o,), (3, 2, o, i), (i,)]),
    ):
        inputs = [Tensor(normal(*shape, seed=seed + k), requires_grad=True) for k, shape in enumerate(shapes)]
        results = []
        for layer in fused, separate:
            level = [layer(layer(*inputs[:3]), *inputs[3:])]
            derivatives = [*level]
            for k in range(order):
                total = sum(((y**2).sum() * (1 + k) for y in level), Tensor(0.0))
                level = list(mdb.grad(total, inputs, create_graph=True))
                derivatives += level
            results.append([d.data for d in derivatives])
        for a, b in zip(*results, strict=True):
            assert np.abs(a - b).max(initial=0) <= 1e-12 * max(1.0, np.abs(b).max(initial=0))


def test_a_relu_at_zero_and_at_nan() -> None:
    x, w = Tensor([[0.0], [np.nan], [1.0]], requires_grad=True), Tensor([[1.0]])
    y = mdb.linear_relu(x, w, [0.0])
    np.testing.assert_array_equal(y.data, [[0.0], [np.nan], [1.0]])
    np.testing.assert_array_equal(mdb.grad(y, x, np.ones((3, 1)))[0].data, [[0.0], [0.0], [1.0]])


def test_the_complex_step_through_both() -> None:
    w, b = normal(3, 3, 2, 4, seed=1), normal(4, seed=2)
    v, c = normal(64, 3, seed=3), normal(3, seed=4)

    def f(x: Tensor) -> Tensor:
        y = mdb.conv2d_relu(x.reshape(1, 6, 6, 2), w, b)
        return (mdb.linear_relu(y.reshape(1, 64), v, c) ** 3).sum()

    x, d = normal(72, seed=5), normal(72, seed=6)
    expected = mdb.hvp(f, x, d)[1]
    np.testing.assert_allclose(mdb.complex_step_hvp(f, x, d), expected.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mdb.linear_relu(np.ones((2, 3)), np.ones((2, 4)), np.ones(4)), r"x \(2, 3\), w \(2, 4\) and b \(4,\)"),
        (lambda: mdb.linear_relu(np.ones((2, 3)), np.ones((3, 4)), 1.0), r"b \(\) should be \(\*B, I\), \(I, O\)"),
        (
            lambda: mdb.conv2d_relu(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1, 4)), np.ones(3)),
            r"conv2d_relu: bias must have shape \(4,\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("n", "m", "p"), [(6, 3, 0), (6, 0, 4), (0, 3, 4), (6, 20, 0), (0, 0, 0)])
def test_products_of_nothing(n: int, m: int, p: int) -> None:
    a, b = Tensor(np.ones((n, m)), requires_grad=True), Tensor(np.ones((m, p)), requires_grad=True)
    for y in a @ b, mdb.linear_relu(a, b, np.zeros(p)):
        np.testing.assert_array_equal(y.data, np.ones((n, m)) @ np.ones((m, p)))
        assert [g.shape for g in mdb.grad(y.sum(), [a, b])] == [(n, m), (m, p)]
    x, w = Tensor(np.ones((n, 3, 3, m)), requires_grad=True), Tensor(np.ones((2, 2, m, p)), requires_grad=True)
    for z in mdb.conv2d(x, w), mdb.conv2d_relu(x, w, np.zeros(p)):
        assert z.shape == (n, 2, 2, p)
        assert [g.shape for g in mdb.grad(z.sum(), [x, w])] == [x.shape, w.shape]


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_the_complex_step_in_each_argument(argument: int) -> None:
    """The other arguments are Tensors of float64, as a model's parameters are."""
    for f, shapes in (
        (mdb.linear_relu, [(4, 3), (3, 2), (2,)]),
        (mdb.conv2d_relu, [(2, 4, 4, 2), (3, 3, 2, 3), (3,)]),
        (mdb.conv2d, [(2, 4, 4, 2), (3, 3, 2, 3), (3,)]),
        (lambda x, w, b: x @ w + b, [(4, 3), (3, 2), (2,)]),
    ):
        tensors = [Tensor(normal(*shape, seed=k)) for k, shape in enumerate(shapes)]

        def cubes(z: Tensor, f=f, tensors=tensors) -> Tensor:
            return (f(*tensors[:argument], z, *tensors[argument + 1 :]) ** 3).sum()

        x, d = tensors[argument].data, normal(*shapes[argument], seed=9)
        expected = mdb.hvp(cubes, x, d)[1].data
        np.testing.assert_allclose(mdb.complex_step_hvp(cubes, x, d), expected, rtol=1e-12, atol=1e-12)


def test_sizes_of_the_adjoints_may_be_one_number() -> None:
    x, w = normal(1, 4, 4, 2), normal(2, 2, 2, 3)
    g = mdb.conv2d(x, w)
    for four, two in ((4, 2), ([4, 4], [2, 2]), ((4, 4), (2, 2))):
        assert mdb.conv2d_transpose(g, w, four).shape == x.shape
        assert mdb.conv2d_weight_grad(x, g, two).shape == w.shape


def test_no_cotangent_at_all() -> None:
    """K = 0 rows go through, and nothing comes back."""
    x, w = Tensor(normal(1, 3, 3, 2), requires_grad=True), Tensor(normal(2, 2, 2, 3), requires_grad=True)
    y = mdb.conv2d(x, w)
    assert [g.shape for g in mdb.grad(y, [x, w], np.ones((0, *y.shape)))] == [(0, *x.shape), (0, *w.shape)]

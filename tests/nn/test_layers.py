import math

import numpy as np
import pytest

import minidbp as mdb
from minidbp.kernels import ConvGeometry, Padding, reference
from minidbp.nn import INITIALISERS, Conv2d, Flatten, Linear, ReLU, Sequential, glorot_uniform, he_normal

RNG = np.random.default_rng


def test_linear_is_xw_plus_b() -> None:
    layer, x = Linear(3, 2, RNG(0), dtype="float64"), RNG(1).standard_normal((4, 3))
    layer.b.data = np.array([1.0, -2.0])
    w, b = layer.parameters()
    np.testing.assert_allclose(layer(mdb.Tensor(x)).data, x @ w.data + b.data, rtol=1e-14)


@pytest.mark.parametrize(("stride", "padding"), [(1, "valid"), (2, "same"), (2, 1)])
def test_conv2d_is_the_reference(stride: int, padding: Padding) -> None:
    layer = Conv2d(2, 3, 3, RNG(0), stride, padding, dtype="float64")
    x = RNG(1).standard_normal((2, 6, 7, 2))
    layer.b.data = np.array([1.0, -2.0, 3.0])
    expected = reference.conv2d(x, layer.w.data, ConvGeometry.of((6, 7), (3, 3), stride, padding)) + layer.b.data
    np.testing.assert_allclose(layer(mdb.Tensor(x)).data, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_before_training(dtype: str) -> None:
    for layer in Linear(3, 2, RNG(0), dtype, he_normal), Conv2d(1, 2, 5, RNG(0), dtype=dtype, initialiser=he_normal):
        w, b = layer.parameters()
        assert (w.dtype, b.dtype) == (np.dtype(dtype), np.dtype(dtype))
        assert w.requires_grad
        assert b.requires_grad
        np.testing.assert_array_equal(b.data, [0, 0])
        np.testing.assert_array_equal(w.data, he_normal(w.shape, RNG(0)).astype(dtype))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_flatten_and_relu(n: int) -> None:
    x = mdb.Tensor(RNG(0).standard_normal((n, 2, 3, 4)))
    assert Flatten()(x).shape == (n, 24)
    np.testing.assert_array_equal(ReLU()(x).data, np.maximum(x.data, 0))
    assert Flatten().parameters() == ReLU().parameters() == []


def test_sequential_numbers_its_parameters() -> None:
    inner = Sequential([Linear(4, 3, RNG(1)), ReLU()])
    net = Sequential([Conv2d(1, 1, 2, RNG(0)), ReLU(), Flatten(), inner, Linear(3, 2, RNG(2))])
    assert [p.name for p in net.parameters()] == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert net(np.ones((5, 3, 3, 1), np.float32)).shape == (5, 2)


def test_what_a_layer_cannot_take() -> None:
    with pytest.raises(ValueError, match=r"matmul: shapes \(2, 4\) and \(3, 2\) do not fit"):
        Linear(3, 2, RNG(0))(mdb.Tensor(np.ones((2, 4), np.float32)))
    with pytest.raises(TypeError, match="matmul: operands must have one dtype; got float64 and float32"):
        Linear(3, 2, RNG(0))(mdb.Tensor(np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"conv2d: x .* has 2 channels, but w .* takes 1"):
        Conv2d(1, 2, 3, RNG(0))(mdb.Tensor(np.ones((1, 4, 4, 2), np.float32)))


def test_repr_shows_the_architecture() -> None:
    net = Sequential([Conv2d(1, 4, 3, RNG(0), 2, "same"), ReLU(), Flatten(), Linear(16, 2, RNG(0))])
    assert repr(net) == (
        "Sequential(\n  Conv2d(1, 4, kernel=3, stride=2, padding='same'),\n  ReLU(),\n  Flatten(),\n  Linear(16, 2)\n)"
    )


def test_astype_is_a_copy_of_another_dtype() -> None:
    model = mdb.nn.build_model("A", seed=1, padding="same")
    twin = model.astype(np.float64)
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.dtype, q.dtype, q.requires_grad) == (np.float32, np.float64, True)
        np.testing.assert_array_equal(p.data, q.data)
        assert p.data.strides == tuple(s // 2 for s in q.data.strides)  # filters one after the other, as they were
    assert repr(twin) == repr(model)
    twin.parameters()[0].data = np.zeros(twin.parameters()[0].shape)
    assert model.parameters()[0].data.any()


def test_astype_reaches_a_sequential_inside_another() -> None:
    model = Sequential([Linear(3, 4, RNG(0)), Sequential([Linear(4, 2, RNG(1))])])
    wide = model.astype(np.float64)
    assert [p.dtype for p in wide.parameters()] == [np.float64] * 4
    assert [p.dtype for p in model.parameters()] == [np.float32] * 4


# shape, fan in, fan out: a Linear's, then a conv's, whose every tap is an input and an output
SHAPES = [((784, 512), 784, 512), ((8, 8, 16, 64), 8 * 8 * 16, 8 * 8 * 64), ((400, 1), 400, 1)]


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
def test_glorot_fills_its_bounds(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    w = glorot_uniform(shape, np.random.default_rng(0))
    a = math.sqrt(6 / (fan_in + fan_out))
    assert w.shape == shape
    assert np.abs(w).max() <= a
    assert np.abs(w).max() > 0.98 * a  # of 400 numbers, the largest is below 0.98 a once in 3,000 seeds
    # a mean of n uniform numbers has the standard deviation a / sqrt(3 n)
    assert abs(w.mean()) < 4 * a / math.sqrt(3 * w.size)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
def test_he_has_its_deviation(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    w = he_normal(shape, np.random.default_rng(0))
    assert w.shape == shape
    # a standard deviation from n normal numbers is off by 1 / sqrt(2 n) of itself
    assert abs(w.std() / math.sqrt(2 / fan_in) - 1) < 4 / math.sqrt(2 * w.size)


@pytest.mark.parametrize("name", INITIALISERS)
def test_the_generator_decides(name: str) -> None:
    initialise = INITIALISERS[name]
    first, again, other = (initialise((3, 4), np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()

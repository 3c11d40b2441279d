import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import NotDifferentiableError, Tensor
from minidbp.checking import check_derivatives
from minidbp.kernels import ConvGeometry, Padding, reference
from minidbp.nn import (
    INITIALISERS,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    fuse,
    glorot_uniform,
    he_normal,
)
from minidbp.robust import PENALTIES, Objective
from minidbp.training import Adam

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
    inner = Sequential([Linear(4, 3, RNG(1)), ReLU(), Linear(3, 3, RNG(3))])
    net = Sequential([Conv2d(1, 1, 2, RNG(0)), ReLU(), Flatten(), inner, Linear(3, 2, RNG(2))])
    assert [p.name for p in net.parameters()] == ["W1", "b1", "W2", "b2", "W3", "b3", "W4", "b4"]
    assert net(np.ones((5, 3, 3, 1), np.float32)).shape == (5, 2)


def test_what_a_layer_cannot_take() -> None:
    with pytest.raises(ValueError, match=r"matmul: shapes \(2, 4\) and \(3, 2\) do not fit"):
        Linear(3, 2, RNG(0))(mdb.Tensor(np.ones((2, 4), np.float32)))
    with pytest.raises(TypeError, match="matmul: operands must have one dtype; got float64 and float32"):
        Linear(3, 2, RNG(0))(mdb.Tensor(np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"conv2d: x .* has 2 channels, but w .* takes 1"):
        Conv2d(1, 2, 3, RNG(0))(mdb.Tensor(np.ones((1, 4, 4, 2), np.float32)))


def test_what_no_layer_is_made_of() -> None:
    rng: Any
    for rng in 0, None, np.random:
        for make in (lambda r: Linear(3, 2, r)), (lambda r: Conv2d(1, 2, 3, r)):
            with pytest.raises(
                TypeError, match=r"^the rng of a layer must be a Generator such as np\.random\.default_rng"
            ):
                make(rng)
    for sizes in (0, 2), (3, 2.0), (-1, 2), (3, None):
        with pytest.raises(ValueError, match=r"^the sizes of a layer must be whole numbers of at least 1; got \("):
            Linear(*sizes, RNG(0))  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^Sequential takes a list of layers, as in Sequential\(\[first, second\]\); got Linear"
    ):
        Sequential(Linear(3, 2, RNG(0)), ReLU())  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_in_bytes_are_refused(dtype: str) -> None:
    """In float64 they would be taken for images of 0 to 255."""
    model = Sequential([Linear(3, 2, RNG(0), dtype)])
    with pytest.raises(
        TypeError, match=r"^images must be float32 or float64; got uint8: divide bytes by 255, as in x\."
    ):
        model(np.zeros((1, 3), np.uint8))
    if dtype == "float32":
        wanted = r"^this model takes float32 images; got float64 \(convert them with .astype; a Tensor of integers"
        with pytest.raises(TypeError, match=wanted):
            mdb.jacobian(model, np.zeros((1, 3), np.uint8))


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


# -- AvgPool2d ---------------------------------------------------------------------------------------------------------


POOLINGS = [
    (1, None, (3, 2)),
    (2, None, (4, 6)),
    (2, None, (5, 7)),
    (3, 1, (5, 4)),
    (3, 2, (8, 7)),
    (2, 3, (6, 6)),
    (4, None, (4, 4)),
]


@pytest.mark.parametrize(("kernel", "stride", "size"), POOLINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pooling_is_torchs(kernel: int, stride: int | None, size: tuple[int, int], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    data = RNG(0).standard_normal((2, *size, 3)).astype(dtype)
    x, tx = mdb.Tensor(data, requires_grad=True), torch.tensor(data.transpose(0, 3, 1, 2), requires_grad=True)
    y, ty = AvgPool2d(kernel, stride)(x), torch.nn.functional.avg_pool2d(tx, kernel, stride)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert y.dtype == dtype
    np.testing.assert_allclose(y.data, ty.detach().numpy().transpose(0, 2, 3, 1), rtol=0, atol=tolerance)
    g = RNG(1).standard_normal(y.shape).astype(dtype)
    (gx,) = mdb.grad(y, x, g)
    ty.backward(torch.tensor(g.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(gx.data, tx.grad.numpy().transpose(0, 2, 3, 1), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (2, 1), (3, 2)])
def test_poolings_derivatives(kernel: int, stride: int | None) -> None:
    pool = AvgPool2d(kernel, stride)
    x = RNG(0).standard_normal((2, 4, 5, 2))
    assert check_derivatives(pool, x, order=2)
    assert check_derivatives(lambda t: pool(t * t * t), x[:1, :3, :3], order=3)


@pytest.mark.parametrize("layer", [AvgPool2d, MaxPool2d])
def test_pooling_of_no_images_and_of_one_nan(layer: type[AvgPool2d | MaxPool2d]) -> None:
    assert layer(2)(mdb.Tensor(np.zeros((0, 4, 4, 3)))).shape == (0, 2, 2, 3)
    for row, column in (0, 0), (0, 1), (1, 0), (1, 1):
        x = np.ones((1, 4, 4, 2))
        x[0, row, column, 1] = np.nan
        y = layer(2)(mdb.Tensor(x)).data
        assert np.argwhere(np.isnan(y)).tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("layer", [AvgPool2d, MaxPool2d])
def test_what_pooling_cannot_take(layer: type[AvgPool2d | MaxPool2d]) -> None:
    name = layer.__name__
    with pytest.raises(ValueError, match=rf"^{name}: a kernel of 5x5 does not fit into images of 4x6$"):
        layer(5)(mdb.Tensor(np.zeros((1, 4, 6, 1))))
    with pytest.raises(ValueError, match=rf"^{name}: x must have the axes \(N, H, W, C\); got shape \(4, 6\)$"):
        layer(2)(mdb.Tensor(np.zeros((4, 6))))
    for kernel in 0, -1, 2.0, (2, 2), None:
        with pytest.raises(ValueError, match=f"{name}: the kernel must be an integer of at least 1; got"):
            layer(kernel)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name}: the stride must be an integer of at least 1; got 0"):
        layer(2, 0)


# -- MaxPool2d ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride", "size"), POOLINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pooling_is_torchs(kernel: int, stride: int | None, size: tuple[int, int], dtype: str, ties: bool) -> None:
    """Value and derivative, in ties too: four values only, so that most windows have several maxima."""
    torch = pytest.importorskip("torch")
    shape = (3, *size, 3)
    data = (RNG(0).integers(0, 3, shape) if ties else RNG(0).standard_normal(shape)).astype(dtype)
    x, tx = mdb.Tensor(data, requires_grad=True), torch.tensor(data.transpose(0, 3, 1, 2), requires_grad=True)
    y, ty = MaxPool2d(kernel, stride)(x), torch.nn.functional.max_pool2d(tx, kernel, stride)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.data, ty.detach().numpy().transpose(0, 2, 3, 1))
    g = RNG(1).integers(-4, 5, y.shape).astype(dtype)  # sums of whole numbers are exact
    (gx,) = mdb.grad(y, x, g)
    ty.backward(torch.tensor(g.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(gx.data, tx.grad.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (2, 1), (3, 2)])
def test_max_pooling_by_hand(kernel: int, stride: int | None) -> None:
    """The maximum of each window, and the derivative at np.argmax, which is the first of equal maxima in row order."""
    x = RNG(0).integers(0, 3, (2, 5, 6, 2)).astype(float)
    leaf, step = mdb.Tensor(x, requires_grad=True), stride or kernel
    y = MaxPool2d(kernel, stride)(leaf)
    g = RNG(1).integers(-4, 5, y.shape).astype(float)
    expected = np.zeros_like(x)
    for n, i, j, c in np.ndindex(y.shape):
        window = x[n, i * step : i * step + kernel, j * step : j * step + kernel, c]
        assert y.data[n, i, j, c] == window.max()
        a, b = np.unravel_index(np.argmax(window), window.shape)
        expected[n, i * step + a, j * step + b, c] += g[n, i, j, c]
    np.testing.assert_array_equal(mdb.grad(y, leaf, g)[0].data, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (2, 1), (3, 2)])
def test_max_poolings_derivatives(kernel: int, stride: int | None) -> None:
    pool = MaxPool2d(kernel, stride)
    x = RNG(0).standard_normal((2, 4, 5, 2))
    assert check_derivatives(pool, x[:1], order=1)
    assert check_derivatives(lambda t: pool(t * t * t), x[:1, :3, :3, :1], order=3)
    leaf = mdb.Tensor(x, requires_grad=True)
    y = pool(leaf)
    g = RNG(1).standard_normal((7, *y.shape))  # many cotangents at once
    np.testing.assert_array_equal(mdb.grad(y, leaf, g)[0].data, [mdb.grad(y, leaf, row)[0].data for row in g])


def test_a_tie_is_a_kink_which_the_check_sees() -> None:
    with pytest.raises(NotDifferentiableError, match=r"greater_equal has a kink at element \(0, 0, 0, 0\)$"):
        check_derivatives(MaxPool2d(2), np.ones((1, 2, 2, 1)))


# -- Dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate: float, dtype: str) -> None:
    x = mdb.Tensor(np.ones((200, 500), dtype))
    y = Dropout(rate, RNG(0))(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.unique(y.data), [0, 1 / (1 - rate)] if rate else [1], rtol=1e-6)
    n = x.size  # the number of zeros is binomial
    assert abs(np.mean(y.data == 0) - rate) <= 4 * np.sqrt(rate * (1 - rate) / n)


def test_dropout_draws_a_new_mask_in_each_call() -> None:
    layer, x = Dropout(0.5, RNG(0)), mdb.Tensor(np.ones(100))
    first, second = layer(x).data, layer(x).data
    assert (first != second).any()
    same = Dropout(0.5, RNG(0))
    np.testing.assert_array_equal(same(x).data, first)
    np.testing.assert_array_equal(Dropout(0.5, RNG(0))(x.astype("float32")).data, first)  # in both dtypes


def test_dropouts_derivatives() -> None:
    x = RNG(1).standard_normal((3, 4))
    assert check_derivatives(lambda t: Dropout(0.5, RNG(0))(t * t * t), x, order=3)
    leaf = mdb.Tensor(x, requires_grad=True)
    y = Dropout(0.5, RNG(0))(leaf)
    (g,) = mdb.grad(y, leaf, np.ones((7, 3, 4)))  # leading axes share the mask
    np.testing.assert_array_equal(g.data, np.broadcast_to(np.where(y.data == 0, 0, 2), (7, 3, 4)))


def test_the_model_switches_dropout_off_and_on() -> None:
    inner = Sequential([Linear(4, 4, RNG(0)), Dropout(0.5, RNG(1))])
    model = Sequential([inner, ReLU(), Dropout(0.5, RNG(2)), Linear(4, 3, RNG(3))])
    assert [p.name for p in model.parameters()] == ["W1", "b1", "W2", "b2"]
    x = RNG(4).standard_normal((5, 4)).astype(np.float32)
    assert (model(x).data != model(x).data).any()
    assert model.eval() is model
    assert model.layers[2].training is inner.layers[1].training is False
    plain = Sequential([inner.layers[0], ReLU(), model.layers[3]])
    np.testing.assert_array_equal(model(x).data, plain(x).data)
    assert model.train() is model
    assert (model(x).data != model(x).data).any()
    assert not model.train(False).layers[2].training


def test_evaluation_draws_nothing() -> None:
    layer = Dropout(0.5, RNG(0))
    before = layer.rng.bit_generator.state
    layer.training = False
    x = mdb.Tensor(np.ones(3))
    assert layer(x) is x
    assert layer.rng.bit_generator.state == before


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "astype": lambda model: model.astype("float64"),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("shared", [True, False])
def test_a_copy_draws_the_same_masks(name: str, shared: bool) -> None:
    rng = RNG(0)
    second = rng if shared else RNG(1)
    inner = Sequential([Dropout(0.5, rng)])
    model = Sequential([inner, Dropout(0.5, second), Linear(50, 2, RNG(2))])
    model.layers[1].training = False
    twin = COPIES[name](model)
    assert repr(twin) == repr(model)
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]
    assert not twin.layers[1].training
    for m in model, twin:
        m.train()
    assert (twin.layers[0].layers[0].rng is twin.layers[1].rng) is shared
    assert twin.layers[1].rng is not model.layers[1].rng
    x = RNG(3).standard_normal((4, 50))
    for _ in range(2):
        ours, theirs = twin(x.astype(twin.parameters()[0].dtype)).data, model(x.astype(np.float32)).data
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_what_dropout_cannot_take() -> None:
    for rate in -0.1, 1.0, 1.5, np.nan:
        with pytest.raises(ValueError, match=rf"^Dropout: the rate must lie in \[0, 1\); got {rate}$"):
            Dropout(rate, RNG(0))
    for rng in 0, None, np.random, np.random.RandomState(0):
        with pytest.raises(TypeError, match=r"Dropout: rng must be a Generator such as np.random.default_rng\(0\)"):
            Dropout(0.5, rng)  # type: ignore[arg-type]


# -- smooth activations ------------------------------------------------------------------------------------------------

SMOOTH = {"Tanh": Tanh, "Sigmoid": Sigmoid, "Softplus": Softplus}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_are_torchs(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer, theirs = SMOOTH[name](), getattr(torch.nn, name)()
    assert (repr(layer), layer.parameters()) == (f"{name}()", [])
    data = (4 * RNG(0).standard_normal((3, 50))).astype(dtype)
    x, tx = mdb.Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, ty = layer(x), theirs(tx)
    assert y.dtype == dtype
    tolerance = 1e-6 if dtype == "float32" else 1e-9  # torch's softplus is x itself above 20
    for _ in range(3):  # the value and the first two derivatives
        np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=0, atol=tolerance)
        (y,) = mdb.grad(y.sum(), x, create_graph=True)
        (ty,) = torch.autograd.grad(ty.sum(), tx, create_graph=True)


@pytest.mark.parametrize("name", SMOOTH)
def test_activations_derivatives(name: str) -> None:
    x = np.concatenate([RNG(0).standard_normal(6), [0.0, 20.0, -20.0]]).reshape(3, 3)
    assert check_derivatives(SMOOTH[name](), x, order=3)


# -- the model ---------------------------------------------------------------------------------------------------------


def small_model(dtype: str = "float64") -> Sequential:
    """Images (N, 6, 6, 1) to (N, 4), with each of the layers above."""
    rng = RNG(0)
    layers: list[Any] = [
        Conv2d(1, 3, 3, rng, dtype=dtype), Softplus(), AvgPool2d(2), Flatten(), Linear(12, 16, rng, dtype), Tanh(),
        Dropout(0.3, rng), ReLU(), Linear(16, 16, rng, dtype), ReLU(), Linear(16, 4, rng, dtype), Sigmoid(),
    ]  # fmt: skip
    return Sequential(layers, (6, 6, 1))


def images_and_labels(n: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG(1).uniform(0.2, 0.8, (n, 6, 6, 1)), RNG(2).integers(0, 4, n)


def test_repr() -> None:
    model = Sequential([AvgPool2d(2), MaxPool2d(3, 1), Dropout(0.5, RNG(0)), Tanh()])
    assert repr(model) == (
        "Sequential(\n  AvgPool2d(2, stride=2),\n  MaxPool2d(3, stride=1),\n  Dropout(0.5),\n  Tanh()\n)"
    )


def test_fuse_leaves_these_layers_alone() -> None:
    model = small_model()
    fused = fuse(model)
    assert [type(layer).__name__ for layer in fused.layers] == [
        "Conv2d", "Softplus", "AvgPool2d", "Flatten", "Linear", "Tanh", "Dropout", "ReLU", "LinearReLU", "Linear",
        "Sigmoid"
    ]  # fmt: skip
    assert fused.layers[6] is model.layers[6]  # one generator and one switch
    x, _ = images_and_labels(2)
    np.testing.assert_allclose(fused.eval()(x).data, model(x).data, rtol=1e-12)


def test_the_checks_and_traces_take_such_a_model() -> None:
    model, (x, _) = small_model().eval(), images_and_labels(2)
    assert check_derivatives(model, x)
    with mdb.trace() as steps:
        mdb.grad(mdb.robust.jacobian_l1(model, x), model.parameters())
    assert steps.check().ok
    assert steps.graph()._repr_svg_()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_penalties_of_such_a_model_agree_with_differences(penalty: str, training: bool) -> None:
    model, (x, y) = small_model().train(training), images_and_labels(3)
    ours = copy.deepcopy(model)  # with a copy of the generator
    loss = Objective(0.7, penalty)(ours, x, y)
    gradients = mdb.grad(loss.total, ours.parameters())
    assert loss.penalty is not None
    assert loss.penalty.item() > 0
    # along the gradient, the difference of two losses with the same masks
    total = sum(float(np.sum(g.data**2)) for g in gradients)
    values = []
    for step in 1e-6, -1e-6:
        moved = copy.deepcopy(model)
        for p, g in zip(moved.parameters(), gradients, strict=True):
            p.data = p.data + step * g.data
        values.append(Objective(0.7, penalty)(moved, x, y).total.item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_attacks_take_such_a_model(training: bool) -> None:
    model, x = small_model("float32"), images_and_labels(3)[0].astype(np.float32)
    y = np.argmax(model.eval()(x).data, axis=1)  # an image that is wrong already is not attacked
    model.train(training)
    for x_adv in mdb.robust.fgsm(model, x, y, 0.1), mdb.robust.pgd(model, x, y, 0.1, 0.05, 2):
        assert (x_adv.shape, x_adv.dtype) == (x.shape, np.float32)
        assert 0 < np.abs(x_adv - x).max() <= 0.1 + 1e-6


def tied() -> Sequential:
    rng = np.random.default_rng(0)
    first, second = Linear(3, 3, rng), Linear(3, 3, rng)
    second.w = first.w
    return Sequential([first, ReLU(), first, Sequential([second, Linear(3, 2, rng)])])


def test_a_shared_parameter_is_listed_and_named_once() -> None:
    model = tied()
    shared, bias = model.layers[0].parameters()
    assert [p is q for p, q in zip(model.parameters(), (shared, bias), strict=False)] == [True, True]
    assert len(model.parameters()) == 5
    assert [p.name for p in model.parameters()] == ["W1", "b1", "b2", "W3", "b3"]
    rng = np.random.default_rng(0)
    first, last = Linear(3, 3, rng), Linear(3, 2, rng)
    model = Sequential([first, first, last])
    assert [p.name for p in model.parameters()] == ["W1", "b1", "W2", "b2"]
    first.copy = first.w  # type: ignore[attr-defined]
    assert len(first.parameters()) == 2


def test_astype_keeps_shared_parameters_shared() -> None:
    model = tied()
    for twin in model.astype("float64"), model.astype("float64").astype("float32"), copy.deepcopy(model):
        assert len(twin.parameters()) == 5
        assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]
        inner = twin.layers[3]
        assert isinstance(inner, Sequential)
        assert twin.layers[0].w is twin.layers[2].w is inner.layers[0].w  # type: ignore[attr-defined]
        assert twin.layers[0].w is not model.layers[0].w  # type: ignore[attr-defined]


def test_training_moves_a_shared_parameter_once() -> None:
    """The gradient is the sum over both uses, and Adam's first step has the length of the learning rate."""
    model, x = tied().astype("float64"), np.random.default_rng(1).random((4, 3))
    before = [p.data for p in model.parameters()]
    gradients = mdb.grad((model(x) ** 2).sum(), model.parameters())
    Adam(model.parameters(), learning_rate=0.01).step([g.data for g in gradients])
    for p, old, g in zip(model.parameters(), before, gradients, strict=True):
        np.testing.assert_allclose(p.data, old - 0.01 * np.sign(g.data), atol=1e-6)
    check_derivatives(lambda w: _with_weights(model, w)(Tensor(x)), model.parameters()[0].data)


def _with_weights(model: Sequential, w: Tensor) -> Sequential:
    """The model with w in place of the weights that its layers share."""
    first, relu, _, inner = (copy.copy(layer) for layer in model.layers)
    inner.layers = [copy.copy(layer) for layer in inner.layers]  # type: ignore[attr-defined]
    first.w = inner.layers[0].w = w  # type: ignore[attr-defined]
    return Sequential([first, relu, first, inner])

"""A fused model against the plain one: values, penalties, gradients in the parameters, and the third order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidbp as mdb
from minidbp.nn import Conv2d, Flatten, Layer, Linear, ReLU, Sequential, fuse
from minidbp.nn.fuse import Conv2dReLU, LinearReLU
from minidbp.robust import PENALTIES, Objective

RNG = np.random.default_rng


@st.composite
def nets(draw: st.DrawFn) -> tuple[Sequential, np.ndarray, np.ndarray]:
    """A random Sequential in float64 with images and labels; ReLUs stand anywhere, also twice, first and last."""
    rng = RNG(draw(st.integers(0, 10_000)))
    n, size, channels = draw(st.integers(1, 3)), draw(st.integers(3, 6)), draw(st.integers(1, 2))
    relus = st.integers(0, 2)
    layers: list[Any] = [ReLU() for _ in range(draw(relus))]
    shape = (n, size, size, channels)
    for _ in range(draw(st.integers(0, 2))):
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        padding = draw(st.sampled_from(["valid", "same", 1])) if size >= kernel else "same"
        filters = draw(st.integers(1, 3))
        layers += [Conv2d(channels, filters, kernel, rng, stride, padding, dtype="float64")]
        layers += [ReLU() for _ in range(draw(relus))]
        channels, size = filters, Sequential(layers)(np.zeros(shape)).shape[1]
    layers.append(Flatten())
    width = size * size * channels
    for units in [*draw(st.lists(st.integers(2, 5), max_size=2)), draw(st.integers(2, 4))]:
        layers += [Linear(width, units, rng, "float64"), *(ReLU() for _ in range(draw(relus)))]
        width = units
    if draw(st.booleans()):  # a Sequential inside another
        cut = draw(st.integers(0, len(layers)))
        layers = [*layers[:cut], Sequential(layers[cut:])]
    model = Sequential(layers)
    for parameter in model.parameters():  # biases too, so that no unit stands at its kink
        parameter.data = rng.normal(0, 1.2 / np.sqrt(np.prod(parameter.shape[:-1])), parameter.shape)
    return model, rng.uniform(0.1, 1, shape), rng.integers(0, width, n)


def assert_close(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.data - b.data).max(initial=0) <= 1e-12 * max(1.0, np.abs(b.data).max(initial=0))


@pytest.mark.parametrize("of", ["logits", "softmax"])
@pytest.mark.parametrize("penalty", PENALTIES)
@settings(max_examples=40)
@given(net=nets())
def test_fused_is_plain_in_every_penalty(penalty: str, of: str, net: Any) -> None:
    model, x, y = net
    results = []
    for f in fuse(model), model:
        image = mdb.Tensor(x, requires_grad=True)
        try:
            loss = Objective(0.7, penalty, of, "sum", 0.1)(f, image, y)
            gradients = mdb.grad(loss.total, [image, *model.parameters()])
        except ValueError as error:  # ReLUs that are off everywhere, or J that is constant: both say the same
            results.append([str(error)])
        else:
            results.append([f(x), *loss, *gradients])
    if isinstance(results[1][0], str):
        assert results[0] == results[1]
    else:
        assert_close(*results)


@pytest.mark.slow
@settings(max_examples=60)
@given(net=nets())
def test_fused_is_plain_at_the_third_order(net: Any) -> None:
    model, x, y = net
    results = []
    for f in fuse(model), model:
        level: Any = [mdb.nn.cross_entropy(f(x), y)]
        derivatives = []
        for _ in range(3):
            total = sum(((t * t).sum() for t in level), mdb.Tensor(0.0))
            level = mdb.grad(total, model.parameters(), create_graph=True)
            derivatives += level
        results.append(derivatives)
    assert_close(*results)


def test_pairs_are_fused_and_nothing_else() -> None:
    class Own(Linear):
        """A layer of somebody's own, whose call may be anything."""

    rng = RNG(0)
    layers = [
        ReLU(), Conv2d(1, 2, 3, rng, 2, "same"), ReLU(), ReLU(), Conv2d(2, 2, 1, rng), Flatten(), Linear(8, 4, rng),
        ReLU(), Own(4, 4, rng), ReLU(), Linear(4, 3, rng),
    ]  # fmt: skip
    model = Sequential(layers, (4, 4, 1))
    fused = fuse(model)
    assert [type(layer) for layer in fused.layers] == [
        ReLU, Conv2dReLU, ReLU, Conv2d, Flatten, LinearReLU, Own, ReLU, Linear
    ]  # fmt: skip
    assert model.layers == layers  # as it was
    assert all(p is q for p, q in zip(fused.parameters(), model.parameters(), strict=True))
    assert repr(fused.layers[1]) == "Conv2dReLU(1, 2, kernel=3, stride=2, padding='same')"
    assert repr(fused.layers[5]) == "LinearReLU(8, 4)"
    assert [type(layer) for layer in fuse(fused).layers] == [type(layer) for layer in fused.layers]
    with pytest.raises(ValueError, match=r"takes images of shape \(N, 4, 4, 1\)"):
        fused(np.zeros((1, 5, 5, 1), np.float32))


def test_parameters_keep_their_names_and_are_shared() -> None:
    model = Sequential([Linear(3, 4, RNG(0)), ReLU(), Sequential([Linear(4, 2, RNG(1)), ReLU()])])
    model.parameters()[2].name = "mine"
    fused = fuse(model)
    assert [p.name for p in fused.parameters()] == ["W1", "b1", "mine", "b2"]
    x = RNG(2).uniform(size=(5, 3)).astype(np.float32)
    model.parameters()[3].data = np.ones(2, np.float32)
    np.testing.assert_allclose(fused(x).data, model(x).data, rtol=1e-6)
    assert fused.astype(np.float64)(x.astype(np.float64)).dtype == np.float64


def test_a_function_is_no_sequential() -> None:
    def f(x: mdb.Tensor) -> mdb.Tensor:
        return x

    layer = Linear(2, 2, RNG(0))
    assert fuse(f) is f
    assert fuse(layer) is layer


def test_a_layer_of_ones_own_may_hold_a_fused_sequential() -> None:
    class Own(Layer):
        def __init__(self) -> None:
            self.body = fuse(Sequential([Linear(3, 4, RNG(0)), ReLU(), Linear(4, 2, RNG(1))]))

        def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
            return self.body(x)

    model = Own()
    assert list(model.named_parameters()) == ["body.W1", "body.b1", "body.W2", "body.b2"]
    assert [type(layer) for layer in model.astype("float64").body.layers] == [LinearReLU, Linear]
    assert model.astype("float64")(mdb.Tensor(np.ones((2, 3)))).shape == (2, 2)


def test_a_subclass_with_a_call_of_its_own_stays_as_it_is() -> None:
    class Residual(Sequential):
        def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
            hidden = self.layers[0](x)
            return self.layers[1](hidden) + hidden

    rng = RNG(0)
    model = Residual([Linear(3, 3, rng, "float64"), ReLU()])
    assert fuse(model) is model
    x = rng.standard_normal((2, 3))
    nested = Sequential([model, Linear(3, 2, rng, "float64")])
    np.testing.assert_array_equal(fuse(nested)(x).data, nested(x).data)

"""A class of one's own as a layer and as a whole model: its parameters, their names, its modes, its copies."""

import collections
import copy
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.nn import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential

RNG = np.random.default_rng


class Scale(Layer):
    """A parameter that is neither w nor b, beside a constant."""

    def __init__(self, n: int) -> None:
        self.scale = mdb.Tensor(np.ones(n, np.float32), requires_grad=True)
        self.mean = mdb.Tensor(np.zeros(n, np.float32))

    def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
        return (x - self.mean) * self.scale


class Own(Layer):
    """Images (N, 4, 4, 1) to (N, 3), with a list, a dict, a tuple and a Sequential of layers, and a shared weight."""

    def __init__(self) -> None:
        rng = RNG(0)
        self.conv = Conv2d(1, 2, 3, rng)
        self.blocks = [Linear(8, 8, rng), Linear(8, 8, rng)]
        self.blocks[1].w = self.blocks[0].w
        self.heads = {"digits": Linear(8, 3, rng), 7: (Scale(3), Dropout(0.5, rng))}
        self.body = Sequential([Linear(8, 8, rng), ReLU(), Scale(8)])
        self.temperature = mdb.Tensor(np.float32(1), requires_grad=True)
        self.again = self.conv
        self.hidden: mdb.Tensor | None = None

    def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
        h = Flatten()(mdb.relu(self.conv(x)))
        self.hidden = h
        for block in self.blocks:
            h = h + mdb.tanh(block(h))
        y = self.heads["digits"](self.body(h))  # type: ignore[operator]
        for layer in self.heads[7]:  # type: ignore[union-attr]
            y = layer(y)
        return y / self.temperature


NAMES = [
    "conv.w", "conv.b", "blocks.0.w", "blocks.0.b", "blocks.1.b", "heads.digits.w", "heads.digits.b", "heads.7.0.scale",
    "body.W1", "body.b1", "body.2.scale", "temperature",
]  # fmt: skip


def test_parameters_are_found_at_any_depth_once_each() -> None:
    model = Own()
    assert list(model.named_parameters()) == NAMES
    assert all(p is q for p, q in zip(model.parameters(), model.named_parameters().values(), strict=True))
    assert model.named_parameters()["blocks.0.w"] is model.blocks[1].w
    model(mdb.Tensor(RNG(1).random((2, 4, 4, 1), np.float32)))
    assert model.hidden is not None
    assert model.hidden.requires_grad
    assert list(model.named_parameters()) == NAMES  # a stored activation is none


def test_all_of_them_get_a_gradient() -> None:
    model, x = Own().eval().astype("float64"), RNG(1).random((2, 4, 4, 1))
    gradients = mdb.grad(model(mdb.Tensor(x)).sum(), model.parameters(), allow_unused=False)
    assert [g.shape for g in gradients] == [p.shape for p in model.parameters()]


def test_a_parameter_of_another_name_in_a_sequential_has_its_path_after_the_number() -> None:
    model = Sequential([Scale(4), Linear(4, 4, RNG(0)), Sequential([ReLU(), Scale(4)]), Linear(4, 2, RNG(0))])
    names = ["1.scale", "W2", "b2", "3.scale", "W4", "b4"]
    assert list(model.named_parameters()) == [p.name for p in model.parameters()] == names
    inside = Sequential([Flatten(), Own(), Linear(3, 2, RNG(0))])
    assert list(inside.named_parameters()) == [*(f"1.{name}" for name in NAMES), "W2", "b2"]


def test_a_subclass_of_sequential_keeps_what_it_has_besides_its_layers() -> None:
    class Scaled(Sequential):
        def __init__(self) -> None:
            super().__init__([Linear(3, 3, RNG(0))])
            self.scale = Scale(3)

        def __call__(self, x: Any) -> mdb.Tensor:
            return self.scale(super().__call__(x))

    assert list(Scaled().named_parameters()) == ["W1", "b1", "scale.scale"]
    assert list(Sequential([Scaled()]).named_parameters()) == ["1.W1", "1.b1", "1.scale.scale"]
    twin = Scaled().astype("float64")
    assert type(twin) is Scaled
    assert twin(np.ones((1, 3))).dtype == np.float64
    assert repr(twin) == "Scaled(\n  Linear(3, 3)\n)"


def test_an_object_that_is_no_layer_needs_only_parameters() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.inner = Linear(3, 3, RNG(0))

        def __call__(self, x: mdb.Tensor) -> mdb.Tensor:
            return self.inner(x)

        def parameters(self) -> tuple[mdb.Tensor, ...]:
            return self.inner.w, self.inner.b

    class Whole(Layer):
        def __init__(self) -> None:
            self.foreign = Foreign()

    assert list(Whole().named_parameters()) == ["foreign.0", "foreign.1"]
    model = Sequential([Foreign(), Linear(3, 2, RNG(0))])
    assert list(model.named_parameters()) == ["1.0", "1.1", "W2", "b2"]
    assert model.astype("float64").layers[0].inner.w.dtype == np.float64
    with pytest.raises(
        TypeError, match=r"^Sequential: a layer must be a Layer or have a method parameters\(\); got <cl"
    ):
        Sequential([ReLU])  # type: ignore[list-item]


def test_a_layer_may_choose_its_parameters() -> None:
    class Frozen(Linear):
        def parameters(self) -> list[mdb.Tensor]:
            return []

    assert list(Sequential([Frozen(3, 3, RNG(0)), Linear(3, 2, RNG(0))]).named_parameters()) == ["W1", "b1"]

    class HeadOnly(Sequential):
        def parameters(self) -> list[mdb.Tensor]:
            return super().parameters()[2:]

    model = HeadOnly([Linear(3, 4, RNG(0)), Linear(4, 2, RNG(0))])
    assert [p.shape for p in model.parameters()] == [(4, 2), (2,)]
    assert list(model.named_parameters()) == ["0", "1"]


def test_a_layer_may_lead_back_to_itself() -> None:
    class Child(Layer):
        def __init__(self, parent: Layer) -> None:
            self.parent, self.linear = parent, Linear(2, 2, RNG(0))

    class Parent(Layer):
        def __init__(self) -> None:
            self.children = [Child(self)]

    model = Parent()
    assert list(model.named_parameters()) == ["children.0.linear.w", "children.0.linear.b"]
    twin = model.eval().astype("float64")
    assert twin.children[0].parent is twin
    assert not twin.children[0].linear.training


def test_two_parameters_of_one_name_are_refused() -> None:
    model = Layer()
    model.heads = {1: Linear(2, 2, RNG(0)), "1": Linear(2, 2, RNG(1))}  # type: ignore[attr-defined]
    assert len(model.parameters()) == 4
    with pytest.raises(ValueError, match=r"^two parameters of Layer have the name 'heads\.1\.w': rename an attribute$"):
        model.named_parameters()


def test_modes_reach_every_layer() -> None:
    model = Own()
    assert model.training
    assert model.eval() is model
    _, dropout = model.heads[7]  # type: ignore[misc]
    inside = [model, model.conv, *model.blocks, dropout, model.body, *model.body.layers]
    assert not any(layer.training for layer in inside)
    x = mdb.Tensor(RNG(1).random((2, 4, 4, 1), np.float32))
    np.testing.assert_array_equal(model(x).data, model(x).data)
    assert model.train() is model
    assert all(layer.training for layer in inside)
    assert (model(x).data != model(x).data).any()


@pytest.mark.parametrize("how", ["astype", "deepcopy"])
def test_a_copy_shares_nothing(how: str) -> None:
    model = Own()
    twin = model.astype("float64") if how == "astype" else copy.deepcopy(model)
    assert list(twin.named_parameters()) == NAMES
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    assert twin.blocks[0].w is twin.blocks[1].w
    assert twin.again is twin.conv
    x = RNG(1).random((2, 4, 4, 1), np.float32)
    ours, theirs = (m(mdb.Tensor(x.astype(m.conv.w.dtype))).data for m in (twin, model))  # the same masks
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    twin.blocks.append(Linear(8, 8, RNG(0)))
    assert list(model.named_parameters()) == NAMES


def test_astype_keeps_the_kinds_of_containers() -> None:
    Pair = namedtuple("Pair", "first second")
    model = Layer()
    model.pair = Pair(Linear(2, 2, RNG(0)), 5)  # type: ignore[attr-defined]
    model.named = OrderedDict(a=Linear(2, 2, RNG(0)))  # type: ignore[attr-defined]
    twin: Any = model.astype("float64")
    assert (type(twin.pair), type(twin.named), twin.pair.second) == (Pair, OrderedDict, 5)
    assert [p.dtype for p in twin.parameters()] == [np.float64] * 4
    for dtype in "int32", "float16":
        with pytest.raises(TypeError, match=rf"^a model's dtype is float32 or float64; got {dtype}$"):
            model.astype(dtype)


def test_the_width_after_flatten_is_found_from_an_input_shape() -> None:
    rng = RNG(0)
    features = Sequential([Conv2d(1, 4, 3, rng, 2), ReLU(), MaxPool2d(2), Flatten()])
    assert features.output_shape((28, 28, 1)) == (6 * 6 * 4,)
    assert Sequential(features.layers[:-1]).output_shape((28, 28, 1)) == (6, 6, 4)
    (width,) = features.astype("float64").output_shape((28, 28, 1))
    assert Sequential([features, Linear(width, 10, rng)], (28, 28, 1)).output_shape((28, 28, 1)) == (10,)
    assert Own().output_shape((4, 4, 1)) == (3,)
    assert Flatten().output_shape((3, 5)) == (15,)
    with pytest.raises(ValueError, match="MaxPool2d: a kernel of 2x2 does not fit into images of 1x1"):
        features.output_shape((4, 4, 1))


def test_a_layer_without_a_call() -> None:
    with pytest.raises(NotImplementedError, match=r"^Layer needs a method __call__\(self, x\) that returns a Tensor$"):
        Layer()(mdb.Tensor(1.0))


@pytest.mark.parametrize("container", [set, frozenset, collections.deque, collections.UserList])
def test_layers_in_other_containers_are_refused(container: Any) -> None:
    class Own(Layer):
        def __init__(self) -> None:
            self.words = container(["a"])
            self.parts = [container([Linear(2, 2, RNG(0))])]

    with pytest.raises(TypeError, match=r"^parameters are found in lists, tuples and dicts; got a Linear in a "):
        Own().parameters()


def test_slots_are_refused() -> None:
    with pytest.raises(
        TypeError, match=r"^Own: a Layer is searched for parameters in its __dict__; leave __slots__ out$"
    ):
        type("Own", (Layer,), {"__slots__": ("w",)})

"""Copies and pickles: leaves, constants and models can be copied, and a result says why it cannot."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor
from minidbp.nn import Linear, ReLU, Sequential, build_model, fuse


def pickled(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "pickle 2": lambda value: pickled(value, 2),
}
ALL_COPIES = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


@ALL_COPIES
def test_a_graph_is_refused(copied: Callable[[Any], Any]) -> None:
    """Rules refer to the old inputs: a copy's second derivative was (2.7, 14.8, 60.3), not (8.2, 29.6, 100.4)."""
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")
    y = (mdb.exp(x) * x).sum()
    for value in (x, y), y, [y], {"y": y}:
        with pytest.raises(
            ValueError, match=r"only leaves can be deep-copied or pickled; .* was made by sum: use .det"
        ):
            copied(value)
    x2, y2 = copied((x, y.detach()))
    assert (x2.name, x2.requires_grad, y2.requires_grad, y2.item()) == ("x", True, False, y.item())


@pytest.mark.parametrize("copied", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
def test_a_leaf_or_a_constant_is_copied(copied: Callable[[Any], Any]) -> None:
    for dtype in np.float32, np.float64:
        for requires_grad in True, False:
            values = np.arange(24, dtype=dtype).reshape(2, 3, 4)
            for array in values, values.T, np.asfortranarray(values), np.moveaxis(values, 0, -1), values[0, 0, 0]:
                x = Tensor(array, requires_grad=requires_grad, name="x")
                twin = copied(x)
                assert twin is not x
                assert (twin.name, twin.requires_grad, twin.dtype) == ("x", requires_grad, dtype)
                np.testing.assert_array_equal(twin.data, x.data)
                assert twin.data.strides == x.data.strides
                assert not twin.data.flags.writeable
                if requires_grad:
                    twin.data = np.zeros(twin.shape, dtype)
                    np.testing.assert_array_equal(x.data, array)


@pytest.mark.parametrize("copied", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
def test_the_grad_is_copied_too(copied: Callable[[Any], Any]) -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    assert copied(x).grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("copied", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
def test_a_copy_was_computed_under_no_grad_too(copied: Callable[[Any], Any]) -> None:
    """Its derivative is unknown, not zero."""
    x = Tensor([1.0, 2.0], requires_grad=True)
    with mdb.no_grad():
        y = x * 2
    for value in copied(y), copied(copied(y)) * 3:
        with pytest.raises(ValueError, match="it was computed under no_grad"):
            mdb.grad(value.sum(), x, allow_unused=True)
    assert mdb.grad(copied(Tensor([1.0])).sum(), x, allow_unused=True)[0].tolist() == [0.0, 0.0]


@ALL_COPIES
def test_copies_stay_one_where_the_original_is_one(copied: Callable[[Any], Any]) -> None:
    x = Tensor([1.0], requires_grad=True)
    first, second = copied([x, x])
    assert first is second


@ALL_COPIES
@pytest.mark.parametrize("order", [1, 2])
def test_a_derivative_right_after_a_copy(copied: Callable[[Any], Any], order: int) -> None:
    x = copied(Tensor([1.0, 2.0, 3.0], requires_grad=True))
    y = (mdb.exp(x) * x).sum()
    g = mdb.grad(y, x, create_graph=True)[0]
    if order == 2:
        g = mdb.grad(g.sum(), x)[0]
    np.testing.assert_allclose(g.data, np.exp(x.data) * (x.data + order), rtol=1e-14)


def test_a_shallow_copy_of_a_result_keeps_its_derivative() -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mdb.exp(x) * x
    g = mdb.grad(copy.copy(y).sum(), x, create_graph=True)[0]
    np.testing.assert_allclose(mdb.grad(copy.copy(g).sum(), x)[0].data, np.exp(x.data) * (x.data + 2), rtol=1e-14)
    assert mdb.grad((copy.copy(y) * 2).sum(), y)[0].tolist() == [2.0, 2.0, 2.0]


@ALL_COPIES
@pytest.mark.parametrize("fused", [False, True])
def test_a_model_is_copied(copied: Callable[[Any], Any], fused: bool) -> None:
    """A copy computes the same values and derivatives, on parameters of its own, in the same order in memory."""
    model = build_model("C", seed=0, dtype="float64")
    if fused:
        model = fuse(model)
    images, labels = np.random.default_rng(0).random((2, 28, 28, 1)), np.array([3, 7])
    twin = copied(model)
    assert repr(twin) == repr(model)
    gradients = []
    for net in model, twin:
        loss = mdb.nn.cross_entropy(net(images), labels) + mdb.robust.jacobian_l1(net, images)
        gradients.append(mdb.grad(loss, net.parameters()))
    for a, b, p, q in zip(*gradients, model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert (p.name, p.data.strides) == (q.name, q.data.strides)
        assert not np.shares_memory(p.data, q.data)


class Remembering(Linear):
    """A Linear that keeps its last input and output, as a lesson may."""

    def __call__(self, x: Tensor) -> Tensor:
        self.last = super().__call__(x)
        return self.last


@ALL_COPIES
def test_a_net_that_stores_activations(copied: Callable[[Any], Any]) -> None:
    net = Sequential([Remembering(3, 2, np.random.default_rng(0), "float64"), ReLU()])
    x = np.ones((4, 3))
    y = net(x)
    assert [p.name for p in net.parameters()] == ["W1", "b1"]
    with pytest.raises(ValueError, match=r"only leaves can be deep-copied or pickled; .* was made by add"):
        copied(net)
    narrow = net.astype("float32")
    assert [p.dtype for p in narrow.parameters()] == [np.float32] * 2
    with mdb.no_grad():
        net(x)
    assert len(net.parameters()) == 2
    np.testing.assert_array_equal(copied(net)(x).data, y.data)

"""A tensor that is known to be zero outside a mask: what is skipped, and what must not be."""

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor, kernels, nn
from minidbp.autodiff.elementwise import masked
from minidbp.kernels.fast import sparse
from minidbp.robust import penalised_loss


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


MASK = normal(4, 20, seed=1) > 0.3
MASK.flags.writeable = False


def test_values_outside_are_zero_whenever_somebody_looks() -> None:
    for lead in (), (10,), (2, 5):
        g = Tensor(normal(*lead, 4, 20))
        v = masked(g, MASK)
        assert v.support is MASK
        expected = np.where(MASK, g.data, 0)
        np.testing.assert_array_equal(mdb.sum(v).data, expected.sum())
        np.testing.assert_array_equal(v.data, expected)
        np.testing.assert_array_equal(np.asarray(masked(g, MASK)), expected)
        np.testing.assert_array_equal(masked(g, MASK).numpy(), expected)
        np.testing.assert_array_equal(masked(g, MASK).detach().data, expected)
        assert not v.data.flags.writeable
        assert masked(v, MASK).data is v.data  # not copied, but an operation of its own


def test_a_product_skips_nothing_that_counts() -> None:
    """A Jacobian's rows through a layer and back, against the same in dense NumPy: values, and both derivatives."""
    w = Tensor(normal(64, 20, seed=2), requires_grad=True)
    g = Tensor(normal(10, 4, 20, seed=3), requires_grad=True)
    u = Tensor(normal(10, 4, 64, seed=4))
    y = masked(g, MASK) @ w.T
    np.testing.assert_allclose(y.data, (g.data * MASK) @ w.data.T, rtol=1e-12, atol=1e-12)
    to_g, to_w = mdb.grad((y * u).sum(), [g, w])
    np.testing.assert_allclose(to_g.data, (u.data @ w.data) * MASK, rtol=1e-12, atol=1e-12)
    expected = np.einsum("cni,cno->io", u.data, g.data * MASK)
    np.testing.assert_allclose(to_w.data, expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_in_a_masked_tensor_itself_is_whole() -> None:
    """Nobody looks outside the mask on the way to g; who asks for v's own gradient gets all of it."""
    w = Tensor(normal(3, 3, 16, 20, seed=2), requires_grad=True)
    mask = normal(2, 3, 3, 20, seed=1) > 0
    g = Tensor(normal(10, 2, 3, 3, 20, seed=3), requires_grad=True)
    v = masked(g, mask)
    x = Tensor(normal(2, 5, 5, 16, seed=5), requires_grad=True)
    y = mdb.conv2d(x, w)
    (back,) = mdb.grad(y, x, v, create_graph=True)  # conv2d_transpose(v, w): linear in v
    u = normal(10, 2, 5, 5, 16, seed=6)
    to_v, to_g = mdb.grad((back * u).sum(), [v, g])
    whole = kernels.conv2d(u.reshape(20, 5, 5, 16), w.data, kernels.ConvGeometry.of((5, 5), (3, 3), 1, "valid"))
    whole = whole.reshape(10, 2, 3, 3, 20)
    assert np.abs(whole[:, ~mask]).max() > 1
    np.testing.assert_allclose(to_v.data, whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(to_g.data, whole * mask, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("penalised", ["logits", "softmax"])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_step_is_the_dense_step(name: str, penalised: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eq. 3 and its gradient in float32, with and without lists: the same to rounding."""
    model = nn.build_model(name, seed=1)
    x = np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)).astype(np.float32)
    found = []
    for pays in sparse.pays, lambda *_: False:
        monkeypatch.setattr(sparse, "pays", pays)
        loss = penalised_loss(model, x, [3, 1, 4], 5.0, of=penalised, reduction="sum").loss
        found.append((loss.item(), mdb.grad(loss, model.parameters())))
    (with_lists, gradients), (dense, expected) = found
    assert with_lists == pytest.approx(dense, rel=1e-5)
    for a, b in zip(gradients, expected, strict=True):
        assert np.linalg.norm(a.data - b.data) <= 1e-4 * np.linalg.norm(b.data)


@pytest.mark.parametrize("lead", [(), (6,)])
def test_masking_twice_is_differentiated_twice(lead: tuple[int, ...]) -> None:
    """v = mask * u, where u = mask * x happens to be known: dv / du is still the mask."""
    x = Tensor(normal(4, 20), requires_grad=True)
    r = mdb.relu(x)
    (u,) = mdb.grad(r, x, normal(*lead, 4, 20, seed=1) + Tensor(0.0, requires_grad=True), create_graph=True)
    (v,) = mdb.grad(r, x, u, create_graph=True)
    np.testing.assert_array_equal(v.data, u.data)
    ones = np.ones(v.shape)
    np.testing.assert_array_equal(mdb.grad(v, u, ones)[0].data, ones * (x.data > 0))


@pytest.mark.parametrize("lead", [(), (6,)])
def test_new_data_has_no_support(lead: tuple[int, ...]) -> None:
    g = masked(Tensor(normal(*lead, 4, 20)), MASK)
    g.data = np.ones(g.shape)
    assert g.support is None
    np.testing.assert_array_equal(g.data, 1)
    w = normal(64, 20, seed=2)
    np.testing.assert_allclose((g @ w.T).data, np.ones(g.shape) @ w.T, rtol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_a_support_of_few_axes(axes: int) -> None:
    g, w = Tensor(normal(10, 3, 3, 20)), normal(3, 3, 16, 20, seed=1)
    mask = normal(*g.shape, seed=2)[(0,) * (4 - axes)] > 0
    got = mdb.conv2d_transpose(masked(g, mask), w, (5, 5))
    np.testing.assert_allclose(got.data, mdb.conv2d_transpose(g.data * mask, w, (5, 5)).data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "m", "p"), [(6, 3, 0), (6, 0, 4), (0, 3, 4), (6, 20, 0), (0, 0, 0)])
def test_products_of_nothing(n: int, m: int, p: int) -> None:
    a, b = Tensor(np.ones((n, m)), requires_grad=True), Tensor(np.ones((m, p)), requires_grad=True)
    y = a @ b
    np.testing.assert_array_equal(y.data, np.ones((n, m)) @ np.ones((m, p)))
    assert [g.shape for g in mdb.grad(y.sum(), [a, b])] == [(n, m), (m, p)]
    x, w = Tensor(np.ones((n, 3, 3, m)), requires_grad=True), Tensor(np.ones((2, 2, m, p)), requires_grad=True)
    z = mdb.conv2d(x, w)
    assert z.shape == (n, 2, 2, p)
    assert [g.shape for g in mdb.grad(z.sum(), [x, w])] == [x.shape, w.shape]

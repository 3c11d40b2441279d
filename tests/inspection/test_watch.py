"""watch: what is seen, and that nothing else changes."""

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor


class Seen(dict[str, np.ndarray]):
    """Collects what it is shown, by name."""

    def __call__(self, name: str, value: Tensor) -> None:
        self[name] = np.array(value.data)


def test_a_value_its_gradient_and_the_gradient_of_that(capsys: pytest.CaptureFixture[str]) -> None:
    x = Tensor([0.5, -1.0], requires_grad=True)
    (slope,) = mdb.grad((mdb.watch(x, "x") ** 3).sum(), x, create_graph=True)
    mdb.grad((slope * slope).sum(), x)  # d/dx (3 x^2)^2: its cotangent there is 2 * 3 x^2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x: float64 (2,), min -1, mean -0.25, max 0.5"
    assert lines[1] == "grad of x: float64 (2,), min 0.75, mean 1.875, max 3"
    assert lines[2] == "grad of grad of x: float64 (2,), min 1.5, mean 3.75, max 6"


def test_v_and_t_of_double_backpropagation_by_hand() -> None:
    """f = relu(relu(x W1) W2) W3, p = sum |J|: V of the reverse pass and T of the tangent pass of sign(J)."""
    rng = np.random.default_rng(0)
    w1, w2, w3 = rng.normal(size=(6, 5)), rng.normal(size=(5, 40)), rng.normal(size=(40, 4))
    x = Tensor(rng.normal(size=(2, 6)), requires_grad=True)
    seen = Seen()
    z1 = mdb.watch(x @ w1, "z1", seen)
    h1 = mdb.watch(mdb.relu(z1), "h1", seen)
    z2 = mdb.watch(h1 @ Tensor(w2, requires_grad=True), "z2", seen)
    top = Tensor(w3, requires_grad=True)
    f = mdb.relu(z2) @ top
    J = mdb.autodiff.jacobian_of(f, x, create_graph=True)
    mdb.grad(mdb.abs(J).sum(), top)

    m1, m2 = x.data @ w1 > 0, np.maximum(x.data @ w1, 0) @ w2 > 0
    v2 = m2 * w3.T[:, None, :]  # (4, 2, 40)
    u1 = v2 @ w2.T
    v1 = m1 * u1
    S = np.sign(v1 @ w1.T)
    t1 = S @ w1
    t2 = (m1 * t1) @ w2
    for name, expected in {
        "grad of z2": v2,
        "grad of h1": u1,
        "grad of z1": v1,
        "grad of grad of z1": t1,
        "grad of grad of h1": m1 * t1,
        "grad of grad of z2": t2,  # whole, outside the mask too
    }.items():
        np.testing.assert_allclose(seen[name], expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_nothing_changes() -> None:
    """Values, first and second derivatives of a net, with a watch at every place and without."""
    rng = np.random.default_rng(0)
    images, w, v = rng.normal(size=(2, 6, 6, 1)), rng.normal(size=(3, 3, 1, 20)), rng.normal(size=(320, 3))
    results = []
    for look in (lambda t, name: mdb.watch(t, name, Seen())), (lambda t, name: t):
        x, p, q = (Tensor(a, requires_grad=True) for a in (images, w, v))
        h = look(mdb.relu(look(mdb.conv2d(x, p), "z")), "h")
        f = look(h.reshape(2, 320) @ q, "f")
        J = look(mdb.autodiff.jacobian_of(f, x, create_graph=True), "J")
        results.append([f.data, J.data, *(g.data for g in mdb.grad(mdb.abs(J).sum() + (f * f).sum(), [p, q, x]))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_an_identity_copies_nothing() -> None:
    v = Tensor(np.ones((4, 3)))
    assert mdb.watch(v, "v", lambda name, value: None).data is v.data


def test_it_works_without_a_graph_and_in_a_trace() -> None:
    seen = Seen()
    with mdb.no_grad():
        y = mdb.watch([1.0, 2.0], "y", seen)
    assert not y.requires_grad
    np.testing.assert_array_equal(seen["y"], [1, 2])
    x = Tensor([1.0], requires_grad=True, name="x")
    with mdb.trace() as t:
        mdb.grad(mdb.watch(x, "here", seen) * 2.0, x)
    assert [s.formula for s in t] == ["x seen as 'here'", "#0 * 2", "1 * 2", "#2 seen as 'grad of here'"]
    seen.clear()
    assert t.check().ok
    assert not seen  # the check shows nothing
    assert mdb.check_derivatives(lambda x: mdb.watch(x, "x", seen) ** 3, [np.array([0.5, 1.0])], order=3)

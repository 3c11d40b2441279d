"""One step taken apart: against a gradient taken in one piece, NumPy by hand, HIPS autograd, and differences."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad as hips_grad
from autograd import jacobian as hips_jacobian
from explained import LAM, explained, trained

import minidbp as mdb
from minidbp.data import Dataset
from minidbp.explain import explanation as explaining
from minidbp.explain import step as stepping
from minidbp.explain.comparisons import compare
from minidbp.explain.explanation import PROGRESS_STEPS, explain
from minidbp.explain.step import PROTOCOL, TrainingStep, outer_products
from minidbp.nn import Conv2d, Flatten, Linear, ReLU, Sequential

slow_A = pytest.param("A", marks=pytest.mark.slow)  # some 10 s to make
each_model = pytest.mark.parametrize("name", [slow_A, "C"])  # B has no other operation, and takes a minute


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm((a - b).ravel()) / np.linalg.norm(a.ravel()))


def small_net(seed: int = 0) -> Sequential:
    """Two convolutions and two Linear layers in float64, biases 0, on MNIST's images."""
    rng = np.random.default_rng(seed)
    layers = [Conv2d(1, 3, 5, rng, 3, dtype="float64"), ReLU(), Conv2d(3, 4, 3, rng, 2, dtype="float64"), ReLU(),
              Flatten(), Linear(36, 8, rng, "float64"), ReLU(), Linear(8, 10, rng, "float64")]  # fmt: skip
    return Sequential(layers, (28, 28, 1))


def with_biases(model: Sequential, seed: int = 1) -> Sequential:
    rng = np.random.default_rng(seed)
    for parameter in model.parameters()[1::2]:
        parameter.data = rng.uniform(0.05, 0.1, parameter.shape)
    return model


def step_of(model: Sequential, mnist: Dataset, image: int, lam: float = LAM) -> TrainingStep:
    return TrainingStep(model, mnist.x_test[[image]].astype(np.float64), mnist.y_test[[image]], lam)


@pytest.mark.slow
@each_model
def test_the_parts_add_up_to_the_gradient_of_the_whole(name: str, mnist: Dataset) -> None:
    model, e = trained(name), explained(name)
    x, y = mnist.x_test[[7]].astype(np.float64), mnist.y_test[[7]]
    ce = mdb.nn.cross_entropy(model(x), y, PROTOCOL.label_smoothing)
    total = ce + LAM * mdb.robust.jacobian_l1(model, x, reduction="mean")
    gradients = [g.data for g in mdb.grad(total, model.parameters())]
    for part, dW, db in zip(e.layers, gradients[::2], gradients[1::2], strict=True):
        assert apart(dW, part.loss_part + part.penalty_part) < 1e-12
        assert apart(dW, part.whole) < 1e-12
        assert apart(db, part.bias_loss_part) < 1e-12
        assert not part.bias_penalty_part.any()
    assert e.before.whole == pytest.approx(total.item(), rel=1e-12)
    assert e.before.loss + e.before.weighted_penalty == pytest.approx(total.item(), rel=1e-12)
    assert LAM * e.penalty == pytest.approx(e.before.weighted_penalty, rel=1e-12)


@pytest.mark.slow
@each_model
def test_the_passes_give_the_engines_penalty_part(name: str) -> None:
    e = explained(name)
    assert len(e.layers) == 4
    for part in e.layers:
        assert np.linalg.norm(part.penalty_part) > 1e-3
        assert apart(part.penalty_part, part.product) < 1e-10
        assert part.euler == pytest.approx(e.before.weighted_penalty, rel=1e-10)
    assert max(e.agreements.values()) < 1e-10
    assert np.array_equal(e.layers[-1].V, np.eye(10))
    assert np.array_equal(e.layers[0].T.reshape(e.S.shape), e.S)


@each_model
def test_every_number_agrees_with_its_finite_difference(name: str) -> None:
    e = explained(name)
    assert {section: len(checks) for section, checks in e.comparisons.items()} == {
        "loss": 1, "jacobian": 11, "passes": 6, "weights": 24, "everywhere": 3,
    }  # fmt: skip
    assert e.kinked == []
    for checks in e.comparisons.values():
        for check in checks:
            assert check.difference == pytest.approx(check.engine, rel=1e-6), check.quantity
            assert check.relative_error is not None
            assert check.relative_error < 1e-6, check.quantity
    zeros = [c for c in e.comparisons["weights"] if c.engine == 0]
    assert [c.quantity for c in zeros] == [f"slope of λP along dL/db{n}" for n in range(1, 5)]
    assert all(c.difference == 0 for c in zeros)


def test_model_c_by_hand_in_numpy(mnist: Dataset) -> None:
    e = explained("C")
    W1, b1, W2, b2, W3, b3, W4, b4 = (p.data for p in trained("C").parameters())
    h = mnist.x_test[7].astype(np.float64).reshape(1, 784)
    masks = []
    for W, b in (W1, b1), (W2, b2), (W3, b3):
        z = h @ W + b
        masks.append(z > 0)
        h = np.maximum(z, 0)
    f = (h @ W4 + b4)[0]
    V = [np.eye(10)]
    for W, m in zip((W4, W3, W2), masks[::-1], strict=True):
        V.insert(0, (V[0] @ W.T) * m)
    J = V[0] @ W1.T
    T = [np.sign(J)]
    for W, m in zip((W1, W2, W3), masks, strict=True):
        T.append((T[-1] @ W) * m)
    assert apart(f, e.at_x.logits) < 1e-12
    assert apart(J, e.J.reshape(10, 784)) < 1e-12
    assert apart(np.abs(J).sum(axis=1), e.rows) < 1e-12
    for part, v, t in zip(e.layers, V, T, strict=True):
        assert apart(v, part.V) < 1e-12
        assert apart(t, part.T) < 1e-12
        assert apart(LAM / 7840 * sum(np.outer(t[k], v[k]) for k in range(10)), part.penalty_part) < 1e-12
    p = np.exp(f) / np.exp(f).sum()
    g = (p - np.eye(10)[e.label]) @ J
    assert apart(g, e.gradient.ravel()) < 1e-12
    assert e.promised == pytest.approx(0.3 * np.abs(g).sum(), rel=1e-12)
    assert e.at_x.attacked_loss == pytest.approx(-np.log(p[e.label]), rel=1e-12)
    y = 0.9 * np.eye(10)[e.label] + 0.01
    assert e.before.loss == pytest.approx(-np.sum(y * np.log(p)), rel=1e-12)
    x_adv = np.clip(mnist.x_test[7].astype(np.float64).ravel() + 0.3 * np.sign(g), 0, 1)
    assert np.array_equal(e.at_x_adv.x.ravel(), x_adv)
    assert e.clipped == pytest.approx(e.at_x_adv.attacked_loss - e.at_x.attacked_loss, rel=1e-12)


def test_model_c_against_hips_autograd(mnist: Dataset) -> None:
    e = explained("C")
    parameters = [p.data for p in trained("C").parameters()]
    x = mnist.x_test[7].astype(np.float64).ravel()

    def penalty(weights: list) -> float:
        def f(image: np.ndarray) -> np.ndarray:
            h = image
            for k, (W, b) in enumerate(zip(weights, parameters[1::2], strict=True)):
                z = anp.dot(h, W) + b
                h = z if k == 3 else z * (z > 0)
            return h

        return LAM * anp.mean(anp.abs(hips_jacobian(f)(x)))

    for part, oracle in zip(e.layers, hips_grad(penalty)(parameters[::2]), strict=True):
        assert apart(oracle, part.penalty_part) < 1e-10


def test_outer_products_of_a_convolution_by_loops() -> None:
    rng = np.random.default_rng(5)
    layer = Conv2d(2, 3, 3, rng, stride=2, padding="same", dtype="float64")
    T, V = rng.standard_normal((4, 6, 6, 2)), rng.standard_normal((4, 3, 3, 3))
    padded = np.pad(T, ((0, 0), (0, 1), (0, 1), (0, 0)))  # TensorFlow's "same": 1 row too few, and it goes below
    expected = np.zeros((3, 3, 2, 3))
    for k in range(4):
        for row in range(3):
            for column in range(3):
                patch = padded[k, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                expected += patch[..., None] * V[k, row, column]
    assert apart(expected, outer_products(layer, T, V)) < 1e-12


def test_a_wrong_number_does_not_agree() -> None:
    x, d = np.array([2.0, 1.0]), np.array([1.0, 0.0])
    (right,) = compare(lambda ts: [(ts[0] ** 2).sum()], [x], [d], {"slope": 4.0})
    (wrong,) = compare(lambda ts: [(ts[0] ** 2).sum()], [x], [d], {"slope": 4.04})
    assert right.relative_error is not None
    assert right.relative_error < 1e-10
    assert wrong.relative_error == pytest.approx(0.01, rel=0.02)


@pytest.mark.slow
def test_a_dropped_derivative_shows(monkeypatch: pytest.MonkeyPatch, mnist: Dataset) -> None:
    """The gradient of half of the rows only: the differences beside it tell.

    Along itself dW4 does not, as each class has a column of it to itself; a random direction shows that too.
    """
    honest = stepping.abs
    monkeypatch.setattr(stepping, "abs", lambda J: honest(J) * np.where(np.arange(10) < 5, 1.0, 0.0)[:, None, None])
    e = explain(step_of(with_biases(trained("C")), mnist, 7), "C", 7, np.random.default_rng(0))
    errors = {c.quantity: c.relative_error or 0 for checks in e.comparisons.values() for c in checks}
    assert all(errors[f"‖d(λP)/dW{n}‖"] > 1e-3 for n in (1, 2, 3))
    assert errors["slope of λP, random direction"] > 1e-3
    assert errors["‖dL/dW1‖"] < 1e-6
    assert e.agreements["dL/dW + d(λP)/dW = the gradient that train takes"] > 1e-3


def explain_small(model: Sequential, mnist: Dataset, lam: float = LAM) -> explaining.Explanation:
    return explain(step_of(model, mnist, 0, lam), "small", 0, np.random.default_rng(0))


def test_on_a_kink_there_is_no_difference_and_the_reason_is_told(mnist: Dataset) -> None:
    """Biases of 0 under a blank border: each filter that is on somewhere is exactly at its kink there."""
    e = explain_small(small_net(), mnist)
    (slope,) = e.comparisons["loss"]
    assert slope.difference is slope.relative_error is None
    assert "relu has a kink" in slope.why
    assert slope in e.kinked
    assert max(e.agreements.values()) < 1e-10


def test_units_that_are_off_on_the_kink_are_lowered_for_the_differences_alone(mnist: Dataset) -> None:
    model = with_biases(small_net())
    first = model.parameters()[0].data.copy()
    first[..., 1] = -np.abs(first[..., 1])  # an image has no ink below 0: off everywhere
    model.parameters()[0].data = first
    bias = model.parameters()[1].data.copy()
    bias[1] = -0.02  # off, and not on the kink
    model.parameters()[1].data = bias
    off = explain_small(model, mnist)
    bias[1] = 0.0
    model.parameters()[1].data = bias
    kinked = explain_small(model, mnist)
    assert (off.lowered, kinked.lowered) == ({}, {1: [1]})
    assert kinked.kinked == []
    assert np.array_equal(kinked.J, off.J)
    assert (
        kinked.at_x_adv.attacked_loss == mdb.nn.cross_entropy(model(kinked.at_x_adv.x[None]), [kinked.label]).item()
    )  # with the bias that it has
    assert np.array_equal(model.parameters()[1].data, bias)


def test_the_model_is_left_as_it_was_and_progress_is_told(mnist: Dataset) -> None:
    model = with_biases(small_net())
    before = [p.data.copy() for p in model.parameters()]
    calls: list[int] = []
    explain(step_of(model, mnist, 0, 1.0), "small", 0, np.random.default_rng(0), lambda: calls.append(1))
    assert len(calls) == PROGRESS_STEPS
    assert all(np.array_equal(p.data, b) for p, b in zip(model.parameters(), before, strict=True))


def test_only_a_sequential_is_taken_apart(mnist: Dataset) -> None:
    step = TrainingStep(lambda x: x, mnist.x_test[[0]], mnist.y_test[[0]], 1.0)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^explain takes a model apart layer by layer, so it needs a Sequential; got func"
    ):
        explain(step, "own", 0, np.random.default_rng(0))


def test_lambda_0_has_no_penalty_part(mnist: Dataset) -> None:
    e = explain_small(with_biases(small_net()), mnist, lam=0.0)
    assert e.before.weighted_penalty == 0
    assert e.before.whole == e.before.loss
    assert e.penalty > 0
    for part in e.layers:
        assert part.cosine is None
        assert not part.penalty_part.any()
    assert e.kinked == []


def test_small_shares_of_the_step_keep_the_promise(mnist: Dataset) -> None:
    e = explained("C")
    assert [t.share for t in e.shares] == [1.0, 0.1, 0.01, 0.001]
    assert all(t.promised == pytest.approx(t.share * e.shares[0].promised) for t in e.shares)
    gradient = np.concatenate([p.whole.ravel() for p in e.layers] + [p.bias_loss_part.ravel() for p in e.layers])
    assert e.shares[0].promised == pytest.approx(-1e-3 * np.abs(gradient).sum(), rel=1e-3)
    last = e.shares[-1]
    assert last.after.whole - e.before.whole == pytest.approx(last.promised, rel=0.05)


def test_not_finite(mnist: Dataset) -> None:
    model = small_net()
    model.parameters()[-1].data = np.full(10, np.nan)
    with pytest.raises(ArithmeticError, match="model small on test image 0"):
        explain_small(model, mnist)


@pytest.mark.parametrize("lam", [-1.0, float("nan"), float("inf")])
def test_bad_lambda(lam: float, mnist: Dataset) -> None:
    with pytest.raises(ValueError, match="lambda must be a number of at least 0"):
        explain_small(small_net(), mnist, lam)

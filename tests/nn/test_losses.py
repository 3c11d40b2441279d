import numpy as np
import pytest
import scipy.special

import minidbp as mdb
from minidbp.data import Dataset
from minidbp.nn import build_model, cross_entropy, sample_cross_entropy, smoothed_labels

Z, LABELS = 3 * np.random.default_rng(0).standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])


def by_hand(z: np.ndarray, labels: np.ndarray, s: float) -> np.ndarray:
    """-sum_i y_i log p_i = logsumexp(z) - (1 - s) z_label - s mean(z), for each sample."""
    return scipy.special.logsumexp(z, axis=1) - (1 - s) * z[np.arange(len(z)), labels] - s * z.mean(axis=1)


@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_the_loss_by_hand(s: float) -> None:
    np.testing.assert_allclose(sample_cross_entropy(mdb.Tensor(Z), LABELS, s).data, by_hand(Z, LABELS, s), rtol=1e-13)
    assert cross_entropy(mdb.Tensor(Z), LABELS, s).item() == pytest.approx(by_hand(Z, LABELS, s).mean(), rel=1e-13)


@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_the_gradient_is_softmax_minus_targets(s: float) -> None:
    z = mdb.Tensor(Z, requires_grad=True)
    expected = (scipy.special.softmax(Z, axis=1) - smoothed_labels(LABELS, 4, s)) / len(Z)
    np.testing.assert_allclose(mdb.grad(cross_entropy(z, LABELS, s), z)[0].data, expected, rtol=0, atol=1e-15)
    assert mdb.gradgradcheck(lambda z: cross_entropy(z, LABELS, s), Z)


def test_smoothed_labels() -> None:
    np.testing.assert_allclose(smoothed_labels([2, 0], 4, 0.2), [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])
    np.testing.assert_array_equal(smoothed_labels([1], 3), [[0, 1, 0]])
    np.testing.assert_allclose(smoothed_labels(LABELS, 4, 0.3).sum(axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize("gap", [1e2, 1e4])
def test_a_confident_mistake_is_as_dear_as_it_is_far(gap: float) -> None:
    z = mdb.Tensor([[gap, 0.0]], requires_grad=True)
    assert cross_entropy(z, [1]).item() == gap
    np.testing.assert_allclose(mdb.grad(cross_entropy(z, [1]), z)[0].data, [[1, -1]], atol=1e-40)
    assert cross_entropy(z, [0]).item() == pytest.approx(np.exp(-gap), abs=1e-40)


def test_float32_stays_float32() -> None:
    z = mdb.Tensor(Z.astype(np.float32), requires_grad=True)
    assert cross_entropy(z, LABELS, 0.1).dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 1, 2, 3, 4], ValueError, r"labels must lie in 0\.\.3; got 4 at index 4"),
        ([0, -1, 2, 3, 0], ValueError, r"labels must lie in 0\.\.3; got -1 at index 1"),
        ([0, 1], ValueError, "one label per image; got 2 labels for 5 images"),
        (np.eye(5, 4, dtype=int), ValueError, "labels must be 1-D"),
        (np.zeros(5), TypeError, "labels must be integers; got float64"),
    ],
)
def test_wrong_labels(labels: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cross_entropy(mdb.Tensor(Z), labels)


@pytest.mark.parametrize("s", [-0.1, 1.1, np.nan])
def test_wrong_smoothing(s: float) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\]; got"):
        cross_entropy(mdb.Tensor(Z), LABELS, s)


@pytest.mark.parametrize("shape", [(4,), (5, 4, 1)])
def test_wrong_logits(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits must have the axes \(N, c\); got shape"):
        cross_entropy(mdb.Tensor(np.ones(shape)), LABELS)


def test_the_float32_gradient_of_model_c_on_real_images(mnist: Dataset) -> None:
    narrow, wide = build_model("C", seed=0), build_model("C", seed=0, dtype="float64")
    for a, b in zip(narrow.parameters(), wide.parameters(), strict=True):
        b.data = a.data.astype(np.float64)  # the very same weights
    x, y = mnist.x_test[:8], mnist.y_test[:8]
    got = mdb.grad(cross_entropy(narrow(x), y, 0.1), narrow.parameters())
    exact = mdb.grad(cross_entropy(wide(x.astype(np.float64)), y, 0.1), wide.parameters())
    for g, e in zip(got, exact, strict=True):
        # A sum of n terms in any order is off by about sqrt(n) roundings of 6e-8; the longest here has n = 784, and
        # four layers there and back make eight such sums: 28 * sqrt(8) * 6e-8 = 5e-6 of the gradient's norm.  A ReLU
        # whose input rounds to the other side of 0 would show as one unit's column, far above that.
        assert g.dtype == np.float32
        assert np.linalg.norm(g.data - e.data) <= 5e-6 * np.linalg.norm(e.data)

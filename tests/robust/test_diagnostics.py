"""Figures of gradients, against HIPS autograd, a closed form and arrays made by hand."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from minidbp import nn
from minidbp.robust import gradient_cosines, input_gradients, zero_shares

RNG = np.random.default_rng(11)


def test_input_gradients_are_autograds() -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential([nn.Linear(6, 9, rng, "float64"), nn.ReLU(), nn.Linear(9, 4, rng, "float64")])
    w1, b1, w2, b2 = (p.data for p in model.parameters())
    x, y = RNG.normal(size=(20, 6)), RNG.integers(0, 4, 20)

    def loss(x: np.ndarray) -> float:
        z = anp.maximum(x @ w1 + b1, 0) @ w2 + b2
        return anp.sum(anp.log(anp.sum(anp.exp(z), axis=1)) - z[np.arange(20), y])

    np.testing.assert_allclose(input_gradients(model, x, y), autograd.grad(loss)(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("y", "named"), [([0, 4], "4"), ([0], "1 labels for 2"), ([0, -1], "-1")], ids=["above", "length", "below"]
)
def test_labels_are_checked(y: list[int], named: str) -> None:
    model = nn.Sequential([nn.Linear(6, 4, np.random.default_rng(0), "float64")])
    with pytest.raises(ValueError, match=named):
        input_gradients(model, RNG.normal(size=(2, 6)), np.array(y))


def test_zero_shares_count_exact_zeros_alone() -> None:
    g = np.ones((3, 2, 4), np.float32)
    g[0, 0, :3] = 0
    g[1] = 0
    g[2, 1, 1] = 1e-45  # the smallest float32: not zero
    np.testing.assert_array_equal(zero_shares(g), [3 / 8, 1, 0])


@pytest.mark.parametrize("scale", [1.0, 1e-38, 1e30])
def test_cosines_do_not_depend_on_scale(scale: float) -> None:
    g, h = (RNG.normal(size=(10, 3, 5)).astype(np.float32) for _ in range(2))
    a, b = g.reshape(10, -1).astype(float), h.reshape(10, -1).astype(float)
    expected = [u @ v / (np.linalg.norm(u) * np.linalg.norm(v)) for u, v in zip(a, b, strict=True)]
    small = g * np.float32(scale)
    np.testing.assert_allclose(gradient_cosines(small, h), expected, atol=1e-6)
    np.testing.assert_allclose(gradient_cosines(small, -small), -1, atol=1e-12)


def test_cosine_with_no_gradient_is_0() -> None:
    g = RNG.normal(size=(2, 5))
    none = np.array([np.zeros(5), g[1]])
    np.testing.assert_allclose(gradient_cosines(g, none), [0, 1], atol=1e-12)
    np.testing.assert_array_equal(gradient_cosines(np.zeros((1, 5)), np.zeros((1, 5))), [0])


def test_cosines_need_gradients_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\) and \(2, 4\)"):
        gradient_cosines(np.ones((2, 5)), np.ones((2, 4)))

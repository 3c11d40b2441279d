"""The complex step against hvp, at kinks and in networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import autodiff as ad
from minidbp.autodiff import Tensor
from minidbp.checking import complex_step_hvp

RNG = np.random.default_rng(0)

A = RNG.standard_normal((4, 4))

SCALARS: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": lambda x: (x @ A * x).sum(),
    "exp": lambda x: mdb.exp(x @ A).sum(),
    "log-sum-exp": lambda x: mdb.logsumexp(x @ A * x),
    "softmax": lambda x: (mdb.softmax(x @ A) * np.arange(4.0)).sum(),
    "power": lambda x: ((x * x + 1) ** 1.5).sum(),
    "smooth": lambda x: (mdb.sin(x) * mdb.cos(x @ A) + mdb.tanh(x) * mdb.sqrt(x * x + 1)).sum(),
    "sigmoid and softplus": lambda x: (mdb.sigmoid(3 * x) * mdb.softplus(x @ A)).sum(),
    "norm": lambda x: mdb.norm(x @ A) + mdb.norm(x.reshape(2, 2), 1)[0] ** 3,
    "smaller kinks": lambda x: (mdb.minimum(x, 0.1) ** 3 + mdb.clip(x, -0.5, A) ** 3).sum() + x.min() ** 3,
    "where": lambda x: (mdb.where(x > 0.1, x**3, mdb.exp(x)) * mdb.where(A > 0, x, A[0])).sum(),
    "joining": lambda x: (mdb.concatenate([x**3, A[0], x[:2]])[1:7] * mdb.stack([x, A[1] * x]).reshape(-1)[:6]).sum(),
    "einsum and dot": lambda x: mdb.einsum("i,ij,j,k->", x, A, x, x) + mdb.dot(x, mdb.expand_dims(A * x, 0)).sum() ** 2,
    "division": lambda x: (x / (x * x + 2)).sum(),
    "kinks": lambda x: (mdb.relu(x @ A) ** 3 + mdb.abs(x) ** 2.5 + mdb.maximum(x, 0.1) ** 3).sum() + x.max() ** 3,
    "indexing and shapes": lambda x: (x[[0, 0, 3]] ** 3).sum() + (x.reshape(2, 2).T @ x[:2] ** 2).sum(),
    "convolution": lambda x: mdb.exp(mdb.conv2d(x.reshape(1, 2, 2, 1), A.reshape(2, 2, 1, 4), padding=1)).sum(),
    "linear_relu": lambda x: (mdb.linear_relu(x.reshape(2, 2), A[:2], A[0]) ** 3 * A[:2]).sum(),
    "linear_relu in the weights": lambda w: (mdb.linear_relu(A, w.reshape(4, 1), A[0, :1]) ** 3).sum(),
    "conv2d_relu": lambda x: (mdb.conv2d_relu(x.reshape(1, 2, 2, 1), A.reshape(2, 2, 1, 4), A[0], 1, 1) ** 3).sum(),
    "conv2d_relu in the weights": lambda w: (
        mdb.conv2d_relu(A.reshape(1, 4, 4, 1), w.reshape(2, 2, 1, 1), A[0, :1]) ** 3
    ).sum(),
    "convolution in the weights": lambda w: (mdb.conv2d(A.reshape(1, 4, 4, 1), w.reshape(2, 2, 1, 1)) ** 3).sum(),
}


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("seed", range(3))
def test_the_complex_step_agrees_with_hvp(name: str, seed: int) -> None:
    f, rng = SCALARS[name], np.random.default_rng(seed)
    x, v = rng.standard_normal((2, 4))
    (_, expected) = mdb.hvp(f, x, v)
    assert np.abs(expected.data).max() > 0
    error = np.abs(complex_step_hvp(f, x, v) - expected.data).max()  # type: ignore[union-attr]
    assert error <= 1e-12 * np.abs(expected.data).max()  # type: ignore[union-attr]


@pytest.mark.parametrize("of", ["logits", "softmax"])
def test_the_complex_step_through_a_network_and_its_penalty(of: str) -> None:
    model = mdb.nn.Sequential(
        [
            mdb.nn.Conv2d(1, 3, 3, RNG, stride=2, dtype="float64"), mdb.nn.ReLU(), mdb.nn.Flatten(),
            mdb.nn.Linear(27, 5, RNG, dtype="float64"), mdb.nn.ReLU(), mdb.nn.Linear(5, 4, RNG, dtype="float64"),
        ]
    )  # fmt: skip
    x, v = RNG.uniform(size=(2, 2, 7, 7, 1))

    def loss(t: Tensor) -> Tensor:
        return mdb.nn.cross_entropy(model(t), [0, 3], 0.1) + 0.1 * mdb.robust.jacobian_l1(model, t, of=of)

    (_, expected) = mdb.hvp(loss, x, v)
    error = np.abs(complex_step_hvp(loss, x, v) - expected.data).max()  # type: ignore[union-attr]
    assert error <= 1e-12 * np.abs(expected.data).max()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("f", "x", "v"),
    [
        (lambda t: mdb.relu(t[0]) * t[1], [0.0, 1.0], [1.0, 0.0]),
        (lambda t: mdb.relu(t[0]) * t[1], [0.0, 1.0], [-1.0, 0.5]),
        (lambda t: mdb.abs(t[0]) * t[1], [0.0, 1.0], [1.0, 0.0]),
        (lambda t: mdb.maximum(t[0], t[1]) * t[0], [2.0, 2.0], [1.0, 0.3]),
        (lambda t: t.max() * t[0], [2.0, 2.0, 1.0], [1.0, 0.3, 2.0]),
        (lambda t: mdb.minimum(t[0], t[1]) * t[0], [2.0, 2.0], [1.0, 0.3]),
        (lambda t: t.min() * t[0], [2.0, 2.0, 3.0], [1.0, 0.3, 2.0]),
        (lambda t: mdb.clip(t[0], 0, 1) * t[1], [0.0, 1.0], [-1.0, 0.5]),
        (lambda t: mdb.clip(t[0], 0, 1) * t[1], [1.0, 1.0], [1.0, 0.5]),
        (lambda t: mdb.norm(t[:2]) * t[2], [0.0, 0.0, 2.0], [1.0, 0.3, 1.0]),
    ],
)
def test_the_complex_step_at_a_kink_goes_by_the_real_part(f: Any, x: list[float], v: list[float]) -> None:
    np.testing.assert_array_equal(complex_step_hvp(f, x, v), mdb.hvp(f, np.array(x), np.array(v))[1].data)  # type: ignore[union-attr]


def test_the_complex_step_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match=r"v must have the input's shape \(4,\); got \(3,\)"):
        complex_step_hvp(SCALARS["exp"], np.ones(4), np.ones(3))


def test_complex_numbers_stay_inside() -> None:
    with pytest.raises(TypeError, match="complex128"):
        Tensor(np.ones(2, complex))
    with pytest.raises(TypeError):
        ad.as_tensor(1j)


@pytest.mark.parametrize(
    "f", [mdb.exp, mdb.tanh, lambda t: t**3, lambda t: mdb.log(t) * t, lambda t: mdb.sum(t * t * t)]
)
def test_values_without_axes(f: Any) -> None:
    """`np.float64 + 1j` is a scalar and no array: every value of shape () needs care."""
    for x, v in ((1.0, 1.0), (np.float64(0.7), 2.0), (np.array(0.3), np.array(-1.5))):
        result = complex_step_hvp(f, x, v)
        assert isinstance(result, np.ndarray)
        np.testing.assert_allclose(result, mdb.hvp(f, x, v)[1].data, rtol=1e-13)  # type: ignore[union-attr]

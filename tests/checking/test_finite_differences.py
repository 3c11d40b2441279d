"""Differences that keep clear of kinks, and the complex step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import autodiff as ad
from minidbp.autodiff import NotDifferentiableError, Tensor, operation
from minidbp.checking import complex_step_hvp
from minidbp.checking.finite_differences import STEPS, directional_difference

RNG = np.random.default_rng(0)


def along(f: Callable[[Tensor], Tensor], x: Any, d: Any = None) -> Any:
    x = np.asarray(x, float)
    d = np.ones_like(x) if d is None else np.asarray(d, float)
    return directional_difference(lambda ts: [f(ts[0])], [x], [d])


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (mdb.exp, np.exp),
        (lambda t: t**5, lambda x: 5 * x**4),
        (mdb.log, lambda x: 1 / x),
        (lambda t: 3 * t, lambda x: 3),
    ],
)
def test_smooth_functions_are_accurate_to_ten_digits(f: Any, derivative: Any) -> None:
    x = np.array([0.3, 1.0, 2.5])
    difference = along(f, x)
    np.testing.assert_allclose(difference.values[0], derivative(x) * np.ones(3), rtol=2e-10)
    assert difference.step == STEPS[0]


@pytest.mark.parametrize(
    ("f", "x", "element", "operation"),
    [
        (mdb.relu, [1.0, 0.0, -1.0], (1,), "relu"),
        (mdb.abs, [[1.0, 2.0], [3.0, 0.0]], (1, 1), "abs"),
        (mdb.sign, [1.0, 0.0], (1,), "sign"),
        (lambda t: mdb.maximum(t, 0.5), [0.7, 0.5], (1,), "maximum"),
        (lambda t: t.max(), [1.0, 2.0, 2.0], (1,), "max"),
        (lambda t: t.max(1), [[0.0, 5.0], [7.0, 7.0]], (1, 0), "max"),
    ],
)
def test_at_a_kink_the_operation_and_the_element_are_named(f: Any, x: Any, element: Any, operation: str) -> None:
    d = RNG.standard_normal(np.shape(x))
    with pytest.raises(NotDifferentiableError) as caught:
        along(f, x, d)
    assert str(caught.value) == f"not differentiable here: {operation} has a kink at element {element}"


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 3e-8])
def test_near_a_kink_the_step_becomes_smaller(distance: float) -> None:
    difference = along(lambda t: mdb.relu(t) * 3, [1.0, distance, -distance])
    assert difference.step < distance
    np.testing.assert_allclose(difference.values[0], [3, 3, 0], atol=float(difference.errors[0].max()))


def test_nearer_than_the_smallest_step_is_at_the_kink() -> None:
    with pytest.raises(NotDifferentiableError, match=r"relu has a kink at element \(0,\)"):
        along(mdb.relu, [STEPS[-1] / 4])


def test_a_kink_that_no_operation_declares_shows_itself() -> None:
    @operation
    def raw(t: Tensor) -> Any:
        return np.abs(t.data), lambda g, out: g

    with pytest.raises(NotDifferentiableError, match="the slopes on its two sides differ"):
        along(raw, [1.0, 0.0])


def test_a_jump_shows_itself() -> None:
    @operation
    def jump(t: Tensor) -> Any:
        return np.floor(t.data), lambda g, out: g

    with pytest.raises(NotDifferentiableError, match="the function jumps"):
        along(jump, [0.5, 1.0])


def test_a_kink_that_no_step_crosses_is_no_trouble() -> None:
    difference = along(lambda t: mdb.relu(t[0]) + t[1] ** 2, [0.0, 2.0], [0.0, 1.0])
    np.testing.assert_allclose(difference.values[0], 4, rtol=1e-9)


def test_the_pattern_of_the_backward_pass_counts_too() -> None:
    """sign(J) is a kink of the penalty, although J is made by a backward pass."""
    w = np.array([[1.0, -2.0], [0.5, 0.0]])  # J has an exact 0

    def penalty(t: Tensor) -> Tensor:
        return mdb.robust.jacobian_l1(lambda x: x @ t, np.ones((1, 2)))

    with pytest.raises(NotDifferentiableError, match="abs has a kink"):
        along(penalty, w, RNG.standard_normal((2, 2)))


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

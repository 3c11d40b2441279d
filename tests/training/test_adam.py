"""Adam against the textbook."""

import functools
from collections.abc import Callable

import numpy as np
import pytest

import minidbp as mdb
from minidbp.training import SGD, Adam


def textbook(
    p: np.ndarray, gradients: list[np.ndarray], lr: float, beta1: float, beta2: float, eps: float
) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1, letter by letter."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


@pytest.mark.parametrize(
    "settings", [(1e-3, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.9, 1e-3), (1e-2, 0.0, 0.0, 1e-8), (0.0, 0.9, 0.999, 1e-8)]
)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_adam_is_the_textbook(settings: tuple[float, float, float, float], dtype: str, rtol: float) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), (2, 2, 1, 3)]
    start = [rng.normal(size=s) + 3 for s in shapes]
    parameters = [mdb.Tensor(p.astype(dtype), requires_grad=True) for p in start]
    steps = [[rng.normal(size=s) * 10.0 ** rng.integers(-4, 3) for s in shapes] for _ in range(30)]
    adam = Adam(parameters, *settings)
    for gradients in steps:
        adam.step([g.astype(dtype) for g in gradients])
    for i, parameter in enumerate(parameters):
        expected = textbook(start[i], [gradients[i] for gradients in steps], *settings)
        assert parameter.dtype == dtype
        np.testing.assert_allclose(parameter.data, expected, rtol=rtol)


def test_adam_finds_the_bottom_of_a_quadratic() -> None:
    """(p - a)^T D (p - a) with curvatures from 0.1 to 100: the step does not depend on their scale."""
    a, D = np.array([1.0, -2.0, 3.0]), np.array([0.1, 1.0, 100.0])
    p = mdb.Tensor(np.zeros(3), requires_grad=True)
    adam = Adam([p], learning_rate=0.05)
    for _ in range(2000):
        adam.step([2 * D * (p.data - a)])
    np.testing.assert_allclose(p.data, a, atol=1e-3)


def test_the_first_step_has_the_size_of_the_learning_rate() -> None:
    p = mdb.Tensor(np.zeros(3), requires_grad=True)
    Adam([p], learning_rate=0.5).step([np.array([1e-3, -7.0, 1e4])])
    np.testing.assert_allclose(p.data, [-0.5, 0.5, -0.5], rtol=1e-4)


def test_the_gradient_is_left_as_it_was_and_weights_stay_read_only() -> None:
    p, g = mdb.Tensor(np.ones(2), requires_grad=True), np.array([1.0, 2.0])
    before = p.data
    Adam([p]).step([g])
    assert g.tolist() == [1.0, 2.0]
    assert before.tolist() == [1.0, 1.0]
    assert not p.data.flags.writeable


@pytest.mark.parametrize(
    ("gradients", "named"),
    [
        ([np.zeros(3, np.float32)], "(3,)"),
        ([np.zeros((1, 2), np.float32)], "(1, 2)"),
        ([np.zeros(2)], "float64"),
        ([], ""),
        ([np.zeros(2, np.float32)] * 2, ""),
    ],
)
def test_gradients_must_fit(gradients: list[np.ndarray], named: str) -> None:
    p = mdb.Tensor(np.zeros(2, np.float32), requires_grad=True, name="W1")
    with pytest.raises(ValueError) as caught:
        Adam([p]).step(gradients)
    assert named in str(caught.value)
    assert p.data.tolist() == [0, 0]


@pytest.mark.parametrize("gradients", [[np.ones(2), np.ones(3)], [np.ones(2)]])
def test_nothing_moves_if_any_gradient_does_not_fit(gradients: list[np.ndarray]) -> None:
    parameters = [mdb.Tensor(np.zeros(2), requires_grad=True) for _ in range(2)]
    adam = Adam(parameters)
    with pytest.raises(ValueError):
        adam.step(gradients)
    assert adam.t == 0
    for array in (*(p.data for p in parameters), *adam.m, *adam.v):
        assert array.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be a number of at least 0; got -0.1"),
        ({"learning_rate": np.nan}, "learning_rate must be a number of at least 0; got nan"),
        ({"learning_rate": np.inf}, "learning_rate must be a number of at least 0; got inf"),
        ({"eps": np.inf}, "eps must be a number of at least 0; got inf"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\); got 1.0"),
        ({"beta2": -0.1}, r"beta2 must lie in \[0, 1\); got -0.1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Adam: {message}$"):
        Adam([], **settings)
    p = mdb.Tensor(np.zeros(2), requires_grad=True)
    adam = Adam([p])
    vars(adam).update(settings)  # as a schedule of the learning rate does
    with pytest.raises(ValueError, match=rf"^Adam: {message}$"):
        adam.step([np.ones(2)])
    assert (adam.t, p.data.tolist()) == (0, [0, 0])


@pytest.mark.parametrize("optimiser", [Adam, functools.partial(SGD, learning_rate=0.1, momentum=0.5)])
@pytest.mark.parametrize("n", [7, 700])
def test_moments_die_out_whatever_numpy_is_told(optimiser: Callable, n: int) -> None:
    p = mdb.Tensor(np.ones(n, np.float32), requires_grad=True)
    steps = optimiser([p])
    with np.errstate(all="raise"):
        for g in [1e-20] + [0.0] * 200:  # its square is 1e-40, and half to the power of 200 is less
            steps.step([np.full(n, g, np.float32)])
    assert np.isfinite(p.data).all()


@pytest.mark.parametrize("optimiser", [Adam, functools.partial(SGD, learning_rate=0.1)])
def test_mixed_up_tensors_and_arrays_are_said_in_a_sentence(optimiser: Callable) -> None:
    w = mdb.Tensor([1.0], requires_grad=True)
    steps = optimiser(iter([w]))  # any iterable of Tensors, as in PyTorch
    with pytest.raises(
        TypeError, match=r": a gradient must be an array; got a Tensor: pass \[g\.data for g in gradients"
    ):
        steps.step([mdb.Tensor([1.0])])
    np.testing.assert_array_equal(w.data, [1.0])
    for wrong, named in ((mdb.nn.Flatten(), "Flatten"), ({"w": w}, "str"), ([w.data], "ndarray")):
        with pytest.raises(TypeError, match=rf"takes a list of Tensors, such as model\.parameters\(\); got a {named}$"):
            optimiser(wrong)

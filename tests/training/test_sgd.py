"""SGD against the formula, and against PyTorch's."""

import numpy as np
import pytest

import minidbp as mdb
from minidbp import nn
from minidbp.training import SGD

SETTINGS = [(0.1, 0.0), (0.1, 0.9), (0.01, 0.5), (0.0, 0.9)]
SHAPES = [(3, 4), (4,), (2, 2, 1, 3), ()]


def start_and_gradients() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in SHAPES], [[rng.normal(size=s) for s in SHAPES] for _ in range(20)]


def after(dtype: str, learning_rate: float, momentum: float) -> list[np.ndarray]:
    start, steps = start_and_gradients()
    parameters = [mdb.Tensor(p.astype(dtype), requires_grad=True) for p in start]
    sgd = SGD(parameters, learning_rate, momentum)
    for gradients in steps:
        sgd.step([g.astype(dtype) for g in gradients])
    assert [p.dtype for p in parameters] == [dtype] * len(SHAPES)
    return [p.data for p in parameters]


@pytest.mark.parametrize(("learning_rate", "momentum"), SETTINGS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_sgd_is_the_formula(learning_rate: float, momentum: float, dtype: str, rtol: float) -> None:
    expected, steps = start_and_gradients()
    v = [np.zeros(s) for s in SHAPES]
    for gradients in steps:
        v = [momentum * old + g for old, g in zip(v, gradients, strict=True)]
        expected = [p - learning_rate * w for p, w in zip(expected, v, strict=True)]
    for ours, theirs in zip(after(dtype, learning_rate, momentum), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("learning_rate", "momentum"), SETTINGS)
def test_sgd_is_pytorchs(learning_rate: float, momentum: float) -> None:
    torch = pytest.importorskip("torch")
    start, steps = start_and_gradients()
    parameters = [torch.tensor(p) for p in start]
    optimiser = torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)
    for gradients in steps:
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = torch.tensor(g)
        optimiser.step()
    for ours, theirs in zip(after("float64", learning_rate, momentum), parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


def test_the_old_arrays_are_left_as_they_were() -> None:
    w = nn.Linear(3, 4, np.random.default_rng(0)).w
    before, values, g = w.data, w.data.copy(), np.ones((3, 4), np.float32)
    sgd = SGD((p for p in [w]), 0.1, 0.9)  # type: ignore[arg-type]  # a generator can be read once only
    sgd.step([g])
    sgd.step([g])
    np.testing.assert_array_equal(before, values)
    assert (g == 1).all()
    assert w.data.strides == before.strides  # kernels are faster when the filters are one after the other
    assert not w.data.flags.writeable


def test_gradients_must_fit() -> None:
    parameters = [mdb.Tensor(np.zeros(2), requires_grad=True, name=name) for name in ("W1", None)]
    sgd = SGD(parameters, 0.1, 0.9)
    for gradients, message in [
        ([np.ones(2)], "^SGD: there must be 2 gradients; got 1$"),
        ([np.ones(3), np.ones(2)], r"^SGD: the gradient of W1 must be float64 \(2,\); got float64 \(3,\)$"),
        ([np.ones(2), np.ones(2, np.float32)], r"^SGD: the gradient of parameter 1 must be float64 .*; got float32"),
    ]:
        with pytest.raises(ValueError, match=message):
            sgd.step(gradients)
    assert [a.tolist() for a in (*(p.data for p in parameters), *sgd.v)] == [[0, 0]] * 4


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf])
def test_learning_rates_that_make_no_sense(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"^SGD: learning_rate must be a number of at least 0; got {rate}$"):
        SGD([], rate)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, np.nan])
def test_momenta_that_make_no_sense(momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"^SGD: momentum must lie in \[0, 1\); got {momentum}$"):
        SGD([], 0.1, momentum)
    sgd = SGD([], 0.1)
    sgd.momentum = momentum
    with pytest.raises(ValueError, match=r"^SGD: momentum must lie in \[0, 1\); got"):
        sgd.step([])

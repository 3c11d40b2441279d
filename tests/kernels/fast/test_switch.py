"""The switch that takes the plain route everywhere: the same results to rounding, and nothing of kernels/fast."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from conv_problems import Problem, assert_close, problems
from hypothesis import given

import minidbp as mdb
from minidbp import kernels, nn
from minidbp.kernels import conv, fast, masked
from minidbp.kernels.fast import buffers, direct, sparse
from minidbp.robust import Objective

DTYPES = (np.float32, np.float64, np.complex128)


def plain_and_fast(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What a call gives with the switch off, and with it on for products of every size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "enabled", False)
        plain = call()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "SMALL", 0)
        patch.setattr(conv, "LISTS_FROM", 0)
        return plain, call()


@given(problems(dtypes=DTYPES))
def test_the_same_to_rounding(problem: Problem) -> None:
    geometry, x, w, g, mask = problem.geometry, problem.x, problem.w, problem.g, problem.mask
    for call in (
        lambda: kernels.conv2d(x, w, geometry),
        lambda: kernels.conv2d(x, w, geometry, mask),
        lambda: kernels.conv2d_transpose(problem.inside, w, geometry),
        lambda: kernels.conv2d_transpose(g, w, geometry, mask),
        lambda: kernels.conv2d_weight_grad(x, problem.inside, geometry),
        lambda: kernels.conv2d_weight_grad(x, g, geometry, mask),
    ):
        assert_close(*plain_and_fast(call))


@given(problems(dtypes=DTYPES))
def test_the_same_for_matrices(problem: Problem) -> None:
    """The pixels as rows of a matrix, with the first pixel of the filters."""
    x, w, mask = problem.x, problem.w[0, 0], problem.mask
    x = x[: len(mask)] if len(x) < 5 else x
    x = x[:, 0, 0].reshape(-1, len(mask), x.shape[3])
    mask = mask[:, 0, 0]
    g = problem.g[: x.shape[0] * x.shape[1], 0, 0].reshape(*x.shape[:2], w.shape[1])
    for call in (
        lambda: kernels.conv2d(x, w),
        lambda: kernels.conv2d(x, w, None, mask),
        lambda: kernels.conv2d_transpose(g, w, None, mask),
        lambda: kernels.conv2d_weight_grad(x, g, None, mask),
    ):
        assert_close(*plain_and_fast(call))
    assert_close(kernels.conv2d(x, w, None, mask), masked(x @ w, mask))


@pytest.mark.parametrize("of", ["logits", "softmax"])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_step_is_the_plain_step(name: str, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eq. 3 and its gradient in float32: the same to rounding."""
    model = nn.build_model(name, seed=1)
    x = np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)).astype(np.float32)
    results = []
    for enabled in True, False:
        monkeypatch.setattr(fast, "enabled", enabled)
        loss = Objective(5.0, of=of, reduction="sum")(model, x, [3, 1, 4]).total
        results.append((loss.item(), mdb.grad(loss, model.parameters())))
    (fast_loss, gradients), (plain_loss, expected) = results
    assert fast_loss == pytest.approx(plain_loss, rel=1e-5)
    for a, b in zip(gradients, expected, strict=True):
        assert np.linalg.norm(a.data - b.data) <= 1e-4 * np.linalg.norm(b.data)


def test_nothing_of_the_fast_routes_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a fast route was taken")

    for module in direct, sparse:
        for name in {"conv2d", "conv2d_transpose", "conv2d_weight_grad"} & vars(module).keys():
            monkeypatch.setattr(module, name, refuse)
    geometry = kernels.ConvGeometry.of((8, 8), (3, 3), 1, "same")
    x, w = np.ones((64, 8, 8, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
    with pytest.raises(AssertionError, match="a fast route was taken"):
        kernels.conv2d(x, w, geometry)
    monkeypatch.setattr(fast, "enabled", False)
    y = kernels.conv2d(x, w, geometry)
    mask = y[:1] > 0
    assert y[0, 4, 4, 0] == 9 * 32
    kernels.conv2d(x, w, geometry, mask)
    kernels.conv2d_transpose(y, w, geometry, mask)
    kernels.conv2d_weight_grad(x, y, geometry, mask)


def test_the_pool_gives_numpys_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "enabled", False)
    for array in buffers.empty((1000, 100), np.float32), buffers.empty_like(np.ones((100, 1000)).T):
        assert (array if array.base is None else array.base).flags.owndata


@pytest.mark.parametrize(("value", "enabled"), [("1", False), ("0", True), ("", True)])
def test_the_environment_variable(value: str, enabled: bool) -> None:
    code = "from minidbp.kernels import fast; print(fast.enabled)"
    environment = {**os.environ, "MINIDBP_PLAIN": value}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(enabled)

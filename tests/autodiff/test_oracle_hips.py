"""The engine against an independent one, HIPS autograd, on random small nets of conv, Linear and ReLU in float64.

The nets are written twice: the oracle's convolution is slices and tensordot, and shares nothing with our kernels.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad as hips_grad
from autograd import jacobian as hips_jacobian
from autograd.scipy.special import logsumexp as hips_logsumexp

import minidbp as mdb
from minidbp import nn

Sides = tuple[tuple[int, int], tuple[int, int]]


class Conv(NamedTuple):
    stride: tuple[int, int]
    padding: Sides


class Net(NamedTuple):
    x: np.ndarray  # (3, H, W, I)
    labels: np.ndarray
    convs: list[Conv]
    parameters: list[np.ndarray]  # W1, b1, ...: those of the convs first, then those of two Linear layers


def random_net(seed: int) -> Net:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def pair(low: int, high: int) -> tuple[int, int]:
        return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))

    size, channels = pair(6, 8), int(rng.integers(1, 3))
    x = numbers(3, *size, channels)
    convs, parameters = [], []
    for _ in range(seed % 3):  # no convolution, one, two
        kernel, stride, padding = pair(1, 3), pair(1, 2), (pair(0, 2), pair(0, 2))
        filters = int(rng.integers(1, 5))
        convs.append(Conv(stride, padding))
        parameters += [numbers(*kernel, channels, filters), numbers(filters)]
        size = tuple((n + sum(p) - k) // s + 1 for n, p, k, s in zip(size, padding, kernel, stride, strict=True))  # type: ignore[assignment]
        channels = filters
    widths = [size[0] * size[1] * channels, int(rng.integers(3, 8)), int(rng.integers(2, 6))]
    for n_in, n_out in pairwise(widths):
        parameters += [numbers(n_in, n_out) / np.sqrt(n_in), numbers(n_out)]
    return Net(x, rng.integers(0, widths[-1], 3), convs, parameters)


def ours(net: Net, x: mdb.Tensor, *parameters: mdb.Tensor) -> mdb.Tensor:
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for (w, b), conv in zip(layers, net.convs, strict=False):
        x = mdb.relu(mdb.conv2d(x, w, b, conv.stride, conv.padding))
    (w1, b1), (w2, b2) = layers[-2:]
    return mdb.relu(x.reshape(len(x), -1) @ w1 + b1) @ w2 + b2


def theirs(net: Net, x: Any, *parameters: Any) -> Any:
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for (w, b), conv in zip(layers, net.convs, strict=False):
        x = anp.maximum(hips_conv2d(x, w, conv) + b, 0)
    (w1, b1), (w2, b2) = layers[-2:]
    return anp.dot(anp.maximum(anp.dot(x.reshape(len(x), -1), w1) + b1, 0), w2) + b2


def hips_conv2d(x: Any, w: Any, conv: Conv) -> Any:
    x = anp.pad(x, ((0, 0), *conv.padding, (0, 0)), mode="constant")
    (s, t), (kh, kw) = conv.stride, w.shape[:2]
    rows, cols = (x.shape[1] - kh) // s + 1, (x.shape[2] - kw) // t + 1
    y: Any = 0
    for a in range(kh):
        for b in range(kw):
            tap = x[:, a : a + s * (rows - 1) + 1 : s, b : b + t * (cols - 1) + 1 : t]
            y = y + anp.tensordot(tap, w[a, b], axes=1)
    return y


def hips_log_softmax(z: Any) -> Any:
    return z - hips_logsumexp(z, axis=1, keepdims=True)


OUTPUTS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "logits": (lambda z: z, lambda z: z),
    "softmax": (mdb.softmax, lambda z: anp.exp(hips_log_softmax(z))),
}


def assert_agree(got: mdb.Tensor, expected: np.ndarray) -> None:
    """Relative to the norm: a small gradient does not pass as 0."""
    assert got.shape == expected.shape
    assert np.linalg.norm(got.data - expected) <= 1e-10 * np.linalg.norm(expected)


SEEDS = range(9)
nets = pytest.mark.parametrize("net", [*map(random_net, SEEDS)], ids=map(str, SEEDS))
outputs = pytest.mark.parametrize("of", OUTPUTS)


@nets
def test_gradients_of_the_loss(net: Net) -> None:
    def loss(x: Any, *parameters: Any) -> Any:
        log_p = hips_log_softmax(theirs(net, x, *parameters))
        return -anp.mean(0.9 * log_p[np.arange(3), net.labels] + 0.1 * anp.mean(log_p, axis=1))

    variables = [mdb.Tensor(a, requires_grad=True) for a in (net.x, *net.parameters)]
    value = nn.cross_entropy(ours(net, *variables), net.labels, label_smoothing=0.1)
    assert value.item() == pytest.approx(loss(net.x, *net.parameters), rel=1e-12)
    for i, got in enumerate(mdb.grad(value, variables)):
        assert_agree(got, hips_grad(loss, i)(net.x, *net.parameters))


@nets
@outputs
def test_jacobians_sample_by_sample(net: Net, of: str) -> None:
    our, their = OUTPUTS[of]
    parameters = [mdb.Tensor(a) for a in net.parameters]
    J = mdb.jacobian(lambda x: our(ours(net, x, *parameters)), net.x)
    one_by_one = [
        hips_jacobian(lambda x: their(theirs(net, x, *net.parameters)))(net.x[n : n + 1])[0, :, 0] for n in range(3)
    ]
    assert_agree(J, np.stack(one_by_one))


@nets
@outputs
@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # J of logits has no part of the last bias
def test_double_backpropagation(net: Net, of: str) -> None:
    """The gradient of mean_n ||J_n||_1 in the weights.  The oracle takes J's rows one output at a time."""
    our, their = OUTPUTS[of]

    def penalty(*parameters: Any) -> Any:
        def output(x: Any, i: int) -> Any:
            return anp.sum(their(theirs(net, x, *parameters))[:, i])

        rows = [hips_grad(output)(net.x, i) for i in range(len(net.parameters[-1]))]
        return sum(anp.sum(anp.abs(row)) for row in rows) / 3

    variables = [mdb.Tensor(a, requires_grad=True) for a in net.parameters]
    J = mdb.jacobian(lambda x: our(ours(net, x, *variables)), net.x, create_graph=True)
    value = mdb.abs(J).sum() / 3
    assert value.item() == pytest.approx(penalty(*net.parameters), rel=1e-12)
    for i, got in enumerate(mdb.grad(value, variables)):
        assert_agree(got, hips_grad(penalty, i)(*net.parameters))

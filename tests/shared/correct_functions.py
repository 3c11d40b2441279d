"""Correct functions that a check of derivatives could accuse wrongly, each with random inputs.

A `Case` is a function with its inputs.  Each entry of CASES makes one from a random generator.
"""

import functools
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

import minidbp as mdb
from minidbp import cos, sin, tanh
from minidbp.autodiff import Tensor

Array = np.ndarray
Rng = np.random.Generator


class Case(NamedTuple):
    f: Callable[..., Tensor]
    inputs: list[Any]


def case(f: Callable[..., Tensor], *inputs: Any) -> Case:
    return Case(f, list(inputs))


def normal(rng: Rng, *shape: int) -> Array:
    return np.asarray(rng.standard_normal(shape))


def positive(rng: Rng, *shape: int) -> Array:
    return np.asarray(rng.uniform(0.5, 2.0, shape))


def signed(rng: Rng, *shape: int) -> Array:
    """Of both signs, and at least 0.2 away from 0."""
    return np.asarray(rng.uniform(0.2, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


# -- operations of a user's own, all right -----------------------------------------------------------------------------


@mdb.operation
def cumsum(x: Tensor) -> Any:
    """`cumsum(x)` along the last axis."""
    n = x.shape[-1]
    return np.cumsum(x.data, -1), lambda g, out: g @ np.tril(np.ones((n, n)))


@mdb.operation
def clip(x: Tensor, low: float = -1.0, high: float = 1.0) -> Any:
    """`clip(x, low, high)`."""
    inside = mdb.locally_constant(((x.data > low) & (x.data < high)) * 1.0)
    return np.clip(x.data, low, high), lambda g, out: g * inside


@mdb.operation
def fused(x: Tensor, y: Tensor, z: Tensor) -> Any:
    """`x y + z` of one shape."""
    return x.data * y.data + z.data, lambda g, out: g * y, lambda g, out: g * x, lambda g, out: g


@functools.cache
def hilbert(n: int) -> Array:
    """The Hilbert matrix, computed once for each n."""
    return 1.0 / (np.arange(n)[:, None] + np.arange(n) + 1)


def normalised(x: Tensor, axis: int) -> Tensor:
    centre = x - x.mean(axis, keepdims=True)
    return centre / ((centre * centre).mean(axis, keepdims=True) + 1e-5) ** 0.5


def norm(x: Tensor) -> Tensor:
    return (x * x).sum() ** 0.5


def naive_softplus(x: Tensor) -> Tensor:
    return mdb.log(1 + mdb.exp(x))


# -- functions that take derivatives themselves ------------------------------------------------------------------------


def gradient_penalty(x: Tensor) -> Tensor:
    (g,) = mdb.grad((x**4).sum(), x, create_graph=True)
    return (g**2).sum()


def gradient_field(x: Tensor) -> Tensor:
    return mdb.grad((mdb.exp(x) * x).sum(), x, create_graph=True)[0]


def linear_gradient(x: Tensor) -> Tensor:
    """The gradient of `3 sum(x)`: a constant."""
    return mdb.grad((3 * x).sum(), x, create_graph=True)[0]


def weight_penalty(x: Array) -> Callable[[Tensor], Tensor]:
    """Of a weight: the squared gradient of a loss in a leaf made inside."""

    def f(w: Tensor) -> Tensor:
        inner = Tensor(x, requires_grad=True)
        (g,) = mdb.grad((tanh(inner @ w) ** 2).sum(), inner, create_graph=True)
        return (g * g).sum()

    return f


def jacobian_penalty(x: Array) -> Callable[[Tensor], Tensor]:
    return lambda w: (mdb.jacobian(lambda t: tanh(t @ w), x, create_graph=True) ** 2).sum()


def net(x: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return mdb.relu(x @ v + 0.1) @ w


def image(rng: Rng, n: int = 6) -> Array:
    return rng.uniform(0, 1, (2, n, n, 1))


def labels(rng: Rng, n: int = 4) -> Array:
    return rng.integers(3, size=n)


CASES: dict[str, Callable[[Rng], Case]] = {
    # offsets, cancellation and scale
    "softmax sums to 1": lambda r: case(lambda x: mdb.softmax(x).sum(-1), normal(r, 2, 4)),
    "softmax sums to 1, trained logits": lambda r: case(lambda x: mdb.softmax(x).sum(), 50 * normal(r, 2, 4)),
    "x - x": lambda r: case(lambda x: x - x, normal(r, 4)),
    "a centred sum is 0": lambda r: case(lambda x: (x - x.mean()).sum(), 100 * normal(r, 5)),
    "exp + 1e6": lambda r: case(lambda x: mdb.exp(x) + 1e6, normal(r, 4)),
    "sin + 1e3 in one element": lambda r: case(lambda x: sin(x) + np.array([0, 0, 1e3]), normal(r, 3)),
    "x + 1e8": lambda r: case(lambda x: x + 1e8, normal(r, 3)),
    "(1e8 + x) - 1e8": lambda r: case(lambda x: (1e8 + x) - 1e8, normal(r, 3)),
    "a variance by E x^2 - (E x)^2": lambda r: case(lambda x: (x * x).mean() - x.mean() ** 2, 300 + normal(r, 5)),
    "1 + 1e-10 sin": lambda r: case(lambda x: 1 + 1e-10 * sin(x), normal(r, 3)),
    "[1e8, 1, 1e-8] sin": lambda r: case(lambda x: sin(x) * np.array([1e8, 1, 1e-8]), normal(r, 3)),
    "1e8 x + y": lambda r: case(lambda x, y: 1e8 * x + y, normal(r, 3), normal(r, 3)),
    "inputs of 1e-8, cubed": lambda r: case(lambda x: x**3, 1e-8 * signed(r, 3)),
    "inputs of 1e-8, exp": lambda r: case(mdb.exp, 1e-8 * normal(r, 3)),
    "inputs of 1e-8, sin(1e8 x)": lambda r: case(lambda x: sin(1e8 * x), 1e-8 * normal(r, 3)),
    "inputs of 1e-8, log": lambda r: case(mdb.log, 1e-8 * positive(r, 3)),
    "inputs of 1e-6, 1/x": lambda r: case(lambda x: 1 / x, 1e-6 * positive(r, 3)),
    "inputs of 1e6, squared": lambda r: case(lambda x: x * x, 1e6 * normal(r, 3)),
    "inputs of 1e6, sin": lambda r: case(sin, 1e6 * normal(r, 3)),
    "inputs of 1e8, log": lambda r: case(mdb.log, 1e8 * positive(r, 3)),
    "inputs of 1e8, root": lambda r: case(lambda x: x**0.5, 1e8 * positive(r, 3)),
    "inputs of 1e8, exp(1e-8 x)": lambda r: case(lambda x: mdb.exp(1e-8 * x), 1e8 * normal(r, 3)),
    "inputs from 1e-6 to 1e6": lambda r: case(lambda x: x * x, np.array([1e-6, 1e-3, 1, 1e3, 1e6]) * signed(r, 5)),
    "outputs of 1e-300": lambda r: case(lambda x: 1e-300 * mdb.exp(x), normal(r, 3)),
    "outputs of 1e300": lambda r: case(lambda x: 1e300 * mdb.exp(x), normal(r, 3)),
    "outputs of 1e-30, logistic": lambda r: case(lambda x: 1 / (1 + mdb.exp(-x)) * 1e-30, normal(r, 3)),
    "outputs from 1e-150 to 1e150": lambda r: case(
        lambda x: mdb.exp(x) * 10.0 ** np.array([-150, 0, 150]), normal(r, 3)),
    "a Hilbert matrix": lambda r: case(lambda x: (x @ hilbert(6)) ** 2, normal(r, 2, 6)),
    # logits
    "log-sum-exp of tiny probabilities": lambda r: case(mdb.logsumexp, r.uniform(-800, 0, (2, 4))),
    "log-softmax of trained logits": lambda r: case(mdb.log_softmax, r.uniform(-100, 100, (2, 4))),
    "softmax of trained logits": lambda r: case(mdb.softmax, r.uniform(-100, 100, (2, 4))),
    "a confident softmax": lambda r: case(mdb.softmax, np.array([[12.0, 0, 1]]) + normal(r, 1, 3)),
    "cross-entropy of trained logits": lambda r: case(
        partial(mdb.nn.cross_entropy, labels=labels(r), label_smoothing=0.1), r.uniform(-100, 100, (4, 3))),
    "cross-entropy of an untrained net": lambda r: case(
        partial(mdb.nn.cross_entropy, labels=labels(r)), normal(r, 4, 3)),
    "cross-entropy near 0": lambda r: case(
        lambda x: mdb.nn.cross_entropy(x, np.zeros(2, int)), np.array([15.0, 0, 0]) + normal(r, 2, 3)),
    "a saturated tanh": lambda r: case(tanh, 20 * signed(r, 4)),
    "a saturated logistic": lambda r: case(lambda x: 1 / (1 + mdb.exp(-x)), 20 * signed(r, 4)),
    "a naive softplus": lambda r: case(naive_softplus, normal(r, 4)),
    "a naive softplus at -15": lambda r: case(naive_softplus, normal(r, 4) - 15),
    "a naive softplus at -30": lambda r: case(naive_softplus, normal(r, 4) - 30),
    "a softmax that detaches its maximum": lambda r: case(
        lambda x: mdb.exp(x - x.data.max()) / mdb.exp(x - x.data.max()).sum(), 100 * normal(r, 4)),
    # zeros and constants
    "constant in an input": lambda r: case(lambda x, y: mdb.exp(x), normal(r, 3), normal(r, 2)),
    "0 times an input": lambda r: case(lambda x, y: mdb.exp(x) + 0 * y, normal(r, 3), normal(r, 3)),
    "a function that ignores its input": lambda r: case(lambda x: Tensor(np.ones(3)), normal(r, 3)),
    "0 times a sum": lambda r: case(lambda x: x.sum() * 0, normal(r, 3)),
    "zeros in the input": lambda r: case(lambda x: mdb.exp(x) * x, normal(r, 4) * np.array([0, 1, 0, 1])),
    "an input of zeros": lambda r: case(lambda x, w: x @ w, np.zeros((2, 3)), normal(r, 3, 2)),
    "x^2 at 0": lambda r: case(lambda x: x**2, np.zeros(3)),
    "x^4 at 0": lambda r: case(lambda x: x**4, np.zeros(3)),
    "cos at 0": lambda r: case(cos, np.zeros(2)),
    "x^3 beside 0": lambda r: case(lambda x: x**3, 1e-4 * normal(r, 3)),
    "a product of zeros": lambda r: case(lambda x, y: x * y, np.zeros(3), np.zeros(3)),
    "relu where all is off": lambda r: case(mdb.relu, -positive(r, 3)),
    "identity": lambda r: case(lambda x: x, normal(r, 3)),
    "one of the inputs": lambda r: case(lambda x, y: y, normal(r, 3), normal(r, 2)),
    # kinks
    "a relu net": lambda r: case(net, normal(r, 3, 4), normal(r, 4, 5), normal(r, 5, 2)),
    "a relu near its kink": lambda r: case(mdb.relu, 1e-5 * signed(r, 5)),
    "a leaky relu of relus": lambda r: case(lambda x: mdb.relu(x) - 0.1 * mdb.relu(-x), 1e-3 * signed(r, 5)),
    "abs near its kink": lambda r: case(mdb.abs, 1e-6 * signed(r, 5)),
    "max with near ties": lambda r: case(lambda x: x.max(), np.array([1, 1 + 1e-5, 1 - 1e-5]) * (1 + r.random())),
    "maximum with near ties": lambda r: case(mdb.maximum, np.ones(3), 1 + 1e-6 * signed(r, 3)),
    "abs of 3,000 elements": lambda r: case(lambda x: mdb.abs(x).sum(), normal(r, 3000)),
    "relu of 3,000 elements": lambda r: case(lambda x: mdb.relu(x) ** 2, normal(r, 3000)),
    "maxima of 500 rows": lambda r: case(lambda x: x.max(1), normal(r, 500, 10)),
    "max pooling": lambda r: case(lambda x: x.reshape(2, 3, 2, 3, 2, 1).max((2, 4)), image(r)),
    "conv and relu": lambda r: case(mdb.conv2d_relu, image(r), normal(r, 3, 3, 1, 2), 0.1 * normal(r, 2)),
    "sign of a detached input": lambda r: case(lambda x: mdb.sign(x.detach()) * x, signed(r, 4)),
    "an element found by argmax": lambda r: case(lambda x: x[int(np.argmax(x.data))] ** 2, normal(r, 5)),
    "elements in sorted order": lambda r: case(lambda x: x[np.argsort(x.data)] * np.arange(5.0), normal(r, 5)),
    "clip": lambda r: case(clip, signed(r, 5)),
    "if": lambda r: case(lambda x: x * x if x.data.sum() > 0 else -x, normal(r, 4)),
    "if by element": lambda r: case(
        lambda x: x * x * (x.data > 0) + sin(x) * (x.data <= 0), signed(r, 4)),
    "smooth at its seam": lambda r: case(lambda x: mdb.relu(x) ** 3, normal(r, 4)),
    # functions that take derivatives
    "a gradient penalty": lambda r: case(gradient_penalty, normal(r, 3)),
    "a gradient": lambda r: case(gradient_field, normal(r, 3)),
    "the gradient of a linear function": lambda r: case(linear_gradient, normal(r, 3)),
    "a penalty of a weight, with an inner leaf": lambda r: case(weight_penalty(normal(r, 2, 3)), normal(r, 3, 2)),
    "a Jacobian penalty of a weight": lambda r: case(jacobian_penalty(normal(r, 2, 3)), normal(r, 3, 2)),
    "the paper's penalty": lambda r: case(
        partial(lambda w, x: mdb.robust.jacobian_l1(lambda t: tanh(t @ w), x), x=normal(r, 2, 3)), normal(r, 3, 2)),
    "Drucker and LeCun's penalty": lambda r: case(
        partial(lambda w, x, y: mdb.robust.loss_gradient_penalty(lambda t: t @ w, x, y),
                x=normal(r, 4, 3), y=labels(r)), normal(r, 3, 3)),
    "hvp inside": lambda r: case(
        lambda x: mdb.hvp(lambda t: (t**4).sum(), x, np.ones(3), create_graph=True)[1], normal(r, 3)),
    "jvp inside": lambda r: case(lambda x: mdb.jvp(mdb.exp, x, np.ones(3), create_graph=True)[1], normal(r, 3)),
    "vjp inside": lambda r: case(lambda x: mdb.vjp(mdb.exp, x, np.ones(3), create_graph=True)[1], normal(r, 3)),
    # constants, layouts, shapes
    "constants of float64": lambda r: case(
        lambda x: np.float64(1.3) * x + [0.1, 0.2, 0.3] - np.arange(3) + np.pi, normal(r, 3)),
    "a seeded random constant": lambda r: case(
        lambda x: mdb.exp(x) * np.random.default_rng(0).standard_normal(x.shape), normal(r, 3)),
    "dropout with one mask": lambda r: case(
        partial(lambda x, m: mdb.exp(x) * m * 2.0, m=r.random(5) < 0.5), normal(r, 5)),
    "broadcast inputs": lambda r: case(lambda x, y, z: x * y + z, normal(r, 3, 1), normal(r, 4), normal(r)),
    "many inputs": lambda r: case(lambda *xs: reduce(lambda a, b: a * b + a, xs), *normal(r, 8, 2)),
    "no axes": lambda r: case(lambda x, y: mdb.exp(x) * y**2, normal(r), normal(r)),
    "no elements": lambda r: case(lambda x: mdb.exp(x).sum(0), np.zeros((0, 3))),
    "no rows in a product": lambda r: case(lambda x, w: x @ w, np.zeros((0, 3)), normal(r, 3, 2)),
    "Fortran order": lambda r: case(lambda x: mdb.exp(x) * x, np.asfortranarray(normal(r, 3, 4))),
    "a reversed view": lambda r: case(lambda x: cumsum(x) ** 2, normal(r, 3, 4)[::-1, ::-1]),
    "a broadcast view": lambda r: case(lambda x: x.T @ x, np.broadcast_to(normal(r, 4), (3, 4))),
    "a list of numbers": lambda r: case(mdb.exp, normal(r, 3).tolist()),
    "integers": lambda r: case(lambda x: x * x * 0.5, r.integers(-3, 3, 4)),
    "repeated indices": lambda r: case(lambda x: x[[0, 2, 2, 0]] * x[::-1][:4], normal(r, 5)),
    "a Boolean index": lambda r: case(partial(lambda x, m: x[m] ** 2, m=r.random(5) < 0.6), normal(r, 5)),
    "three operands": lambda r: case(fused, normal(r, 3), normal(r, 3), normal(r, 3)),
    # strongly curved
    "exp(20 x)": lambda r: case(lambda x: mdb.exp(20 * x), normal(r, 3)),
    "sin(100 x)": lambda r: case(lambda x: sin(100 * x), normal(r, 3)),
    "x^20": lambda r: case(lambda x: x**20, normal(r, 3)),
    "a narrow peak": lambda r: case(lambda x: 1 / (x * x + 1e-4), 0.01 * normal(r, 3)),
    "a narrow Gaussian": lambda r: case(lambda x: mdb.exp(-(x * x) * 5e5), 1e-3 * normal(r, 3)),
    "twenty layers": lambda r: case(lambda x: reduce(lambda t, _: tanh(1.5 * t), range(20), x), normal(r, 3)),
    "x to a variable power": lambda r: case(lambda x, p: x**p, positive(r, 3), normal(r, 3)),
    "a norm": lambda r: case(norm, normal(r, 5)),
    "cosine similarity": lambda r: case(lambda x, y: (x * y).sum() / (norm(x) * norm(y)), normal(r, 4), normal(r, 4)),
    "layer norm": lambda r: case(lambda x: normalised(x, -1), normal(r, 3, 5)),
    "batch norm": lambda r: case(lambda x: normalised(x, 0), normal(r, 6, 3)),
    # large
    "exp of 3,000 elements": lambda r: case(lambda x: mdb.exp(x), normal(r, 3000)),
    "a sum of 20,000 squares": lambda r: case(lambda x: (x * x).sum(), normal(r, 20_000)),
    "a mean of 20,000 elements": lambda r: case(lambda x: sin(x).mean(), normal(r, 20_000)),
    "softmax of 1,000 classes": lambda r: case(mdb.softmax, normal(r, 1, 1000)),
    "log-softmax of 10 rows of 300": lambda r: case(mdb.log_softmax, normal(r, 10, 300)),
    "a matrix product": lambda r: case(lambda x, w: x @ w, normal(r, 5, 100), normal(r, 100, 60)),
    "a loss in its weights": lambda r: case(
        partial(lambda v, w, x, y: mdb.nn.cross_entropy(tanh(x @ v) @ w, y), x=normal(r, 8, 50), y=labels(r, 8)),
        0.2 * normal(r, 50, 40), 0.2 * normal(r, 40, 3)),
    "a relu net's loss in its weights": lambda r: case(
        partial(lambda v, w, x, y: mdb.nn.cross_entropy(mdb.relu(x @ v) @ w, y), x=normal(r, 8, 50), y=labels(r, 8)),
        0.2 * normal(r, 50, 40), 0.2 * normal(r, 40, 3)),
    "a conv of 28 by 28": lambda r: case(lambda x, w: mdb.conv2d(x, w) ** 2, image(r, 28), normal(r, 3, 3, 1, 2)),
    "a large Jacobian of many scales": lambda r: case(
        lambda x: mdb.exp(x) * 10.0 ** np.linspace(-8, 8, 400), normal(r, 400)),
}  # fmt: skip

# The rounding of values far larger than the result may hide the derivative: "cannot be judged" is right, too.
ROUNDING_MAY_HIDE = {
    "x + 1e8", "(1e8 + x) - 1e8", "a variance by E x^2 - (E x)^2", "1e8 x + y", "inputs of 1e6, sin",
    "1 + 1e-10 sin", "exp + 1e6", "a naive softplus at -15", "a naive softplus at -30", "a confident softmax",
    "softmax of trained logits", "a saturated tanh", "a saturated logistic", "cross-entropy near 0",
}  # fmt: skip

"""Mistakes that people make in operations and functions of their own; `check_derivatives` must pass none of them.

Each `Fault` is one short mistake, with the order at which it shows and words by which a message would name it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minidbp as mdb
from minidbp import cos, sin
from minidbp.autodiff import Tensor
from minidbp.autodiff.tensor import from_array

Array = np.ndarray


class Fault(NamedTuple):
    """A function with a mistake, and what a good message about it says.

    Attributes:
        name: The mistake, in words.
        f: The function under test.
        inputs: Where it is tested.
        words: A message that has one of them names the cause.
        order: The order of the first wrong derivative.
        kink: Whether the inputs lie at or beside a kink or a jump, so that `NotDifferentiableError` is a right answer.
        slow: Whether the check takes more than some seconds.
    """

    name: str
    f: Callable[..., Any]
    inputs: list[Any]
    words: tuple[str, ...]
    order: int = 1
    kink: bool = False
    slow: bool = False


def op(name: str, value: Callable[..., Any], *rules: Callable[..., Any]) -> Callable[..., Tensor]:
    """An operation of one to three operands: value(*arrays), and rule(g, out, *operands) for each operand."""

    def declare(*operands: Tensor) -> Any:
        bound = [lambda g, out, rule=rule: rule(g, out, *operands) for rule in rules]
        return value(*[t.data for t in operands]), *bound

    forms: list[Callable[..., Any]] = [
        lambda x: declare(x),
        lambda x, y: declare(x, y),
        lambda x, y, z: declare(x, y, z),
    ]
    declared = forms[len(rules) - 1]
    declared.__name__ = name
    return mdb.operation(declared)


def swapped(x: Tensor) -> Tensor:
    """x with its last two axes exchanged."""
    return mdb.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def raw(array: Array) -> Tensor:
    """A constant Tensor: to the next derivative it does not depend on anything."""
    return from_array(np.array(array))


RNG = np.random.default_rng(20)
V = np.array([0.7, -1.2, 1.9, 0.4, -0.3])
POSITIVE = np.array([0.7, 1.2, 1.9, 0.4, 2.3])
ROW = np.array([0.5, -1.1, 0.8])
X = np.array([[0.7, -1.2, 0.3], [1.9, 0.4, -0.6]])
SQUARE = np.array([[0.7, -1.2, 0.3], [1.9, 0.4, -0.6], [-0.2, 1.4, 0.9]])
OTHER = np.array([[1.1, 0.6, -0.4], [-1.6, 0.8, 0.5], [0.3, -0.7, 1.2]])
UPPER = np.triu(np.ones((5, 5)))


# -- a wrong formula ---------------------------------------------------------------------------------------------------


def softmax_array(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def squared_error(p: Array, t: Array) -> Array:
    return np.mean((p - t) ** 2)


def gelu_array(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh_slope(x: Array) -> Array:
    """The slope of GELU's usual approximation by tanh, which is not that of the exact one."""
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * x / np.cosh(u) ** 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


LINEAR, AFFINE = ("linear",), ("linear", "not depend on the cotangent")
FACTOR, SIGN, TERM = ("times",), ("sign",), ("term", "missing", "dropped")
POWER = ("power", "exponent", "times the input", "factor of the input")
PLACES = ("wrong places", "transposed", "axis", "flip")
OPERAND = ("operand", "other input", "wrong value", "wrong input")

FORMULAS = [
    Fault("exp, wrong by a factor of 1.0001", op("f", np.exp, lambda g, out, x: g * out * 1.0001), [X], FACTOR),
    Fault("the 2 of a square is forgotten", op("f", np.square, lambda g, out, x: g * x), [X], FACTOR),
    Fault("the 2 of a square root is forgotten", op("f", np.sqrt, lambda g, out, x: g / out), [POSITIVE], FACTOR),
    Fault("the 3 of a cube is forgotten", op("f", lambda x: x**3, lambda g, out, x: g * x * x), [X], FACTOR),
    Fault("degrees taken for radians", op("f", lambda x: np.sin(np.radians(x)),
          lambda g, out, x: g * cos(x * (math.pi / 180))), [30 * X], FACTOR),
    Fault("log10 with the slope of log", op("f", np.log10, lambda g, out, x: g / x), [POSITIVE], FACTOR),
    Fault("a mean over an axis divided by all elements", op("f", lambda x: x.mean(1, keepdims=True),
          lambda g, out, x: g * raw(np.ones(x.shape)) / x.size), [X], FACTOR),
    Fault("a variance with ddof 1 and the slope of ddof 0", op("f", lambda x: x.var(ddof=1, keepdims=True),
          lambda g, out, x: g * 2 * (x - x.mean()) / x.size), [V], FACTOR),
    Fault("the mean squared error without its 1/n", op("f", lambda p: np.array([squared_error(p, ROW)]),
          lambda g, out, p: g * 2 * (p - ROW)), [ROW * 0.3], FACTOR),
    Fault("dropout's scale is only in the value", op("f", lambda x: x * np.array([1, 0, 1, 1, 0]) / 0.6,
          lambda g, out, x: g * np.array([1.0, 0, 1, 1, 0])), [V], FACTOR),
    Fault("loss scaling that is never undone", op("f", np.negative, lambda g, out, x: -1024 * g), [X], FACTOR),
    Fault("counted twice", op("f", lambda x: x + 1, lambda g, out, x: g + g), [X], FACTOR),
    Fault("negation passes the cotangent on", op("f", np.negative, lambda g, out, x: g), [X], SIGN),
    Fault("cos with the slope +sin", op("f", np.cos, lambda g, out, x: g * sin(x)), [X], SIGN),
    Fault("a subtraction whose two rules are exchanged", op("f", np.subtract, lambda g, out, x, y: -g,
          lambda g, out, x, y: g), [X, X + 1], SIGN),
    Fault("1/x with the slope +1/x^2", op("f", lambda x: 1 / x, lambda g, out, x: g * out * out), [POSITIVE], SIGN),
    Fault("the second operand of a difference gets no minus",
          op("f", np.subtract, lambda g, out, x, y: g, lambda g, out, x, y: g), [X, X + 1], SIGN),
    Fault("x exp(x) without the product rule's second term",
          op("f", lambda x: x * np.exp(x), lambda g, out, x: g * out), [X], TERM),
    Fault("a residual whose rule forgets the identity", op("f", lambda x: x + np.tanh(x),
          lambda g, out, x: g * (1 - (out - x) ** 2)), [X], TERM),
    Fault("softmax with the diagonal alone", op("f", softmax_array, lambda g, out, x: g * out * (1 - out)), [X], TERM),
    Fault("softmax without its diagonal", op("f", softmax_array,
          lambda g, out, x: -(out * (g * out).sum(-1, keepdims=True))), [X], TERM),
    Fault("a normalisation that takes its variance for constant",
          op("f", lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True),
          lambda g, out, x: (g - g.mean(-1, keepdims=True)) / raw(x.data.std(-1, keepdims=True))), [X], TERM),
    Fault("weight decay in the rule", op("f", np.matmul, lambda g, out, x, w: g @ swapped(w),
          lambda g, out, x, w: swapped(x) @ g + 0.01 * w), [X, SQUARE], AFFINE),
    Fault("a triangle whose rule lets the other half through", op("f", np.triu, lambda g, out, x: g), [SQUARE],
          ("mask", "spread", "should be 0", "zero", "too many")),
    Fault("a diagonal whose rule fills the whole row", op("f", np.diag,
          lambda g, out, x: g.reshape(*g.shape, 1) * np.ones(3)), [SQUARE],
          ("spread", "mask", "should be 0", "zero", "too many")),
    Fault("cube, power not reduced", op("f", lambda x: x**3, lambda g, out, x: 3 * g * x**3), [X], POWER),
    Fault("cube, power reduced twice", op("f", lambda x: x**3, lambda g, out, x: 3 * g * x), [X], POWER),
    Fault("division, denominator not squared", op("f", np.divide, lambda g, out, x, y: g / y,
          lambda g, out, x, y: -(g * x / y)), [ROW, 1 + POSITIVE[:3]], POWER),
    Fault("tanh with 1 - out in place of 1 - out^2", op("f", np.tanh, lambda g, out, x: g * (1 - out)), [X],
          POWER + TERM),
    Fault("sigmoid's slope of x in place of out", op("f", lambda x: 1 / (1 + np.exp(-x)),
          lambda g, out, x: g * x * (1 - x)), [X], (*OPERAND, "of the output", "in place of")),
    Fault("a product whose rule for x has x", op("f", np.multiply, lambda g, out, x, y: g * x,
          lambda g, out, x, y: g * x), [ROW, ROW[::-1] + 2], OPERAND),
    Fault("a quotient whose rule for x divides by x", op("f", np.divide, lambda g, out, x, y: g / x,
          lambda g, out, x, y: -(g * x / (y * y))), [ROW, ROW[::-1] + 2], OPERAND),
    Fault("a norm divided by its square", op("f", lambda x: np.linalg.norm(x, keepdims=True),
          lambda g, out, x: g * x / (out * out)), [V], FACTOR + POWER),
    Fault("an epsilon that is only in the value", op("f", lambda x: np.sqrt(x * x + 0.01),
          lambda g, out, x: g * mdb.sign(x.detach())), [X], ()),
    Fault("exact GELU with the slope of its approximation", op("f", gelu_array,
          lambda g, out, x: g * gelu_tanh_slope(x.data)), [X], ()),
    Fault("a bias that is subtracted from the slope", op("f", lambda x: x * (x + 2), lambda g, out, x: g * (2 * x - 2)),
          [X], ()),
]  # fmt: skip


# -- axes, shapes and places -------------------------------------------------------------------------------------------


def cumsum(name: str, rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return op(name, lambda x: np.cumsum(x, -1), rule)


def first_of_each_window(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    """Max pooling over pairs, whose rule gives the first element of the pair the gradient."""
    share = np.zeros((out.shape[-1], x.shape[-1]))
    share[np.arange(out.shape[-1]), 2 * np.arange(out.shape[-1])] = 1.0
    return g @ share


def taps(w: Array, n: int, shift: int = 0) -> Array:
    """The matrix (n, n - k + 1) of a correlation with the k taps w, moved by `shift` elements."""
    matrix = np.zeros((n, n - w.size + 1))
    for j in range(matrix.shape[1]):
        for k in range(w.size):
            matrix[min(j + k + shift, n - 1), j] += w[k]
    return matrix


def overwritten(g: Tensor, index: list[int], n: int) -> Tensor:
    """What `zeros[..., index] = g` leaves: the last of the elements that are picked twice."""
    last = np.zeros((len(index), n))
    for k, i in enumerate(index):
        last[:, i] = 0.0
        last[k, i] = 1.0
    return g @ last


TAPS = np.array([2.0, -1.0, 0.5])
INDEX = [0, 2, 2, 4]
BROADCAST = ("broadcast", "sum over", "unbroadcast", "repeated")
A_MATRIX = OTHER + np.eye(3)

AXES = [
    Fault("x @ y with g @ y", op("f", np.matmul, lambda g, out, x, y: g @ y, lambda g, out, x, y: swapped(x) @ g),
          [SQUARE, OTHER], PLACES),
    Fault("x @ y with g.T @ x for y", op("f", np.matmul, lambda g, out, x, y: g @ swapped(y),
          lambda g, out, x, y: swapped(g) @ x), [SQUARE, OTHER], PLACES),
    Fault("a transpose whose rule does nothing", op("f", np.transpose, lambda g, out, x: g), [SQUARE], PLACES),
    Fault("the identity with a transposing rule", op("f", np.array, lambda g, out, x: swapped(g)), [SQUARE], PLACES),
    Fault("a reshape in C order of an F order value", op("f", lambda x: x.reshape(3, 2, order="F"),
          lambda g, out, x: g.reshape(*g.shape[:-2], 2, 3)), [X], (*PLACES, "order")),
    Fault("the inverse's rule without transposes", op("f", np.linalg.inv, lambda g, out, x: -(out @ g @ out)),
          [A_MATRIX], PLACES),
    Fault("a determinant's rule without the transpose", op("f", lambda x: np.array([np.linalg.det(x)]),
          lambda g, out, x: (g * out).reshape(*g.shape, 1) * raw(np.linalg.inv(x.data))), [A_MATRIX], PLACES),
    Fault("trace(a b) with the slope b", op("f", lambda x, y: np.array([np.trace(x @ y)]),
          lambda g, out, x, y: g.reshape(*g.shape, 1) * y, lambda g, out, x, y: g.reshape(*g.shape, 1) * swapped(x)),
          [SQUARE, OTHER], PLACES),
    Fault("x A x with 2 A x for an A that is not symmetric",
          op("f", lambda x: np.array([x @ OTHER @ x]), lambda g, out, x: g * 2 * (raw(OTHER) @ x)), [ROW],
          (*PLACES, "symmetric")),
    Fault("an outer product whose rules are exchanged", op("f", np.outer, lambda g, out, x, y: (g * x).sum(-1),
          lambda g, out, x, y: (g * y).sum(-1)), [ROW, ROW[::-1] + 1], OPERAND + PLACES),
    Fault("a sum over axis 0 spread along axis 1", op("f", lambda x: x.sum(0),
          lambda g, out, x: g.reshape(*g.shape, 1) * np.ones((3, 3))), [SQUARE], (*PLACES, "spread")),
    Fault("a row minimum's mask on the wrong axis", op("f", lambda x: x.min(1),
          lambda g, out, x: g.reshape(*g.shape, 1) * mdb.locally_constant((x.data == x.data.min(0)) * 1.0)),
          [SQUARE[[1, 0, 2]] * [1.0, 2.0, -3.0]], PLACES),
    Fault("keepdims forgotten in softmax's rule", op("f", softmax_array,
          lambda g, out, x: out * (g - (g * out).sum(-1))), [SQUARE], ("keepdims", "leading axes", "rule of f")),
    Fault("keepdims forgotten, a vector of cotangents squeezed",
          op("f", lambda x: x / x.sum(-1, keepdims=True), lambda g, out, x:
          (g - (g * out).sum(-2, keepdims=True)) / x.sum(-1, keepdims=True)), [SQUARE + 3], (*PLACES, "spread")),
    Fault("a running sum with a running sum for a rule", cumsum("f", lambda g, out, x: g @ UPPER), [V], PLACES),
    Fault("a running sum whose rule is off by one", cumsum("f", lambda g, out, x: g @ np.triu(np.ones((5, 5)), 1).T),
          [V], TERM),
    Fault("differences with the sign of the adjoint", op("f", np.diff,
          lambda g, out, x: g @ (np.eye(5)[:-1] - np.eye(5)[1:])), [V], SIGN),
    Fault("a sort that forgets to undo it", op("f", np.sort,
          lambda g, out, x: g[..., mdb.locally_constant(np.argsort(x.data))]), [V], PLACES),
    Fault("a fixed permutation instead of its inverse", op("f", lambda x: x[[2, 0, 1, 4, 3]],
          lambda g, out, x: g[..., [2, 0, 1, 4, 3]]), [V], PLACES),
    Fault("a reversal whose rule does not reverse", op("f", lambda x: x[::-1], lambda g, out, x: g), [V], PLACES),
    Fault("a roll in the same direction", op("f", lambda x: np.roll(x, 1), lambda g, out, x: g[..., [4, 0, 1, 2, 3]]),
          [V], PLACES),
    Fault("a concatenation whose slices are exchanged", op("f", lambda x, y: np.concatenate([x, y]),
          lambda g, out, x, y: g[..., 3:], lambda g, out, x, y: g[..., :3]), [ROW, ROW + 2], PLACES + OPERAND),
    Fault("padding cut off one too late", op("f", lambda x: np.pad(x, (1, 2)), lambda g, out, x: g[..., 2:7]), [V],
          PLACES),
    Fault("a window that starts one too late", op("f", lambda x: TAPS @ np.stack([x[k : k + 3] for k in range(3)]),
          lambda g, out, x: g @ taps(TAPS, 5, 1).T), [V], PLACES),
    Fault("a convolution whose adjoint is not flipped", op("f", lambda x: x @ taps(TAPS, 5),
          lambda g, out, x: g @ taps(TAPS[::-1], 5).T), [V], PLACES),
    Fault("a stride of 2 with an adjoint of stride 1", op("f", lambda x: x[::2], lambda g, out, x: g @ np.eye(5)[:3]),
          [V], PLACES),
    Fault("max pooling that rewards the first of a pair", op("f", lambda x: x.reshape(3, 2).max(1),
          first_of_each_window), [np.array([1.0, 2.0, 4.0, 3.0, 0.5, 0.9])], PLACES),
    Fault("interpolation with exchanged weights", op("f", lambda x: 0.3 * x[:-1] + 0.7 * x[1:],
          lambda g, out, x: g @ (0.7 * np.eye(5)[:-1] + 0.3 * np.eye(5)[1:])), [V], PLACES),
    Fault("repeated indices overwrite", op("f", lambda x: x[INDEX], lambda g, out, x: overwritten(g, INDEX, 5)), [V],
          (*TERM, "repeated", "twice")),
    Fault("a bias whose rule returns one row", op("f", np.add, lambda g, out, x, b: g,
          lambda g, out, x, b: g[..., 0, :]), [X, ROW], BROADCAST + TERM),
    Fault("a bias whose rule returns the mean", op("f", np.add, lambda g, out, x, b: g,
          lambda g, out, x, b: g.mean(-2)), [X, ROW], FACTOR + BROADCAST),
    Fault("a bias whose rule forgets the sum", op("f", np.add, lambda g, out, x, b: g, lambda g, out, x, b: g),
          [X, ROW], BROADCAST),
    Fault("a column whose rule sums over the wrong axis", op("f", np.multiply, lambda g, out, x, c: g * c,
          lambda g, out, x, c: swapped((g * x).sum(-2, keepdims=True))), [SQUARE, SQUARE[:, :1] + 2],
          PLACES + BROADCAST + ("spread",)),
    Fault("right for one sample, summed for a batch", op("f", lambda x: x.mean(0, keepdims=True),
          lambda g, out, x: g * np.ones((x.shape[0], 1))), [X], FACTOR),
]  # fmt: skip


# -- the cotangent -----------------------------------------------------------------------------------------------------


def noisy(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    return g + 1e-3 * np.random.default_rng().standard_normal(g.shape)


def unit_length(g: Tensor) -> Tensor:
    """g divided by its length: the length of a row of the identity is 1."""
    return g / ((g * g).sum(-1, keepdims=True) ** 0.5 + 1e-12)


LAYOUT, LEADING = ("layout", "contiguous", "Fortran"), ("leading axes",)
RANDOM = ("random", "each call", "every call", "two calls", "called twice", "another value", "deterministic", "state")


def identity(rule: Callable[..., Any]) -> Callable[..., Tensor]:
    """y = x with the given rule(g, out, x)."""
    return op("f", np.array, rule)


def clip(g: Tensor, bound: float) -> Tensor:
    return mdb.maximum(-mdb.maximum(-g, -bound), -bound)


COTANGENTS = [
    Fault("the cotangent is ignored", op("f", np.square, lambda g, out, x: 2 * x + 0 * g), [X], AFFINE),
    Fault("the cotangent is squared", identity(lambda g, out, x: g * g), [V], LINEAR),
    Fault("the cotangent is clipped at 1", identity(lambda g, out, x: clip(g, 1.0)), [V], LINEAR),
    Fault("the cotangent is clipped at 10", identity(lambda g, out, x: clip(g, 10.0)), [V], LINEAR),
    Fault("the cotangent is clipped at 1000", identity(lambda g, out, x: clip(g, 1000.0)), [V], LINEAR),
    Fault("the cotangent is rectified", identity(lambda g, out, x: mdb.relu(g)), [V], LINEAR),
    Fault("the cotangent's absolute value", identity(lambda g, out, x: mdb.abs(g)), [V], LINEAR),
    Fault("the cotangent's sign", identity(lambda g, out, x: mdb.sign(g.detach())), [V], LINEAR),
    Fault("small cotangents are dropped", identity(lambda g, out, x: g * (np.abs(g.data) > 0.1)), [V], LINEAR),
    Fault("tiny cotangents are dropped", identity(lambda g, out, x: g * (np.abs(g.data) > 1e-6)), [V], LINEAR),
    Fault("exploding cotangents are dropped", identity(lambda g, out, x: g * (np.abs(g.data) < 1e3)), [V], LINEAR),
    Fault("the cotangent is normalised", identity(lambda g, out, x: unit_length(g)), [V], LINEAR),
    Fault("the cotangent is divided by its largest element",
          identity(lambda g, out, x: g / np.abs(g.data).max(-1, keepdims=True).clip(1.0)), [V], LINEAR),
    Fault("the cotangent is rounded", identity(lambda g, out, x: raw(np.round(g.data, 3))), [V], (*LINEAR, "rounded")),
    Fault("the cotangent passes through float16", identity(lambda g, out, x:
          raw(g.data.astype(np.float16).astype(float))), [V], (*LINEAR, "precision", "rounded")),
    Fault("a constant is added to the cotangent", identity(lambda g, out, x: g + 1e-3), [V], AFFINE),
    Fault("noise is added to the cotangent", identity(noisy), [V], RANDOM),
    Fault("log-softmax with g - p for every cotangent", op("f", lambda x: np.log(softmax_array(x)),
          lambda g, out, x: g - mdb.exp(out)), [X], LINEAR + TERM),
    Fault("leading axes are summed", identity(lambda g, out, x: mdb.sum(g, 0) if g.ndim > x.ndim else g), [X], LEADING),
    Fault("leading axes are flattened away", identity(lambda g, out, x: g.reshape(-1)[: x.size].reshape(x.shape)), [X],
          LEADING),
    Fault("only the first of many cotangents", identity(lambda g, out, x: g[0] * np.ones(g.shape) if g.ndim > 1 else g),
          [V], LEADING),
    Fault("many cotangents are averaged over the batch", identity(lambda g, out, x: g / g.shape[0] * x.shape[0]), [X],
          LEADING),
    Fault("many cotangents are transposed, the identity hides it", identity(lambda g, out, x: g.T), [V], LEADING),
    Fault("many cotangents come in reverse", identity(lambda g, out, x: g[::-1] if g.ndim > 1 else g), [V], LEADING),
    Fault("a moved axis is counted from the front", op("f", np.transpose,
          lambda g, out, x: swapped(mdb.transpose(g, (1, 0, *range(2, g.ndim)))) if g.ndim == 4 else swapped(g)), [X],
          LEADING),
    Fault("a rule that asks for the number of cotangents", identity(lambda g, out, x: g if g.ndim > 1 else 2 * g), [V],
          LEADING),
    Fault("the cotangent's buffer in memory order", identity(lambda g, out, x:
          raw(g.data.ravel(order="K").reshape(g.shape))), [X], LAYOUT),
    Fault("the cotangent's transpose if it is in Fortran order",
          identity(lambda g, out, x: raw(g.data.reshape(-1, order="F").reshape(g.shape)) if g.data.flags.f_contiguous
          else g), [X], LAYOUT),
    Fault("the cotangent's bytes", identity(lambda g, out, x:
          raw(np.frombuffer(g.data.tobytes(order="A")).reshape(g.shape))), [X], LAYOUT),
    Fault("the cotangent by strides that are assumed", identity(lambda g, out, x:
          raw(np.lib.stride_tricks.as_strided(g.data, g.shape,
          [8 * int(np.prod(g.shape[i + 1 :])) for i in range(g.ndim)])) if g.data.flags.c_contiguous or
          g.data.flags.f_contiguous else g), [X], LAYOUT),
    Fault("a broadcast cotangent is taken for a scalar", identity(lambda g, out, x:
          g.sum() * np.ones(g.shape) if 0 in g.data.strides else g), [X], (*LAYOUT, "broadcast")),
    Fault("a rule right for inputs in C order only", op("f", np.square,
          lambda g, out, x: 2 * g * raw(x.data.ravel(order="K").reshape(x.shape))), [X], LAYOUT),
    Fault("a value right for inputs in C order only", op("f", lambda x: np.square(x.ravel(order="K").reshape(x.shape)),
          lambda g, out, x: 2 * g * x), [X], LAYOUT),
    Fault("windows by strides that are assumed", lambda x: op("f",
          lambda x: np.lib.stride_tricks.as_strided(x, (2, 2), (8, 8)).sum(1),
          lambda g, out, x: g @ np.array([[1.0, 1, 0], [0, 1, 1]]))(x[::2]), [V], LAYOUT + PLACES),
]  # fmt: skip


# -- the next order ----------------------------------------------------------------------------------------------------


def layer_norm_by_hand(x: Tensor) -> Tensor:
    centre = x - x.data.mean()
    return centre / ((centre * centre).mean() + 1e-3) ** 0.5


def scaled_without_graph(x: Tensor) -> Tensor:
    with mdb.no_grad():
        scale = mdb.exp(x)
    return x * scale


cube_with_a_wrong_slope = op("slope", lambda x: 3 * x**2, lambda g, out, x: 6.6 * g * x)
parabola_of_a_raw_slope = op("slope", lambda x: 3 * x**2, lambda g, out, x: 6 * g * raw(x.data))
slope_with_a_wrong_sign = op("slope", np.cos, lambda g, out, x: g * sin(x))
cos_of_a_raw_sine = op("slope", np.cos, lambda g, out, x: -(g * raw(np.sin(x.data))))
CAPTURED = ("captured", "raw array", "detached", "constant")
DETACHED = ("detached", "captured", "lost", "constant")

ORDERS = [
    Fault("a square that keeps x raw", op("f", np.square, lambda g, out, x: 2 * g * raw(x.data)), [X], CAPTURED, 2),
    Fault("a product that keeps y raw", op("f", np.multiply, lambda g, out, x, y: g * y.data,
          lambda g, out, x, y: g * x), [X, X + 2], CAPTURED, 2),
    Fault("a product that keeps both raw", op("f", np.multiply, lambda g, out, x, y: g * y.data,
          lambda g, out, x, y: g * x.data), [X, X + 2], CAPTURED, 2),
    Fault("sin with a raw cosine", op("f", np.sin, lambda g, out, x: g * np.cos(x.data)), [X], CAPTURED, 2),
    Fault("exp with a detached result", op("f", np.exp, lambda g, out, x: g * out.detach()), [X], CAPTURED, 2),
    Fault("exp with out.data", op("f", np.exp, lambda g, out, x: g * out.data), [X], CAPTURED, 2),
    Fault("a sigmoid with a raw factor", op("f", lambda x: 1 / (1 + np.exp(-x)),
          lambda g, out, x: g * out * raw(1 - out.data)), [X], CAPTURED, 2),
    Fault("x exp(x) with one raw term", op("f", lambda x: x * np.exp(x),
          lambda g, out, x: g * (out + raw(np.exp(x.data)))), [X], CAPTURED, 2),
    Fault("a cosine declared locally constant", op("f", np.sin,
          lambda g, out, x: g * mdb.locally_constant(np.cos(x.data))), [X], ("locally_constant", "locally constant"),
          2),
    Fault("a softmax declared locally constant", lambda x: constant_softmax(x), [X],
          ("locally_constant", "locally constant"), 1),
    Fault("the cotangent is detached", op("f", lambda x: 3 * x, lambda g, out, x: 3 * g.detach()), [X], CAPTURED, 2),
    Fault("the cotangent's array is used", op("f", lambda x: 3 * x, lambda g, out, x: raw(3 * g.data)), [X], CAPTURED,
          2),
    Fault("a rule under no_grad", op("f", np.square, lambda g, out, x: under_no_grad(lambda: 2 * g * x)), [X],
          (*CAPTURED, "no_grad"), 2),
    Fault("relu squared with a raw relu", op("f", lambda x: np.maximum(x, 0) ** 2,
          lambda g, out, x: 2 * g * raw(np.maximum(x.data, 0))), [X], (*CAPTURED, "no_grad"), 2),
    Fault("the norm's direction is kept raw", op("f", lambda x: np.linalg.norm(x, keepdims=True),
          lambda g, out, x: g * (x / out).detach()), [V], CAPTURED, 2),
    Fault("a scale broadcast and kept raw", op("f", np.multiply, lambda g, out, x, b: g * b.data,
          lambda g, out, x, b: (g * x).sum(-2)), [X, ROW], CAPTURED, 2),
    Fault("one operand's rule is exact, the other's is raw: no symmetric Hessian",
          op("f", lambda x, y: x * x * y, lambda g, out, x, y: 2 * g * x * y.data, lambda g, out, x, y: g * x * x),
          [ROW, ROW + 2], (*CAPTURED, "symmetric"), 2),
    Fault("the second derivative is 10% too large", op("f", lambda x: x**3,
          lambda g, out, x: g * cube_with_a_wrong_slope(x)), [X], FACTOR, 2),
    Fault("the second derivative has the wrong sign", op("f", np.sin, lambda g, out, x: g * slope_with_a_wrong_sign(x)),
          [X], SIGN, 2),
    Fault("the third derivative is lost", op("f", lambda x: x**3, lambda g, out, x: g * parabola_of_a_raw_slope(x)),
          [X], CAPTURED, 3),
    Fault("the third derivative of a sine is lost", op("f", np.sin, lambda g, out, x: g * cos_of_a_raw_sine(x)), [X],
          CAPTURED, 3),
    Fault("the third derivative is 10% too large", op("f", lambda x: x**4,
          lambda g, out, x: 4 * g * op("cube", lambda x: x**3, lambda g, out, x: g * cube_with_a_wrong_slope(x))(x)),
          [X], FACTOR, 3),
    Fault("a detached factor", lambda x: x * x.detach(), [X], DETACHED + FACTOR),
    Fault("a detached norm", lambda x: x / ((x * x).sum() ** 0.5).detach(), [V], DETACHED + TERM),
    Fault("an exponential of x.data", lambda x: mdb.exp(Tensor(x.data)) * x, [X], DETACHED + TERM),
    Fault("a raw mean", layer_norm_by_hand, [V], DETACHED + TERM + ("spread",)),
    Fault("a scale computed under no_grad", scaled_without_graph, [X], DETACHED + TERM),
    Fault("math.exp of a float", lambda x: Tensor(math.exp(float(x))), [np.array(0.3)], (*DETACHED, "graph", "lose")),
    Fault("x to a power taken from x", lambda x: x ** float(x.data.max()), [POSITIVE], DETACHED + TERM),
    Fault("NumPy in the middle of a function", lambda x: Tensor(np.sin(x.numpy())), [X], (*DETACHED, "graph")),
]  # fmt: skip


@mdb.operation
def constant_softmax(x: Tensor) -> Any:
    """`logsumexp(x)` whose softmax is declared to be a constant."""
    p = mdb.locally_constant(softmax_array(x.data))
    return np.log(np.exp(x.data).sum(-1)), lambda g, out: g.reshape(*g.shape, 1) * p


def under_no_grad(compute: Callable[[], Tensor]) -> Tensor:
    with mdb.no_grad():
        return compute()


# -- kinks, steps and precision ----------------------------------------------------------------------------------------

KINK = ("kink", "not differentiable", "locally_constant")
STEP = ("steps", "staircase", "jump", "piecewise", "constant", "round", "truncat")
PRECISION = ("precision", "accurate to", "float32", "rounding", "rounded", "noise", "cannot be judged")


@mdb.operation
def declared_abs(x: Tensor) -> Any:
    """`|x|` whose slope at exactly 0 is called 1."""
    signs = mdb.locally_constant(np.where(x.data >= 0, 1.0, -1.0))
    return np.abs(x.data), lambda g, out: g * signs


KINKS = [
    Fault("an undeclared mask at the kink", op("f", lambda x: np.maximum(x, 0), lambda g, out, x: g * (x.data > 0)),
          [np.array([1.0, 0.0, -2.0])], KINK, kink=True),
    Fault("an absolute value with slope 1 at 0", op("f", np.abs,
          lambda g, out, x: g * np.where(x.data >= 0, 1.0, -1.0)), [np.array([1.0, 0.0, -2.0])], KINK, kink=True),
    Fault("a declared absolute value with slope 1 at 0", declared_abs, [np.array([1.0, 0.0, -2.0])], KINK, kink=True),
    Fault("a maximum that gives every tie the whole gradient",
          op("f", lambda x: x.max(keepdims=True), lambda g, out, x: g * (x.data == x.data.max())),
          [np.array([1.0, 2.0, 2.0])], KINK, kink=True),
    Fault("a leaky slope of 0.1 in the value and 0.01 in the rule",
          op("f", lambda x: np.where(x > 0, x, 0.1 * x), lambda g, out, x:
          g * mdb.locally_constant(np.where(x.data > 0, 1.0, 0.01))), [V], (*FACTOR, "negative")),
    Fault("a clip whose rule lets everything through", op("f", lambda x: np.clip(x, -1, 1), lambda g, out, x: g), [V],
          ("mask", "should be 0", "zero", "constant", "too many")),
    Fault("rounding with a straight-through rule", op("f", np.round, lambda g, out, x: g), [X], (*STEP, "zero")),
    Fault("truncation to hundredths", op("f", lambda x: np.trunc(100 * x) / 100, lambda g, out, x: g), [V], STEP,
          kink=True),
    Fault("an integer cast of pixels", op("f", lambda x: (255 * x).astype(np.int64) / 255, lambda g, out, x: g), [V],
          STEP + PRECISION, kink=True),
    Fault("values rounded to 6 decimals", op("f", lambda x: np.round(np.sin(x), 6), lambda g, out, x: g * cos(x)), [V],
          STEP + PRECISION),
    Fault("values that pass through float32", op("f", lambda x: np.sin(x).astype(np.float32).astype(float),
          lambda g, out, x: g * cos(x)), [V], PRECISION),
    Fault("values that pass through float16", op("f", lambda x: np.sin(x).astype(np.float16).astype(float),
          lambda g, out, x: g * cos(x)), [V], PRECISION + STEP),
    Fault("a rule that cancels in float32", op("f", lambda x: x - np.sin(x),
          lambda g, out, x: g * raw((1 - np.cos(x.data.astype(np.float32))).astype(float))), [0.01 * V], PRECISION),
    Fault("the cotangent passes through float32", identity(lambda g, out, x:
          raw(g.data.astype(np.float32).astype(float))), [V], PRECISION + LINEAR),
    Fault("a float32 constant in a function", lambda x: (x.astype("float32") * 2).astype("float64"), [V], PRECISION),
    Fault("a value of float32", op("f", lambda x: np.sin(x).astype(np.float32), lambda g, out, x: g * cos(x)), [V],
          ("float32",)),
    Fault("a rule of float32", op("f", np.negative, lambda g, out, x: (-g).astype("float32")), [V], ("float32",)),
    Fault("a value of integers", op("f", lambda x: np.sign(x).astype(int), lambda g, out, x: g * 0), [V], ("int64",)),
    Fault("a value of Booleans", op("f", lambda x: x > 0, lambda g, out, x: g * 0), [V], ("bool",)),
    Fault("a value of objects", op("f", lambda x: None, lambda g, out, x: g), [V], ("object", "None")),
    Fault("wrong for negative inputs", op("f", lambda x: np.where(x > 0, x, np.expm1(x)),
          lambda g, out, x: g * mdb.locally_constant((x.data > 0) * 1.0) + g * mdb.locally_constant((x.data <= 0) * 1.0)
          * out), [V], (*TERM, "negative")),
    Fault("wrong for large inputs", op("f", np.tanh, lambda g, out, x: g * (1 - out * out) * (np.abs(x.data) < 4)),
          [np.array([0.5, -1.0, 5.0])], (*TERM, "larg")),
    Fault("wrong where the derivative has become small", op("f", np.tanh,
          lambda g, out, x: g * (1 - out * out) * (np.abs(x.data) < 8)), [np.array([0.5, -1.0, 9.0])],
          (*TERM, "larg")),
    Fault("wrong for broadcast operands only", op("f", np.add, lambda g, out, x, b: g,
          lambda g, out, x, b: g if b.shape == x.shape else g.sum(-2) / x.shape[0]), [X, ROW], FACTOR),
    Fault("wrong for an input without axes", op("f", np.sin, lambda g, out, x: g * cos(x) / x.shape[0] * x.shape[0]),
          [np.array(0.4)], ("rule of f", "f's rule")),
    Fault("wrong for an empty axis", op("f", lambda x: 2 * x, lambda g, out, x: 2 * g.reshape(-1, x.shape[-1])),
          [np.zeros((3, 0))], ("rule of f", "f's rule", "reshape")),
]  # fmt: skip


# -- randomness and state ----------------------------------------------------------------------------------------------

generator = np.random.default_rng(0)


@mdb.operation
def dropout(x: Tensor) -> Any:
    """`m x` with a new mask at every call."""
    mask = mdb.locally_constant(2.0 * (generator.random(x.shape) < 0.5))
    return x.data * mask, lambda g, out: g * mask


@mdb.operation
def undeclared_dropout(x: Tensor) -> Any:
    mask = 2.0 * (generator.random(x.shape) < 0.5)
    return x.data * mask, lambda g, out: g * mask


class Counter:
    """A function that changes with the number of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


class RunningMean:
    """A batch norm in training mode, which uses the mean that it updates."""

    def __init__(self) -> None:
        self.mean = np.zeros(3)

    def __call__(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.data.mean(0)
        return (x - self.mean) * x


class Remembering:
    """A function that computes its value once, and returns it from then on."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.value is None:
            self.value = mdb.exp(x)
        return self.value


class SavedForBackward:
    """An operation whose rule reads what the last call saved."""

    def __init__(self) -> None:
        self.saved: Tensor | None = None

        @mdb.operation
        def square(x: Tensor) -> Any:
            self.saved = x
            return x.data**2, lambda g, out: 2 * g * self.saved

        self.square = square

    def __call__(self, x: Tensor) -> Tensor:
        return self.square(x) + self.square(x + 3)


@mdb.operation
def weighted(x: Tensor, y: Tensor) -> Any:
    """`2 x + 5 y`, whose rules are made in a loop and all see its last weight."""
    rules = []
    for weight in (2.0, 5.0):
        rules.append(lambda g, out: g * weight)  # noqa: B023 - the fault
    return 2 * x.data + 5 * y.data, *rules


def unlocked(array: Array) -> Array:
    array.setflags(write=True)
    return array


def overwrite_with_relu(x: Array) -> Array:
    np.maximum(x, 0, out=unlocked(x))
    return x.copy()


def double_in_place(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    unlocked(g.data)[...] *= 2
    return g + 0


def negate_the_input(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    unlocked(x.data)[...] *= -1
    return g * 1.0


CHANGED, OF_F = ("changed", "in place", "mutat"), ("rule of f", "f's rule", "f: ")

STATE = [
    Fault("dropout with a new mask at every call", dropout, [V], RANDOM),
    Fault("dropout that declares no mask", undeclared_dropout, [V], RANDOM),
    Fault("dropout of a large input", dropout, [RNG.standard_normal(3000)], RANDOM),
    Fault("noise added in a function", lambda x: x + 0.1 * generator.standard_normal(x.shape), [V], RANDOM),
    Fault("tiny noise", lambda x: mdb.exp(x) * (1 + 1e-7 * generator.standard_normal()), [V], RANDOM),
    Fault("a random sign in front of a rule", op("f", np.exp,
          lambda g, out, x: g * out * generator.choice([-1.0, 1.0])), [V], RANDOM),
    Fault("a counter of calls", Counter(), [V], RANDOM),
    Fault("a running mean", RunningMean(), [X], RANDOM),
    Fault("a value remembered from the first call", Remembering(), [V], (*RANDOM, "remember", "cache", "same tensor")),
    Fault("a rule that reads what the last call saved", SavedForBackward(), [V], (*OPERAND, "saved")),
    Fault("rules made in a loop", weighted, [V, V + 1], FACTOR),
    Fault("a value computed in place", op("f", overwrite_with_relu, lambda g, out, x: g * (x.data > 0)), [V], CHANGED),
    Fault("a rule that doubles its cotangent in place", op("f", lambda x: 2 * x, double_in_place), [V], CHANGED),
    Fault("a rule that negates the input in place", op("f", np.array, negate_the_input), [V], CHANGED),
    Fault("np.sort in place of a read-only array", op("f", lambda x: x.sort() or x, lambda g, out, x: g), [V],
          ("f: ", "of f", "read-only")),
    Fault("a rule that writes to its read-only cotangent", op("f", lambda x: 2 * x,
          lambda g, out, x: raw(np.multiply(g.data, 2, out=g.data))), [V], OF_F),
]  # fmt: skip


# -- what a rule or a function returns ---------------------------------------------------------------------------------


@mdb.operation
def two_operands_one_rule(x: Tensor, y: Tensor) -> Any:
    return x.data + y.data, lambda g, out: g


@mdb.operation
def no_rule(x: Tensor) -> Any:
    return np.exp(x.data)


def lookup(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    return {"x": g}["y"]


ONE_TENSOR = ("one Tensor", "must return", "a Tensor")

RETURNS = [
    Fault("a rule returns None", identity(lambda g, out, x: None), [V], ("returned NoneType",)),
    Fault("a rule returns an array", identity(lambda g, out, x: g.data), [V], ("returned ndarray",)),
    Fault("a rule returns a number", identity(lambda g, out, x: 1.0), [V], ("returned float",)),
    Fault("a rule returns a tuple", identity(lambda g, out, x: (g,)), [V], ("returned tuple",)),
    Fault("a rule returns the sum", identity(lambda g, out, x: g.sum()), [V], ("the rule of f",)),
    Fault("a rule returns the transposed shape", op("f", np.array, lambda g, out, x: swapped(g)), [X],
          ("the rule of f",)),
    Fault("a rule returns one axis too many", identity(lambda g, out, x: g.reshape(*g.shape, 1)), [V],
          ("the rule of f",)),
    Fault("a rule forgets the axis of a sum", op("f", lambda x: x.sum(1), lambda g, out, x: g), [X],
          ("the rule of f",)),
    Fault("NumPy cannot multiply in a rule", op("f", lambda x: x @ SQUARE, lambda g, out, x: raw(g.data @ X)), [X],
          OF_F),
    Fault("shapes do not fit in a rule", op("f", lambda x: x @ SQUARE, lambda g, out, x: g * V), [X], OF_F),
    Fault("an index out of range in a rule", identity(lambda g, out, x: g * x.data[7]), [V], OF_F),
    Fault("a key that is missing in a rule", identity(lambda g, out, x: lookup(g, out, x)), [V], OF_F),
    Fault("an attribute that is missing in a rule", identity(lambda g, out, x: g.multiply(x)), [V], OF_F),
    Fault("a rule is missing", two_operands_one_rule, [V, V], ("two_operands_one_rule needs a rule",)),
    Fault("all rules are missing", no_rule, [V], ("no_rule needs a rule",)),
    Fault("a function returns an array", lambda x: np.exp(x.data), [V], ONE_TENSOR),
    Fault("a function returns a tuple", lambda x: (x, x * 2), [V], ONE_TENSOR),
    Fault("a function returns a list", lambda x: [x * 2], [V], ONE_TENSOR),
    Fault("a function returns None", lambda x: None, [V], ONE_TENSOR),
    Fault("a function returns a float", lambda x: float(x.sum()), [V], ONE_TENSOR),
    Fault("a function returns a dictionary", lambda x: {"loss": x.sum()}, [V], ONE_TENSOR),
    Fault("an input of float32", lambda x: x * x, [V.astype(np.float32)], ("float32",)),
]  # fmt: skip


# -- not finite --------------------------------------------------------------------------------------------------------

NOT_FINITE = ("not finite", "where it is finite", "infinite", "overflow", " inf", "-inf", " nan")

NOT_FINITE_FAULTS = [
    Fault("exp(710)", mdb.exp, [np.array([1.0, 710.0])], NOT_FINITE),
    Fault("exp(709.9), finite here and infinite beside", mdb.exp, [np.array([1.0, 709.78])], NOT_FINITE),
    Fault("log(0)", mdb.log, [np.array([1.0, 0.0])], NOT_FINITE),
    Fault("log(-1)", mdb.log, [np.array([1.0, -1.0])], NOT_FINITE),
    Fault("0 / 0", lambda x: x / x, [np.array([1.0, 0.0])], NOT_FINITE),
    Fault("a softmax that overflows", lambda x: mdb.exp(x) / mdb.exp(x).sum(), [np.array([1.0, 800.0])], NOT_FINITE),
    Fault("the log of a softmax that underflows", lambda x: mdb.log(mdb.softmax(x)), [np.array([0.0, 800.0])],
          NOT_FINITE),
    Fault("an input that is NaN", lambda x: x * x, [np.array([1.0, np.nan])], NOT_FINITE),
    Fault("an input that is infinite", lambda x: x * x, [np.array([1.0, np.inf])], NOT_FINITE),
    Fault("the norm at 0", lambda x: (x * x).sum() ** 0.5, [np.zeros(3)], NOT_FINITE + KINK + ("divides by zero",),
          kink=True),
    Fault("the square root at 0", lambda x: x**0.5, [np.array([1.0, 0.0])], NOT_FINITE + KINK + ("divides by zero",),
          kink=True),
    Fault("a rule that is NaN", op("f", np.sin, lambda g, out, x: g * np.nan), [V], (*NOT_FINITE, "divides by zero")),
    Fault("a product's rule that divides by a zero factor", op("f", lambda x: np.array([np.prod(x)]),
          lambda g, out, x: g * out / x), [np.array([1.5, 0.0, 2.0])], (*NOT_FINITE, "divides by zero")),
    Fault("a rule that overflows", op("f", lambda x: x / (1 + x),
          lambda g, out, x: g * raw(np.exp(800 * np.ones(x.shape)))), [POSITIVE], (*NOT_FINITE, "divides by zero")),
]  # fmt: skip


# -- sizes: what rounding or large neighbours hide ---------------------------------------------------------------------

UNDECIDED = ("cannot be judged", "rounding hides")


def small_beside_large(order: int) -> Callable[..., Tensor]:
    """`[1e8, 1] sin(x)`, whose derivative of the given order is 10% wrong in the small element."""
    scale, wrong = np.array([1e8, 1.0]), np.array([1.0, 1.1])
    if order == 1:
        return op("f", lambda x: scale * np.sin(x), lambda g, out, x: g * cos(x) * (scale * wrong))
    slope = op("slope", np.cos, lambda g, out, x: -(g * sin(x) * wrong))
    return op("f", lambda x: scale * np.sin(x), lambda g, out, x: g * slope(x) * scale)


def one_output_of_two(x: Tensor) -> Tensor:
    """`(1e8 sum(x^2), sum(sin(x)))`, and the second has a wrong slope."""
    wrong = op("f", np.sin, lambda g, out, x: 1.01 * g * cos(x))
    return ((x * x).sum() * 1e8).reshape(1, 1) * np.array([1.0, 0.0]) + wrong(x).sum() * np.array([0.0, 1.0])


SIZES = [
    Fault("x + 1e12 with half its slope", op("f", lambda x: x + 1e12, lambda g, out, x: g * 0.5), [X],
          UNDECIDED + FACTOR),
    Fault("x + 1e9 with 1.001 of its slope", op("f", lambda x: x + 1e9, lambda g, out, x: g * 1.001), [X],
          UNDECIDED + FACTOR),
    Fault("x + 1e17: the value does not change", op("f", lambda x: x + 1e17, lambda g, out, x: g * 0.5), [X],
          UNDECIDED),
    Fault("x^2 + 1e10 with the wrong sign", op("f", lambda x: x * x + 1e10, lambda g, out, x: -2 * g * x), [X],
          UNDECIDED + SIGN),
    Fault("x + 1e9 in one element of many", op("f", lambda x: x + np.array([0, 0, 1e12, 0, 0]),
          lambda g, out, x: g * np.array([1, 1, 0.5, 1, 1])), [V], UNDECIDED + FACTOR),
    Fault("a huge input beside a small one", op("f", lambda x, y: 1e14 * x + y, lambda g, out, x, y: 1e14 * g,
          lambda g, out, x, y: 0.5 * g), [V, V], UNDECIDED + FACTOR),
    Fault("[1e8, 1] x, first derivative 10% wrong in the small one", small_beside_large(1), [V[:2]],
          UNDECIDED + FACTOR),
    Fault("[1e8, 1] x, second derivative 10% wrong in the small one", small_beside_large(2), [V[:2]],
          UNDECIDED + FACTOR, 2),
    Fault("one output 1e8 times the other", one_output_of_two, [V], UNDECIDED + FACTOR),
    Fault("1 + 1e-10 sin(x) with twice its slope", op("f", lambda x: 1 + 1e-10 * np.sin(x),
          lambda g, out, x: 2e-10 * g * cos(x)), [X], UNDECIDED + FACTOR),
    Fault("1 + 1e-14 sin(x) with twice its slope", op("f", lambda x: 1 + 1e-14 * np.sin(x),
          lambda g, out, x: 2e-14 * g * cos(x)), [X], UNDECIDED + FACTOR),
    Fault("1e-9 sin(x), 1% wrong", op("f", lambda x: 1e-9 * np.sin(x), lambda g, out, x: 1.01e-9 * g * cos(x)), [X],
          FACTOR),
    Fault("1e-30 sin(x), 1% wrong", op("f", lambda x: 1e-30 * np.sin(x), lambda g, out, x: 1.01e-30 * g * cos(x)), [X],
          FACTOR),
    Fault("1e-200 sin(x), 1% wrong", op("f", lambda x: 1e-200 * np.sin(x), lambda g, out, x: 1.01e-200 * g * cos(x)),
          [X], FACTOR),
    Fault("1e200 sin(x), 1% wrong", op("f", lambda x: 1e200 * np.sin(x), lambda g, out, x: 1.01e200 * g * cos(x)), [X],
          FACTOR),
    Fault("1e-9 beside 1, 1% wrong", op("f", lambda x: np.array([1, 1e-9, 1, 1, 1]) * np.sin(x),
          lambda g, out, x: g * cos(x) * np.array([1, 1.01e-9, 1, 1, 1])), [V], FACTOR + UNDECIDED),
    Fault("inputs of 1e8 whose slope is wrong", op("f", lambda x: np.log(x), lambda g, out, x: 1.01 * g / x),
          [1e8 * POSITIVE], FACTOR + UNDECIDED),
    Fault("inputs of 1e-8 whose slope is wrong", op("f", lambda x: np.sin(1e8 * x),
          lambda g, out, x: 1.01e8 * g * cos(1e8 * x)), [1e-8 * POSITIVE], FACTOR + UNDECIDED),
]  # fmt: skip


# -- one wrong element of many -----------------------------------------------------------------------------------------


def one_wrong(n: int, at: int | slice, by: float = 1e-3) -> Callable[..., Tensor]:
    """`exp(0.3 x)` of n elements, whose slope is wrong at one."""
    wrong = np.ones(n)
    wrong[at] += by
    return op("f", lambda x: np.exp(0.3 * x), lambda g, out, x: 0.3 * g * out * wrong)


def one_wrong_curvature(n: int, at: int, by: float = 1e-3) -> Callable[..., Tensor]:
    wrong = np.ones(n)
    wrong[at] += by
    slope = op("slope", lambda x: 0.3 * np.exp(0.3 * x), lambda g, out, x: 0.3 * g * out * wrong)
    return op("f", lambda x: np.exp(0.3 * x), lambda g, out, x: g * slope(x))


def wrong_weight(rows: int, columns: int, by: float = 1e-3) -> Callable[..., Tensor]:
    """`x @ w` whose rule for w is wrong at one weight."""
    wrong = np.ones((rows, columns))
    wrong[rows // 3, columns // 2] += by
    return op("f", np.matmul, lambda g, out, x, w: g @ swapped(w), lambda g, out, x, w: swapped(x) @ g * wrong)


def summed(f: Callable[..., Tensor], scale: float = 1.0) -> Callable[..., Tensor]:
    return lambda x: (f(x) * scale).sum()


def many(n: int) -> Array:
    return np.random.default_rng(n).standard_normal(n)


BATCH, IMAGE = np.random.default_rng(1).standard_normal((4, 300)), np.random.default_rng(2).standard_normal((8, 28, 28))
WEIGHTS = np.random.default_rng(3).standard_normal((300, 200))
WITH_A_WRONG_WEIGHT = functools.partial(wrong_weight(300, 200), Tensor(BATCH))
ONE = ("element", "entry", "entries differ", "at (")

MANY = [
    Fault("one of 200 slopes", one_wrong(200, 77), [many(200)], ONE),
    Fault("one of 2,000 slopes", one_wrong(2000, 777), [many(2000)], ONE),
    Fault("the last of 2,000 slopes", one_wrong(2000, -1), [many(2000)], ONE),
    Fault("the tail of 2,003 slopes behind the last block of 8", one_wrong(2003, slice(2000, None)), [many(2003)], ONE),
    Fault("one of 20,000 slopes", one_wrong(20_000, 7777), [many(20_000)], ONE),
    Fault("one of 200,000 slopes", one_wrong(200_000, 77_777), [many(200_000)], ONE, slow=True),
    Fault("one of 2,000 slopes in a sum", summed(one_wrong(2000, 5)), [many(2000)], ONE),
    Fault("one of 20,000 slopes in a sum", summed(one_wrong(20_000, 5)), [many(20_000)], ONE),
    Fault("one of 200,000 slopes in a sum", summed(one_wrong(200_000, 5)), [many(200_000)], ONE,
          slow=True),
    Fault("one of 2,000 slopes in a mean", summed(one_wrong(2000, 5), 1 / 2000), [many(2000)], ONE),
    Fault("one of 2,000 curvatures", one_wrong_curvature(2000, 777), [many(2000)], ONE, 2),
    Fault("one of 20,000 curvatures", one_wrong_curvature(20_000, 777), [many(20_000)], ONE, 2),
    Fault("one of 200,000 curvatures", one_wrong_curvature(200_000, 777), [many(200_000)], ONE, 2, slow=True),
    Fault("one of 60,000 weights", WITH_A_WRONG_WEIGHT, [WEIGHTS], ONE),
    Fault("one of 60,000 weights under a loss", summed(WITH_A_WRONG_WEIGHT, 0.1),
          [WEIGHTS], ONE),
    Fault("one of 60,000 weights, checked with its input", wrong_weight(300, 200), [BATCH, WEIGHTS], ONE),
    Fault("a row of a large matrix is wrong", lambda x: op("f", np.tanh,
          lambda g, out, x: g * (1 - out * out) * (1 + 1e-3 * (np.arange(300) == 17)[:, None]))(x), [WEIGHTS],
          (*ONE, "row")),
    Fault("one pixel of 6,272", op("f", np.tanh, lambda g, out, x:
          g * (1 - out * out) * (1 + 1e-3 * (np.arange(8 * 784).reshape(8, 28, 28) == 3000))), [0.3 * IMAGE], ONE),
    Fault("the last row of a large gather is dropped", op("f", lambda x: x[::2],
          lambda g, out, x: g @ np.vstack([np.eye(2000)[:-2:2], np.zeros((1, 2000))])), [many(2000)], ONE + TERM),
    Fault("two neighbours of 2,000 are exchanged", op("f", lambda x: 2 * x,
          lambda g, out, x: 2 * g[..., [*range(1000), 1001, 1000, *range(1002, 2000)]]), [many(2000)], PLACES),
    Fault("two of 2,000 errors cancel in the sum", lambda x:
          op("f", lambda x: 2 * x, lambda g, out, x: g * (2 + 1e-3 * (np.arange(2000) == 5) - 1e-3 *
          (np.arange(2000) == 6)))(x).sum(), [many(2000)], ONE),
]  # fmt: skip

FAULTS = [*FORMULAS, *AXES, *COTANGENTS, *ORDERS, *KINKS, *STATE, *RETURNS, *NOT_FINITE_FAULTS, *SIZES, *MANY]

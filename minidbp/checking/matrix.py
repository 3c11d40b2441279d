"""Every public operation with sample inputs, and the check of each at orders 1, 2, 3 in float64 and float32.

Samples stay away from kinks by more than any step of a difference; kinks have tests of their own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minidbp.autodiff import elementwise, linear, reductions, shapes
from minidbp.autodiff.differentiate import Function, grad
from minidbp.autodiff.tensor import Tensor
from minidbp.checking.errors import GradcheckError
from minidbp.checking.gradcheck import check_order, pull_back
from minidbp.kernels import ConvGeometry

ORDERS = (1, 2, 3)
DTYPES = ("float64", "float32")
FLOAT32_RTOL = 1e-4  # of the largest entry: a few dozen roundings of 6e-8 each, and cancellation among them

Make = Callable[..., np.ndarray]


class Sample(NamedTuple):
    """A use of an operation: f of Tensors, and the arrays it is checked at."""

    f: Function
    inputs: tuple[np.ndarray, ...]


class Cell(NamedTuple):
    """The outcome for one operation, order and dtype: "verified", "raises" (as documented) or "failed", and why."""

    operation: str
    order: int
    dtype: str
    outcome: str
    detail: str


def use(f: Function, *inputs: np.ndarray, **static: Any) -> Sample:
    """The sample f(*inputs, **static)."""
    return Sample(partial(f, **static), inputs)


def samples(seed: int = 0) -> dict[str, list[Sample]]:
    """The samples of every public operation, by its name; the arrays come from `seed`."""
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(size))

    def positive(*size: int) -> np.ndarray:
        return np.asarray(rng.uniform(0.5, 2.0, size))

    def apart(*size: int) -> np.ndarray:
        """Of both signs, no two closer than 0.1, none closer to 0 than 0.05."""
        n = int(np.prod(size))
        return (0.1 * rng.permutation(np.arange(n) - n // 2) + 0.05).reshape(size)

    def pairs(f: Function, a: Make, b: Make) -> list[Sample]:
        sizes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2))]
        return [use(f, a(*s), b(*t)) for s, t in sizes]

    conv, transpose, weight, conv_relu = [], [], [], []
    geometries: list[tuple] = [  # image, kernel, stride, padding
        ((4, 4), (3, 3), 1, "valid"), ((5, 4), (3, 2), (2, 1), "same"), ((3, 3), (3, 3), 1, 0),
        ((4, 5), (2, 3), (1, 2), ((1, 0), (0, 2))),
    ]  # fmt: skip
    for image, kernel, stride, padding in geometries:
        geometry = ConvGeometry.of(image, kernel, stride, padding)
        x, w, g = normal(2, *image, 2), normal(*kernel, 2, 2), normal(2, *geometry.output, 2)
        how = {"stride": stride, "padding": padding}
        conv.append(use(linear.conv2d, x, w, normal(2), **how))
        transpose.append(use(linear.conv2d_transpose, g, w, image=image, **how))
        weight.append(use(linear.conv2d_weight_grad, x, g, kernel=kernel, **how))
        conv_relu.append(use(linear.conv2d_relu, x[:1], w, normal(2), **how))
    # with the mask of a ReLU, for images and for matrices
    for masked_geometry, x, w, g in (
        (ConvGeometry.of((4, 3), (2, 2), 1, "same"), normal(2, 4, 3, 2), normal(2, 2, 2, 2), normal(2, 4, 3, 2)),
        (None, normal(3, 2), normal(2, 4), normal(3, 4)),
    ):
        static = {"geometry": masked_geometry, "mask": rng.random(g.shape) < 0.6}
        conv.append(use(linear._conv2d, x, w, **static))
        transpose.append(use(linear._conv2d_transpose, g, w, **static))
        weight.append(use(linear._conv2d_weight_grad, x, g, **static))

    return {
        "abs": [use(elementwise.abs, apart(2, 3)), use(lambda x: elementwise.abs(x) ** 3, apart(3))],
        "add": pairs(elementwise.add, normal, normal),
        "astype": [use(lambda x: elementwise.astype(x, x.dtype), normal(2, 3))],
        "broadcast_to": [use(shapes.broadcast_to, a, shape=(2, 2, 3)) for a in (normal(3), normal(2, 1))],
        "clip": [
            use(lambda x, low, high: elementwise.clip(x, low, high) ** 3, apart(2, 3), low=low, high=high)
            for low, high in [(-0.1, 0.1), (None, np.array([0.1, 0.0, -0.1])), (np.zeros((2, 1, 1)), None)]
        ],
        "concatenate": [
            use(lambda x, y, axis: shapes.concatenate([x * y[..., :1], y], axis), normal(2, 1), normal(2, 2), axis=axis)
            for axis in (1, None)
        ],
        "conv2d": conv,
        "conv2d_relu": conv_relu,
        "conv2d_transpose": transpose,
        "conv2d_weight_grad": weight,
        "copy": [use(elementwise.copy, normal(2, 3))],
        "cos": [use(elementwise.cos, normal(2, 3))],
        "divide": pairs(elementwise.divide, normal, positive),
        "dot": [
            use(linear.dot, normal(*s), normal(*t))
            for s, t in [((2, 3), (3, 2)), ((3,), (3,)), ((2, 2), (3, 2, 2)), ((), (2, 2))]
        ],
        "einsum": [
            use(lambda *xs, s: linear.einsum(s, *xs), *[normal(*size) for size in sizes], s=s)
            for s, *sizes in [
                ("ij,jk->ik", (2, 3), (3, 2)),
                ("nij,nj", (2, 2, 3), (2, 3)),
                ("ij,ij->i", (2, 3), (2, 1)),
                ("ij,jk,ki->", (2, 3), (3, 2), (2, 2)),
                ("ijk,l->ki", (2, 2, 3), (2,)),
            ]
        ],
        "exp": [use(elementwise.exp, normal(2, 3))],
        "expand_dims": [use(lambda x: shapes.expand_dims(x * x, (0, -1)), normal(2, 3))],
        "getitem": [
            use(lambda x: x[1:, ::-2], normal(3, 3)),
            use(lambda x: x[[2, 0, 2]], normal(3, 2)),
            use(lambda x: x[[0, 1, 1], :, [1, 0, 0]], normal(2, 2, 2)),
            use(lambda x: x[..., None, 0], normal(2, 2)),
        ],
        "linear_relu": [use(linear.linear_relu, normal(*s), normal(3, 2), normal(2)) for s in [(3, 3), (2, 2, 3)]],
        "log": [use(elementwise.log, positive(2, 3))],
        "log_softmax": [use(reductions.log_softmax, normal(2, 3), axis=a) for a in (-1, 0)],
        "logsumexp": [use(reductions.logsumexp, normal(2, 3), axis=a) for a in (-1, (0, 1), None)],
        "masked": [use(elementwise.masked, normal(3), mask=np.array([True, False, True]))],
        "matmul": [
            use(linear.matmul, normal(*s), normal(*t))
            for s, t in [((2, 3), (3, 2)), ((2, 2, 3), (3, 2)), ((2, 2), (2, 2, 2)), ((3,), (3, 2)), ((3,), (3,))]
        ],
        "max": [use(lambda x, a: reductions.max(x, a) ** 2, apart(2, 3), a=a) for a in (None, 0, 1)],
        "maximum": [
            use(lambda a, b: elementwise.maximum(a, b) * a, 3 * apart(2, 3) + 0.02, 3 * apart(*s) + 0.52)
            for s in [(2, 3), (3,)]
        ],
        "mean": [use(lambda x, a: reductions.mean(x * x, a), normal(2, 3), a=a) for a in (None, 0, (0, 1))],
        "min": [use(lambda x, a: reductions.min(x, a) ** 2, apart(2, 3), a=a) for a in (None, 0, 1)],
        "minimum": [
            use(lambda a, b: elementwise.minimum(a, b) * a, 3 * apart(2, 3) + 0.02, 3 * apart(*s) + 0.52)
            for s in [(2, 3), (3,)]
        ],
        "moveaxis": [use(lambda x: shapes.moveaxis(x * x, 0, -1), normal(2, 2, 3))],
        "multiply": pairs(elementwise.multiply, normal, normal),
        "negative": [use(elementwise.negative, normal(2, 3))],
        "norm": [use(reductions.norm, normal(2, 3), axis=a) for a in (None, 0, (0, 1))],
        "power": [
            *(use(lambda x, n: x**n, positive(3), n=n) for n in (3, 0.5, -2, 1, 0)),
            *pairs(elementwise.power, positive, normal),
        ],
        "relu": [use(elementwise.relu, apart(2, 3)), use(lambda x: elementwise.relu(x) ** 3, apart(3))],
        "reshape": [use(lambda x: (x * x).reshape(3, 2), normal(2, 3))],
        "sign": [use(elementwise.sign, apart(2, 3))],
        "sigmoid": [use(elementwise.sigmoid, normal(2, 3))],
        "sin": [use(elementwise.sin, normal(2, 3))],
        "softmax": [use(reductions.softmax, normal(2, 3), axis=a) for a in (-1, 0)],
        "softplus": [use(elementwise.softplus, normal(2, 3))],
        "sqrt": [use(elementwise.sqrt, positive(2, 3))],
        "squeeze": [use(lambda x: shapes.squeeze(x * x, axis=1), normal(2, 1, 3))],
        "stack": [use(lambda x, y, a: shapes.stack([x * y, y], a), normal(2, 3), normal(2, 3), a=a) for a in (0, -1)],
        "subtract": pairs(elementwise.subtract, normal, normal),
        "sum": [use(lambda x, a: shapes.sum(x * x, a), normal(2, 3), a=a) for a in (None, 0, (0, 1))],
        "tanh": [use(elementwise.tanh, normal(2, 3))],
        "transpose": [use(lambda x: shapes.transpose(x * x, (1, 2, 0)), normal(2, 2, 3))],
        "where": [
            use(lambda a, b, c: elementwise.where(c, a * b, b), normal(*s), normal(*t), c=rng.random(u) < 0.5)
            for s, t, u in [((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), (2, 3)), ((), (3,), (2, 1))]
        ],
    }


# Operations without a derivative, and what they say.
DOCUMENTED_ERRORS = {"sign": "sign has no useful derivative"}


def verify(operation: str, order: int, dtype: str, seed: int = 0) -> Cell:
    """Check one operation at one order in one dtype.  Raises ValueError for an unknown operation, order or dtype."""
    known = samples(seed)
    for what, value, choices in (("operation", operation, known), ("order", order, ORDERS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, choices))}")
    try:
        for sample in known[operation]:
            if operation in DOCUMENTED_ERRORS:
                _must_raise(sample, DOCUMENTED_ERRORS[operation], dtype)
            elif dtype == "float64":
                check_order(sample.f, sample.inputs, order, seed=seed)
            else:
                _compare_with_float64(sample, order, seed)
    except (GradcheckError, ValueError, TypeError) as error:
        return Cell(operation, order, dtype, "failed", str(error))
    if operation in DOCUMENTED_ERRORS:
        return Cell(operation, order, dtype, "raises", DOCUMENTED_ERRORS[operation])
    return Cell(operation, order, dtype, "verified", f"{len(known[operation])} samples")


def _must_raise(sample: Sample, message: str, dtype: str) -> None:
    x = Tensor(sample.inputs[0].astype(dtype), requires_grad=True)
    try:
        grad(sample.f(x).sum(), x)
    except ValueError as error:
        if message in str(error):
            return
        raise
    raise GradcheckError("a gradient was returned where an error is documented", 1, [], 0)


def _compare_with_float64(sample: Sample, order: int, seed: int) -> None:
    """float32 differences are too inaccurate to judge a derivative, so float32 is compared with the float64 engine."""
    rng = np.random.default_rng(seed)
    derivatives, arrays = pull_back(lambda ts: [sample.f(*ts)], list(sample.inputs), order, rng)
    exact = derivatives([Tensor(x) for x in arrays])
    rounded = derivatives([Tensor(x.astype(np.float32)) for x in arrays])
    for i, (a, b) in enumerate(zip(exact, rounded, strict=True)):
        if b.dtype != np.float32:
            raise TypeError(f"float32 went in, but the derivative in input {i} is {b.dtype}")
        error = float(np.abs(a.data - b.data).max(initial=0.0))
        allowed = FLOAT32_RTOL * float(np.abs(a.data).max(initial=0.0)) + 1e-6
        if not error <= allowed:
            message = f"the derivative in input {i} differs by {error:.1g} in float32, allowed: {allowed:.1g}"
            raise GradcheckError(message, order, [], i)

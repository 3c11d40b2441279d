"""Every operation in one table, OPS.  A test that takes the argument `op` is run for each row."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
import pytest

import minidbp as mdb
from minidbp import autodiff as ad
from minidbp.autodiff import elementwise, linear
from minidbp.kernels import ConvGeometry


class Op(NamedTuple):
    name: str
    f: Callable[..., ad.Tensor]
    inputs: tuple[np.ndarray, ...]
    linear: bool = False  # in each input: differences are then exact with a step of 1
    hides_nan: bool = False  # returns numbers where an input is NaN


_seeds = count()


def normal(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(next(_seeds)).standard_normal(shape))


def positive(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(next(_seeds)).uniform(0.5, 2, shape))


def nonzero(*shape: int) -> np.ndarray:
    """Of both signs, further from 0 than any step of a difference."""
    return positive(*shape) * np.where(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 3, 1, -1)


def distinct(*shape: int) -> np.ndarray:
    """No two elements are closer than 0.1."""
    size = int(np.prod(shape))
    return 0.1 * np.random.default_rng(next(_seeds)).permutation(size).reshape(shape)


PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2, 2)),
    ((2, 1, 2), (3, 1)),
    ((), ()),
]
ROW = np.array([1.5, -0.5, 2.5])

OPS = [
    # two operands, broadcast
    *(Op(f"add {a} {b}", elementwise.add, (normal(*a), normal(*b)), linear=True) for a, b in PAIRS),
    *(Op(f"subtract {a} {b}", elementwise.subtract, (normal(*a), normal(*b)), linear=True) for a, b in PAIRS),
    *(Op(f"multiply {a} {b}", elementwise.multiply, (normal(*a), normal(*b)), linear=True) for a, b in PAIRS),
    *(Op(f"divide {a} {b}", elementwise.divide, (normal(*a), nonzero(*b))) for a, b in PAIRS),
    *(Op(f"power {a} {b}", elementwise.power, (positive(*a), normal(*b))) for a, b in PAIRS),
    *(Op(f"maximum {a} {b}", mdb.maximum, (normal(*a), normal(*b))) for a, b in PAIRS),
    *(Op(f"minimum {a} {b}", mdb.minimum, (normal(*a), normal(*b))) for a, b in PAIRS),
    *(
        Op(
            f"where {c} {a} {b}",
            lambda x, y, c=c: mdb.where(np.arange(np.prod(c, dtype=int)).reshape(c) % 2 == 0, x, y),
            (normal(*a), normal(*b)),
            linear=True,
            hides_nan=True,
        )
        for c, (a, b) in zip([(2, 3), (3,), (2, 2, 3), (2, 3), (2, 1), (1, 2), (2, 2)], PAIRS, strict=True)
    ),
    # a number or an array on either side
    Op("x + 2", lambda x: x + 2, (normal(2, 3),), linear=True),
    Op("2 + x", lambda x: 2 + x, (normal(2, 3),), linear=True),
    Op("row + x", lambda x: ROW + x, (normal(2, 1),), linear=True),
    Op("x - row", lambda x: x - ROW, (normal(2, 3),), linear=True),
    Op("2 - x", lambda x: 2 - x, (normal(3),), linear=True),
    Op("row - x", lambda x: ROW - x, (normal(2, 3),), linear=True),
    Op("x * 2", lambda x: x * 2, (normal(2, 3),), linear=True),
    Op("row * x", lambda x: ROW * x, (normal(2, 1),), linear=True),
    Op("x / row", lambda x: x / ROW, (normal(2, 3),), linear=True),
    Op("2 / x", lambda x: 2 / x, (nonzero(2, 3),)),
    Op("row / x", lambda x: ROW / x, (nonzero(2, 1),)),
    Op("x ** 3", lambda x: x**3, (normal(2, 3),)),
    Op("x ** 2.0", lambda x: x**2.0, (normal(),)),
    Op("x ** 1", lambda x: x**1, (normal(3),)),
    Op("x ** 0", lambda x: x**0, (normal(3),), hides_nan=True),
    Op("x ** -2", lambda x: x**-2, (nonzero(3),)),
    Op("x ** 0.5", lambda x: x**0.5, (positive(3),)),
    Op("x ** row", lambda x: x**ROW, (positive(2, 3),)),
    Op("2 ** x", lambda x: 2**x, (normal(2, 3),)),
    Op("row ** x", lambda x: np.abs(ROW) ** x, (normal(2, 3),)),
    Op("row @ x", lambda x: ROW @ x, (normal(3, 2),), linear=True),
    Op("x @ row", lambda x: x @ ROW, (normal(2, 3),), linear=True),
    Op("maximum(x, 0.1)", lambda x: mdb.maximum(x, 0.1), (normal(2, 3),)),
    Op("maximum(0.1, x)", lambda x: mdb.maximum(0.1, x), (normal(2, 3),)),
    # one operand in two places
    Op("x + x", lambda x: x + x, (normal(3),), linear=True),
    Op("x * x", lambda x: x * x, (normal(2, 3),)),
    Op("x / x.T", lambda x: x / x.T, (positive(2, 2),)),
    Op("x @ x", lambda x: x @ x, (normal(2, 2),)),
    Op("x ** x", lambda x: x**x, (positive(3),)),
    # one operand
    Op("negative", lambda x: -x, (normal(2, 3),), linear=True),
    Op("copy", lambda x: +x, (normal(2, 3),), linear=True),
    Op("exp", mdb.exp, (normal(2, 3),)),
    Op("log", mdb.log, (positive(2, 3),)),
    Op("sqrt", mdb.sqrt, (positive(2, 3),)),
    Op("sin", mdb.sin, (normal(2, 3),)),
    Op("cos", mdb.cos, (normal(2, 3),)),
    *(Op(f"{f.__name__} {s}", f, (normal(*s),)) for f in (mdb.tanh, mdb.sigmoid, mdb.softplus) for s in [(2, 3), ()]),
    *(
        Op(f"clip {low} {high}", lambda x, low=low, high=high: mdb.clip(x, low, high), (x,))
        for x in [nonzero(2, 3)]
        for low, high in [(-1, 0.1), (None, 0.1), (0.1, None), (ROW - 2, None), (np.full((2, 1, 1), -1.0), ROW)]
    ),
    *(Op(f"relu {s}", mdb.relu, (nonzero(*s),)) for s in [(2, 3), (), (2, 1, 3)]),
    *(Op(f"abs {s}", mdb.abs, (nonzero(*s),)) for s in [(2, 3), ()]),
    Op("masked", lambda x: ad.masked(x, np.array([True, False, True])), (normal(3),), linear=True, hides_nan=True),
    Op("astype", lambda x: x.astype(x.dtype), (normal(2, 3),), linear=True),
    # shapes
    Op("reshape", lambda x: x.reshape(3, 2), (normal(2, 3),), linear=True),
    Op("reshape -1", lambda x: x.reshape((-1,)), (normal(2, 3),), linear=True),
    Op("reshape ()", lambda x: x.reshape(()), (normal(1, 1),), linear=True),
    Op("transpose", mdb.transpose, (normal(2, 3, 2),), linear=True),
    Op("transpose axes", lambda x: x.transpose(1, -1, 0), (normal(2, 3, 2),), linear=True),
    Op("T ()", lambda x: x.T, (normal(),), linear=True),
    Op("moveaxis", lambda x: ad.moveaxis(x, 0, -1), (normal(2, 3, 2),), linear=True),
    Op("expand_dims", lambda x: mdb.expand_dims(x, (0, -1)), (normal(2, 3),), linear=True),
    Op("squeeze", mdb.squeeze, (normal(2, 1, 3, 1),), linear=True),
    Op("squeeze 1", lambda x: x.squeeze(1), (normal(2, 1, 3, 1),), linear=True),
    *(
        Op(
            f"concatenate {a}",
            lambda x, y, z, a=a: mdb.concatenate([x, y, z, x], a),
            (x, y, z),
            linear=True,
            hides_nan=True,
        )
        for a, x, y, z in [
            (0, normal(2), normal(1), normal(0)),
            (-1, normal(2, 1), normal(2, 3), normal(2, 2)),
            (None, normal(), normal(2), normal(1, 2)),
        ]
    ),
    Op("concatenate a constant", lambda x: mdb.concatenate([ROW, x, ROW]), (normal(2),), linear=True, hides_nan=True),
    *(
        Op(f"stack {a}", lambda x, y, a=a: mdb.stack((x, y), a), (normal(2, 3), normal(2, 3)), True, hides_nan=True)
        for a in [0, 1, -1]
    ),
    Op("x[1]", lambda x: x[1], (normal(3, 2),), linear=True),
    Op("x[-1, 0]", lambda x: x[-1, 0], (normal(3, 2),), linear=True),
    Op("x[1:3]", lambda x: x[1:3], (normal(4, 2),), linear=True),
    Op("x[::-2, 1]", lambda x: x[::-2, 1], (normal(4, 2),), linear=True),
    Op("x[..., None, 0]", lambda x: x[..., None, 0], (normal(2, 2, 2),), linear=True),
    Op("x[()]", lambda x: x[()], (normal(2),), linear=True),
    Op("x[repeated]", lambda x: x[[2, 0, 2, 2]], (normal(3, 2),), linear=True),
    Op("x[array 2-D]", lambda x: x[:, np.array([[0, 1], [-1, 0]])], (normal(2, 3),), linear=True),
    Op("x[boolean]", lambda x: x[np.array([True, False, True])], (normal(3, 2),), linear=True),
    Op("x[boolean 2-D]", lambda x: x[np.array([[True, False], [True, True]])], (normal(2, 2, 2),), linear=True),
    Op("x[rows, columns]", lambda x: x[np.arange(3), [1, 0, 1]], (normal(3, 2),), linear=True),
    Op("x[array, :, array]", lambda x: x[[0, 1, 1], :, [1, 0, 0]], (normal(2, 3, 2),), linear=True),
    Op("x[array, ..., 0]", lambda x: x[[1, 1], ..., 0], (normal(2, 3, 2),), linear=True),
    Op("x[nothing]", lambda x: x[1:1], (normal(2, 3),), linear=True),
    Op("iteration", lambda x: [row * row for row in x][1], (normal(2, 3),)),
    # sums and what is like them
    *(Op(f"sum {a}", lambda x, a=a: x.sum(a), (normal(2, 3, 2),), linear=True) for a in [None, 0, -1, (0, 2), ()]),
    Op("sum keepdims", lambda x: x.sum((0, 2), keepdims=True), (normal(2, 3, 2),), linear=True),
    Op("sum of ()", mdb.sum, (normal(),), linear=True),
    *(Op(f"mean {a}", lambda x, a=a: x.mean(a), (normal(2, 3, 2),), linear=True) for a in [None, 1, (0, -1)]),
    *(Op(f"max {a}", lambda x, a=a: x.max(a), (distinct(2, 3, 2),)) for a in [None, 0, (1, 2)]),
    Op("max keepdims", lambda x: x.max(1, keepdims=True), (distinct(2, 3),)),
    Op("max of ()", mdb.max, (normal(),)),
    *(Op(f"min {a}", lambda x, a=a: x.min(a), (distinct(2, 3, 2),)) for a in [None, 0, (1, 2)]),
    Op("min keepdims", lambda x: x.min(1, keepdims=True), (distinct(2, 3),)),
    *(Op(f"norm {a}", lambda x, a=a: mdb.norm(x, a), (normal(2, 3, 2),)) for a in [None, 0, (1, 2)]),
    Op("norm keepdims", lambda x: mdb.norm(x, 1, keepdims=True), (normal(2, 3),)),
    Op("norm of ()", mdb.norm, (nonzero(),)),
    *(
        Op(f"broadcast_to {a}", lambda x: ad.broadcast_to(x, (2, 2, 3)), (normal(*a),), linear=True)
        for a in [(2, 2, 3), (3,), (2, 1), (2, 1, 1), ()]
    ),
    *(Op(f"logsumexp {a}", lambda x, a=a: mdb.logsumexp(x, a), (normal(2, 3, 2),)) for a in [-1, 0, (0, 2), None]),
    Op("logsumexp keepdims", lambda x: mdb.logsumexp(x, 0, keepdims=True), (normal(2, 3),)),
    *(Op(f"log_softmax {a}", lambda x, a=a: mdb.log_softmax(x, a), (normal(2, 3),)) for a in [-1, 0]),
    *(Op(f"softmax {a}", lambda x, a=a: mdb.softmax(x, a), (normal(2, 3),)) for a in [-1, 0, None]),
    # products
    *(
        Op(f"matmul {a} {b}", mdb.matmul, (normal(*a), normal(*b)), linear=True)
        for a, b in [
            ((2, 3), (3, 2)),
            ((3,), (3,)),
            ((3,), (3, 2)),
            ((2, 3), (3,)),
            ((2, 2, 3), (3, 2)),
            ((2, 3), (2, 3, 2)),
            ((2, 1, 3), (2, 3, 2)),
            ((2, 1, 1, 3), (2, 3, 2)),
            ((1, 2, 3), (2, 3, 1)),
            ((3,), (2, 3, 2)),
            ((2, 2, 3), (3,)),
        ]
    ),
    *(
        Op(f"dot {a} {b}", mdb.dot, (normal(*a), normal(*b)), linear=True)
        for a, b in [
            ((), (2, 3)),
            ((2,), (2,)),
            ((2, 3), (3, 2)),
            ((2, 2, 3), (3,)),
            ((3,), (2, 3, 2)),
            ((2, 3), (2, 3, 2)),
            ((2, 1, 3), (2, 3, 2)),
        ]
    ),
    *(
        Op(f"einsum {s}", lambda *xs, s=s: mdb.einsum(s, *xs), tuple([normal(*shape) for shape in shapes]), linear=True)
        for s, *shapes in [
            ("ij->ji", (2, 3)),
            ("ij->", (2, 3)),
            ("i", (3,)),
            ("ij,jk->ik", (2, 3), (3, 2)),
            ("ij, jk", (2, 3), (3, 2)),
            ("i,i", (3,), (3,)),
            ("i,j->ij", (2,), (3,)),
            ("nij,nj->ni", (2, 2, 3), (2, 3)),
            ("ij,ij->i", (2, 3), (2, 1)),
            ("ijk,l->ki", (2, 2, 3), (2,)),
            ("ij,jk,ki->", (2, 3), (3, 2), (2, 2)),
            ("i,i,i->i", (3,), (3,), (3,)),
            (",i->i", (), (3,)),
        ]
    ),
    Op("conv2d", mdb.conv2d, (normal(2, 4, 3, 2), normal(3, 2, 2, 2)), linear=True),
    Op("conv2d bias", mdb.conv2d, (normal(2, 3, 3, 1), normal(2, 2, 1, 3), normal(3)), linear=True),
    Op(
        "conv2d stride 2 same",
        lambda x, w: mdb.conv2d(x, w, stride=2, padding="same"),
        (normal(2, 4, 3, 1), normal(3, 2, 1, 2)),
        linear=True,
    ),
    Op(
        "conv2d (2, 3) explicit",
        lambda x, w: mdb.conv2d(x, w, stride=(2, 3), padding=((1, 0), (0, 2))),
        (normal(1, 4, 3, 2), normal(2, 3, 2, 1)),
        linear=True,
    ),
    Op(
        "conv2d_transpose",
        lambda g, w: mdb.conv2d_transpose(g, w, (4, 5), stride=(1, 2), padding=1),
        (normal(2, 4, 3, 1), normal(3, 3, 2, 1)),
        linear=True,
    ),
    Op(
        "conv2d_weight_grad",
        lambda x, g: mdb.conv2d_weight_grad(x, g, (2, 3), stride=2, padding="same"),
        (normal(2, 3, 4, 2), normal(2, 2, 2, 3)),
        linear=True,
    ),
    # the conv family with a constant mask, which leading axes share; without a geometry, matrices
    *(
        Op(
            f"{name} masked {'image' if geometry else 'matrix'}",
            lambda a, b, f=f, geometry=geometry, mask=mask: f(a, b, geometry=geometry, mask=mask),
            (normal(*a), normal(*b)),
            linear=True,
            hides_nan=name == "conv2d",  # where the mask is False
        )
        for geometry, mask, x, w, g in (
            (ConvGeometry.of((4, 5), (2, 3), (1, 2), "same"), np.arange(48) % 3 > 0, (2, 4, 5, 2), (2, 3, 2, 2), None),
            (None, np.arange(6) % 4 > 0, (3, 4), (4, 2), (3, 2)),
        )
        for mask in [mask.reshape(g or (2, 4, 3, 2))]
        for name, f, a, b in (
            ("conv2d", linear._conv2d, x, w),
            ("conv2d_transpose", linear._conv2d_transpose, mask.shape, w),
            ("conv2d_weight_grad", linear._conv2d_weight_grad, x, mask.shape),
        )
    ),
    Op("linear_relu", mdb.linear_relu, (normal(4, 3), normal(3, 2), normal(2))),
    Op("linear_relu batch", mdb.linear_relu, (normal(2, 3, 3), normal(3, 2), normal(2))),
    Op("conv2d_relu", mdb.conv2d_relu, (normal(2, 4, 4, 2), normal(3, 3, 2, 2), normal(2))),
    Op(
        "conv2d_relu stride",
        lambda x, w, b: mdb.conv2d_relu(x, w, b, (2, 1), "same"),
        (normal(1, 5, 4, 2), normal(3, 2, 2, 2), normal(2)),
    ),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "op" in metafunc.fixturenames:
        metafunc.parametrize("op", OPS, ids=[op.name for op in OPS])

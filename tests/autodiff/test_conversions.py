"""Where NumPy or Python converts a Tensor: the derivative is right, or an error says what to use."""

import array
import collections
import math
import operator
import statistics
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg
import scipy.special
import scipy.stats

import minidbp as mdb
from minidbp.autodiff import Tensor

W = np.array([1.0, 2.0, 3.0])
LOST = r"requires a gradient, which this conversion would lose|setting an array element with a sequence|does not know T"


def store(index: Any, value: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def f(x: Tensor) -> Any:
        b = np.zeros(3)
        b[index] = value(x)
        return b

    return f


def set_flat(x: Tensor) -> Any:
    b = np.zeros(3)
    b.flat[:] = x
    return b


def set_real(x: Tensor) -> Any:
    b = np.zeros(3, complex)
    b.real = x
    return b


def dot_in_a_loop(x: Tensor) -> Any:
    for _ in range(2):
        np.array(x)
        y = W.dot(x)
    return y


class Batch:
    """What NumPy takes for a sequence, though it is not registered as one."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


def in_a_hot_loop(x: Tensor) -> Any:
    """Python specialises an instruction after some calls."""
    for k in range(50):
        y = np.array([x if k > 40 else W])
    return y


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    "w.dot(x)": lambda x: W.dot(x),
    "matrix.dot(x)": lambda x: np.eye(3).dot(x),
    "w.dot(x) in a loop": dot_in_a_loop,
    "w.dot(*[x])": lambda x: W.dot(*[x]),
    "w.dot(**{b: x})": lambda x: W.dot(**{"b": x}),
    "w.searchsorted(x)": lambda x: W.searchsorted(x),
    "[x[0] * x[1], x[2]]": lambda x: Tensor([x[0] * x[1], x[2]]),
    "x * np.array([x[0], 1])": lambda x: x[:2] * np.array([x[0], 1.0]),
    "x * [[x[0], 1]]": lambda x: x[:2] * [[x[0], 1.0]],
    "np.array([[x[0]]])": lambda x: np.array([[x[0]]]),
    "b[0] = x[0]": store(0, lambda x: x[0]),
    "b[0] = x.sum()": store(0, lambda x: x.sum()),
    "b[0:3] = x": store(slice(0, 3), lambda x: x),
    "b[:] = x": store(slice(None), lambda x: x * 2),
    "b[...] = x[0]": store(..., lambda x: x[0]),
    "b[indices] = x": store([0, 2, 1], lambda x: x),
    "b[mask] = x": store(W > 0, lambda x: x),
    "b[:] = [x[0], 1, 2]": store(slice(None), lambda x: [x[0], 1.0, 2.0]),
    "w * [x, x]": lambda x: W * [x, x],
    "[x, x] - w": lambda x: [x, x] - W,
    "w @ [x, x, x]": lambda x: W @ [x, x, x],
    "w -= [x]": lambda x: operator.isub(W.copy(), [x, x, x]),
    "np.array([x, x])": lambda x: np.array([x, x]),
    "np.array((x, x))": lambda x: np.array((x, x * 2)),
    "np.array([x, x], dtype)": lambda x: np.array([x, x], dtype=np.float32),
    "np.array([[x, x]], float)": lambda x: np.array([[x, x]], float),
    "np.asarray([*x])": lambda x: np.asarray([W, *[x, x]]),
    "np.array([x, x]) in a loop": lambda x: [np.array([x, x * k]) for k in range(2)],
    "w.dot([x, x, x])": lambda x: W.dot([x, x, x]),
    "np.array(a list)": lambda x: [np.array(xs) for xs in [[x, x]]],
    "np.asarray(a list)": lambda x: [np.asarray(xs, float) for xs in [[x, x]]],
    "np.array([x for ...])": lambda x: np.array([x * k for k in range(2)]),
    "np.asarray([x for ...])": lambda x: np.asarray([x * k for k in range(2)], float),
    "np.array(list(...))": lambda x: np.array(list(map(mdb.exp, [x, x]))),
    "np.array([x, x]) in a hot loop": in_a_hot_loop,
    "w.dot(a list)": lambda x: [W.dot(xs) for xs in [[x, x, x]]],
    "np.add(w, a list)": lambda x: [np.add(W, xs) for xs in [[x, x]]],
    "np.exp(a list)": lambda x: [np.exp(xs) for xs in [[x, x]]],
    "np.where(..., a list, 0)": lambda x: [np.where(W > 1, xs, 0) for xs in [[x, x]]],
    "b.__setitem__": lambda x: np.zeros(3).__setitem__(slice(None), x),  # type: ignore[func-returns-value]
    "setattr(b, 'real', x)": lambda x: setattr(np.zeros(3, complex), "real", x),
    "b.flat[:] = x": set_flat,
    "b.real = x": set_real,
    "b.fill(x[0])": lambda x: np.zeros(3).fill(x[0]),  # type: ignore[func-returns-value]
    "np.fromiter": lambda x: np.fromiter([x[0], x[1]], float),
    "np.fromiter(x)": lambda x: np.fromiter(x, float),
    "np.full(3, x[0])": lambda x: np.full(3, x[0]),
    "np.full(3, x[0], dtype)": lambda x: np.full(3, x[0], dtype=float),
    "np.full(3, x)": lambda x: np.full(3, x),
    "Polynomial(x)": lambda x: np.polynomial.Polynomial([1.0, 2.0])(x),
    "np.vectorize": lambda x: np.vectorize(math.sqrt)(x),
    "np.atleast_1d([x[0]])": lambda x: np.atleast_1d([x[0]]),
    "np.stack": lambda x: np.stack([x, x]),
    "np.arange": lambda x: np.arange(x[0]),
    "float": lambda x: float(x[0]),
    "complex": lambda x: complex(x[0]),
    "int": lambda x: int(x[0]),
    "math.sqrt": lambda x: math.sqrt(x.sum()),
    "math.fsum": lambda x: math.fsum(x),
    "math.floor": lambda x: math.floor(x[0]),
    "statistics.mean": lambda x: statistics.mean(x),
    "statistics.fmean": lambda x: statistics.fmean(x),
    "array.array": lambda x: array.array("d", x),
    "%f": lambda x: "%f" % x[0],  # noqa: UP031
    "Tensor(x)": lambda x: Tensor(x),
    "Tensor(x[0] * x[1])": lambda x: Tensor(x[0] * x[1], requires_grad=True),
    "Tensor(deque)": lambda x: Tensor(collections.deque([x, x])),
    "x * deque": lambda x: x * collections.deque([x, x, x]),
    "x[0] * [deque]": lambda x: x[0] * [collections.deque([x[0], 1.0])],
    "Tensor(UserList)": lambda x: Tensor(collections.UserList([x, x])),
    "mdb.exp(UserList)": lambda x: mdb.exp(collections.UserList([1.0, x[0]])),
    "Tensor(Batch)": lambda x: Tensor(Batch([x, x])),
    "x * Batch": lambda x: x * Batch([x, x, x]),
    "x * Batch of x[0]": lambda x: x * Batch([x[0], x[0], x[0]]),
    "scipy.special.logsumexp": lambda x: scipy.special.logsumexp(x),
    "scipy.special.expit": lambda x: scipy.special.expit(x),
    "scipy.stats.norm.logpdf": lambda x: scipy.stats.norm.logpdf(x),
    "scipy.linalg.expm": lambda x: scipy.linalg.expm(mdb.stack([x, x, x])),
    "rng.normal(x)": lambda x: np.random.default_rng(0).normal(x),
    "CubicSpline": lambda x: scipy.interpolate.CubicSpline(W, x),
}


@pytest.mark.parametrize("f", REFUSED.values(), ids=REFUSED)
def test_what_would_lose_a_derivative_is_refused(f: Callable[[Tensor], Any]) -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")
    for leaf_or_result in x, x * 1:
        with pytest.raises((TypeError, ValueError)) as caught:
            f(leaf_or_result)
        cause = caught.value.__cause__ or caught.value
        assert "would lose" in str(cause) or type(cause) is TypeError  # NumPy's ValueError is raised from ours


COMPUTED: dict[str, tuple[Callable[[Tensor], Any], list[float]]] = {
    "sum": (lambda x: sum(x), [1.0, 1.0, 1.0]),
    "sum with floats": (lambda x: sum([1.0, x[0], 2.0, x[1] * 3], 0.5), [1.0, 3.0, 0.0]),
    "math.prod": (lambda x: math.prod(x), [6.0, 3.0, 2.0]),
    "max": (lambda x: max(x), [0.0, 0.0, 1.0]),
    "sorted": (lambda x: sorted(x, reverse=True)[0] * x[1], [0.0, 3.0, 2.0]),
    "w @ x": (lambda x: W @ x, [1.0, 2.0, 3.0]),
    "w * x": (lambda x: (W * x).sum(), [1.0, 2.0, 3.0]),
    "np.float64 * x": (lambda x: (np.float64(2) * x).sum(), [2.0, 2.0, 2.0]),
    "b += x": (lambda x: (operator.iadd(2.0, x)).sum(), [1.0, 1.0, 1.0]),
    "+x": (lambda x: (+x).sum(), [1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize(("f", "expected"), COMPUTED.values(), ids=COMPUTED)
def test_what_python_computes_is_differentiated(f: Callable[[Tensor], Any], expected: list[float]) -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert mdb.grad(f(x), x)[0].tolist() == expected


def test_what_numpy_takes_for_a_sequence_is_one() -> None:
    for values in (
        collections.deque([1.0, 2.0]),
        collections.UserList([1, 2]),
        Batch([1, 2]),
        range(1, 3),
        array.array("d", [1, 2]),
    ):
        assert Tensor(values).tolist() == (Tensor([1.0, 1.0]) * values).tolist() == [1.0, 2.0]
    assert Tensor(memoryview(np.ones((2, 2)))).shape == (2, 2)
    with pytest.raises(TypeError, match="Tensor holds float32 or float64; got <U3"):
        Tensor(["abc"])


@pytest.mark.parametrize("f", [f for name, f in REFUSED.items() if name in {"w.dot(x)", "b[0:3] = x", "np.full(3, x)",
    "b[0] = x[0]", "math.sqrt", "float", "%f", "np.fromiter"}])  # fmt: skip
def test_constants_convert(f: Callable[[Tensor], Any]) -> None:
    f(Tensor([1.0, 2.0, 3.0]))
    f(Tensor([1.0, 2.0, 3.0], requires_grad=True).detach())


@pytest.mark.parametrize("requires_grad", [True, False])
def test_numpy_may_look_on_purpose(requires_grad: bool) -> None:
    t = Tensor([1.0, 2.0], requires_grad=requires_grad) * 2
    for _ in range(3):
        for _ in range(3):
            assert np.asarray(t).tolist() == np.array(t).tolist() == [2.0, 4.0]
        for dtype in None, np.float32, float, "f8", None, complex:
            assert np.asarray(t, dtype).tolist() == [2.0, 4.0]
            assert np.array(t, dtype).tolist() == [2.0, 4.0]
            assert np.array(t, dtype=dtype, copy=True).tolist() == [2.0, 4.0]
        a, b = np.asarray(t), np.asarray(t, np.float32)
        assert (a.dtype, b.dtype) == (np.float64, np.float32)
    assert [np.asarray(t[0], v).tolist() for v in (None, float, np.float32)] == [2.0] * 3
    assert np.asarray([np.asarray(s) for s in t]).tolist() == [2.0, 4.0]
    first, (second, third) = np.asarray(t), map(np.asarray, [t, t])
    for k, value in enumerate(map(np.asarray, [first, second, third, t])):
        assert [[k], value.tolist()] == [[k], np.asarray(t + 0, float).tolist()]
    assert dict([("t", np.asarray(t)), *[("u", np.array(t))]]).keys() == {"t", "u"}
    assert np.stack([np.asarray(t), *list(map(np.asarray, [t, t]))]).shape == (3, 2)
    convert = np.asarray
    assert np.concatenate([convert(t), np.asanyarray(t), np.ascontiguousarray([np.asarray(t)][0])]).shape == (6,)
    np.testing.assert_allclose(t, [2.0, 4.0])
    np.testing.assert_array_equal(t, t)
    np.testing.assert_allclose(t[0], 2.0)
    np.testing.assert_array_less(t, 5.0)
    np.testing.assert_allclose([t, t], [[2.0, 4.0]] * 2)
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 2"):
        np.testing.assert_allclose(t, [2.0, 5.0])


t1 = Tensor([1.0, 2.0, 3.0], requires_grad=True) * 2
t2 = Tensor(np.arange(9.0).reshape(3, 3), requires_grad=True) * 2


def in_space() -> Any:
    return plt.gcf().add_subplot(projection="3d")


DRAWN: dict[str, Callable[[], Any]] = {
    "plot": lambda: plt.plot(t1),
    "plot against": lambda: plt.plot(t1, t1, "o-"),
    "plot columns": lambda: plt.plot(t2),
    "plot a list of losses": lambda: plt.plot([t1.sum(), t1.sum()]),
    "scatter": lambda: plt.scatter(t1, t1, c=t1, s=t1),
    "bar": lambda: plt.bar(range(3), t1),
    "hist": lambda: plt.hist(t1),
    "imshow": lambda: plt.imshow(t2),
    "errorbar": lambda: plt.errorbar(range(3), t1, yerr=t1),
    "fill_between": lambda: plt.fill_between(t1, t1, t1 + 1),
    "contour": lambda: plt.contour(t2),
    "bar at tensors": lambda: plt.bar(t1, t1, yerr=t1),
    "quiver": lambda: plt.quiver(t1, t1, t1, t1),
    "3d scatter": lambda: in_space().scatter(t1, t1, t1),
    "3d surface": lambda: in_space().plot_surface(t2, t2, t2),
    "hist2d": lambda: plt.hist2d(t1, t1),
    "stem": lambda: plt.stem(t1, t1),
    "fill": lambda: plt.fill(t1, t1),
    "stackplot": lambda: plt.stackplot(t1, t1, t1),
    "alpha": lambda: plt.imshow(t2, alpha=t2 / 20),
    "step": lambda: plt.step(t1, t1),
    "axhline": lambda: plt.axhline(t1.sum()),
    "text": lambda: plt.text(t1[0], t1[0], f"{t1[0]:.2f}"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_matplotlib_draws_tensors(draw: Callable[[], Any]) -> None:
    figure = plt.figure()
    try:
        for _ in range(2):
            draw()
        figure.canvas.draw()
    finally:
        plt.close(figure)


BIG = {name: np.array([1.0, 2.0, 3.0], name) for name in (">f8", ">f4", "<f8")}


@pytest.mark.parametrize("array", BIG.values(), ids=BIG)
def test_every_byte_order_becomes_native(array: np.ndarray) -> None:
    dtype = np.dtype(array.dtype.newbyteorder("="))
    t = Tensor(array, requires_grad=True)
    assert t.dtype == dtype
    assert t.tolist() == [1.0, 2.0, 3.0]
    (g,) = mdb.grad((t * array + array).sum(), t)
    assert (g.tolist(), g.dtype) == ([1.0, 2.0, 3.0], dtype)
    assert mdb.exp(array).dtype == dtype
    t.data = array * 2
    assert (t.tolist(), t.dtype) == ([2.0, 4.0, 6.0], dtype)
    t.set_data(array.copy())
    assert (t.tolist(), t.dtype) == ([1.0, 2.0, 3.0], dtype)
    indices = np.array([0, 2, 0], ">i4")
    assert mdb.grad(t[indices].sum(), t)[0].tolist() == [2.0, 0.0, 1.0]
    assert weighted(t, array).dtype == dtype
    frozen = array.copy()
    frozen.flags.writeable = False
    assert mdb.grad(weighted(t, frozen).sum(), t)[0].tolist() == [1.0, 2.0, 3.0]


@mdb.operation
def weighted(x: Tensor, weights: Any = None) -> Any:
    """`weights`, and a derivative as if it were `weights * x`."""
    return weights, lambda g, out: g * weights


@pytest.mark.parametrize("dtype", ["f2", ">f2", "g", "c8", "c16"])
def test_other_dtypes_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"Tensor holds float32 or float64; got {np.dtype(dtype).newbyteorder('=')}"):
        Tensor(np.ones(2, dtype))
    with pytest.raises(ValueError, match=f"must be float64 of shape .*; got {np.dtype(dtype).newbyteorder('=')}"):
        Tensor(np.ones(2)).data = np.ones(2, dtype)

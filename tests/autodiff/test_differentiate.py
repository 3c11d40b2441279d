import gc
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import hessian as hips_hessian
from autograd import jacobian as hips_jacobian

import minidbp as mdb
from minidbp import kernels
from minidbp.autodiff import Tensor, differentiate, jacobian_of, vjp


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def leaf(*shape: int, seed: int = 0, name: str | None = None) -> Tensor:
    return Tensor(normal(*shape, seed=seed), requires_grad=True, name=name)


def assert_close(got: Any, expected: Any, rtol: float = 1e-12) -> None:
    """Equal to rtol of the largest element."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    if expected.size:
        np.testing.assert_allclose(got, expected, rtol=0, atol=rtol * max(1.0, np.abs(expected).max()))


# --- cotangents with leading axes ---


def stacked(f: Callable[..., Tensor], inputs: list[Tensor], vs: np.ndarray, lead: tuple[int, ...]) -> list[np.ndarray]:
    """For each input, the vjps along each v of vs (*lead, ...), one at a time."""
    singles = [vjp(f, inputs, vs[k])[1] for k in np.ndindex(lead)]
    return [np.stack([single[i].data for single in singles]).reshape(lead + x.shape) for i, x in enumerate(inputs)]


@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
def test_many_cotangents_are_a_stack_of_single_ones(op: Any, lead: tuple[int, ...]) -> None:
    inputs = [Tensor(x) for x in op.inputs]
    vs = normal(*lead, *op.f(*inputs).shape)
    for got, expected in zip(vjp(op.f, inputs, vs)[1], stacked(op.f, inputs, vs, lead), strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize("lead", [(5,), (2, 3)], ids=str)
def test_many_cotangents_can_be_differentiated_again(op: Any, lead: tuple[int, ...]) -> None:
    inputs = [Tensor(x) for x in op.inputs]
    vs = normal(*lead, *op.f(*inputs).shape)
    for i, x in enumerate(inputs):

        def product(*args: Tensor, i: int = i) -> Tensor:
            return vjp(op.f, args[:-1], args[-1], create_graph=True)[1][i]

        # once with one cotangent of the stacked result, once with two: leading axes before leading axes
        u = normal(2, *lead, *x.shape, seed=1)
        got = vjp(product, [*inputs, Tensor(vs)], u[0])[1]
        singles = [vjp(product, [*inputs, Tensor(vs[k])], u[0][k])[1] for k in np.ndindex(lead)]
        for j in range(len(inputs)):  # all k share the inputs, so their derivatives add up
            assert_close(got[j], np.sum([single[j].data for single in singles], axis=0))
        assert_close(got[-1], np.stack([single[-1].data for single in singles]).reshape(vs.shape))
        both = vjp(product, [*inputs, Tensor(vs)], u)[1]
        for of_both, expected in zip(both, stacked(product, [*inputs, Tensor(vs)], u, (2,)), strict=True):
            assert_close(of_both, expected)


# --- what grad promises ---


def test_a_repeated_call_gives_the_same_answer() -> None:
    x, w = leaf(3, 2), leaf(2, 2, seed=1)
    y = mdb.softmax(x @ w).max(1).sum()
    first = [g.data for g in mdb.grad(y, [x, w], create_graph=True)]
    for create_graph in False, True, False:
        for got, expected in zip(mdb.grad(y, [x, w], create_graph=create_graph), first, strict=True):
            np.testing.assert_array_equal(got.data, expected)
    assert x.grad is None
    assert w.grad is None


def test_create_graph_decides_whether_the_result_can_be_differentiated() -> None:
    x = leaf(3)
    y = (x**3).sum()
    (plain,) = mdb.grad(y, x)
    assert not plain.requires_grad
    (g,) = mdb.grad(y, x, create_graph=True)
    assert_close(g, 3 * x.data**2)
    (second,) = mdb.grad(g, x, np.array([1.0, 2.0, 3.0]), create_graph=True)
    assert_close(second, 6 * x.data * [1, 2, 3])
    (third,) = mdb.grad(second.sum(), x)
    assert_close(third, [6.0, 12.0, 18.0])


def test_create_graph_records_under_no_grad_too() -> None:
    x = leaf(3)
    y = (x**3).sum()
    with mdb.no_grad():
        (g,) = mdb.grad(y, x, create_graph=True)
    assert_close(mdb.grad(g.sum(), x)[0], 6 * x.data)


def test_several_outputs_add_up() -> None:
    x, w = leaf(3), leaf(3, seed=1)
    u, v = normal(3, seed=2), normal(2, seed=3)
    got = mdb.grad([x * w, (x * x)[:2], x.sum()], [x, w], [u, v, None])
    assert_close(got[0], u * w.data + 2 * x.data * np.append(v, 0) + 1)
    assert_close(got[1], u * x.data)


def test_an_output_given_twice_counts_twice() -> None:
    x = leaf()
    y = x * 3
    assert mdb.grad([y, y], x, [1.0, 10.0])[0].item() == 33


def test_an_output_can_be_the_input_of_another() -> None:
    x = leaf(2)
    y = 2 * x
    z = y * y
    of_y, of_x = mdb.grad([z.sum(), y.sum()], [y, x])
    assert_close(of_y, 2 * y.data + 1)
    assert_close(of_x, 2 * (2 * y.data + 1))


def test_an_input_can_be_the_output() -> None:
    x, v = leaf(2), normal(3, 2)
    assert_close(mdb.grad(x, x, v)[0], v)


def test_the_same_input_twice() -> None:
    x = leaf()
    assert [g.item() for g in mdb.grad(x * x * 0.5, [x, x])] == [x.item()] * 2


def test_an_input_that_is_not_reached_gets_zeros_if_another_is() -> None:
    x, b = leaf(2, 3), leaf(4, seed=1)
    of_x, of_b = mdb.grad(x * x, [x, b], normal(5, 2, 3))
    assert of_x.shape == (5, 2, 3)
    np.testing.assert_array_equal(of_b.data, np.zeros((5, 4)))
    assert of_b.dtype == np.float64


def two() -> tuple[Tensor, Tensor]:
    x = leaf(2, 3, name="x")
    return x, x * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: mdb.grad(y.sum(), leaf(2, name="W9")), ValueError, "do not depend on 'W9'"),
        (lambda x, y: mdb.grad(y.sum(), [leaf(2), leaf(4)]), ValueError, r"shape \(2,\), a tensor of shape \(4,\)"),
        (lambda x, y: mdb.grad(Tensor(1.0), x), ValueError, r"output 0 .*\(\)\) does not require a gradient"),
        (lambda x, y: mdb.grad(y.detach().sum(), x), ValueError, "output 0 .* does not require a gradient"),
        (lambda x, y: mdb.grad(y.sum(), [x, Tensor(1.0, name="c")]), ValueError, r"input 1 \('c'\) does not require"),
        (lambda x, y: mdb.grad(y.sum(), np.ones(3)), TypeError, "input 0 must be a Tensor; got ndarray"),
        (lambda x, y: mdb.grad(3.0, x), TypeError, "output 0 must be a Tensor; got float"),
        (lambda x, y: mdb.grad(y, x), ValueError, r"output 0 has shape \(2, 3\), not one element: give grad_outputs"),
        (lambda x, y: mdb.grad(y, x, np.ones(3)), ValueError, r"float64 of shape \(\.\.\., 2, 3\); got .*\(3,\)"),
        (lambda x, y: mdb.grad(y, x, np.ones((3, 2))), ValueError, r"shape \(\.\.\., 2, 3\); got .*\(3, 2\)"),
        (lambda x, y: mdb.grad(y, x, np.ones((2, 3, 1))), ValueError, r"got float64 of shape \(2, 3, 1\)"),
        (lambda x, y: mdb.grad(y, x, Tensor(np.ones((2, 3), "f"))), ValueError, "must be float64 .*got float32"),
        (lambda x, y: mdb.grad([y, y], x, [np.ones((2, 3))]), ValueError, "2 outputs need as many grad_outputs; got 1"),
        (
            lambda x, y: mdb.grad([y, y], x, [np.ones((2, 3)), np.ones((4, 2, 3))]),
            ValueError,
            r"the same leading axes; got \[\(\), \(4,\)\]",
        ),
        (lambda x, y: Tensor(1.0).backward(), ValueError, "backward: .*does not require a gradient"),
        (lambda x, y: y.backward(), ValueError, "give grad_outputs"),
        (lambda x, y: mdb.vjp(mdb.exp, x, np.ones(2)), ValueError, "got float64 of shape"),
        (lambda x, y: mdb.vjp(lambda x: x.data, x, np.ones(2)), TypeError, "must return one Tensor; it returned ndarr"),
        (lambda x, y: mdb.jvp(mdb.exp, x, np.ones(2)), ValueError, r"jvp: v must have .*\(2, 3\); got \(2,\)"),
        (lambda x, y: mdb.jvp(mdb.exp, x, [y, y]), ValueError, "jvp: 1 inputs need as many directions v; got 2"),
        (lambda x, y: mdb.hvp(mdb.sum, x, np.ones(2)), ValueError, r"hvp: v must have .*\(2, 3\); got \(2,\)"),
        (lambda x, y: mdb.hvp(mdb.exp, x, np.ones((2, 3))), ValueError, r"hvp: f must .* the shape \(2, 3\)"),
        (lambda x, y: mdb.jacobian(mdb.sum, x), ValueError, r"\(2, 3\) into \(2, c\); it returned \(\)"),
        (lambda x, y: mdb.jacobian(lambda x: x.T, x), ValueError, r"it returned \(3, 2\)"),
        (lambda x, y: mdb.jacobian(lambda x: Tensor(np.ones((2, 4))), x), ValueError, "does not require a gradient"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(*two())


def test_a_cotangent_array_takes_the_outputs_dtype() -> None:
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    assert mdb.grad(x * 2, x, np.ones(2))[0].dtype == np.float32
    assert mdb.grad(x * 2, x, [1, 2])[0].data.tolist() == [2, 4]


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_leaf_with_new_data_is_noticed(create_graph: bool) -> None:
    x, w = leaf(2), leaf(2, seed=1, name="W1")
    y = (x * w).sum()
    w.data = np.zeros(2)
    with pytest.raises(ValueError, match="'W1' was given new data after multiply had used it"):
        mdb.grad(y, x, create_graph=create_graph)
    assert mdb.grad((x * w).sum(), x)[0].data.tolist() == [0, 0]


def test_new_data_before_the_second_order_is_noticed() -> None:
    x = leaf(2, name="x")
    (g,) = mdb.grad((x**3).sum(), x, create_graph=True)
    x.data = np.zeros(2)
    with pytest.raises(ValueError, match="'x' was given new data"):
        mdb.grad(g.sum(), x)


def test_backward_sets_grad_of_every_leaf_and_replaces_it() -> None:
    x, w, other = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
    y = (x * w.detach() + w * 2).sum()
    for _ in range(2):
        y.backward()
        assert x.grad is not None
        assert w.grad is not None
        assert_close(x.grad, w.data)
        assert_close(w.grad, [2.0, 2.0, 2.0])
    assert other.grad is None
    (x * x).backward([1.0, 0.0, 2.0] * np.ones(3))
    assert_close(x.grad, 2 * x.data * [1, 0, 2])
    x.backward(np.ones(3))
    assert_close(x.grad, [1.0, 1.0, 1.0])


# --- only what is asked for, and once ---


def counted(counts: dict[str, int], name: str) -> Callable[..., np.ndarray]:
    kernel = getattr(kernels, name)

    def call(*args: Any) -> np.ndarray:
        counts[name] += 1
        return kernel(*args)

    return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each conv kernel has run."""
    counts = dict.fromkeys(["conv2d", "conv2d_transpose", "conv2d_weight_grad"], 0)
    for name in counts:
        monkeypatch.setattr(kernels, name, counted(counts, name))
    return counts


def conv_net(dtype: type = np.float64) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    shapes = [(3, 3, 1, 4), (4,), (2, 2, 4, 3), (3,), (27, 5), (5,)]
    arrays = [normal(*shape, seed=i).astype(dtype) for i, shape in enumerate(shapes)]
    w1, b1, w2, b2, w3, b3 = parameters = [Tensor(a, requires_grad=True) for a in arrays]

    def f(x: Tensor) -> Tensor:
        h = mdb.relu(mdb.conv2d(x, w1, b1, padding="same"))
        h = mdb.relu(mdb.conv2d(h, w2, b2, stride=2))
        return h.reshape(len(h), 27) @ w3 + b3

    return f, parameters


def test_an_input_gradient_never_pays_for_a_weight_gradient(calls: dict[str, int]) -> None:
    f, parameters = conv_net()
    x = leaf(2, 6, 6, 1, seed=9)
    y = (f(x) ** 2).sum()
    assert calls == {"conv2d": 2, "conv2d_transpose": 0, "conv2d_weight_grad": 0}
    mdb.grad(y, x)
    assert calls == {"conv2d": 2, "conv2d_transpose": 2, "conv2d_weight_grad": 0}
    mdb.grad(y, parameters)  # nor do the weights pay for the images' gradient
    assert calls == {"conv2d": 2, "conv2d_transpose": 3, "conv2d_weight_grad": 2}
    mdb.grad(y, parameters[2:])
    assert calls == {"conv2d": 2, "conv2d_transpose": 3, "conv2d_weight_grad": 3}


def test_a_jacobian_takes_one_backward_pass(calls: dict[str, int]) -> None:
    f, _ = conv_net()
    x = leaf(2, 6, 6, 1)
    J = jacobian_of(f(x), x)
    assert J.shape == (2, 5, 6, 6, 1)
    assert calls == {"conv2d": 2, "conv2d_transpose": 2, "conv2d_weight_grad": 0}
    mdb.jacobian(f, x)  # and one more, with one row, to check that the samples are independent
    assert calls == {"conv2d": 4, "conv2d_transpose": 6, "conv2d_weight_grad": 0}


def test_a_rule_that_is_not_needed_is_not_called() -> None:
    x = leaf(2)
    y = mdb.sign(x) * 2 + x
    with pytest.raises(ValueError, match=r"sign has no useful derivative.*x\.detach\(\)"):
        mdb.grad(y.sum(), x)
    z = leaf(2, seed=1)
    assert mdb.grad((mdb.sign(x) * z).sum(), z)[0].data.tolist() == np.sign(x.data).tolist()


# --- depth, threads, memory ---


@pytest.mark.slow
def test_a_graph_of_20000_operations() -> None:
    x = leaf()
    y = x
    for _ in range(20_000):
        y = y * 1.0
    (g,) = mdb.grad(y, x, create_graph=True)
    assert g.item() == 1
    # the square of the sum: its second derivative runs through all of it once more
    (h,) = mdb.grad(mdb.grad(y * y, x, create_graph=True)[0], x)
    assert h.item() == 2
    del y, g, h  # freeing it must not recurse either


def test_a_shared_node_is_visited_once() -> None:
    """2^60 paths lead from y to x."""
    x = leaf()
    y = x
    for _ in range(60):
        y = y + y
    assert mdb.grad(y, x)[0].item() == 2.0**60


def test_threads_differentiate_side_by_side() -> None:
    f, parameters = conv_net()
    images = [normal(3, 6, 6, 1, seed=s) for s in range(6)]

    def penalty_gradient(x: np.ndarray) -> list[np.ndarray]:
        penalty = mdb.abs(mdb.jacobian(f, x, create_graph=True)).sum()
        return [g.data for g in mdb.grad(penalty, parameters)]

    alone = [penalty_gradient(x) for x in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(penalty_gradient, images * 3))
    for got, expected in zip(together, alone * 3, strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_grad_is_for_one_thread_and_ends() -> None:
    x = leaf(2)
    inside, go_on = threading.Event(), threading.Event()

    def evaluate() -> bool:
        with mdb.no_grad():
            inside.set()
            assert go_on.wait(10)
            return (x * 2).requires_grad

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(evaluate)
        assert inside.wait(10)
        assert (x * 2).requires_grad  # while the other thread is in its no_grad
        go_on.set()
        assert not other.result()
    with suppress(ZeroDivisionError), mdb.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def made_by_operations(outputs: list[Tensor]) -> Iterator[Tensor]:
    seen: set[int] = set()
    stack = list(outputs)
    while stack:
        t = stack.pop()
        if id(t) not in seen and t._node is not None:
            seen.add(id(t))
            yield t
            stack.extend(t._node.inputs)


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_gc")
def test_no_reference_cycle_keeps_arrays_alive(op: Any) -> None:
    inputs = [Tensor(x, requires_grad=True) for x in op.inputs]
    y = op.f(*inputs)
    y = y * y  # so that the first gradient depends on the inputs, whatever the operation
    first = mdb.grad(y, inputs, normal(2, *y.shape), create_graph=True)
    second = mdb.grad(first, inputs, [normal(*g.shape) for g in first], create_graph=True)
    plain = mdb.grad(y, inputs, normal(*y.shape))
    graphs = [*made_by_operations([*first, *second]), *plain]
    alive = [ref for t in graphs for ref in (weakref.ref(t), weakref.ref(t.data))]
    del y, first, second, plain, graphs
    assert [ref() for ref in alive if ref() is not None] == []


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f, x, w: mdb.jacobian(f, x, create_graph=True),
        lambda f, x, w: mdb.grad(mdb.abs(mdb.jacobian(f, x, create_graph=True)).sum(), w, create_graph=True)[0],
        lambda f, x, w: mdb.jvp(f, x, x.data, create_graph=True)[1],
        lambda f, x, w: mdb.hvp(lambda x: (f(x) ** 2).sum(), x, x.data, create_graph=True)[1],
    ],
    ids=["jacobian", "double backpropagation", "jvp", "hvp"],
)
@pytest.mark.usefixtures("no_gc")
def test_derivatives_of_a_net_are_freed_with_their_result(derivative: Callable[..., Tensor]) -> None:
    f, parameters = conv_net()
    result = derivative(f, leaf(2, 6, 6, 1, seed=9), parameters[0])
    alive = [ref for t in made_by_operations([result]) for ref in (weakref.ref(t), weakref.ref(t.data))]
    assert len(alive) >= 8
    del result
    assert [ref() for ref in alive if ref() is not None] == []


@pytest.mark.usefixtures("no_gc")
def test_a_failed_grad_keeps_nothing_alive() -> None:
    x = leaf(2)
    y = mdb.sign(x * 2) * 3
    alive = [weakref.ref(t) for t in made_by_operations([y])]
    with suppress(ValueError):  # pytest.raises would keep the traceback, and with it all that grad had in hand
        mdb.grad(y.sum(), x)
    del y
    assert [ref() for ref in alive if ref() is not None] == []


# --- vjp, jvp, hvp, jacobian ---


def test_vjp_has_its_inputs_structure() -> None:
    x, w = leaf(2), leaf(2, seed=1)
    y, g = mdb.vjp(lambda x: x * 2, x, np.ones(2))
    assert isinstance(g, Tensor)
    assert not y.requires_grad
    y, gs = mdb.vjp(lambda x, w: x * w, (x, w), np.ones(2), create_graph=True)
    assert isinstance(gs, tuple)
    assert [t.shape for t in gs] == [(2,), (2,)]
    assert y.requires_grad
    y, gs = mdb.vjp(lambda x: x * 2, [x.data], np.ones(2))
    assert isinstance(gs, tuple)
    assert len(gs) == 1


def test_derivatives_of_a_function_that_ignores_its_input_are_zero() -> None:
    x, v = normal(2, 3), normal(2, 3, seed=1)
    constant = Tensor(4.0)
    assert_close(mdb.vjp(lambda x: constant, x, 1.0)[1], np.zeros((2, 3)))
    assert_close(mdb.vjp(lambda x: constant, x, np.ones(5))[1], np.zeros((5, 2, 3)))
    assert_close(mdb.jvp(lambda x: constant, x, v)[1], 0.0)
    assert_close(mdb.hvp(lambda x: constant, x, v)[1], np.zeros((2, 3)))
    assert_close(mdb.hvp(mdb.sum, x, v)[1], np.zeros((2, 3)))
    assert_close(mdb.jvp(lambda x: x, x, v)[1], v)


def test_outer_graphs_stay_connected() -> None:
    """A Tensor that already requires a gradient is used itself, so a derivative is a function of what is outside."""
    x, w = leaf(3), leaf(3, seed=1)
    _, g = mdb.vjp(lambda x: (x * x * w).sum(), x, 1.0, create_graph=True)
    assert_close(mdb.grad(g.sum(), w)[0], 2 * x.data)
    assert_close(mdb.grad(g.sum(), x)[0], 2 * w.data)
    assert x._node is None
    assert x.requires_grad


def test_an_array_is_not_made_to_require_a_gradient() -> None:
    x = Tensor(normal(3))
    mdb.vjp(mdb.exp, x, np.ones(3))
    mdb.jacobian(lambda x: x.reshape(3, 1), x)
    assert not x.requires_grad


def smooth(x: Tensor, w: Tensor) -> Tensor:
    return mdb.softmax(mdb.exp(x * 0.3) @ w) / (1 + (x * x).sum())


def dense(f: Callable[..., Tensor], x: np.ndarray) -> np.ndarray:
    """All of f's Jacobian, from one vjp for each output: (size of f(x), size of x)."""
    size = f(Tensor(x)).size
    shape = f(Tensor(x)).shape
    return np.stack([mdb.vjp(f, x, row.reshape(shape))[1].data.reshape(-1) for row in np.eye(size)])


def test_jvp_is_the_dense_jacobian_times_v() -> None:
    x, w, vx, vw = normal(2, 3), normal(3, 4, seed=1), normal(2, 3, seed=2), normal(3, 4, seed=3)
    y, jv = mdb.jvp(smooth, [x, w], [vx, vw])
    by_x, by_w = dense(lambda t: smooth(t, Tensor(w)), x), dense(lambda t: smooth(Tensor(x), t), w)
    assert_close(y, smooth(Tensor(x), Tensor(w)).data)
    assert_close(jv.data.reshape(-1), by_x @ vx.reshape(-1) + by_w @ vw.reshape(-1))
    assert not jv.requires_grad


def test_jvp_of_every_operation(op: Any) -> None:
    vs = [normal(*x.shape, seed=i) for i, x in enumerate(op.inputs)]
    y, jv = mdb.jvp(op.f, op.inputs, vs)
    u = normal(*y.shape, seed=9)
    _, rows = mdb.vjp(op.f, op.inputs, u)
    assert_close(np.vdot(u, jv.data), sum(np.vdot(g.data, v) for g, v in zip(rows, vs, strict=True)))


def test_jvp_can_be_differentiated() -> None:
    assert mdb.gradcheck(
        lambda x, v: mdb.jvp(lambda x: mdb.exp(x * x), x, v, create_graph=True)[1], [normal(3), normal(3, seed=1)]
    )


def test_hvp_of_a_quadratic_is_its_matrix() -> None:
    a = normal(4, 4)
    h = a + a.T
    v = normal(4, seed=1)
    value, hv = mdb.hvp(lambda x: x @ a @ x, normal(4, seed=2), v)
    assert value.shape == ()
    assert_close(hv, h @ v)


def test_hvp_of_several_inputs_has_the_mixed_terms() -> None:
    x, w, vx, vw = normal(3), normal(3, seed=1), normal(3, seed=2), normal(3, seed=3)
    _, (hx, hw) = mdb.hvp(lambda x, w: (x * x * w).sum(), [x, w], [vx, vw])
    assert_close(hx, 2 * w * vx + 2 * x * vw)
    assert_close(hw, 2 * x * vx)


def test_the_hessian_is_symmetric() -> None:
    f, parameters = conv_net()
    x = normal(2, 6, 6, 1, seed=9)
    w1, w3 = parameters[0], parameters[4]

    def loss(w1: Tensor, w3: Tensor) -> Tensor:  # conv_net's f reads these very Tensors
        return mdb.logsumexp(f(Tensor(x)), axis=None) + (f(Tensor(x)) ** 3).mean()

    u, v = ([normal(*w.shape, seed=s + i) for i, w in enumerate((w1, w3))] for s in (20, 30))
    hu, hv = mdb.hvp(loss, (w1, w3), u)[1], mdb.hvp(loss, (w1, w3), v)[1]
    one = sum(np.vdot(a, b.data) for a, b in zip(v, hu, strict=True))
    other = sum(np.vdot(a, b.data) for a, b in zip(u, hv, strict=True))
    scale = math.sqrt(sum(np.sum(b.data**2) for b in hu) * sum(np.sum(a**2) for a in v))
    assert abs(one - other) <= 1e-12 * scale
    assert abs(one) > 1e-3 * scale  # not a symmetry of zeros


def test_jacobian_is_a_loop_over_samples_and_outputs() -> None:
    f, _ = conv_net()
    x = normal(3, 6, 6, 1, seed=9)
    J = mdb.jacobian(f, x)
    assert not J.requires_grad
    for n in range(3):
        one = Tensor(x[n : n + 1], requires_grad=True)
        y = f(one)
        for i in range(5):
            assert_close(J.data[n, i], mdb.grad(y[0, i], one)[0].data[0])


def test_jacobian_of_outputs_that_exist() -> None:
    x = leaf(3, 4)
    y = mdb.softmax(x @ normal(4, 2, seed=1))
    J = jacobian_of(y, x, create_graph=True)
    np.testing.assert_array_equal(J.data, mdb.jacobian(lambda x: mdb.softmax(x @ normal(4, 2, seed=1)), x).data)
    assert J.requires_grad


def test_the_jacobian_can_be_differentiated() -> None:
    w = normal(3, 2, seed=1)
    assert mdb.gradcheck(
        lambda x, w: mdb.jacobian(lambda x: mdb.softmax(x @ w), x, create_graph=True), [normal(2, 3), w]
    )


@pytest.mark.parametrize("n", [0, 1])
def test_batches_of_none_and_one(n: int) -> None:
    f, parameters = conv_net()
    x = leaf(n, 6, 6, 1, seed=9)
    J = mdb.jacobian(f, x, create_graph=True)
    assert J.shape == (n, 5, 6, 6, 1)
    for g, p in zip(mdb.grad(mdb.abs(J).sum() + f(x).sum(), parameters), parameters, strict=True):
        assert g.shape == p.shape
        assert (np.abs(g.data).sum() > 0) == (n > 0)


def test_float32_stays_float32() -> None:
    f, _ = conv_net(np.float32)
    x = normal(2, 6, 6, 1).astype(np.float32)
    assert mdb.jacobian(f, x).dtype == np.float32
    assert mdb.jvp(f, x, x.astype(np.float64))[1].dtype == np.float32
    assert mdb.hvp(lambda x: mdb.logsumexp(f(x), None), x, x.astype(np.float64))[1].dtype == np.float32


def test_a_list_of_numbers_is_one_value_and_a_list_of_tensors_is_several() -> None:
    x = mdb.Tensor([1.0, 2.0], requires_grad=True)
    (g,) = mdb.grad(x**2, x, [1.0, 10.0])  # one cotangent, not two
    assert g.numpy().tolist() == [2.0, 40.0]
    assert mdb.vjp(lambda t: t**2, [1.0, 2.0], [1.0, 10.0])[1].numpy().tolist() == [2.0, 40.0]
    assert len(mdb.grad(x.sum(), [x, x])) == 2
    images = [np.ones(3), np.zeros(3)]  # a batch of two, not two inputs
    assert mdb.jacobian(lambda t: t * 2, images).shape == (2, 3, 3)


def test_two_threads_at_once_find_the_bits_of_one_after_the_other() -> None:
    """Different graphs, first and second order, in two threads: no state is shared but a thread's own grad mode."""

    def second_order(seed: int) -> list[bytes]:
        rng = np.random.default_rng(seed)
        x, w = (mdb.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((4, 9, 9, 2), (3, 3, 2, 5)))
        found = []
        for _ in range(5):
            y = mdb.relu(mdb.conv2d(x, w, stride=2)).sum((1, 2))
            with mdb.no_grad():
                found.append(mdb.softmax(y).data.tobytes())
            (g,) = mdb.grad((mdb.logsumexp(y) ** 2).sum(), x, create_graph=True)
            found += [t.data.tobytes() for t in mdb.grad(mdb.abs(g).sum(), [x, w])]
        return found

    alone = [second_order(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(second_order, range(4)))
    assert together == alone


def test_a_gradient_without_its_graph_says_what_is_missing() -> None:
    x = leaf(2)
    (g,) = mdb.grad((x * x).sum(), x)
    with pytest.raises(ValueError, match="by grad without create_graph=True"):
        mdb.grad(g.sum(), x)
    for outputs, inputs, what in ((x * x).sum(), (), "input"), ((), x, "output"):
        with pytest.raises(ValueError, match=f"grad: there must be at least one {what}"):
            mdb.grad(outputs, inputs)


def test_only_the_input_that_changed_is_named() -> None:
    a, b = (Tensor([1.0], requires_grad=True, name=name) for name in "ab")
    a.data = [2.0]
    y = a * b
    b.data = [3.0]
    with pytest.raises(ValueError, match="grad: 'b' was given new data after multiply had used it"):
        mdb.grad(y, a)


# --- hessian, value_and_grad, full_jacobian ---


def rational(lib: Any, a: Any, b: Any) -> Any:
    """A smooth function of a (2, 3) and b (3,), in operations that PyTorch and HIPS autograd have too."""
    return (lib.matmul(a * a, b) + lib.matmul(a, b) ** 3) / (1 + (b * b).sum())


def transcendental(lib: Any, a: Any, b: Any) -> Any:
    return lib.log(1 + lib.exp(lib.matmul(lib.sin(a), b))) * lib.sqrt(1 + (a * b).sum() ** 2) + lib.tanh(a[:, 1] * b[0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("f", [rational, transcendental])
def test_hessian_and_full_jacobian_are_those_of_pytorch_and_hips(f: Callable[..., Any], seed: int) -> None:
    torch = pytest.importorskip("torch")
    arrays = normal(2, 3, seed=seed), normal(3, seed=seed + 50)
    theirs = tuple(map(torch.from_numpy, arrays))

    ours = mdb.full_jacobian(lambda *xs: f(mdb, *xs), arrays)
    expected = torch.autograd.functional.jacobian(lambda *xs: f(torch, *xs), theirs)
    for i, J in enumerate(ours):
        assert_close(J, expected[i].numpy())
        assert_close(J, hips_jacobian(lambda *xs: f(anp, *xs), i)(*arrays))

    blocks = mdb.hessian(lambda *xs: f(mdb, *xs).sum(), arrays)
    expected = torch.autograd.functional.hessian(lambda *xs: f(torch, *xs).sum(), theirs)
    assert isinstance(blocks, tuple)
    for i, row in enumerate(blocks):
        for j, block in enumerate(row):
            assert_close(block, expected[i][j].numpy())
            n, m = arrays[i].size, arrays[j].size
            assert_close(block.data.reshape(n, m), blocks[j][i].data.reshape(m, n).T)
        of_one = hips_hessian(lambda x, i=i: anp.sum(f(anp, *[x if k == i else y for k, y in enumerate(arrays)])))
        assert_close(row[i], of_one(arrays[i]))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (4,), (2, 3), (2, 1, 3)], ids=str)
def test_hessian_is_symmetric_and_its_columns_are_hvps(shape: tuple[int, ...]) -> None:
    a = normal(*shape, seed=1)

    def f(x: Tensor) -> Tensor:
        return mdb.softplus((x * a).sum()) * (x * x * x).sum() + mdb.exp(x * 0.3).sum()

    x = normal(*shape)
    h = np.asarray(mdb.hessian(f, x))
    n = x.size
    assert h.shape == shape + shape
    assert_close(h.reshape(n, n), h.reshape(n, n).T, 1e-12)
    for i in range(n):
        v = np.eye(n)[i].reshape(shape)
        assert_close(h.reshape(n, n)[:, i].reshape(shape), mdb.hvp(f, x, v)[1])


def test_hessian_of_a_linear_or_constant_function_is_zero() -> None:
    x = normal(2, 3)
    assert_close(mdb.hessian(mdb.sum, x), np.zeros((2, 3, 2, 3)))
    assert_close(mdb.hessian(lambda x: Tensor(3.0), x), np.zeros((2, 3, 2, 3)))
    assert_close(mdb.hessian(lambda x: x, 2.0), 0.0)
    (aa, ab), (ba, bb) = mdb.hessian(lambda a, b: (a[0] * b).sum(), (x, normal(3)))  # type: ignore[misc]
    assert [t.shape for t in (aa, ab, ba, bb)] == [(2, 3, 2, 3), (2, 3, 3), (3, 2, 3), (3, 3)]
    assert_close(ab.data[0], np.eye(3))
    assert_close(aa, np.zeros((2, 3, 2, 3)))
    assert_close(mdb.full_jacobian(lambda x: Tensor(np.ones((4, 1))), x), np.zeros((4, 1, 2, 3)))


def test_the_hessian_of_a_value_with_axes() -> None:
    assert_close(mdb.hessian(lambda x: (x**3).reshape(1, 1), 2.0), 12.0)
    assert_close(mdb.hessian(lambda x: (x**3).sum(keepdims=True), [1.0, 2.0]), np.diag([6.0, 12.0]))


def test_third_order_through_create_graph() -> None:
    x = normal(3)
    third = mdb.full_jacobian(lambda x: mdb.hessian(lambda t: (t**4).sum(), x, create_graph=True), x)
    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 24 * x
    assert_close(third, expected)
    t = Tensor(x, requires_grad=True)
    h = mdb.hessian(lambda t: mdb.exp(t).sum() * t.sum(), t, create_graph=True)
    assert isinstance(h, Tensor)
    # the sum of H is sum_i e^x_i (sum_j x_j + 2 n)
    assert_close(mdb.grad(h.sum(), t)[0], np.exp(x) * (x.sum() + 6) + np.exp(x).sum())
    assert mdb.gradcheck(
        lambda x: mdb.hessian(lambda t: rational(mdb, t, Tensor([0.2, 1.0, -0.5])).sum(), x, True), normal(2, 3)
    )  # type: ignore[arg-type, return-value]
    assert not mdb.hessian(lambda t: (t**3).sum(), t).requires_grad  # type: ignore[union-attr]


def test_value_and_grad() -> None:
    x, w = normal(3), normal(3, seed=1)
    value, g = mdb.value_and_grad(lambda x: (x**3).sum(), x)
    assert value.item() == pytest.approx((x**3).sum())
    assert_close(g, 3 * x**2)
    assert not value.requires_grad
    value, gs = mdb.value_and_grad(lambda x, w: (x * x * w).sum(), (x, w), create_graph=True)
    assert isinstance(gs, tuple)
    assert_close(gs[0], 2 * x * w)
    assert_close(gs[1], x * x)
    assert value.requires_grad
    assert gs[0].requires_grad
    value, (gx, gw) = mdb.value_and_grad(lambda x, w: x.sum(), [x, w])
    assert_close(gx, np.ones(3))
    assert_close(gw, np.zeros(3))
    assert_close(mdb.value_and_grad(lambda x: Tensor(2.0), x)[1], np.zeros(3))
    assert mdb.value_and_grad(lambda x: x.reshape(1, 1), 3)[0].shape == (1, 1)


# --- what inputs can be ---


@pytest.mark.parametrize(
    "x", [3.0, 3, np.float64(3), np.array(3.0), Tensor(3.0), Tensor(3.0, requires_grad=True)], ids=repr
)
def test_inputs_without_axes(x: Any) -> None:
    def cube(x: Tensor) -> Tensor:
        return x**3

    value, g = mdb.vjp(cube, x, 1.0)
    assert (value.shape, value.item(), np.asarray(g).tolist()) == ((), 27.0, 27.0)
    assert_close(mdb.vjp(cube, x, [1.0, 2.0])[1], [27.0, 54.0])
    assert_close(mdb.jvp(cube, x, 2)[1], 54.0)
    assert_close(mdb.hvp(cube, x, 2.0)[1], 36.0)
    assert_close(mdb.value_and_grad(cube, x)[1], 27.0)
    assert_close(mdb.hessian(cube, x), 18.0)
    assert_close(mdb.full_jacobian(cube, x), 27.0)
    with pytest.raises(ValueError, match=r"must turn x of shape \(\) into \(N, c\)"):
        mdb.jacobian(cube, x)


INPUTS: list[tuple[Any, int]] = [
    ([1.0, 2.0], 0),  # a list of numbers is one tensor
    (np.array([1.0, 2.0]), 0),
    (Tensor([1.0, 2.0]), 0),
    ((np.array([1.0, 2.0]),), 1),
    ([np.array([1.0, 2.0])], 1),
    ([Tensor([1.0, 2.0], requires_grad=True)], 1),
    (([1.0, 2.0], 3.0), 2),
    ((Tensor([1.0, 2.0]), 3), 2),
    ([np.array([1.0, 2.0]), 3.0], 2),
]


@pytest.mark.parametrize(("inputs", "count"), INPUTS, ids=lambda v: repr(v)[:40])
def test_results_have_the_structure_of_the_inputs(inputs: Any, count: int) -> None:
    """count is 0 for an input that stands alone, else the number of inputs in the collection."""

    def f(x: Tensor, scale: Any = 3.0) -> Tensor:
        return ((x**3) * scale).sum()

    one = np.array([1.0, 2.0])
    shapes = [(2,), ()][: max(count, 1)]
    first = [9 * one**2, np.asarray((one**3).sum())][: len(shapes)]
    direction = [np.array([1.0, 0.0]), np.asarray(1.0)][: len(shapes)]
    second = [18 * one * direction[0] + (3 * one**2 if count == 2 else 0), np.asarray(3.0)][: len(shapes)]

    for got, expected in (
        (mdb.vjp(f, inputs, 1.0)[1], first),
        (mdb.value_and_grad(f, inputs)[1], first),
        (mdb.full_jacobian(f, inputs), first),
        (mdb.hvp(f, inputs, tuple(direction))[1], second),
    ):
        assert isinstance(got, tuple if count else Tensor)
        for g, e in zip(got if isinstance(got, tuple) else [got], expected, strict=True):
            assert_close(g, e)
    assert_close(mdb.jvp(f, inputs, direction)[1], sum((a * b).sum() for a, b in zip(first, direction, strict=True)))
    h = mdb.hessian(f, inputs)
    if isinstance(h, tuple):
        assert [[b.shape for b in row] for row in h] == [[a + b for b in shapes] for a in shapes]
        h = h[0][0]
    assert count > 0 or isinstance(h, Tensor)
    assert_close(h, np.diag(18 * one))


def test_a_list_of_numbers_beside_several_inputs_is_one_number_each() -> None:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return a * b

    for v in ([10.0, 100.0], (10.0, 100.0), [np.asarray(10.0), 100]):
        assert mdb.jvp(product, (2.0, 3.0), v)[1].item() == 230
        assert [t.item() for t in mdb.hvp(product, (2.0, 3.0), v)[1]] == [100, 10]
    x = leaf()
    for one in ([3.0], (3.0,), [Tensor(3.0)], np.asarray(3.0)):
        (g,) = mdb.grad([x * 2], [x], one)  # [3.0] is one cotangent without axes, not a stack of one
        assert (g.shape, g.item()) == ((), 6.0)


@pytest.mark.parametrize("name", ["vjp", "jvp", "hvp", "value_and_grad", "hessian", "jacobian", "full_jacobian"])
@pytest.mark.parametrize(
    ("result", "message"),
    [(None, "one Tensor; it returned NoneType"), ((Tensor(1.0), Tensor(1.0)), "one Tensor; it returned tuple"),
     (np.ones(2), "one Tensor; it returned ndarray"), (1.0, "one Tensor; it returned float")],
    ids=["None", "tuple", "ndarray", "float"],
)  # fmt: skip
def test_what_f_returns_is_checked(name: str, result: Any, message: str) -> None:
    x = np.ones((2, 3))
    args = (x,) if name in ("vjp", "jvp", "hvp") else ()
    with pytest.raises(TypeError, match=message):
        getattr(mdb, name)(lambda x: result, x, *args)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: mdb.hessian(mdb.exp, x), ValueError, r"hessian: f must return one value; it .* shape \(2, 3\)"),
        (lambda x: mdb.value_and_grad(mdb.exp, x), ValueError, r"value_and_grad: f must .* the shape \(2, 3\)"),
        (lambda x: mdb.vjp(mdb.exp, x, np.ones(2)), ValueError, r"vjp: v must be float64 of shape \(\.\.\., 2, 3\)"),
        (lambda x: mdb.vjp(mdb.exp, x, Tensor(np.ones((2, 3), "f"))), ValueError, "vjp: v must .*got float32"),
        (lambda x: mdb.jvp(mdb.exp, x, Tensor(np.ones((2, 3), "f"))), ValueError, "jvp: v must have .*float64; got f"),
        (lambda x: mdb.hvp(mdb.sum, x, Tensor(np.ones((2, 3), "f"))), ValueError, "hvp: v must have .*float64; got f"),
        (lambda x: mdb.vjp(lambda: Tensor(1.0), (), 1.0), ValueError, "there must be at least one input"),
        (lambda x: mdb.vjp(mdb.exp, None, 1.0), TypeError, "float32 or float64; got object"),  # type: ignore[arg-type]
        (lambda x: mdb.vjp(mdb.exp, x, None), TypeError, "float32 or float64; got object"),  # type: ignore[arg-type]
        (lambda x: mdb.jvp(lambda a, b: a, (x, x), x), ValueError, "2 inputs need as many directions v; got 1"),
    ],
)  # fmt: skip
def test_wrong_arguments(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(np.ones((2, 3)))
    assert str(caught.value).isprintable()


# --- unused inputs ---


def test_unused_inputs() -> None:
    x, b, c = leaf(2, name="x"), leaf(3, name="b"), leaf(name="c")
    y = (x * x).sum()
    for inputs in (b, [b], (b,), [b, c]):
        with pytest.raises(ValueError, match="do not depend on 'b'"):
            mdb.grad(y, inputs)
    assert_close(mdb.grad(y, [x, b])[1], np.zeros(3))
    for inputs in (b, [b]):
        (g,) = mdb.grad(y, inputs, allow_unused=True)
        assert_close(g, np.zeros(3))
    assert_close(mdb.grad(y, b, np.ones(4), allow_unused=True)[0], np.zeros((4, 3)))
    with pytest.raises(ValueError, match="do not depend on 'b', 'c': give allow_unused=True for zeros"):
        mdb.grad(y, [b, x, c], allow_unused=False)
    assert_close(mdb.grad(y, [x], allow_unused=False)[0], 2 * x.data)
    for constant in Tensor(2.0), y.detach():
        assert_close(mdb.grad(constant, [x, b], allow_unused=True)[0], np.zeros(2))
        for choice in None, False:
            with pytest.raises(ValueError, match=r"output 0 .* does not require a gradient"):
                mdb.grad(constant, x, allow_unused=choice)
    assert_close(mdb.grad([y, Tensor(2.0)], x, allow_unused=True)[0], 2 * x.data)
    with pytest.raises(ValueError, match=r"input 0 .* does not require a gradient"):
        mdb.grad(y, Tensor(1.0), allow_unused=True)


# --- what could be lost ---


@pytest.mark.parametrize("requires_grad", [False, True])
def test_an_input_given_twice_has_two_partial_derivatives(requires_grad: bool) -> None:
    x = Tensor([2.0, 3.0], requires_grad=requires_grad)

    def f(a: Tensor, b: Tensor) -> Tensor:
        return (a * a * b).sum()

    a, b = 2 * x.data**2, x.data**2
    for got in (mdb.vjp(f, (x, x), 1.0)[1], mdb.value_and_grad(f, [x, x])[1], mdb.full_jacobian(f, (x, x))):
        assert_close(got[0], a)
        assert_close(got[1], b)
    assert_close(mdb.jvp(f, (x, x), (np.ones(2), np.zeros(2)))[1], a.sum())
    assert_close(mdb.hvp(f, (x, x), (np.zeros(2), np.ones(2)))[1][0], 2 * x.data)
    (aa, ab), (ba, bb) = mdb.hessian(f, (x, x))  # type: ignore[misc]
    assert_close(aa, np.diag(2 * x.data))
    assert_close(ab, np.diag(2 * x.data))
    assert_close(ba, np.diag(2 * x.data))
    assert_close(bb, np.zeros((2, 2)))


@pytest.mark.parametrize("requires_grad", [False, True])
def test_an_input_made_from_another_is_independent_of_it(requires_grad: bool) -> None:
    x = Tensor([2.0, 3.0], requires_grad=requires_grad)
    a, b = mdb.vjp(lambda a, b: (a * b).sum(), (x, 5 * x), 1.0)[1]
    assert_close(a, 5 * x.data)
    assert_close(b, x.data)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_perturbations_are_not_confused(requires_grad: bool) -> None:
    """d/dx (x d/dy (x + y)) = 1 (Siskind and Pearlmutter 2005); the inner derivative is in y alone, at y = x too."""
    x = Tensor(3.0, requires_grad=requires_grad)

    def inner(x: Tensor) -> Tensor:
        _, g = mdb.value_and_grad(lambda y: x + y, 1.0, create_graph=True)
        return x * g  # type: ignore[operator]

    assert mdb.value_and_grad(inner, x)[1].item() == 1.0  # type: ignore[union-attr]

    def at_x(x: Tensor) -> Tensor:
        _, g = mdb.value_and_grad(lambda y: x * y * y, x * 1, create_graph=True)
        return g  # type: ignore[return-value]

    assert mdb.value_and_grad(at_x, x)[1].item() == 12.0  # type: ignore[union-attr]  # 2 x y at y = x, so 4 x


def test_an_input_used_as_argument_and_directly_is_refused() -> None:
    x = leaf(3, name="x")
    doubled = x * 2
    for f in (lambda t: (t * x).sum(), lambda t: (t * doubled).sum()):
        with pytest.raises(ValueError, match=r"uses input 0 \('x'\) as its argument and directly too: pass x \* 1"):
            mdb.vjp(f, x, 1.0)
    assert_close(mdb.vjp(lambda t: (t * x).sum(), x * 1, 1.0)[1], x.data)
    assert_close(mdb.vjp(lambda t: (t * x).sum(), x.detach(), 1.0)[1], x.data)


def test_a_model_may_read_its_parameters_itself() -> None:
    w = leaf(3, 2, name="w")
    x = normal(4, 3)

    def loss(_: Tensor) -> Tensor:
        return ((Tensor(x) @ w) ** 2).sum()

    assert_close(mdb.value_and_grad(loss, w)[1], 2 * x.T @ x @ w.data)
    assert_close(np.asarray(mdb.hessian(loss, w)).reshape(6, 6), np.kron(2 * x.T @ x, np.eye(2)))


def test_a_function_that_returns_its_input() -> None:
    v, constant, variable = leaf(3, seed=1), Tensor(normal(3)), leaf(3)
    assert_close(mdb.vjp(lambda t: constant, constant, v)[1], np.zeros(3))
    assert_close(mdb.vjp(lambda t: variable, variable, v)[1], v.data)
    for x in constant, variable:
        value, g = mdb.vjp(lambda t: t, x, v)
        assert_close(value, x.data)
        assert_close(g, v.data)
        assert_close(mdb.jvp(lambda t: t, x, v)[1], v.data)
        assert_close(mdb.full_jacobian(lambda t: t, x), np.eye(3))
    assert_close(mdb.jacobian(lambda t: t, normal(2, 3)), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_without_create_graph_nothing_requires_a_gradient() -> None:
    """A cotangent that requires a gradient goes through some rules as it is."""
    x, v = leaf(3), leaf(3, seed=1)
    results = [
        *mdb.grad(x, x, v),
        *mdb.grad(x + 1, x, v),
        *mdb.grad(x * x, x, v),
        *mdb.vjp(lambda t: t, x, v),
        *mdb.jvp(lambda t: t, x, v),
        *mdb.hvp(lambda t: (t * t).sum() * 0.5, x, v),
        *mdb.value_and_grad(lambda t: t.sum(), x),
        mdb.full_jacobian(lambda t: t, x),
        mdb.hessian(lambda t: (t**3).sum(), x),
    ]
    assert [t for t in results if t.requires_grad] == []  # type: ignore[union-attr]
    x.backward(v)
    assert x.grad is not None
    assert not x.grad.requires_grad


def test_each_gradient_is_a_tensor_of_its_own() -> None:
    """The rule of + returns its cotangent for both operands.  Whoever scales one gradient must not scale another."""
    a, b = leaf(3), leaf(3, seed=1)
    v = Tensor(np.ones(3))
    (a + b).backward(v)
    for p in a, b:
        assert p.grad is not None
        p.grad.data = p.grad.data * 0.5
    for g in a.grad, b.grad, *mdb.grad(a + b, [a, b, a], v * 0.5, create_graph=True):
        assert_close(g, np.full(3, 0.5))
    assert_close(v, np.ones(3))
    assert len({id(g) for g in mdb.grad(a + b, [a, b, a], v, create_graph=True)} | {id(v)}) == 4


def test_derivatives_in_the_cotangent() -> None:
    x, v = leaf(3), leaf(3, seed=1)
    for g in (
        mdb.grad(x * x, x, v, create_graph=True)[0],
        mdb.vjp(lambda t: t * t, x, v, create_graph=True)[1],
        mdb.jvp(lambda t: t * t, x, v, create_graph=True)[1],
        mdb.hvp(lambda t: (t**3).sum() / 3, x, v, create_graph=True)[1],
    ):
        assert_close(mdb.grad(g.sum(), v)[0], 2 * x.data)  # type: ignore[union-attr]
        assert_close(mdb.grad(g.sum(), x)[0], 2 * v.data)  # type: ignore[union-attr]


def test_a_gradient_required_after_the_graph_was_made_is_refused() -> None:
    """x * 2 was not recorded, so the derivative in x would lack its part."""
    x, w = Tensor([3.0], name="x"), leaf(1)
    y = (x * w + x * 2).sum()
    x.requires_grad = True
    for create_graph in False, True:
        with pytest.raises(ValueError, match="'x' required no gradient when multiply used it: set requires_grad first"):
            mdb.grad(y, x, create_graph=create_graph)
    assert_close(mdb.grad(y, w)[0], x.data)
    assert_close(mdb.grad((x * w + x * 2).sum(), x)[0], w.data + 2)
    x.data = [4.0]
    with pytest.raises(ValueError, match="'x' was given new data after multiply had used it"):
        mdb.grad(y, w)


def test_functions_are_differentiated_under_no_grad() -> None:
    x = normal(3)
    with mdb.no_grad():
        assert_close(mdb.vjp(mdb.exp, x, np.ones(3))[1], np.exp(x))
        assert_close(mdb.jvp(mdb.exp, x, np.ones(3))[1], np.exp(x))
        assert_close(mdb.value_and_grad(lambda t: mdb.exp(t).sum(), leaf(3))[1], np.exp(x))
        assert_close(mdb.hessian(lambda t: mdb.exp(t).sum(), x), np.diag(np.exp(x)))
        J = mdb.jacobian(lambda t: t * t, x[:, None], create_graph=True)
        assert_close(J, 2 * x[:, None, None])
        assert J.requires_grad
        t = leaf(3)
        y = (t * t).sum()
    with pytest.raises(ValueError, match="no_grad"):
        mdb.grad(y, t)


# --- samples that interact ---


def attention(x: Tensor) -> Tensor:
    return mdb.softmax(x @ x.T) @ x


def shifted(x: Tensor) -> Tensor:
    """Sample n uses sample n - 1 alone; the first one is by itself."""
    return x + mdb.exp(x)[np.maximum(np.arange(len(x)) - 1, 0)] * (np.arange(len(x)) > 0).astype(x.dtype)[:, None]


def one_pair(x: Tensor) -> Tensor:
    """Only the last sample uses another one, and in one output alone."""
    weight = np.zeros(x.shape, x.dtype)
    weight[-1, 1] = 1
    return x * x + mdb.exp(x[0]) * weight


INTERACTING: dict[str, Callable[[Tensor], Tensor]] = {
    "batch normalisation": lambda x: (x - x.mean(0)) / mdb.sqrt(((x - x.mean(0)) ** 2).mean(0) + 0.1),
    "minus the batch mean": lambda x: x - x.mean(0),
    "the sample before": shifted,
    "one pair": one_pair,
    "attention": attention,
    "in reverse": lambda x: x[::-1] * 2.0,
    "softmax over the batch": lambda x: mdb.softmax(x, 0),
    "relu minus its batch mean": lambda x: mdb.relu(x) - 0.1 * mdb.relu(x).mean(0),
}


@pytest.mark.parametrize("name", INTERACTING)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 3, 17, 130])
def test_jacobian_says_that_samples_interact(name: str, dtype: type, n: int) -> None:
    f = INTERACTING[name]
    x = normal(n, 3).astype(dtype)
    for create_graph in False, True:
        with pytest.raises(ValueError, match=r"other samples' outputs depend on sample .*: use full_jacobian"):
            mdb.jacobian(f, x, create_graph)
    x[0] = np.nan
    with np.errstate(invalid="ignore"), suppress(ValueError):  # NaN raises nothing but this
        mdb.jacobian(f, x)


@pytest.mark.parametrize("name", INTERACTING)
def test_the_full_jacobian_of_samples_that_interact(name: str) -> None:
    f = INTERACTING[name]
    x = normal(4, 3)
    J = mdb.full_jacobian(f, x)
    assert isinstance(J, Tensor)
    assert J.shape == (4, 3, 4, 3)
    assert_close(J.data.reshape(12, 12), dense(f, x))


INDEPENDENT: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": mdb.softmax,
    "saturated softmax": lambda x: mdb.softmax(1000 * x),
    "softmax of one class": lambda x: mdb.softmax(x @ np.ones((4, 1), x.dtype)),
    "the sum of a softmax": lambda x: mdb.softmax(x).sum(1, keepdims=True),
    "cancelling products": lambda x: (x @ np.ones((4, 3), x.dtype)) @ (np.array([[1], [2], [-3]], x.dtype) / 7),
    "the mean taken away and added": lambda x: x - x.mean(0) + x.mean(0),
    "shifted by the largest of the batch": lambda x: mdb.exp(x - x.max()) * mdb.exp(x.max()),
    "dead units": lambda x: mdb.relu(-mdb.abs(x)),
    "tiny": lambda x: x * x * 1e-30,
    "huge": lambda x: x * x * 1e30,
    "constant in x": lambda x: x * 0.0,
    "infinite": lambda x: mdb.log(mdb.relu(x)),
}


@pytest.mark.parametrize(  # an empty batch has no largest value
    ("name", "n"), [(name, n) for name in INDEPENDENT for n in (0, 1, 2, 16, 130) if n or "largest" not in name]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_independent_samples_raise_no_alarm(name: str, dtype: type, n: int) -> None:
    f = INDEPENDENT[name]
    x = normal(n, 4).astype(dtype)
    with np.errstate(all="ignore"):
        for create_graph in False, True:
            assert len(mdb.jacobian(f, x, create_graph)) == n
        x[: n // 2] = np.nan
        if n and "batch" not in name and "mean" not in name:
            mdb.jacobian(f, x)
            x[: n // 2] = np.inf
            mdb.jacobian(f, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_models_raise_no_alarm(name: str, dtype: str) -> None:
    model = mdb.nn.build_model(name, dtype=dtype)
    for n in (2, 130) if name == "C" else (1, 2, 9):
        for scale in 1, 30:
            x = (scale * np.random.default_rng(n).uniform(0, 1, (n, 28, 28, 1))).astype(dtype)
            for f in (model, lambda t: mdb.softmax(model(t)), lambda t: mdb.softmax(30 * model(t))):
                assert mdb.jacobian(f, x).shape == (n, 10, 28, 28, 1)


def test_the_check_of_independence_leaves_the_result_alone() -> None:
    f, _ = conv_net(np.float32)
    x = Tensor(normal(5, 6, 6, 1).astype(np.float32), requires_grad=True)
    with mdb.trace() as plain:
        expected = jacobian_of(f(x), x, create_graph=True)
    with mdb.trace() as t:
        J = mdb.jacobian(f, x, create_graph=True)
    np.testing.assert_array_equal(J.data, expected.data)
    assert [s.name for s in t] == [s.name for s in plain]


def test_rows_that_no_memory_is_free_for_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux promises any memory, and ends the process that uses it."""
    x, W = np.ones((5, 4)), np.ones((4, 3))
    monkeypatch.setattr(differentiate, "SURELY_FREE", 300)  # the rows take 3 * 5 * 4 * 8 bytes
    monkeypatch.setattr(kernels, "free_memory", lambda: 400)
    for f in (
        lambda: mdb.jacobian(lambda t: t @ W, x),
        lambda: mdb.robust.jacobian_l1(lambda t: t @ W, x),
        lambda: mdb.vjp(lambda t: t @ W, x, np.ones((3, 5, 3))),
    ):
        with pytest.raises(MemoryError, match=r"^grad: 3 rows for a tensor of shape \(5, 4\) take .* GiB, and .*:"):
            f()
    mdb.vjp(lambda t: t @ W, x, np.ones((5, 3)))  # one row
    leaf = mdb.Tensor(x, requires_grad=True)
    mdb.grad(mdb.Tensor(W).sum(), leaf, np.ones(3), allow_unused=True)  # nothing leads to the input


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says how much memory is free")
def test_free_memory() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e7 < kernels.free_memory() < 2 * total + 1e12

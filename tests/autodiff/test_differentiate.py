import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import kernels
from minidbp.autodiff import Tensor, jacobian_of, vjp


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

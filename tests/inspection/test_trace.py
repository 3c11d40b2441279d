"""A trace: what it records, in which order of differentiation, and that it leaves everything else alone."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor
from minidbp.autodiff.tensor import state
from minidbp.inspection.steps import Leaf
from minidbp.inspection.values import Recorded
from minidbp.robust import Objective


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def leaf(name: str, *shape: int, seed: int = 0) -> Tensor:
    return Tensor(normal(*shape, seed=seed), requires_grad=True, name=name)


def formulas(t: mdb.Trace) -> list[tuple[str, int, int | None]]:
    return [(step.formula, step.order, step.rule_of) for step in t]


def test_formulas_orders_and_whose_rule_against_a_hand_written_list() -> None:
    """L = sum(relu(x W)), J = dL/dx, p = sum |J|, dp/dW: every operation that eq. 3 needs, derived by hand."""
    x, w = leaf("x", 4, 3), leaf("W", 3, 2, seed=1)
    with mdb.trace() as t:
        loss = mdb.relu(x @ w).sum()
        (J,) = mdb.grad(loss, x, create_graph=True)
        penalty = mdb.abs(J).sum()
        mdb.grad(penalty, w)
    assert formulas(t) == [
        ("x @ W", 0, None),
        ("max(#0, 0)", 0, None),
        ("sum(#1)", 0, None),
        ("1 as (1, 1)", 1, 2),  # the rule of sum
        ("#3 repeated to (4, 2)", 1, 2),
        ("where(bool (4, 2), #4, 0)", 1, 1),  # the rule of relu
        ("transpose(W, axes=(1, 0))", 1, 0),
        ("#5 @ #6", 1, 0),  # J
        ("|#7|", 1, None),
        ("sum(#8)", 1, None),
        ("1 as (1, 1)", 2, 9),
        ("#10 repeated to (4, 3)", 2, 9),
        ("#11 * const (4, 3)", 2, 8),  # sign(J)
        ("transpose(#5, axes=(1, 0))", 2, 7),
        ("#13 @ #12", 2, 7),
        ("transpose(#14, axes=(1, 0))", 2, 6),  # dp/dW; the cotangent of #5 leads to x alone and is not computed
    ]


def small(kind: str) -> tuple[mdb.nn.Sequential, np.ndarray]:
    """A model of a few hundred parameters, float64, and three images for it."""
    rng = np.random.default_rng(0)
    layers: list[mdb.nn.Layer] = [mdb.nn.Flatten(), mdb.nn.Linear(36, 8, rng, "float64"), mdb.nn.ReLU()]
    width = 8
    if kind == "conv":
        convs = [
            mdb.nn.Conv2d(1, 3, 3, rng, 1, "same", dtype="float64"),
            mdb.nn.ReLU(),
            mdb.nn.Conv2d(3, 2, 3, rng, 2, 0, dtype="float64"),
        ]
        layers, width = [*convs, mdb.nn.ReLU(), mdb.nn.Flatten()], 8
    return mdb.nn.Sequential([*layers, mdb.nn.Linear(width, 4, rng, "float64")]), rng.uniform(0.1, 1, (3, 6, 6, 1))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_back_through_the_cross_entropy_is_order_1_and_through_the_penalty_order_2(kind: str) -> None:
    model, images = small(kind)
    x = Tensor(images, requires_grad=True, name="x")
    with mdb.trace() as t:
        f = model(x)
        cross_entropy = mdb.nn.cross_entropy(f, [0, 1, 2])
        forward = len(t)
        penalty = mdb.abs(mdb.autodiff.jacobian_of(f, x, create_graph=True)).sum()
        backward = len(t)
        loss = cross_entropy + 0.5 * penalty
        mdb.grad(loss, model.parameters())
    assert {(s.order, s.rule_of) for s in t[:forward]} == {(0, None)}
    assert {s.order for s in t[forward : backward + 2]} == {1}
    steps = t[backward + 2 :]
    assert {s.order for s in steps} == {1, 2}
    for step in steps:
        assert step.rule_of is not None
        assert step.order == (1 if step.rule_of < forward else 2)
    tangents = [
        s
        for s in steps
        if s.order == 2 and s.name in ("matmul", "conv2d") and len(s.shape) == (3 if s.name == "matmul" else 5)
    ]
    assert tangents  # the rows of S = sign(J) go up through the layers
    through = [t[s.rule_of].rule_of for s in tangents]
    assert through == sorted(through)  # from left to right again


def test_through_softmax_the_second_pass_ends_in_the_forward_pass() -> None:
    """The curvature of softmax: a cotangent of order 2 goes back through steps of order 0, and stays of order 2."""
    model, images = small("mlp")
    with mdb.trace() as t:
        loss = Objective(1.0, of="softmax")(model, images, [0, 1, 2]).total
        n = len(t)
        mdb.grad(loss, model.parameters())
    assert any(s.order == 2 and s.rule_of is not None and t[s.rule_of].order == 0 for s in t[n:])
    assert max(s.order for s in t) == 2


def test_third_order_detached_values_and_what_was_made_before() -> None:
    x = leaf("x", 3)
    early = mdb.exp(x)
    with mdb.trace() as t:
        (a,) = mdb.grad((early * early).sum(), x, create_graph=True)
        (b,) = mdb.grad(a.sum(), x, create_graph=True)
        mdb.grad(b.sum(), x)
        late = b.detach() * 2.0
    assert t[0].formula == "earlier exp (3,) * earlier exp (3,)"
    assert max(s.order for s in t) == 3
    assert repr(t).endswith(f"{sum(s.order == 3 for s in t)} order 3")
    assert t[-1].order == 2  # of a detached value too
    assert late.shape == (3,)


def test_a_detached_value_is_still_its_step() -> None:
    x = leaf("x", 3)
    with mdb.trace() as t:
        (rows,) = mdb.grad(mdb.relu(x), x, np.ones((2, 3)), create_graph=True)
        rows.detach() * 2.0
    assert formulas(t)[1:] == [
        ("where(" + str(t[1].node.static["mask"].tolist()) + ", const (2, 3), 0)", 1, 0),
        ("#1 * 2", 1, None),
    ]


def test_values_statistics_and_access() -> None:
    x = leaf("x", 2, 3)
    with mdb.trace() as t:
        y = mdb.exp(x)
        z = y.reshape(3, 2)
        mdb.log(Tensor(np.array([np.e, np.nan])))
    assert t[0].value is y.data
    assert not t[0].value.flags.writeable
    np.testing.assert_array_equal(t[1].value, z.data)
    assert (t[0].min, t[0].mean, t[0].max) == (y.data.min(), pytest.approx(y.data.mean()), y.data.max())
    assert (t[2].min, t[2].mean, t[2].max, t[2].nans) == (1, 1, 1, 1)
    assert "1 NaN" in repr(t[2])
    assert t[-1] is t[2]
    assert [s.number for s in t[1:]] == [1, 2]
    assert len(t) == len(list(t)) == 3
    assert t[1].inputs == (t[0],)
    (leaf_x,) = t[0].inputs
    assert isinstance(leaf_x, Leaf)
    assert (leaf_x.label, leaf_x.order, leaf_x.shape) == ("x", 0, (2, 3))
    assert repr(t[1]).startswith("#1  reshape  #0 as (3, 2)  (forward): float64 (3, 2), min ")
    for wrong in 3, -4:
        with pytest.raises(IndexError, match=f"this trace has 3 steps; there is no step {wrong}"):
            t[wrong]


def test_empty_arrays_huge_and_complex_numbers_have_figures_too() -> None:
    assert "mean inf, max 1.7e+308" in repr(Recorded("huge", 0, Tensor([1.7e308, 1.7e308])))
    with mdb.trace() as t:
        mdb.exp(Tensor(np.zeros((0, 2))))
        mdb.complex_step_hvp(lambda x: (x * x).sum(), np.ones(2), np.ones(2))
    assert np.isnan([t[0].min, t[0].mean, t[0].max]).all()
    assert len(repr(t.table()).splitlines()) == len(t) + 2


@pytest.mark.parametrize("grad_mode", ["recording", "no_grad"])
def test_inputs_stay_as_they_were_when_a_leaf_is_given_new_data(grad_mode: str) -> None:
    w = leaf("W", 64, 64)
    before = w.data.copy()
    optimiser = mdb.training.Adam([w])
    with mdb.trace() as t:
        with mdb.autodiff.tensor.recording(grad_mode == "recording"):
            mdb.exp(w)
        optimiser.step([np.ones(w.shape)])
        w.data = w.data + 1.0
        mdb.exp(w)
    np.testing.assert_array_equal(t[0].inputs[0].value, before)
    np.testing.assert_array_equal(t[1].inputs[0].value, w.data)
    for _ in range(3):  # memory that is used again is not the trace's
        optimiser.step([np.ones(w.shape)])
        mdb.exp(w)
    np.testing.assert_array_equal(t[0].inputs[0].value, before)
    np.testing.assert_array_equal(t[0].value, np.exp(before))
    assert t.check().ok


def test_arguments_stand_in_formulas() -> None:
    x, w = leaf("x", 1, 6, 6, 2), leaf("w", 3, 3, 2, 1)
    with mdb.trace() as t:
        mdb.conv2d(x, w, stride=2, padding="same")
        x[0, ..., 1:]
        x.transpose(3, 0, 1, 2)
        x**3
        mdb.max(x, axis=(1, 2))
        mdb.grad(mdb.conv2d(x, w).sum(), [x, w])
        leaf("A", 2, 3).T @ leaf("B", 2, 2)
    shown = [s.formula for s in t]
    assert shown[:5] == [
        "conv2d(x, w, stride=(2, 2))",
        "x[0, :, :, 1:]",
        "transpose(x, axes=(3, 0, 1, 2))",
        "x ** 3",
        "max(x, axis=(1, 2))",
    ]
    assert shown[-4:-2] == ["conv2d_transpose(#8, w)", "conv2d_weight_grad(x, #8)"]
    assert shown[-2:] == ["transpose(A, axes=(1, 0))", "#11 @ B"]


def test_static_arguments_in_formulas() -> None:
    x, w, b = leaf("x", 1, 6, 6, 2), leaf("w", 3, 3, 2, 1), leaf("b", 1)
    with mdb.trace() as t:
        mdb.logsumexp(x, axis=0)
        x[0, [5, 0, 0, 0, 1]]
        x[..., [0, 1]]
        x.astype("float64")
        mdb.grad(mdb.conv2d_relu(x, w, b, stride=(1, 2), padding=((0, 1), (2, 0))).sum(), [x, w])
        mdb.grad(w[0, 1:].sum(), w)
    shown = [s.formula for s in t]
    assert shown[:6] == [
        "log(sum(exp(x), axis=0))",
        "x[0, int64 (5,)]",
        "x[:, :, :, [0, 1]]",
        "x as float64",
        "max(conv2d(x, w, stride=(1, 2), pad=(0, 2)) + b, 0)",
        "sum(#4)",
    ]
    with mdb.trace() as joining:
        mdb.concatenate([w, w, b.reshape(1, 1, 1, 1) * w], -1)
        mdb.einsum("ij,jk", leaf("A", 2, 3), leaf("B", 3, 2))
        mdb.where(np.ones(1, bool), b, 0)
        mdb.clip(b, 0, 1)
    shown_there = [s.formula for s in joining]
    assert shown_there[2:] == [
        "concatenate(w, w, #1, axis=3)",
        "einsum(ij,jk->ik, A, B)",
        "where([True], b, 0)",
        "min(max(b, low=0.0), high=1.0)",
    ]
    mask = f"mask=bool {t[4].shape}"
    assert shown[8] == f"conv2d_transpose(#7, w, stride=(1, 2), pad=(0, 2), {mask})"
    assert shown[-1] == f"zeros((3, 3, 2, 1)) with #{len(t) - 2} added at [0, 1:]"


def test_an_operation_of_somebody_else() -> None:
    @mdb.operation
    def square(x: Tensor) -> Any:
        return x.data**2, lambda g, out: g * 2 * x

    @mdb.operation
    def scaled(x: Tensor, by: float = 1.0, unused: Any = None) -> Any:
        """`by * x`, where `x` is anything."""
        return x.data * by, lambda g, out: g * by

    with mdb.trace() as t:
        square(leaf("x", 3))
        scaled(leaf("x", 3), by=2.5)
        scaled(leaf("x", 3))
    assert [s.formula for s in t] == ["square(x)", "2.5 * x", "1.0 * x"]
    assert t[1].node.function is scaled


def test_tracing_changes_no_value() -> None:
    model, images = small("conv")

    def gradients() -> list[np.ndarray]:
        loss = Objective(1.0, of="softmax")(model, images, [0, 1, 2]).total
        return [g.data for g in mdb.grad(loss, model.parameters())]

    plain = gradients()
    with mdb.trace() as t:
        traced = gradients()
    assert len(t) > 50
    for a, b in zip(plain, traced, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_recorded_outside_and_traces_in_each_other_both_hear() -> None:
    x = leaf("x", 2)
    mdb.exp(x)
    with mdb.trace() as outer:
        mdb.exp(x)
        with mdb.trace() as inner:
            mdb.log(mdb.exp(x))
        mdb.relu(x)
    mdb.exp(x)
    assert [s.name for s in outer] == ["exp", "exp", "log", "relu"]
    assert [s.name for s in inner] == ["exp", "log"]
    assert state.tracers == ()
    with pytest.raises(ZeroDivisionError), mdb.trace():
        raise ZeroDivisionError
    assert state.tracers == ()


def test_a_rule_that_fails_leaves_the_trace_in_order() -> None:
    x = leaf("x", 2)
    with mdb.trace() as t:
        with pytest.raises(ValueError, match="sign has no useful derivative"):
            mdb.grad(mdb.sign(x).sum(), x)
        mdb.exp(x)
    assert (t[-1].name, t[-1].order, t[-1].rule_of) == ("exp", 0, None)


def test_a_trace_belongs_to_its_thread() -> None:
    x = leaf("x", 2)
    with mdb.trace() as t:
        thread = threading.Thread(target=lambda: mdb.exp(x))
        thread.start()
        thread.join()
        mdb.relu(x)
    assert [s.name for s in t] == ["relu"]


def test_memory_is_free_once_the_trace_is_dropped() -> None:
    model, images = small("mlp")
    gc.disable()  # without the collector: there are no cycles
    try:
        with mdb.trace() as t:
            loss = Objective(1.0)(model, images, [0, 1, 2]).total
            gradients = mdb.grad(loss, model.parameters())
        t.table(), t.graph()
        alive = [weakref.ref(s) for s in t] + [weakref.ref(g) for g in (*gradients, loss)]
        del t, loss, gradients
        assert not any(ref() is not None for ref in alive)
    finally:
        gc.enable()


def test_the_jacobians_cotangent_is_no_step() -> None:
    with mdb.trace() as t:
        mdb.jacobian(lambda x: x * 2.0, np.ones((2, 3)))
    assert [s.name for s in t] == ["multiply", "multiply", "transpose"]


def test_a_notebook_shows_the_ends_of_a_long_table() -> None:
    with mdb.trace() as t:
        x = Tensor(1.0)
        for _ in range(1000):
            x = x + 1.0
    html = t.table()._repr_html_()
    assert html.count("<tr>") == 1 + 150 + 1 + 150
    assert "700 rows between are not shown here; print(...) shows all" in html
    assert all(f">#{i}<" in html for i in (0, 149, 850, 999))
    assert len(repr(t.table()).splitlines()) == 2 + 1000


def test_the_table() -> None:
    with mdb.trace() as t:
        mdb.exp(Tensor([1.0, 2.0], name="<a&b>"))
    head, line, row = repr(t.table()).splitlines()
    assert head.split() == ["step", "operation", "formula", "shape", "order", "rule", "of", "min", "mean", "max"]
    assert set(line) == {"-", " "}
    assert row.split() == ["#0", "exp", "exp(<a&b>)", "(2,)", "forward", "2.718", "5.054", "7.389"]
    html = t.table()._repr_html_()
    assert "exp(&lt;a&amp;b&gt;)" in html
    assert "<a&b>" not in html
    assert "forward" in html
    assert t._repr_html_() == html

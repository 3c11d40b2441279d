"""Trace.check: right rules agree at every order, and a planted wrong one is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor
from minidbp.autodiff.tensor import Node
from minidbp.checking import matrix as catalogue
from minidbp.nn import models
from minidbp.robust import Objective


def traced_step(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> mdb.Trace:
    """The gradient of eq. 3 for one image, by a model as in Table 1 with a sixteenth of the filters and units."""
    convolutions = {m: [(f // 16, k, s) for f, k, s in layers] for m, layers in models.CONVOLUTIONS.items()}
    widths = {m: [n // 16 for n in layers] for m, layers in models.FULLY_CONNECTED.items()}
    monkeypatch.setattr(models, "CONVOLUTIONS", convolutions)
    monkeypatch.setattr(models, "FULLY_CONNECTED", widths)
    model = mdb.nn.build_model(name, seed=0, dtype=dtype)
    image = np.random.default_rng(0).uniform(0.01, 1, (1, 28, 28, 1)).astype(dtype)
    with mdb.trace() as t:
        loss = Objective(10.0)(model, image, [3]).total
        mdb.grad(loss, model.parameters())
    return t


def small_step() -> mdb.Trace:
    """The gradient of eq. 3 with softmax outputs for a net of one convolution and one hidden layer, float64."""
    rng = np.random.default_rng(0)
    model = mdb.nn.Sequential(
        [
            mdb.nn.Conv2d(1, 3, 3, rng, 2, "same", dtype="float64"), mdb.nn.ReLU(), mdb.nn.Flatten(),
            mdb.nn.Linear(27, 5, rng, "float64"), mdb.nn.ReLU(), mdb.nn.Linear(5, 3, rng, "float64"),
        ]
    )  # fmt: skip
    with mdb.trace() as t:
        loss = Objective(1.0, of="softmax")(model, rng.uniform(0.1, 1, (2, 6, 6, 1)), [0, 2]).total
        mdb.grad(loss, model.parameters())
    return t


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_every_step_of_a_penalised_step_agrees(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    t = traced_step(name, dtype, monkeypatch)
    check = t.check()
    assert check.ok, repr(check)
    assert len(check) == len(t) > 80
    assert {row.verdict for row in check.rows} == {"agrees"}
    assert max(row.error for row in check.rows if row.error is not None) < (1e-8 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("operation", catalogue.samples())
def test_every_operation_of_the_catalogue_can_be_run_again(operation: str) -> None:
    for sample in catalogue.samples()[operation]:
        xs = [Tensor(x, requires_grad=True) for x in sample.inputs]
        with mdb.trace() as t:
            y = sample.f(*xs)
            if operation != "sign":
                first = mdb.grad(y, xs, np.ones(y.shape), create_graph=True)
                curved = [g for g in first if g.requires_grad]
                if curved:
                    mdb.grad(curved, xs, [np.ones(g.shape) for g in curved])
        check = t.check()
        assert check.ok, repr(check)
        assert {row.verdict for row in check.rows} == {"no derivative" if operation == "sign" else "agrees"}


WRONG: dict[str, Callable[..., Tensor]] = {
    "a factor": lambda rule, g, out: rule(g, out) * 1.001,
    "the sign": lambda rule, g, out: -rule(g, out),
    "a zero": lambda rule, g, out: rule(g, out) * 0.0,
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize(
    "name", ["conv2d", "matmul", "reshape", "relu", "masked", "add", "sum", "multiply", "logsumexp"]
)
def test_a_planted_wrong_rule_is_named(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine computes with a wrong rule: its steps are called wrong, of every order, and no others."""

    wrong, honest_init = WRONG[fault], Node.__init__

    def planted(node: Node, function: Any, inputs: Any, static: Any, rules: Any) -> None:
        if function.__name__ == name:
            rules = [lambda g, out, rule=rule: wrong(rule, g, out) for rule in rules]
        honest_init(node, function, inputs, static, rules)

    with monkeypatch.context() as patch:
        patch.setattr(Node, "__init__", planted)
        t = small_step()
    check = t.check()
    assert not check.ok
    assert {row.step.name for row in check.wrong} == {name}
    assert all("its rule for input" in row.detail for row in check.wrong)
    assert {row.step.order for row in check.wrong} == {s.order for s in t if s.name == name}
    if fault != "a zero":  # which leaves only zeros to the steps behind it
        assert len(check.wrong) == sum(s.name == name for s in t)
    assert f"{check.wrong[0].step.label} " in repr(check)


def double(
    rule: Callable[..., Any], value: Callable[[np.ndarray], np.ndarray] = lambda x: x * 2
) -> Callable[..., Tensor]:
    """An operation with the given rule; its value is 2 x unless another is given."""

    @mdb.operation
    def double(x: Tensor) -> Any:
        return value(x.data), rule

    return double


def changing(
    first: Callable[[np.ndarray], np.ndarray], then: Callable[[np.ndarray], np.ndarray]
) -> Callable[..., Tensor]:
    """An operation that computes something else when it is run again."""
    values = iter([first])
    return double(lambda g, out: g * 2, lambda x: next(values, then)(x))


def test_a_wrong_value_is_named() -> None:
    with mdb.trace() as t:
        changing(lambda x: x * x + np.array([0, 0.1]), lambda x: x * x)(Tensor([1.0, 2.0]))
    (row,) = t.check().rows
    assert (row.verdict, row.detail) == ("WRONG", "run again in float64 the value differs by 2.5e-02 of the largest")


def test_rules_that_return_something_else_or_forget_leading_axes() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    rules: list[Callable[..., Any]] = [
        lambda g, out: g.sum(),
        lambda g, out: 1.0,
        lambda g, out: g * 2 if g.ndim == 1 else g * np.array([[2.0], [0.0]]),
    ]
    with mdb.trace() as t:
        for rule in rules:
            double(rule)(x)
    details = [row.detail for row in t.check().wrong]
    assert "the rule of double for its operand x must return float64 of shape (2, 2), leading axes (2,)" in details[0]
    assert "the rule of double for its operand x returned float; a rule must return a Tensor" in details[1]
    assert "gives another answer" in details[2] or "along a random direction" in details[2]


def test_rules_that_fail_are_wrong_and_stop_nothing() -> None:
    def refuse(x: np.ndarray) -> np.ndarray:
        raise TypeError("not twice")

    x = Tensor([1.0, 2.0], requires_grad=True)
    with mdb.trace() as t:
        for rule in (lambda g, out: g.reshape(2), lambda g, out: {}["no"], lambda g, out: None + g):
            double(rule)(x)
        changing(lambda x: x * 2, refuse)(x)
        changing(lambda x: x * 2, np.sum)(x)
    check = t.check()
    assert [row.verdict for row in check.rows] == ["WRONG", "WRONG", "WRONG", "not checked", "WRONG"]
    details = [row.detail for row in check.rows]
    assert details[0].startswith("its rule for input 0 cannot be used: ValueError: reshape: a tensor of shape (2, 2)")
    assert "KeyError: 'no'" in details[1]
    assert "TypeError: " in details[2]
    assert details[3].startswith("it cannot be run again: TypeError: not twice")
    assert details[4] == "run again it has the shape () instead of (2,)"


def test_what_cannot_be_checked_is_said_and_is_not_wrong() -> None:
    with mdb.trace() as t:
        mdb.watch(Tensor([1.0]), "x", lambda name, value: None)
        mdb.autodiff.astype(Tensor([1.0]), "float32")
        mdb.sign(Tensor([1.0]))
        mdb.relu(Tensor([0.0, 0.0]))
        mdb.relu(Tensor([0.0, 1.0]))
        mdb.maximum(Tensor([1.0]), Tensor([1.0]))
        mdb.exp(Tensor(np.zeros((0, 3))))
        mdb.complex_step_hvp(lambda x: mdb.exp(x).sum(), np.ones(1), np.ones(1))
    check = t.check()
    assert check.ok
    assert [row.verdict for row in check.rows][:7] == [
        "not checked", "not checked", "no derivative", "kink", "agrees", "kink", "agrees",
    ]  # fmt: skip
    details = [row.detail for row in check.rows]
    assert "it changes nothing" in details[0]
    assert "float32" in details[1]
    assert "sign has no useful derivative" in details[2]
    assert "relu has a kink at element" in details[3]
    assert details[4] == "1 elements that are 0, on a kink, left out"
    assert "maximum has a kink" in details[5]
    assert "complex" in details[7]
    assert "2 kink" in repr(check)
    assert "2 kink" in check._repr_html_()


def test_infinities_are_values_too() -> None:
    with mdb.trace() as t, np.errstate(divide="ignore"):
        mdb.log(Tensor([0.0, 1.0]))
        mdb.log(Tensor([0.1, 1.0]))
    check = t.check()
    assert [(row.verdict, row.detail) for row in check.rows] == [
        ("not checked", "its value is not finite: no difference to take"), ("agrees", ""),
    ]  # fmt: skip


def test_checking_inside_the_block_records_nothing() -> None:
    with mdb.trace() as t:
        mdb.exp(Tensor([1.0]))
        t.check()
    assert len(t) == 1


def test_a_derivative_in_a_constant_that_does_not_exist_is_no_fault() -> None:
    x = Tensor([-1.0, 2.0], requires_grad=True)
    with mdb.trace() as t:
        x**3  # its derivative in 3 is x^3 log(x), NaN where x is negative, and never asked for
        (-x) ** Tensor(3.0, requires_grad=True)  # here it may be
    assert [row.verdict for row in t.check().rows] == ["agrees", "agrees", "WRONG"]

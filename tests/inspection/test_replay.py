"""Trace.check: right rules agree at every order, and a planted wrong one is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor
from minidbp.autodiff import elementwise, functions, linear, reduce, shape
from minidbp.autodiff.tensor import record
from minidbp.checking import matrix as catalogue
from minidbp.nn import models
from minidbp.robust import penalised_loss


def traced_step(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> mdb.Trace:
    """The gradient of eq. 3 for one image, by a model as in Table 1 with a sixteenth of the filters and units."""
    convolutions = {m: [(f // 16, k, s) for f, k, s in layers] for m, layers in models.CONVOLUTIONS.items()}
    widths = {m: [*(n // 16 for n in layers[:-1]), 10] for m, layers in models.FULLY_CONNECTED.items()}
    monkeypatch.setattr(models, "CONVOLUTIONS", convolutions)
    monkeypatch.setattr(models, "FULLY_CONNECTED", widths)
    model = mdb.nn.build_model(name, seed=0, dtype=dtype)
    image = np.random.default_rng(0).uniform(0.01, 1, (1, 28, 28, 1)).astype(dtype)
    with mdb.trace() as t:
        loss = penalised_loss(model, image, [3], 10.0).loss
        mdb.grad(loss, model.parameters())
    return t


def small_step() -> mdb.Trace:
    """The gradient of eq. 3 with softmax outputs for a net of one convolution and one hidden layer, float64."""
    rng = np.random.default_rng(0)
    model = mdb.nn.Sequential(
        [
            mdb.nn.Conv2d(1, 3, 3, rng, 2, "same", "float64"), mdb.nn.ReLU(), mdb.nn.Flatten(),
            mdb.nn.Linear(27, 5, rng, "float64"), mdb.nn.ReLU(), mdb.nn.Linear(5, 3, rng, "float64"),
        ]
    )  # fmt: skip
    with mdb.trace() as t:
        loss = penalised_loss(model, rng.uniform(0.1, 1, (2, 6, 6, 1)), [0, 2], 1.0, of="softmax").loss
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


MODULES = (elementwise, functions, linear, reduce, shape)


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

    def planted(operation: str, data: Any, inputs: Any, rules: Any, inside: Any = None, **rest: Any) -> Tensor:
        wrong = WRONG[fault]
        if operation == name:
            rules = [lambda g, out, rule=rule: wrong(rule, g, out) for rule in rules]
            inside = inside and [rule and (lambda g, out, rule=rule: wrong(rule, g, out)) for rule in inside]
        return record(operation, data, inputs, rules, inside=inside, **rest)

    with monkeypatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "record", planted)
        t = small_step()
    check = t.check()
    assert not check.ok
    assert {row.step.name for row in check.wrong} == {name}
    assert all("its rule for input" in row.detail for row in check.wrong)
    assert {row.step.order for row in check.wrong} == {s.order for s in t if s.name == name}
    if fault != "a zero":  # which leaves only zeros to the steps behind it
        assert len(check.wrong) == sum(s.name == name for s in t)
    assert f"{check.wrong[0].step.label} " in repr(check)


def test_a_wrong_rule_inside_a_support_is_named() -> None:
    """The rule for inside: right where it counts, whatever it returns elsewhere, or wrong there."""
    v = elementwise.masked(Tensor(np.ones((2, 4)), requires_grad=True), np.array([True, False, True, True]))

    def double(x: Tensor, inside: Callable[[Tensor], Tensor]) -> Tensor:
        return record(
            "double",
            x.data * 2,
            (x,),
            (lambda g, out: g * 2,),
            inside=(lambda g, out: inside(g),),
            again=lambda x: x * 2,
        )

    with mdb.trace() as t:
        double(v, lambda g: g * np.array([2.0, 99.0, 2.0, 2.0]))
        double(v, lambda g: g * np.array([2.0, 2.0, 1.0, 2.0]))
    assert [row.verdict for row in t.check().rows] == ["agrees", "WRONG"]


def test_a_wrong_value_is_named() -> None:
    with mdb.trace() as t:
        record("off", np.array([1.0, 4.1]), (Tensor([1.0, 2.0]),), (lambda g, out: g * 2,), again=lambda x: x * x)
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
            record("double", x.data * 2, (x,), (rule,), again=lambda x: x * 2)
    details = [row.detail for row in t.check().wrong]
    assert details[0] == "its rule for input 0 returns () where a Tensor of shape (2, 2) is meant"
    assert details[1] == "its rule for input 0 returns float where a Tensor of shape (2, 2) is meant"
    assert "gives another answer" in details[2] or "along a random direction" in details[2]


def test_rules_that_stumble_are_wrong_and_stop_nothing() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    with mdb.trace() as t:
        for rule in (lambda g, out: g.reshape(2), lambda g, out: {}["no"], lambda g, out: None + g):
            record("double", x.data * 2, (x,), (rule,), again=lambda x: x * 2)
        record("pair", x.data * 2, (x,), (lambda g, out: g * 2,), again=lambda x, y: x * 2)
        record("total", x.data * 2, (x,), (lambda g, out: g * 2,), again=lambda x: x.sum())
    check = t.check()
    assert [row.verdict for row in check.rows] == ["WRONG", "WRONG", "WRONG", "not checked", "WRONG"]
    details = [row.detail for row in check.rows]
    assert details[0].startswith("its rule for input 0 cannot be used: ValueError: reshape: a tensor of shape (2, 2)")
    assert "KeyError: 'no'" in details[1]
    assert "TypeError: " in details[2]
    assert details[3].startswith("it cannot be run again: TypeError: ")
    assert details[4] == "run again it has the shape () instead of (2,)"


def test_what_cannot_be_checked_is_said_and_is_not_wrong() -> None:
    def ours(x: Tensor) -> Tensor:
        return record("ours", x.data * 2, (x,), (lambda g, out: g * 2,))

    with mdb.trace() as t:
        ours(Tensor([1.0]))
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
    assert "no way to run it again" in details[0]
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

"""Tests of the tester: faults are planted in the engine, one at a time, and every one must be caught.

The first table changes what every operation's rules return; the second breaks the kernels and the engine by hand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minidbp import kernels
from minidbp.autodiff import Tensor, elementwise, functions, linear, reduce, shape
from minidbp.autodiff.tensor import record, wrap
from minidbp.checking import GradcheckError
from minidbp.checking import matrix as catalogue
from minidbp.checking.gradcheck import check_derivatives

CAUGHT = (GradcheckError, ValueError)  # the latter where a rule returns another shape or dtype
MODULES = (elementwise, functions, linear, reduce, shape)


def check_all(entry: str, order: int = 2) -> None:
    for sample in catalogue.samples()[entry]:
        check_derivatives(sample.f, sample.inputs, order)


def first_of_many(g: Tensor, out: Tensor) -> Tensor:
    """Of cotangents with leading axes, the first in place of all."""
    if g.ndim == out.ndim:
        return g
    lead = g.shape[: g.ndim - out.ndim]
    return wrap(np.array(np.broadcast_to(g.data[(0,) * len(lead)], g.shape)))


# What a mutant's rule does instead of rule(g, out).
MUTATIONS: dict[str, Callable[..., Tensor]] = {
    "a factor of 1.00001": lambda rule, g, out: rule(g, out) * 1.00001,
    "the sign": lambda rule, g, out: -rule(g, out),
    "a zero": lambda rule, g, out: rule(g, out) * 0.0,
    "a detached result": lambda rule, g, out: rule(g, out).detach(),
    "only the first cotangent": lambda rule, g, out: rule(first_of_many(g, out), out),
    "twice": lambda rule, g, out: rule(g, out) + rule(g, out),
}

# The name under which an operation is recorded, and the entry of the catalogue that uses it.
RECORDED = {
    name: name
    for name in (
        "abs", "add", "astype", "broadcast_to", "conv2d", "conv2d_transpose", "conv2d_weight_grad", "divide", "exp",
        "getitem", "log", "logsumexp", "masked", "matmul", "max", "maximum", "multiply", "negative", "power", "relu",
        "reshape", "subtract", "sum", "transpose",
    )
} | {"put": "getitem"}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", RECORDED)
def test_a_mutated_rule_is_caught(name: str, mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate = MUTATIONS[mutation]

    def mutated(operation: str, data: Any, inputs: Any, rules: Any, inside: Any = None, **rest: Any) -> Tensor:
        if operation == name:
            rules = [lambda g, out, rule=rule: mutate(rule, g, out) for rule in rules]
            inside = inside and [rule and (lambda g, out, rule=rule: mutate(rule, g, out)) for rule in inside]
        return record(operation, data, inputs, rules, inside=inside, **rest)

    for module in MODULES:
        monkeypatch.setattr(module, "record", mutated)
    with pytest.raises(CAUGHT):
        check_all(RECORDED[name], order=3 if name == "put" else 2)  # put appears in getitem's backward pass only


def changed(geometry: kernels.ConvGeometry, **parts: Any) -> kernels.ConvGeometry:
    return kernels.ConvGeometry(**{**vars(geometry), **parts})


honest_transpose, honest_weight_grad, honest_masked = (
    kernels.conv2d_transpose,
    kernels.conv2d_weight_grad,
    kernels.masked,
)

# (what is replaced, where, the replacement, the entry of the catalogue that must notice)
BROKEN: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "a flipped kernel in the adjoint": (
        kernels, "conv2d_transpose", lambda g, w, geo, mask: honest_transpose(g, w[::-1, ::-1], geo, mask), "conv2d"),
    "swapped channels in the adjoint": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w.swapaxes(2, 3), geo, mask), "conv2d"),
    "a wrong stride in the adjoint": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w, changed(geo, stride=(1, 1))), "conv2d_transpose"),
    "padding from the other side": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w, changed(geo, pad=(geo.pad[0] + 1, geo.pad[1]))), "conv2d"),
    "a kernel transposed in space": (
        kernels, "conv2d_weight_grad",
        lambda x, g, geo, mask: np.roll(honest_weight_grad(x, g, geo, mask), 1, axis=0), "conv2d"),
    "only the first sample in the weight gradient": (
        kernels, "conv2d_weight_grad", lambda x, g, geo, mask: honest_weight_grad(x[:1], g[:1], geo), "conv2d"),
    "the mean over samples in the weight gradient": (
        kernels, "conv2d_weight_grad", lambda x, g, geo, mask: honest_weight_grad(x, g, geo, mask) / len(x), "conv2d"),
    "an inverted mask": (kernels, "masked", lambda g, m: honest_masked(g, ~m), "relu"),
    "no mask": (kernels, "masked", lambda g, m: g, "relu"),
    "a broadcast sum that takes one row": (
        elementwise, "unbroadcast",
        lambda g, s, lead: g[(slice(None),) * lead + (0,) * (g.ndim - lead - len(s))].reshape(g.shape[:lead] + s)
        if g.ndim > lead + len(s) else reduce.unbroadcast(g, s, lead), "add"),
    "no broadcast sum": (elementwise, "unbroadcast", lambda g, s, lead: g, "multiply"),
    "a sum over a wrong axis": (
        elementwise, "unbroadcast",
        lambda g, s, lead: reduce.unbroadcast(g, s, lead) if g.ndim < lead + 2 or g.ndim == lead + len(s)
        else reduce.sum(g, lead + 1).reshape(g.shape[:lead] + s), "add"),
    "leading axes that are forgotten in kept shapes": (reduce, "kept", lambda s, axes: s[::-1], "sum"),
    "scattering that overwrites in place of adding": (
        shape, "_put",
        lambda g, index, s: record("put", _overwrite(g.data, index, s), (g,), (lambda h, out: h,)), "getitem"),
    "an index applied without its leading axes": (
        shape, "_pick", lambda data, index, lead: data[index] if not lead else data[..., index[-1]], "getitem"),
    "log-sum-exp with a constant softmax": (functions, "exp", lambda x: wrap(np.exp(x.data)), "logsumexp"),
    "softmax with a constant exponential": (
        functions, "exp", lambda x: record("exp", np.exp(x.data), (x,), (lambda g, out: g * out.detach(),)), "softmax"),
    "matmul without the transpose": (linear, "_swap", lambda x: x, "matmul"),
}  # fmt: skip


def _overwrite(g: np.ndarray, index: Any, s: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(s, g.dtype)
    lead = g.ndim - np.zeros(s)[index].ndim
    out[index] = g[(0,) * lead] if lead else g
    return np.broadcast_to(out, g.shape[:lead] + s).copy()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_engine_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, replacement, entry = BROKEN[fault]
    monkeypatch.setattr(where, name, replacement)
    with pytest.raises((*CAUGHT, IndexError, TypeError)):
        check_all(entry)


def wrong_at_zero(x: Tensor) -> Tensor:
    """|x| whose rule calls the slope at exactly 0 one: no difference can see it, the convention's own test does."""
    return record("wrong_at_zero", np.abs(x.data), (x,), (lambda g, out: g * np.where(x.data >= 0, 1.0, -1.0),))


def test_a_wrong_sign_at_zero_is_not_passed() -> None:
    with pytest.raises(Exception, match="not differentiable here"):
        check_derivatives(wrong_at_zero, np.array([1.0, 0.0, -2.0]), order=1)


def test_without_a_fault_nothing_is_caught() -> None:
    for entry in {*RECORDED.values(), *(entry for *_, entry in BROKEN.values())}:
        check_all(entry)

"""Tests of the tester: faults are planted in the engine, one at a time, and every one must be caught.

The first table changes what every operation's rules return; the second breaks the kernels and the engine by hand.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minidbp import kernels
from minidbp.autodiff import Tensor, elementwise, linear, operation, reductions, shapes
from minidbp.autodiff.tensor import Node, from_array
from minidbp.checking import GradcheckError
from minidbp.checking import matrix as catalogue
from minidbp.checking.gradcheck import check_derivatives

CAUGHT = (GradcheckError, ValueError)  # the latter where a rule returns another shape or dtype


def check_all(entry: str, order: int = 2) -> None:
    for sample in catalogue.samples()[entry]:
        check_derivatives(sample.f, sample.inputs, order)


def first_of_many(g: Tensor, out: Tensor) -> Tensor:
    """Of cotangents with leading axes, the first in place of all."""
    if g.ndim == out.ndim:
        return g
    lead = g.shape[: g.ndim - out.ndim]
    return from_array(np.array(np.broadcast_to(g.data[(0,) * len(lead)], g.shape)))


# What a mutant's rule does instead of rule(g, out).
MUTATIONS: dict[str, Callable[..., Tensor]] = {
    "a factor of 1.00001": lambda rule, g, out: rule(g, out) * 1.00001,
    "the sign": lambda rule, g, out: -rule(g, out),
    "a zero": lambda rule, g, out: rule(g, out) * 0.0,
    "a detached result": lambda rule, g, out: rule(g, out).detach(),
    "only the first cotangent": lambda rule, g, out: rule(first_of_many(g, out), out),
    "twice": lambda rule, g, out: rule(g, out) + rule(g, out),
}

# The name of an operation in the graph, and the entry of the catalogue that uses it.
NAMES = {
    name: name
    for name in (
        "abs", "add", "astype", "broadcast_to", "clip", "concatenate", "conv2d", "conv2d_relu", "conv2d_transpose",
        "conv2d_weight_grad", "cos", "divide", "einsum", "exp", "getitem", "linear_relu", "log", "logsumexp", "masked",
        "matmul", "max", "maximum", "min", "minimum", "multiply", "negative", "norm", "power", "relu", "reshape",
        "sigmoid", "sin", "softplus", "sqrt", "subtract", "sum", "tanh", "transpose", "where",
    )
} | {"put": "getitem"}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_rule_is_caught(name: str, mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, honest_init = MUTATIONS[mutation], Node.__init__

    def mutated(node: Node, function: Any, inputs: Any, static: Any, rules: Any) -> None:
        if function.__name__ == name:
            rules = [lambda g, out, rule=rule: mutate(rule, g, out) for rule in rules]
        honest_init(node, function, inputs, static, rules)

    monkeypatch.setattr(Node, "__init__", mutated)
    with pytest.raises(CAUGHT):
        check_all(NAMES[name], order=3 if name == "put" else 2)  # put appears in getitem's backward pass only


def changed(geometry: kernels.ConvGeometry, **parts: Any) -> kernels.ConvGeometry:
    return replace(geometry, **parts)


honest_conv, honest_transpose, honest_weight_grad, honest_masked = (
    kernels.conv2d,
    kernels.conv2d_transpose,
    kernels.conv2d_weight_grad,
    kernels.masked,
)
honest_unfold, honest_unbroadcast = linear._unfold_channels, shapes.unbroadcast


def summed_over_a_wrong_axis(g: Tensor, x: Tensor, out: Tensor) -> Tensor:
    lead = g.ndim - out.ndim
    if g.ndim < lead + 2 or out.ndim == x.ndim:
        return honest_unbroadcast(g, x, out)
    return shapes.sum(g, lead + 1).reshape(g.shape[:lead] + x.shape)


def one_row_of_broadcast(g: Tensor, x: Tensor, out: Tensor) -> Tensor:
    lead = g.ndim - out.ndim
    if out.ndim == x.ndim:
        return honest_unbroadcast(g, x, out)
    return g[(slice(None),) * lead + (0,) * (out.ndim - x.ndim)].reshape(g.shape[:lead] + x.shape)


@operation
def overwriting_put(g: Tensor, *, index: Any, shape: tuple[int, ...]) -> Any:
    """getitem's adjoint that overwrites where it should add."""
    out = np.zeros(shape, g.dtype)
    lead = g.ndim - np.zeros(shape)[index].ndim
    out[index] = g.data[(0,) * lead] if lead else g.data
    return np.broadcast_to(out, g.shape[:lead] + shape).copy(), lambda h, out: h


@operation
def exp_of_a_constant_slope(x: Tensor) -> Any:
    return np.exp(x.data), lambda g, out: g * out.detach()


# (what is replaced, where, the replacement, the entry of the catalogue that must notice)
BROKEN: dict[str, tuple[Any, str, Callable[..., Any], str]] = {
    "a flipped kernel in the adjoint": (
        kernels, "conv2d_transpose", lambda g, w, geo, mask: honest_transpose(g, w[::-1, ::-1], geo, mask), "conv2d"),
    "swapped channels in the adjoint": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w.swapaxes(-1, -2), geo, mask), "conv2d"),
    "a wrong stride in the adjoint": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w, changed(geo, stride=(1, 1)), mask), "conv2d_transpose"),
    "padding from the other side": (
        kernels, "conv2d_transpose",
        lambda g, w, geo, mask: honest_transpose(g, w, changed(geo, pad=(geo.pad[0] + 1, geo.pad[1])), mask), "conv2d"),
    "a kernel transposed in space": (
        kernels, "conv2d_weight_grad",
        lambda x, g, geo, mask: np.roll(honest_weight_grad(x, g, geo, mask), 1, axis=0), "conv2d"),
    "only the first sample in the weight gradient": (
        kernels, "conv2d_weight_grad", lambda x, g, geo, mask: honest_weight_grad(x[:1], g[:1], geo), "conv2d"),
    "the mean over samples in the weight gradient": (
        kernels, "conv2d_weight_grad", lambda x, g, geo, mask: honest_weight_grad(x, g, geo, mask) / len(x), "conv2d"),
    "no mask in conv2d": (kernels, "conv2d", lambda x, w, geo, mask=None: honest_conv(x, w, geo), "conv2d"),
    "no mask in the adjoint": (
        kernels, "conv2d_transpose", lambda g, w, geo, mask: honest_transpose(g, w, geo), "conv2d_relu"),
    "no mask in the adjoint of a matrix product": (
        kernels, "conv2d_transpose", lambda g, w, geo, mask: honest_transpose(g, w, geo), "linear_relu"),
    "no mask in the weight gradient": (
        kernels, "conv2d_weight_grad", lambda x, g, geo, mask: honest_weight_grad(x, g, geo), "conv2d_relu"),
    "an inverted mask in the weight gradient": (
        kernels, "conv2d_weight_grad",
        lambda x, g, geo, mask: honest_weight_grad(x, g, geo, None if mask is None else ~mask), "linear_relu"),
    "no mask in the gradient of the bias": (linear, "masked", lambda x, mask: x, "linear_relu"),
    "a fused ReLU that lets all through": (linear, "locally_constant", lambda mask: mask | True, "conv2d_relu"),
    "a mask repeated channel by channel": (
        linear, "_repeat_channels",
        lambda mask, k: None if mask is None else np.repeat(mask, int(np.prod(k)), axis=-1), "conv2d_transpose"),
    "cotangents unfolded in the wrong order": (
        linear, "_unfold_channels", lambda y, axis, k, c: honest_unfold(y, axis, k, c)[::-1], "conv2d"),
    "an inverted mask": (kernels, "masked", lambda g, m: honest_masked(g, ~m), "relu"),
    "no mask": (kernels, "masked", lambda g, m: g, "relu"),
    "a broadcast sum that takes one row": (elementwise, "unbroadcast", one_row_of_broadcast, "add"),
    "no broadcast sum": (elementwise, "unbroadcast", lambda g, x, out: g, "multiply"),
    "a sum over a wrong axis": (elementwise, "unbroadcast", summed_over_a_wrong_axis, "add"),
    "a shape with kept axes that is reversed": (shapes, "keepdims_shape", lambda s, axes: s[::-1], "sum"),
    "scattering that overwrites in place of adding": (shapes, "_put", overwriting_put, "getitem"),
    "an index applied without its leading axes": (
        shapes, "_pick", lambda data, index, lead: data[index] if not lead else data[..., index[-1]], "getitem"),
    "log-sum-exp with a constant softmax": (reductions, "exp", lambda x: from_array(np.exp(x.data)), "logsumexp"),
    "softmax with a constant exponential": (reductions, "exp", exp_of_a_constant_slope, "softmax"),
    "matmul without the transpose": (linear, "_swapped", lambda x: x, "matmul"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_engine_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, replacement, entry = BROKEN[fault]
    monkeypatch.setattr(where, name, replacement)
    with pytest.raises(CAUGHT):
        check_all(entry)


@operation
def wrong_at_zero(x: Tensor) -> Any:
    """`|x|`, whose rule calls the slope at exactly 0 one: no difference can see it, the convention's own test does."""
    return np.abs(x.data), lambda g, out: g * np.where(x.data >= 0, 1.0, -1.0)


def test_a_wrong_sign_at_zero_is_not_passed() -> None:
    with pytest.raises(Exception, match="not differentiable here"):
        check_derivatives(wrong_at_zero, np.array([1.0, 0.0, -2.0]), order=1)


@pytest.mark.slow
def test_without_a_fault_nothing_is_caught() -> None:
    for entry in {*NAMES.values(), *(entry for *_, entry in BROKEN.values())}:
        check_all(entry)

"""Derivatives of graphs: grad, and what is built on it (vjp, jvp, hvp, jacobian).

`grad` walks from the outputs back to the inputs that were asked for and calls each operation's rules on the way.  The
rules are operations on Tensors; with create_graph=True they are recorded, and what `grad` returns can be
differentiated again.  That is all there is to double backpropagation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidbp.autodiff.shapes import moveaxis
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, from_array, recording, state

Function = Callable[..., Tensor]
Tensors = Tensor | Sequence[Tensor]
TensorsLike = TensorLike | Sequence[TensorLike]


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    """The gradient of `<grad_outputs, outputs>` in each input: the sum over outputs of `grad_outputs^T d out / d in`.

    Args:
        outputs: a Tensor, or a list or tuple of them.
        inputs: a Tensor, or a list or tuple of them.
        grad_outputs: for each output a cotangent of its shape, or of its shape with extra leading axes (the same for
            all outputs).  Then each gradient has those axes too, all from one pass.  An output of one element may go
            without: 1 is meant.
        create_graph: record the pass, so that the result can be differentiated again.

    Returns:
        One Tensor for each input, of the input's shape and dtype.  An input that the outputs do not depend on gets
        zeros, if they depend on another input.  Example: a penalty on the Jacobian does not depend on the last bias.

    Raises:
        ValueError: if an output or an input does not require a gradient, if the outputs depend on none of the inputs,
            if a cotangent's shape does not fit, or if a leaf was given new data after the graph was made.
        TypeError: if an output or an input is not a Tensor.
    """
    ys, xs = as_list(outputs), as_list(inputs)
    _check("output", ys, "no input of it does, it was made under no_grad, or by grad without create_graph=True")
    _check("input", xs, "make it with requires_grad=True")
    cotangents = _cotangents(ys, grad_outputs)
    with recording(create_graph):
        gradients = _backward_pass(ys, cotangents, xs)
    if gradients.count(None) == len(xs):
        raise ValueError(f"grad: the outputs do not depend on {', '.join(x._label() for x in xs)}")
    return tuple(_zeros_for_none(gradients, xs, cotangents[0].shape[: cotangents[0].ndim - ys[0].ndim]))


def _check(what: str, tensors: Sequence[Any], hint: str) -> None:
    if not tensors:
        raise ValueError(f"grad: there must be at least one {what}")
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: {what} {i} must be a Tensor; got {type(t).__name__}")
        if not t.requires_grad:
            raise ValueError(f"grad: {what} {i} ({t._label()}) does not require a gradient: {hint}")


def backward(output: Tensor, grad_output: TensorLike | None = None) -> None:
    """Set `.grad` of every leaf that `output` depends on to its gradient, which replaces the one from before.

    grad_output: see `grad`.  Its leading axes, if it has any, are those of each `.grad` too.
    """
    leaves = [t for t in _inputs_first([output]) if t._node is None and t.requires_grad]
    if not leaves:
        raise ValueError(f"backward: {output._label()} does not require a gradient: no input of it does")
    for leaf, g in zip(leaves, grad(output, leaves, grad_output), strict=True):
        leaf.grad = g


def vjp(f: Function, inputs: TensorsLike, v: TensorLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """`(f(inputs), v^T J)`: the vector-Jacobian product, by one backward pass.

    v has the output's shape, with extra leading axes if wanted.  The second item is a tuple if `inputs` is one.
    """
    xs, y = with_graph(f, inputs)
    vectors = grad_or_zeros([y], xs, [as_tensor(v, y.dtype)], create_graph)
    return _value(y, create_graph), tuple(vectors) if is_several(inputs) else vectors[0]


def jvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """`(f(inputs), J v)`: the Jacobian-vector product.  v has the inputs' shapes.

    `u^T J` is linear in u, so its own vjp along v is `J v`: two backward passes make a forward one.  The value of u
    does not matter.
    """
    xs, y = with_graph(f, inputs)
    vs = _directions("jvp", v, xs)
    u = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    with recording(True):
        rows = _backward_pass([y], [u], xs)
    return _value(y, create_graph), _gradient_of_products(rows, vs, [u], create_graph)[0]


def hvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """`(f(inputs), H v)` for a scalar f: the gradient of the gradient along v, without ever forming the Hessian H."""
    xs, y = with_graph(f, inputs)
    vs = _directions("hvp", v, xs)
    if y.size != 1:
        raise ValueError(f"hvp: f must return one value; it returned the shape {y.shape}")
    with recording(True):
        gradients = _backward_pass([y], _cotangents([y], None), xs)
    products = _gradient_of_products(gradients, vs, xs, create_graph)
    return _value(y, create_graph), tuple(products) if is_several(inputs) else products[0]


def _gradient_of_products(
    gradients: Sequence[Tensor | None], vs: Sequence[Tensor], xs: Sequence[Tensor], create_graph: bool
) -> list[Tensor]:
    """The gradient of `sum <gradient, v>` in each x; gradients that depend on nothing add nothing."""
    dependent = [(g, v) for g, v in zip(gradients, vs, strict=True) if g is not None and g.requires_grad]
    with recording(create_graph):
        return _zeros_for_none(_backward_pass([g for g, _ in dependent], [v for _, v in dependent], xs), xs)


def _value(y: Tensor, create_graph: bool) -> Tensor:
    return y if create_graph else y.detach()


def jacobian(f: Function, x: TensorLike, create_graph: bool = False) -> Tensor:
    """`J[n, i] = d f_i(x_n) / d x_n` for samples that do not depend on each other: f (N, ...) -> (N, c), J (N, c, ...).

    One backward pass with a (c, N, c) cotangent computes all c rows, which share all that the forward pass saved.

    Raises:
        ValueError: if f does not return one row for each sample, or does not depend on x.
    """
    (variable,), y = with_graph(f, (x,))
    return jacobian_of(y, variable, create_graph)


def jacobian_of(y: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """`jacobian` of outputs y (N, c) that were already computed from x (N, ...)."""
    if y.ndim != 2 or not x.ndim or y.shape[0] != x.shape[0]:
        wanted = f"({x.shape[0]}, c)" if x.ndim else "(N, c)"
        raise ValueError(f"jacobian: f must turn x of shape {x.shape} into {wanted}; it returned {y.shape}")
    n, c = y.shape
    rows = from_array(np.broadcast_to(np.eye(c, dtype=y.dtype)[:, None, :], (c, n, c)))
    return moveaxis(grad(y, x, rows, create_graph)[0], 0, 1)


def _backward_pass(ys: Sequence[Tensor], cotangents: Sequence[Tensor], xs: Sequence[Tensor]) -> list[Tensor | None]:
    """The cotangent of each x, or None where no y depends on it."""
    order = _inputs_first(ys)
    # only what lies between xs and ys is computed: the gradient of an input never pays for that of a weight
    wanted = set(map(id, xs))
    leads_to_x = set(wanted)
    for t in order:
        if t._node and not leads_to_x.isdisjoint(map(id, t._node.inputs)):
            leads_to_x.add(id(t))

    gradients: dict[int, Tensor] = {}  # the sum of the cotangents so far, by the id of its tensor
    for y, g in zip(ys, cotangents, strict=True):
        if id(y) in leads_to_x:
            gradients[id(y)] = gradients[id(y)] + g if id(y) in gradients else g
    tracers = state.tracers
    for t in reversed(order):
        node = t._node
        if node is None or id(t) not in gradients:
            continue
        g = gradients[id(t)] if id(t) in wanted else gradients.pop(id(t))
        if changed := node.changed_inputs():
            raise ValueError(f"grad: {changed[0]._label()} was given new data after {node.name} had used it")
        for tracer in tracers:
            tracer.enter(t)
        try:
            for i, x in enumerate(node.inputs):
                if x.requires_grad and id(x) in leads_to_x:
                    gx = node.vjp(i, g, t)
                    gradients[id(x)] = gradients[id(x)] + gx if id(x) in gradients else gx
        finally:
            for tracer in tracers:
                tracer.leave()
    return [gradients.get(id(x)) for x in xs]


def _inputs_first(ys: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor in the graph of ys, each after the inputs it was made from.  No recursion: graphs can be deep."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[Tensor | None] = list(reversed(ys))
    pending: list[Tensor] = []  # a None on the stack means that all inputs of the last one pending are in order
    while stack:
        t = stack.pop()
        if t is None:
            order.append(pending.pop())
        elif id(t) not in seen:
            seen.add(id(t))
            pending.append(t)
            stack.append(None)
            if t._node:
                for x in t._node.inputs:
                    if x.requires_grad:
                        stack.append(x)
    return order


def _cotangents(ys: Sequence[Tensor], given: TensorLike | Sequence[TensorLike | None] | None) -> list[Tensor]:
    """One cotangent for each output, checked; 1 for an output of one element where none was given."""
    if given is None:
        gs = [None] * len(ys)
    else:
        # [1.0, 2.0] is one cotangent for one output, and two for two
        gs = list(given) if len(ys) > 1 and isinstance(given, (list, tuple)) else as_list(given)
    if len(gs) != len(ys):
        raise ValueError(f"grad: {len(ys)} outputs need as many grad_outputs; got {len(gs)}")
    cotangents, batch_axes = [], []
    for i, (y, g) in enumerate(zip(ys, gs, strict=True)):
        if g is None:
            if y.size != 1:
                raise ValueError(f"grad: output {i} has shape {y.shape}, not one element: give grad_outputs")
            g = from_array(np.ones(y.shape, y.dtype))
        g = as_tensor(g, y.dtype)
        if g.shape[max(0, g.ndim - y.ndim) :] != y.shape or g.dtype != y.dtype:
            raise ValueError(
                f"grad: grad_outputs {i} must be {y.dtype} of shape (..., {', '.join(map(str, y.shape))}); "
                f"got {g.dtype} of shape {g.shape}"
            )
        cotangents.append(g)
        batch_axes.append(g.shape[: g.ndim - y.ndim])
    if batch_axes.count(batch_axes[0]) < len(batch_axes):
        raise ValueError(f"grad: all grad_outputs must have the same leading axes; got {sorted(set(batch_axes))}")
    return cotangents


def is_several(value: Any) -> bool:
    """Whether `value` is a collection of tensors.  A list of numbers such as [1.0, 2.0] is one tensor."""
    return isinstance(value, tuple) or (
        isinstance(value, list) and any(v is None or isinstance(v, (Tensor, np.ndarray)) for v in value)
    )


def as_list(value: Any) -> list[Any]:
    """The tensors of `value`: its items if it is a collection of them, else itself."""
    return list(value) if is_several(value) else [value]


def with_graph(f: Function, inputs: TensorsLike) -> tuple[list[Tensor], Tensor]:
    """The inputs as Tensors that require a gradient, and f of them.

    An input that already requires one is used as it is, so that an outer graph stays connected.
    """
    xs = []
    for value in as_list(inputs):
        x = as_tensor(value)
        if not x.requires_grad:
            x = x.detach()
            x.requires_grad = True
        xs.append(x)
    with recording(True):
        y = f(*xs)
    if not isinstance(y, Tensor):
        raise TypeError(f"the function to differentiate must return one Tensor; it returned {type(y).__name__}")
    return xs, y


def _directions(name: str, v: TensorsLike, xs: Sequence[Tensor]) -> list[Tensor]:
    vs = as_list(v)
    if len(vs) != len(xs):
        raise ValueError(f"{name}: {len(xs)} inputs need as many directions v; got {len(vs)}")
    vs = [as_tensor(t, x.dtype) for t, x in zip(vs, xs, strict=True)]
    for t, x in zip(vs, xs, strict=True):
        if t.shape != x.shape:
            raise ValueError(f"{name}: v must have the input's shape {x.shape}; got {t.shape}")
    return vs


def grad_or_zeros(
    ys: Sequence[Tensor], xs: Sequence[Tensor], cotangents: Sequence[Tensor], create_graph: bool
) -> list[Tensor]:
    """`grad` of outputs that need not depend on any input: zeros then."""
    checked = _cotangents(ys, list(cotangents))
    with recording(create_graph):
        gradients = _backward_pass(ys, checked, xs)
    return _zeros_for_none(gradients, xs, checked[0].shape[: checked[0].ndim - ys[0].ndim])


def _zeros_for_none(
    gradients: Sequence[Tensor | None], xs: Sequence[Tensor], batch_axes: tuple[int, ...] = ()
) -> list[Tensor]:
    complete = []
    for g, x in zip(gradients, xs, strict=True):
        complete.append(from_array(np.zeros(batch_axes + x.shape, x.dtype)) if g is None else g)
    return complete


def operation_names(ys: Sequence[Tensor]) -> list[str]:
    """The names of the operations in the graph of ys, in the order of the computation, each once."""
    return list(dict.fromkeys(t._node.name for t in _inputs_first(ys) if t._node))

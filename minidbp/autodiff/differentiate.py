"""Derivatives of graphs: grad, and what is built on it (vjp, jvp, hvp, jacobian).

`grad` walks from the outputs back to the inputs that were asked for and calls each operation's rules on the way.  The
rules are operations on Tensors; with create_graph=True they are recorded, and what `grad` returns can be
differentiated again.  That is all there is to double backpropagation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidbp.autodiff.shape import move_axis
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, in_rule_of, recording, wrap

Function = Callable[..., Tensor]
Tensors = Tensor | Sequence[Tensor]
TensorsLike = TensorLike | Sequence[TensorLike]


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    """The gradient of <grad_outputs, outputs> in each input: sum over outputs of grad_outputs^T d outputs / d input.

    outputs, inputs: a Tensor or several.  grad_outputs: for each output a cotangent of its shape, or of its shape with
    extra leading axes (the same for all outputs): then each gradient has those axes too, all from one pass.  An output
    of one element may go without (1 is meant).  create_graph: record the pass, to differentiate the result again.

    Returns one Tensor for each input, of the input's shape and dtype.  An input that the outputs do not depend on gets
    zeros, if they depend on another input (the last bias has no part in a Jacobian, and its gradient is 0).

    Raises ValueError if an output or an input does not require a gradient, if the outputs depend on none of the
    inputs, if a cotangent's shape does not fit, or if a leaf was given new data after the graph was made.
    """
    ys, xs = several(outputs), several(inputs)
    for what, tensors in ("output", ys), ("input", xs):
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(f"grad: {what} {i} must be a Tensor; got {type(t).__name__}")
            if not t.requires_grad:
                reason = {
                    "output": "no input of it does, or it was made under no_grad",
                    "input": "make it with requires_grad=True",
                }[what]
                raise ValueError(f"grad: {what} {i} ({t._label()}) does not require a gradient: {reason}")
    cotangents = _cotangents(ys, grad_outputs)
    with recording(create_graph):
        found = _backward_pass(ys, cotangents, xs)
    if all(g is None for g in found):
        raise ValueError(f"grad: the outputs do not depend on {', '.join(x._label() for x in xs)}")
    lead = cotangents[0].shape[: cotangents[0].ndim - ys[0].ndim]
    return tuple(_zeros(lead + x.shape, x.dtype) if g is None else g for g, x in zip(found, xs, strict=True))


def backward(output: Tensor, grad_output: TensorLike | None = None) -> None:
    """Set `.grad` of every leaf that `output` depends on (it is replaced, not added to); `grad` does the work."""
    leaves = [t for t in _inputs_first([output]) if t._operation is None and t.requires_grad]
    for leaf, g in zip(leaves, grad(output, leaves, grad_output) if leaves else (), strict=True):
        leaf.grad = g
    if not leaves:
        raise ValueError(f"backward: {output._label()} does not require a gradient: no input of it does")


def vjp(f: Function, inputs: TensorsLike, v: TensorLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """(f(inputs), v^T J): the vector-Jacobian product, by one backward pass.

    v has the output's shape, with extra leading axes if wanted.  The second item is a tuple if `inputs` is one.
    """
    xs, y = with_graph(f, inputs)
    return _result(y, tuple(grad_or_zeros([y], xs, [as_tensor(v, y.dtype)], create_graph)), inputs, create_graph)


def jvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """(f(inputs), J v): the Jacobian-vector product.  v has the inputs' shapes.

    u^T J is linear in u, so its own vjp along v is J v: two backward passes make a forward one.
    """
    xs, y = with_graph(f, inputs)
    vs = _directions("jvp", v, xs)
    u = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    with recording(True):
        rows = _backward_pass([y], [u], xs)
    linear = [(r, t) for r, t in zip(rows, vs, strict=True) if r is not None and r.requires_grad]
    with recording(create_graph):
        (jv,) = _backward_pass([r for r, _ in linear], [t for _, t in linear], [u])
    return _result(y, (_zeros(y.shape, y.dtype) if jv is None else jv,), y, create_graph)  # type: ignore[return-value]


def hvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """(f(inputs), H v) for a scalar f: the gradient of the gradient along v, without ever forming the Hessian H."""
    xs, y = with_graph(f, inputs)
    vs = _directions("hvp", v, xs)
    with recording(True):
        first = _backward_pass([y], _cotangents([y], None), xs)
    curved = [(g, t) for g, t in zip(first, vs, strict=True) if g is not None and g.requires_grad]
    with recording(create_graph):
        second = _backward_pass([g for g, _ in curved], [t for _, t in curved], xs)
    found = tuple(_zeros(t.shape, t.dtype) if h is None else h for h, t in zip(second, vs, strict=True))
    return _result(y, found, inputs, create_graph)


def jacobian(f: Function, x: TensorLike, create_graph: bool = False) -> Tensor:
    """J[n, i] = d f_i(x_n) / d x_n for samples that do not depend on each other: f (N, ...) -> (N, c), J (N, c, ...).

    One backward pass with a (c, N, c) cotangent finds all c rows, which share everything saved on the way forward.
    Raises ValueError if f does not return one row for each sample, or does not depend on x.
    """
    (variable,), y = with_graph(f, (x,))
    return jacobian_of(y, variable, create_graph)


def jacobian_of(y: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """`jacobian` of outputs y (N, c) that were already computed from x (N, ...)."""
    if y.ndim != 2 or not x.ndim or y.shape[0] != x.shape[0]:
        wanted = f"({x.shape[0]}, c)" if x.ndim else "(N, c)"
        raise ValueError(f"jacobian: f must turn x of shape {x.shape} into {wanted}; it returned {y.shape}")
    n, c = y.shape
    rows = wrap(np.broadcast_to(np.eye(c, dtype=y.dtype)[:, None, :], (c, n, c)))
    return move_axis(grad(y, x, rows, create_graph)[0], 0, 1)


def _backward_pass(ys: Sequence[Tensor], cotangents: Sequence[Tensor], xs: Sequence[Tensor]) -> list[Tensor | None]:
    """The cotangent of each x, or None where no y depends on it."""
    order = _inputs_first(ys)
    # only what lies between xs and ys is computed: an input's gradient never pays for a weight's
    wanted = {id(x) for x in xs}
    leads_to_x = set(wanted)
    seen = set(wanted)  # outside their support too
    for t in order:
        if t._operation and any(id(i) in leads_to_x for i in t._operation.inputs):
            leads_to_x.add(id(t))
            if t._operation.name == "watch":
                seen.add(id(t))

    held: dict[int, Tensor] = {}  # cotangents found so far
    for y, g in zip(ys, cotangents, strict=True):
        if id(y) in leads_to_x:
            with in_rule_of(y):
                held[id(y)] = held[id(y)] + g if id(y) in held else g
    for t in reversed(order):
        if id(t) not in held or t._operation is None:
            continue
        g = held[id(t)] if id(t) in wanted else held.pop(id(t))
        name, inputs, rules, inside, versions = t._operation
        for x, rule, inner, version in zip(inputs, rules, inside, versions, strict=True):
            if x._version != version:
                raise ValueError(f"grad: {x._label()} was given new data after {name} had used it")
            if id(x) not in leads_to_x or not x.requires_grad:
                continue
            if inner and x.support is not None and id(x) not in seen:
                rule = inner
            with in_rule_of(t):
                gx = rule(g, t)
                if not isinstance(gx, Tensor):
                    got = type(gx).__name__
                    raise TypeError(f"grad: the rule of {name} returned {got}; a rule must return a Tensor")
                if gx.shape != g.shape[: g.ndim - t.ndim] + x.shape or gx.dtype != x.dtype:
                    raise ValueError(
                        f"grad: the rule of {name} for an input of shape {x.shape} and {x.dtype} turned a cotangent "
                        f"of shape {g.shape} into {gx.shape} and {gx.dtype}"
                    )
                held[id(x)] = held[id(x)] + gx if id(x) in held else gx
    return [held.get(id(x)) for x in xs]


def _inputs_first(ys: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor in the graph of ys, each after the inputs it was made from.  No recursion: graphs can be deep."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(y, False) for y in reversed(ys)]
    while stack:
        t, inputs_done = stack.pop()
        if inputs_done:
            order.append(t)
        elif id(t) not in seen:
            seen.add(id(t))
            stack.append((t, True))
            if t._operation:
                stack.extend((i, False) for i in t._operation.inputs if i.requires_grad)
    return order


def _cotangents(ys: Sequence[Tensor], given: TensorLike | Sequence[TensorLike | None] | None) -> list[Tensor]:
    """One cotangent for each output, checked; 1 for an output of one element where none was given."""
    if given is None:
        gs = [None] * len(ys)
    else:
        gs = list(given) if len(ys) > 1 and isinstance(given, (list, tuple)) else several(given)
    if len(gs) != len(ys):
        raise ValueError(f"grad: {len(ys)} outputs need as many grad_outputs; got {len(gs)}")
    cotangents = []
    for i, (y, g) in enumerate(zip(ys, gs, strict=True)):
        if g is None:
            if y.size != 1:
                raise ValueError(f"grad: output {i} has shape {y.shape}, not one element: give grad_outputs")
            g = wrap(np.ones(y.shape, y.dtype))
        g = as_tensor(g, y.dtype)
        if g.shape[max(0, g.ndim - y.ndim) :] != y.shape or g.dtype != y.dtype:
            raise ValueError(
                f"grad: grad_outputs {i} must be {y.dtype} of shape (..., {', '.join(map(str, y.shape))}); "
                f"got {g.dtype} of shape {g.shape}"
            )
        cotangents.append(g)
    leads = {g.shape[: g.ndim - y.ndim] for y, g in zip(ys, cotangents, strict=True)}
    if len(leads) > 1:
        raise ValueError(f"grad: all grad_outputs must have the same leading axes; got {sorted(leads)}")
    return cotangents


def is_several(value: Any) -> bool:
    """Whether a value means several: a tuple, or a list that holds Tensors, arrays or None ([1.0, 2.0] is one)."""
    return isinstance(value, tuple) or (
        isinstance(value, list) and any(v is None or isinstance(v, (Tensor, np.ndarray)) for v in value)
    )


def several(value: Any) -> list[Any]:
    """A list of what a value means: its items if it is several, itself if it is one."""
    return list(value) if is_several(value) else [value]


def with_graph(f: Function, inputs: TensorsLike) -> tuple[list[Tensor], Tensor]:
    """The inputs as Tensors that require a gradient (themselves if they do: outer graphs stay connected), and f."""
    xs = []
    for value in several(inputs):
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
    vs = several(v)
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
        found = _backward_pass(ys, checked, xs)
    lead = checked[0].shape[: checked[0].ndim - ys[0].ndim]
    return [_zeros(lead + x.shape, x.dtype) if g is None else g for g, x in zip(found, xs, strict=True)]


def operations(ys: Sequence[Tensor]) -> list[str]:
    """The names of the operations in the graph of ys, in the order of the computation, each once."""
    return list(dict.fromkeys(t._operation.name for t in _inputs_first(ys) if t._operation))


def _result(y: Tensor, found: tuple[Tensor, ...], like: TensorsLike, create_graph: bool) -> tuple[Tensor, Tensors]:
    return y if create_graph else y.detach(), found if is_several(like) else found[0]


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    return wrap(np.zeros(shape, dtype))

"""Derivatives of graphs: grad; and of functions: value_and_grad, vjp, jvp, hvp, hessian, jacobian, full_jacobian.

`grad` walks from the outputs back to the inputs that were asked for and calls each operation's rules on the way.  The
rules are operations on Tensors; with create_graph=True they are recorded, and what `grad` returns can be
differentiated again.  That is all there is to double backpropagation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidbp import kernels
from minidbp.autodiff.shapes import moveaxis, reshape
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, from_array, recording, state, traced_by

Function = Callable[..., Tensor]
Tensors = Tensor | Sequence[Tensor]
TensorsLike = TensorLike | Sequence[TensorLike]

SURELY_FREE = 1 << 30  # bytes: below this, nobody looks how much memory is free


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    create_graph: bool = False,
    *,
    allow_unused: bool | None = None,
) -> tuple[Tensor, ...]:
    """The gradient of `<grad_outputs, outputs>` in each input: the sum over outputs of `grad_outputs^T d out / d in`.

    Args:
        outputs: a Tensor, or a list or tuple of them.
        inputs: a Tensor, or a list or tuple of them.
        grad_outputs: for each output a cotangent of its shape, or of its shape with extra leading axes (the same for
            all outputs).  Then each gradient has those axes too, all from one pass.  An output of one element may go
            without: 1 is meant.  It is a list or tuple if `outputs` is one.
        create_graph: record the pass, so that the result can be differentiated again.  Without it the result is
            a constant, even if a cotangent requires a gradient.
        allow_unused: An input is unused if no output depends on it; its gradient is zeros.  With True any input may
            be unused, such as the last bias in a penalty on the Jacobian.  With None (the default) some of them may
            be unused but not all, and with False none.

    Returns:
        One Tensor for each input, of the input's dtype, and of its shape behind the leading axes.

    Raises:
        ValueError: if an input does not require a gradient, or an output does not and allow_unused is not True, if an
            input is unused that must not be, if a cotangent's shape does not fit, or if a leaf was given new data
            after the graph was made.
        TypeError: if an output or an input is not a Tensor.
    """
    ys, xs = as_list(outputs), as_list(inputs)
    _check("output", ys, may_be_constant=bool(allow_unused))
    _check("input", xs)
    cotangents = _cotangents(ys, [None] * len(ys) if grad_outputs is None else _items(grad_outputs, outputs))
    gradients = _backward_pass(ys, cotangents, xs, create_graph)
    unused = [x._label() for x, g in zip(xs, gradients, strict=True) if g is None]
    if unused and (allow_unused is False or (allow_unused is None and len(unused) == len(xs))):
        raise ValueError(f"grad: the outputs do not depend on {', '.join(unused)}: give allow_unused=True for zeros")
    batch_axes = cotangents[0].shape[: cotangents[0].ndim - ys[0].ndim]
    return tuple([_zeros(batch_axes + x.shape, x) if g is None else g for g, x in zip(gradients, xs, strict=True)])


def _check(what: str, tensors: Sequence[Any], may_be_constant: bool = False) -> None:
    """Raise an error unless there are Tensors that require a gradient.

    They may be constant if that is allowed, but not computed while nothing was recorded.
    """
    if not tensors:
        raise ValueError(f"grad: there must be at least one {what}")
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: {what} {i} must be a Tensor; got {type(t).__name__}")
        if not t.requires_grad and (t._unrecorded or not may_be_constant):
            reason = "make it with requires_grad=True" if what == "input" else _why_constant(t)
            raise ValueError(f"grad: {what} {i} ({t._label()}) does not require a gradient: {reason}")


def _why_constant(t: Tensor) -> str:
    """Why a Tensor does not require a gradient."""
    if t._unrecorded:
        return "it was computed under no_grad, or by grad without create_graph=True"
    return (
        "it is constant: nothing it was computed from requires a gradient, as in the gradient of a linear function, "
        "or it was detached"
    )


def backward(output: Tensor, grad_output: TensorLike | None = None) -> None:
    """Set `.grad` of every leaf that `output` depends on to its gradient, which replaces the one from before.

    grad_output: see `grad`.  Its leading axes, if it has any, are those of each `.grad` too.
    """
    leaves = [t for t in inputs_first([output]) if t._node is None and t.requires_grad]
    if not leaves:
        raise ValueError(f"backward: {output._label()} does not require a gradient: {_why_constant(output)}")
    for leaf, g in zip(leaves, grad(output, leaves, grad_output), strict=True):
        leaf.grad = g


def vjp(f: Function, inputs: TensorsLike, v: TensorLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """`(f(inputs), v^T J)`: the vector-Jacobian product, by one backward pass.

    v has the output's shape, with extra leading axes if wanted.  The second item is a tuple if `inputs` is one.

    This and the functions below call f with one Tensor for each input (`with_graph`).  An input that f ignores has
    the derivative zero.  What they return is constant without create_graph.
    """
    xs, y = with_graph(f, inputs)
    products = grad(y, xs, _cotangent("vjp: v", y, v), create_graph, allow_unused=True)
    return _value(y, create_graph), _like(inputs, products)


def value_and_grad(f: Function, inputs: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """`(f(inputs), the gradient)` of an f that returns one value.  The second item is a tuple if `inputs` is one.

    Raises:
        ValueError: if f returns more than one value.
    """
    y, _, gradients = _first_order("value_and_grad", f, inputs, create_graph)
    return _value(y, create_graph), _like(inputs, gradients)


def jvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """`(f(inputs), J v)`: the Jacobian-vector product.  v has the inputs' shapes.

    `u^T J` is linear in u, so its own vjp along v is `J v`: two backward passes make a forward one.  The value of u
    does not matter.
    """
    xs, y = with_graph(f, inputs)
    vs = _directions("jvp", v, inputs, xs)
    u = _zeros(y.shape, y)
    u.requires_grad = True
    rows = grad(y, xs, u, True, allow_unused=True)
    return _value(y, create_graph), grad(rows, u, vs, create_graph, allow_unused=True)[0]


def hvp(f: Function, inputs: TensorsLike, v: TensorsLike, create_graph: bool = False) -> tuple[Tensor, Tensors]:
    """`(f(inputs), H v)` for a scalar f: the gradient of the gradient along v, without ever forming the Hessian H."""
    y, xs, gradients = _first_order("hvp", f, inputs, True)
    products = grad(gradients, xs, _directions("hvp", v, inputs, xs), create_graph, allow_unused=True)
    return _value(y, create_graph), _like(inputs, products)


def hessian(f: Function, inputs: TensorsLike, create_graph: bool = False) -> Tensor | tuple[tuple[Tensor, ...], ...]:
    """`H = d^2 f / dx dx` of an f that returns one value, for x of any shape: `(*x.shape, *x.shape)`.

    All rows of H come from one backward pass through the gradient.  For a tuple of inputs the result is a tuple of
    tuples: item [i][j] is `d^2 f / dx_i dx_j`, of shape `(*x_i.shape, *x_j.shape)`.

    Raises:
        ValueError: if f returns more than one value.
    """
    _, xs, gradients = _first_order("hessian", f, inputs, True)
    blocks = [_rows(g, xs, create_graph) for g in gradients]
    return tuple(blocks) if is_several(inputs) else blocks[0][0]


def full_jacobian(f: Function, inputs: TensorsLike, create_graph: bool = False) -> Tensors:
    """`J = df / dx` for f and x of any shapes: `(*f(x).shape, *x.shape)`, by one backward pass.

    The samples of a batch may depend on each other; `jacobian` takes N times less memory if they do not.  The result is
    a tuple if `inputs` is one.
    """
    xs, y = with_graph(f, inputs)
    return _like(inputs, _rows(y, xs, create_graph))


def _first_order(
    name: str, f: Function, inputs: TensorsLike, create_graph: bool
) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
    """f's one value, its inputs, and its gradient in each of them."""
    xs, y = with_graph(f, inputs)
    if y.size != 1:
        raise ValueError(f"{name}: f must return one value; it returned the shape {y.shape}")
    return y, xs, grad(y, xs, None, create_graph, allow_unused=True)


def _rows(y: Tensor, xs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """The Jacobian of y in each x, (*y.shape, *x.shape): one cotangent for each element of y."""
    identity = np.eye(y.size, dtype=y.dtype).reshape(y.shape + y.shape)
    return grad(y, xs, from_array(identity), create_graph, allow_unused=True)


def _value(y: Tensor, create_graph: bool) -> Tensor:
    return y if create_graph else y.detach()


def _like(inputs: TensorsLike, results: tuple[Tensor, ...]) -> Tensors:
    """The results if `inputs` is a collection, else the only one."""
    return results if is_several(inputs) else results[0]


def jacobian(f: Function, x: TensorLike, create_graph: bool = False) -> Tensor:
    """`J[n, i] = d f_i(x_n) / d x_n` for samples that do not depend on each other: f (N, ...) -> (N, c), J (N, c, ...).

    One backward pass with a (c, N, c) cotangent computes all c rows, which share all that the forward pass saved.
    Another pass, with one row, checks that the samples are independent; `autodiff.jacobian_of` does without it.

    Raises:
        ValueError: if f does not return one row for each sample, if it does not depend on x, or if a sample's row
            depends on another sample.  `full_jacobian` is for such functions.
    """
    (variable,), y = with_graph(f, (x,))
    J = jacobian_of(y, variable, create_graph)
    _check_independence(y, variable, J.data)
    return J


def jacobian_of(y: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """`jacobian` of outputs y (N, c) that were already computed from x (N, ...).

    It does not check that the samples are independent: where y[n] depends on another sample too, the result is
    `sum_m d y[m, i] / d x[n]`.
    """
    if y.ndim != 2 or not x.ndim or y.shape[0] != x.shape[0]:
        wanted = f"({x.shape[0]}, c)" if x.ndim else "(N, c)"
        raise ValueError(f"jacobian: f must turn x of shape {x.shape} into {wanted}; it returned {y.shape}")
    n, c = y.shape
    rows = from_array(np.broadcast_to(np.eye(c, dtype=y.dtype)[:, None, :], (c, n, c)))
    with recording(create_graph):
        return moveaxis(grad(y, x, rows, create_graph)[0], 0, 1)


def _check_independence(y: Tensor, x: Tensor, J: np.ndarray) -> None:
    """Raise ValueError if one sample's outputs y (N, c) depend on another sample of x; J (N, c, ...) is `jacobian_of`.

    Independent samples turn the cotangent `r[n] q[i]` into `r[n] sum_i q[i] J[n, i]`.  Others do not, because no two
    numbers of r are equal.  Rounding makes a difference too, so where the two differ most, a second pass decides: the
    gradient in sample n of the other samples' outputs is exactly 0 if the samples are independent.
    """
    n, c = y.shape
    if n < 2 or not J.size:
        return
    eps = max(np.finfo(x.dtype).eps, np.finfo(y.dtype).eps)
    r, q = (0.5 + (step * np.arange(1, k + 1)) % 0.5 for step, k in ((5**0.5, n), (2**0.5, c)))
    cotangent = np.outer(r, q).astype(y.dtype)
    r, q = r.astype(J.dtype), q.astype(J.dtype)
    with traced_by(None), np.errstate(invalid="ignore", over="ignore", under="ignore"):
        gradient = grad(y, x, cotangent)[0].data.reshape(n, -1)
        expected = np.tensordot(q, np.moveaxis(J, 1, 0), 1).reshape(n, -1) * r[:, None]
        finite = np.isfinite(gradient) & np.isfinite(expected)
        difference = np.where(finite, np.abs(gradient - expected), 0)
        allowed = 100 * eps * np.max(np.abs(expected), where=finite, initial=0.0)
        if difference.max() <= allowed:
            return
        sample = int(difference.max(axis=1).argmax())
        others = cotangent.copy()
        others[sample] = 0
        of_others = grad(y, x, others)[0].data[sample]
    if np.any(np.isfinite(of_others) & (of_others != 0)):
        raise ValueError(
            f"jacobian: the samples must be independent, but other samples' outputs depend on sample {sample}: "
            "use full_jacobian"
        )


def _backward_pass(
    ys: Sequence[Tensor], cotangents: Sequence[Tensor], xs: Sequence[Tensor], create_graph: bool
) -> list[Tensor | None]:
    """The cotangent of each x, or None where no y depends on it."""
    with recording(create_graph):
        gradients = _accumulated(ys, cotangents, xs)
    taken = set(map(id, cotangents))
    for i, g in enumerate(gradients):
        # some rules return g itself: two gradients could be one Tensor, or a cotangent that requires a gradient
        if g is not None and id(g) in taken and not (create_graph and g.requires_grad):
            gradients[i] = g.detach()
        taken.add(id(g))
    return gradients


def _accumulated(ys: Sequence[Tensor], cotangents: Sequence[Tensor], xs: Sequence[Tensor]) -> list[Tensor | None]:
    order = inputs_first(ys)
    # only what lies between xs and ys is computed: the gradient of an input never pays for that of a weight
    wanted = set(map(id, xs))
    leads_to_x = set(wanted)
    for t in order:
        if t._node and not leads_to_x.isdisjoint(map(id, t._node.inputs)):
            leads_to_x.add(id(t))

    rows = math.prod(cotangents[0].shape[: cotangents[0].ndim - ys[0].ndim])
    if rows > 1 and (on_the_way := [t for t in order if id(t) in leads_to_x]):
        _check_memory(rows, on_the_way)
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
                if x._requires_grad and id(x) in leads_to_x:
                    if node.had_constant(i):
                        raise ValueError(
                            f"grad: {x._label()} required no gradient when {node.name} used it: set requires_grad first"
                        )
                    gx = node.vjp(i, g, t)
                    gradients[id(x)] = gradients[id(x)] + gx if id(x) in gradients else gx
        finally:
            for tracer in tracers:
                tracer.leave()
    return [gradients.get(id(x)) for x in xs]


def _check_memory(rows: int, tensors: Sequence[Tensor]) -> None:
    """Raise MemoryError if one cotangent of the tensors, with so many rows, is larger than the memory that is free.

    Linux would promise the memory, and end the process once it is used.
    """
    largest = max(tensors, key=lambda t: t.data.nbytes)
    needed = rows * largest.data.nbytes
    if needed > SURELY_FREE and needed > (free := kernels.free_memory()):
        raise MemoryError(
            f"grad: {rows} rows for a tensor of shape {largest.shape} take {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are free: take fewer samples at a time"
        )


def inputs_first(ys: Sequence[Tensor], leaves: Sequence[Tensor] = ()) -> list[Tensor]:
    """Every tensor in the graph of ys, each after the inputs it was made from; what `leaves` are made from is left out.

    No recursion: graphs can be deep.
    """
    order: list[Tensor] = []
    leaf_ids = set(map(id, leaves))
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
            if t._node and id(t) not in leaf_ids:
                for x in t._node.inputs:
                    if x._requires_grad:
                        stack.append(x)
    return order


def _cotangents(ys: Sequence[Tensor], given: Sequence[TensorLike | None]) -> list[Tensor]:
    """One cotangent for each output, checked; 1 for an output of one element where None was given."""
    if len(given) != len(ys):
        raise ValueError(f"grad: {len(ys)} outputs need as many grad_outputs; got {len(given)}")
    cotangents, batch_axes = [], []
    for i, (y, g) in enumerate(zip(ys, given, strict=True)):
        if g is None:
            if y.size != 1:
                raise ValueError(f"grad: output {i} has shape {y.shape}, not one element: give grad_outputs")
            g = from_array(np.ones(y.shape, y.dtype))
        g = _cotangent(f"grad: grad_outputs {i}", y, g)
        cotangents.append(g)
        batch_axes.append(g.shape[: g.ndim - y.ndim])
    if batch_axes.count(batch_axes[0]) < len(batch_axes):
        raise ValueError(f"grad: all grad_outputs must have the same leading axes; got {sorted(set(batch_axes))}")
    return cotangents


def _cotangent(label: str, y: Tensor, given: TensorLike) -> Tensor:
    g = as_tensor(given, y.dtype)
    if g.shape[max(0, g.ndim - y.ndim) :] != y.shape or g.dtype != y.dtype:
        raise ValueError(
            f"{label} must be {y.dtype} of shape (..., {', '.join(map(str, y.shape))}); "
            f"got {g.dtype} of shape {g.shape}"
        )
    return g


def is_several(value: Any) -> bool:
    """Whether `value` is a collection of tensors.  A list of numbers such as [1.0, 2.0] is one tensor."""
    return isinstance(value, tuple) or (
        isinstance(value, list) and any(v is None or isinstance(v, (Tensor, np.ndarray)) for v in value)
    )


def as_list(value: Any) -> list[Any]:
    """The tensors of `value`: its items if it is a collection of them, else itself."""
    return list(value) if is_several(value) else [value]


def _items(given: Any, like: Any) -> list[Any]:
    """The items of `given`, one for each of `like`'s: beside two tensors, [1.0, 2.0] is two items, not one tensor."""
    return list(given) if is_several(like) and isinstance(given, (list, tuple)) else as_list(given)


def with_graph(f: Function, inputs: TensorsLike) -> tuple[list[Tensor], Tensor]:
    """One Tensor for each input, and f of them: the derivative of f is the derivative of the second in the first.

    Each is a Tensor of its own, even if an input is given twice.  If the input requires a gradient, an outer graph
    stays connected.  f may read such an input itself and leave its argument unused, as a model reads its parameters:
    then the input is the variable.

    Raises:
        TypeError: if f does not return one Tensor.
        ValueError: if f uses an input both ways, so that two derivatives could be meant.
    """
    given = [as_tensor(value) for value in as_list(inputs)]
    if not given:
        raise ValueError("there must be at least one input to differentiate in")
    with recording(True):
        arguments = [_argument(x) for x in given]
        y = f(*arguments)
    if not isinstance(y, Tensor):
        raise TypeError(f"the function to differentiate must return one Tensor; it returned {type(y).__name__}")
    used = set(map(id, inputs_first([y], arguments))) if any(x.requires_grad for x in given) else set()
    xs = []
    for i, (x, argument) in enumerate(zip(given, arguments, strict=True)):
        read_directly = x.requires_grad and id(x) in used
        if read_directly and id(argument) in used:
            raise ValueError(
                f"the function to differentiate uses input {i} ({x._label()}) as its argument and directly too: "
                "pass x * 1 in place of x for the derivative in the argument alone"
            )
        xs.append(x if read_directly else argument)
    return xs, y


def _argument(x: Tensor) -> Tensor:
    """A new Tensor of the same values that requires a gradient; if x requires one, it is connected to x."""
    if x.requires_grad:
        with traced_by(None):
            argument = reshape(x, x.shape)
    else:
        argument = x.detach()
        argument.requires_grad = True
    argument.name = x.name
    return argument


def _directions(name: str, v: TensorsLike, inputs: TensorsLike, xs: Sequence[Tensor]) -> list[Tensor]:
    vs = _items(v, inputs)
    if len(vs) != len(xs):
        raise ValueError(f"{name}: {len(xs)} inputs need as many directions v; got {len(vs)}")
    vs = [as_tensor(t, x.dtype) for t, x in zip(vs, xs, strict=True)]
    for t, x in zip(vs, xs, strict=True):
        if t.shape != x.shape:
            raise ValueError(f"{name}: v must have the input's shape {x.shape}; got {t.shape}")
        if t.dtype != x.dtype:
            raise ValueError(f"{name}: v must have the input's dtype {x.dtype}; got {t.dtype}")
    return vs


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return from_array(np.zeros(shape, like.dtype))


def operation_names(ys: Sequence[Tensor]) -> list[str]:
    """The names of the operations in the graph of ys, in the order of the computation, each once."""
    return list(dict.fromkeys(t._node.name for t in inputs_first(ys) if t._node))


def constant_operands(ys: Sequence[Tensor]) -> list[tuple[str, np.ndarray]]:
    """The constants in the graph of ys, each with the name of the operation that it was given to."""
    nodes = [t._node for t in inputs_first(ys) if t._node]
    return [(node.name, x.data) for node in nodes for x in node.inputs if not x.requires_grad]

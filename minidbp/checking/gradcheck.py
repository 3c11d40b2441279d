"""gradcheck: the derivatives of a function compared with finite differences, at any order.

The second derivative is the first derivative of the backward pass: of F(x, v) = v^T J(x), in x and in v.  The third is
the same done to F.  So one comparison serves every order.  The cotangents v are random, from a seeded
generator: with a vector of ones, errors can cancel (every row of softmax's Jacobian sums to 0).
"""

from collections.abc import Sequence

import numpy as np

from minidbp.autodiff.differentiate import Function, as_list, grad, inputs_first
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, from_array, recording
from minidbp.checking.calls import check_values, compare_calls
from minidbp.checking.directions import compare_directions
from minidbp.checking.entries import compare_entries
from minidbp.checking.points import Functions
from minidbp.checking.subject import Subject

MAX_ENTRIES, MAX_COLUMNS = 20_000, 1_000  # of a Jacobian: up to here every entry is compared, beyond it directions


def gradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the first derivative of f in each of its inputs agrees with differences; see `check_derivatives`."""
    return check_order(f, inputs, 1, rtol, seed)


def gradgradcheck(f: Function, inputs: TensorLike | Sequence[TensorLike], rtol: float = 1e-6, seed: int = 0) -> bool:
    """True if the derivatives of v^T J(x), in x and in v, agree with differences; see `check_derivatives`.

    This checks order 2 alone.  Whether v^T J(x) itself is right is checked by `gradcheck`.
    """
    return check_order(f, inputs, 2, rtol, seed)


def check_derivatives(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int = 2, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """True if all derivatives of f up to `order` agree with finite differences; raises an error if not.

    A Jacobian of at most 20,000 entries and 1,000 columns is compared entry by entry, a larger one along random
    directions.  They find an element that is off by 1e-3 among a million of similar size.  The rules are called with
    one cotangent and with many, with scaled ones, and with inputs and cotangents in other memory layouts.

    Args:
        f: Takes the inputs as float64 Tensors and returns one Tensor.  It may call `grad` itself.
        inputs: One input or a sequence of them.
        order: The highest order.
        rtol: How wrong an entry may be, relative to itself.  The error of the difference is allowed beside it: what
            truncation and the rounding of f's values do to the difference.
        seed: For the random cotangents and directions.

    Raises:
        GradcheckError: A derivative is wrong.
        UndecidedError: Rounding hides a derivative, or f is not finite at these inputs.
        NotDifferentiableError: A kink is too close to decide.
        TypeError: An input, or what f makes of it, is not float64, or f does not return one Tensor.
        ValueError: The order is below 1, or f uses an input directly in place of its argument.
    """
    if order < 1:
        raise ValueError(f"check_derivatives: the order must be at least 1; got {order}")
    return all(check_order(f, inputs, k, rtol, seed) for k in range(1, order + 1))


def check_order(
    f: Function, inputs: TensorLike | Sequence[TensorLike], order: int, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """`check_derivatives` of one order alone."""
    rng = np.random.default_rng(seed)
    given = as_list(inputs)
    xs = [_float64_array(value, i) for i, value in enumerate(given)]

    def recorded(ts: list[Tensor]) -> list[Tensor]:
        """f with a graph, as f may call `grad` itself."""
        with recording(True):
            y = f(*_requiring_grad(ts))
        if not isinstance(y, Tensor):
            raise TypeError(f"the function to check must return one Tensor; it returned {type(y).__name__}")
        return [y]

    variables = {id(value): i for i, value in enumerate(given) if isinstance(value, Tensor) and value.requires_grad}
    for t in inputs_first(recorded([from_array(x) for x in xs])) if variables else ():
        if id(t) in variables:
            i = variables[id(t)]
            raise ValueError(f"the function to check uses input {i} directly; it must use its argument in place of it")
    subject = Subject(*pull_back(recorded, xs, order - 1, rng), order, rtol, rng)
    check_values(subject)
    compare_calls(subject)
    rows, columns = sum(y.size for y in subject.ys), sum(x.size for x in subject.xs)
    compare = compare_entries if rows * columns <= MAX_ENTRIES and columns <= MAX_COLUMNS else compare_directions
    compare(subject)
    return True


def pull_back(
    f: Functions, xs: list[np.ndarray], times: int, rng: np.random.Generator
) -> tuple[Functions, list[np.ndarray]]:
    """`vjp_function` applied `times` times to f, and the arrays to call the result with: xs, then random cotangents."""
    for _ in range(times):
        vs = [rng.standard_normal(y.shape) for y in f([from_array(x) for x in xs])]
        f, xs = vjp_function(f, len(xs)), [*xs, *vs]
    return f, xs


def vjp_function(f: Functions, n: int) -> Functions:
    """F(x, v) = v^T J(x), with one output for each of f's n inputs: the derivatives of F are f's next ones."""

    def pulled(ts: list[Tensor]) -> list[Tensor]:
        create_graph = any(t.requires_grad for t in ts)
        xs = _requiring_grad(ts[:n])
        with recording(True):
            ys = f(xs)
        return list(grad(ys, xs, ts[n:], create_graph, allow_unused=True))

    return pulled


def _requiring_grad(ts: Sequence[Tensor]) -> list[Tensor]:
    """The tensors themselves where they require a gradient, else leaves of the same values."""
    xs = [t if t.requires_grad else t.detach() for t in ts]
    for x in xs:
        x.requires_grad = True
    return xs


def _float64_array(value: TensorLike, i: int) -> np.ndarray:
    x = as_tensor(value)
    if x.dtype != np.float64:
        raise TypeError(f"gradcheck needs float64, where differences are accurate enough; input {i} is {x.dtype}")
    return np.array(x.data, order="C")

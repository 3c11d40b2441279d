"""Is a derivative right?  Compare it with finite differences.

gradcheck compares every entry of the Jacobian; gradgradcheck does the same to the function (x, v) -> v^T J(x), which
makes second derivatives the first derivatives of something.  Cotangents are random, from a seeded generator: with a
vector of ones, errors can cancel (every row of softmax's Jacobian sums to 0).
"""

from collections.abc import Callable, Sequence

import numpy as np

from minidbp.autodiff.differentiate import Function, several, vjp
from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, no_grad

MACHINE_EPS = float(np.finfo(np.float64).eps)


class GradcheckError(AssertionError):
    """A derivative does not agree with finite differences; the message says which entry, and both values."""


def gradcheck(
    f: Function, inputs: TensorLike | Sequence[TensorLike], eps: float = 1e-6, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """True if the Jacobian of f in each input agrees with central differences of step `eps`.

    f takes the inputs, float64, and returns one Tensor.  An entry may be wrong by rtol times the largest entry of that
    input's Jacobian, plus what rounding does to a difference of f's values.  Raises GradcheckError with the input, the
    index, both values; TypeError if an input is not float64.  Keep away from kinks: there the two rightly differ.
    """
    xs = [_leaf(value, i) for i, value in enumerate(several(inputs))]
    y = f(*xs)
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(y.shape)
    rows = np.eye(y.size).reshape(y.size, *y.shape)
    _, jacobians = vjp(f, xs, rows)
    _, products = vjp(f, xs, v)
    rounding = 100 * MACHINE_EPS * float(np.abs(y.data).max(initial=0.0)) / eps
    for i, x in enumerate(xs):
        analytic = jacobians[i].data.reshape(y.size, x.size)
        numeric = numerical_jacobian(lambda t, i=i: f(*xs[:i], t, *xs[i + 1 :]), x.data, eps)  # type: ignore[misc]
        _compare(f"input {i}", analytic, numeric, rtol, rounding, y.shape, x.shape)
        # the same once more with one cotangent: rules see it with and without extra leading axes
        product = products[i].data.reshape(1, x.size)
        _compare(f"v^T J for input {i}", product, v.reshape(1, -1) @ analytic, 1e-10, 0.0, (), x.shape)
    return True


def gradgradcheck(
    f: Function, inputs: TensorLike | Sequence[TensorLike], eps: float = 1e-6, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """True if the derivatives of v^T J(x), in x and in v, agree with central differences, for each input x of f.

    v is random and seeded.  Arguments and errors are gradcheck's.
    """
    xs = [_leaf(value, i) for i, value in enumerate(several(inputs))]
    v = np.random.default_rng(seed).standard_normal(f(*xs).shape)
    for i in range(len(xs)):

        def product(*args: Tensor, i: int = i) -> Tensor:
            return vjp(f, args[:-1], args[-1], create_graph=True)[1][i]

        try:
            gradcheck(product, [*xs, Tensor(v)], eps, rtol, seed)
        except GradcheckError as error:
            raise GradcheckError(f"second order, v^T J of input {i}: {error}") from None
    return True


def numerical_jacobian(f: Callable[[Tensor], Tensor], x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """(f(x + eps e_j) - f(x - eps e_j)) / 2 eps for every element j of x: an array (size of f(x), size of x)."""
    columns = []
    with no_grad():
        for j in range(x.size):
            step = np.zeros(x.size)
            step[j] = eps
            ahead, behind = (f(Tensor(x + sign * step.reshape(x.shape))).data for sign in (1, -1))
            columns.append((ahead - behind).reshape(-1) / (2 * eps))
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _leaf(value: TensorLike, i: int) -> Tensor:
    x = as_tensor(value)
    if x.dtype != np.float64:
        raise TypeError(f"gradcheck needs float64, where differences are exact enough; input {i} is {x.dtype}")
    return Tensor(x.data, requires_grad=True, name=x.name or f"input {i}")


def _compare(
    what: str, analytic: np.ndarray, numeric: np.ndarray, rtol: float, rounding: float, out: tuple, x: tuple
) -> None:
    if not analytic.size:
        return
    difference = np.abs(analytic - numeric)
    allowed = rtol * float(np.abs(numeric).max()) + rounding
    if (difference <= allowed).all():  # False for NaN too
        return
    row, column = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape)
    at = tuple(int(k) for k in np.unravel_index(column, x))
    of = tuple(int(k) for k in np.unravel_index(row, out))
    raise GradcheckError(
        f"{what}: the derivative of output {of} in element {at} is {numeric[row, column]:.9g} by differences, "
        f"but {analytic[row, column]:.9g} by its rule (allowed difference {allowed:.2g})"
    )

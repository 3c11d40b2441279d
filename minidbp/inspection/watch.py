"""watch: show a value, and its gradients, at the moment they are computed."""

from collections.abc import Callable
from typing import Any

from minidbp.autodiff.tensor import Tensor, TensorLike, operation
from minidbp.inspection.values import Recorded

See = Callable[[str, Tensor], object]


def _print(name: str, value: Tensor) -> None:
    print(repr(Recorded(name, 0, value)))


def watch(x: TensorLike, name: str, see: See = _print) -> Tensor:
    """x itself, through an operation that shows it and every cotangent that reaches this place.

    `see(name, value)` is called now.  In a backward pass it is called with "grad of NAME" and the cotangent, in the
    next pass with "grad of grad of NAME", and so on.  A cotangent may have leading axes: the rows of a Jacobian come
    at once.  Values and derivatives do not change.  Use the result in place of x: only then does a gradient pass here.

    Args:
        x: The value.
        name: Its name.
        see: What to call; without it, a line is printed.
    """
    out = watched(x, name=name, see=see)
    see(name, out)
    return out


@operation
def watched(x: Tensor, *, name: str, see: See) -> Any:
    """`x seen as 'name'`."""
    return x.data, lambda g, out: watch(g, f"grad of {name}", see)

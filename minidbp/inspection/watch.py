"""watch: see a value, and its gradients, at the moment they are made."""

from collections.abc import Callable
from functools import partial

from minidbp.autodiff.tensor import Tensor, TensorLike, as_tensor, record
from minidbp.inspection.values import Recorded

See = Callable[[str, Tensor], object]


def _print(name: str, value: Tensor) -> None:
    print(repr(Recorded(name, 0, value)))


def watch(x: TensorLike, name: str, see: See = _print) -> Tensor:
    """x itself, through an operation that shows it: `see(name, value)` is called now, and in a backward pass with
    "grad of NAME" and the cotangent that reached this place, and so on: "grad of grad of NAME" in the next pass.

    A cotangent may have leading axes: the rows of a Jacobian come at once.  `see` prints a line if not given.  Values
    and derivatives stay as they are.  Where the result is used, a gradient passes; use it in place of x.
    """
    x = as_tensor(x)
    out = record(
        "watch",
        x._data,  # what is loose stays so: an identity costs no copy
        (x,),
        (lambda g, out: watch(g, f"grad of {name}", see),),
        support=x.support,
        loose=x._loose,
        again=partial(_as_it_is, name=name),
    )
    see(name, out)
    return out


def _as_it_is(x: Tensor, name: str) -> Tensor:
    return x

"""Python's operators and methods on Tensor: each is the operation of the same name.  Comparisons are NumPy's."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minidbp.autodiff import elementwise, linear, reductions, shapes
from minidbp.autodiff.differentiate import backward
from minidbp.autodiff.tensor import Tensor, state


def _comparison(name: str, compare: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    """The elementwise comparison of values, a Boolean array.  Of complex numbers, it compares the real parts."""

    def method(x: Tensor, other: Any) -> Any:
        result = compare(x.data.real, _real(other.data if isinstance(other, Tensor) else other))
        if state.pattern is not None:  # where the comparison jumps, there is a kink
            state.pattern.append((name, np.array(result)))
        return result

    return method


def _real(value: Any) -> Any:
    return value.real if isinstance(value, (np.ndarray, np.generic, complex)) else value


_OPERATORS = {
    "__add__": elementwise.add,
    "__radd__": lambda x, other: elementwise.add(other, x),
    "__sub__": elementwise.subtract,
    "__rsub__": lambda x, other: elementwise.subtract(other, x),
    "__mul__": elementwise.multiply,
    "__rmul__": lambda x, other: elementwise.multiply(other, x),
    "__truediv__": elementwise.divide,
    "__rtruediv__": lambda x, other: elementwise.divide(other, x),
    "__pow__": elementwise.power,
    "__rpow__": lambda x, other: elementwise.power(other, x),
    "__matmul__": linear.matmul,
    "__rmatmul__": lambda x, other: linear.matmul(other, x),
    "__neg__": elementwise.negative,
    "__pos__": elementwise.copy,
    "__abs__": elementwise.abs,
    "__eq__": _comparison("equal", operator.eq),
    "__ne__": _comparison("not_equal", operator.ne),
    "__lt__": _comparison("less", operator.lt),
    "__le__": _comparison("less_equal", operator.le),
    "__gt__": _comparison("greater", operator.gt),
    "__ge__": _comparison("greater_equal", operator.ge),
    "__contains__": lambda x, value: bool(np.any(x == value)),
    "__getitem__": shapes.getitem,
    "__iter__": lambda x: (x[i] for i in range(len(x))),
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "T": property(shapes.transpose, doc="The transpose, with all axes in reverse."),
    "astype": elementwise.astype,
    "copy": elementwise.copy,
    "sum": shapes.sum,
    "mean": reductions.mean,
    "max": reductions.max,
    "min": reductions.min,
    "clip": elementwise.clip,
    "dot": linear.dot,
    "squeeze": shapes.squeeze,
    "backward": backward,
}

for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)

"""Python's operators and methods on Tensor: each is a function of its own module."""

from collections.abc import Iterator

from minidbp.autodiff import elementwise, functions, linear, reduce, shape
from minidbp.autodiff.differentiate import backward
from minidbp.autodiff.tensor import Tensor


def _iterate(x: Tensor) -> Iterator[Tensor]:
    return (shape.getitem(x, i) for i in range(len(x)))


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
    "__rpow__": lambda x, other: elementwise.power(elementwise.as_tensor(other, x.dtype), x),
    "__matmul__": linear.matmul,
    "__rmatmul__": lambda x, other: linear.matmul(other, x),
    "__neg__": elementwise.negative,
    "__getitem__": shape.getitem,
    "__iter__": _iterate,
    "reshape": shape.reshape,
    "transpose": shape.transpose,
    "T": property(shape.transpose),
    "astype": elementwise.astype,
    "sum": reduce.sum,
    "mean": functions.mean,
    "max": functions.max,
    "backward": backward,
}

for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)

"""Python's operators and methods on Tensor: each is the operation of the same name."""

from minidbp.autodiff import elementwise, linear, reductions, shapes
from minidbp.autodiff.differentiate import backward
from minidbp.autodiff.tensor import Tensor

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
    "__getitem__": shapes.getitem,
    "__iter__": lambda x: (x[i] for i in range(len(x))),
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "T": property(shapes.transpose, doc="The transpose, with all axes in reverse."),
    "astype": elementwise.astype,
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

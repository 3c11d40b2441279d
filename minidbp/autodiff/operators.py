"""Python's operators and methods on Tensor: each is the operation of the same name."""

from minidbp.autodiff import linear, operations
from minidbp.autodiff.differentiate import backward
from minidbp.autodiff.tensor import Tensor

_OPERATORS = {
    "__add__": operations.add,
    "__radd__": lambda x, other: operations.add(other, x),
    "__sub__": operations.subtract,
    "__rsub__": lambda x, other: operations.subtract(other, x),
    "__mul__": operations.multiply,
    "__rmul__": lambda x, other: operations.multiply(other, x),
    "__truediv__": operations.divide,
    "__rtruediv__": lambda x, other: operations.divide(other, x),
    "__pow__": operations.power,
    "__rpow__": lambda x, other: operations.power(other, x),
    "__matmul__": linear.matmul,
    "__rmatmul__": lambda x, other: linear.matmul(other, x),
    "__neg__": operations.negative,
    "__getitem__": operations.getitem,
    "__iter__": lambda x: (x[i] for i in range(len(x))),
    "reshape": operations.reshape,
    "transpose": operations.transpose,
    "T": property(operations.transpose, doc="The transpose, with all axes in reverse."),
    "astype": operations.astype,
    "sum": operations.sum,
    "mean": operations.mean,
    "max": operations.max,
    "backward": backward,
}

for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)

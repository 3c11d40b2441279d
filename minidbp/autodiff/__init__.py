"""A small reverse-mode autodiff engine, closed under differentiation.

Read in this order: `tensor` (what is remembered), `shape`, `reduce`, `elementwise`, `linear`, `functions` (the
operations, each with its rules), `differentiate` (grad and what is built on it), `operators` (+, *, @ ...).
"""

from minidbp.autodiff import operators as _operators  # noqa: F401  (gives Tensor its operators)
from minidbp.autodiff.differentiate import grad, hvp, jacobian, jacobian_of, jvp, vjp
from minidbp.autodiff.elementwise import abs, astype, exp, log, masked, maximum, relu, sign
from minidbp.autodiff.functions import log_softmax, logsumexp, max, mean, softmax
from minidbp.autodiff.linear import conv2d, conv2d_transpose, conv2d_weight_grad, matmul
from minidbp.autodiff.reduce import broadcast_to, sum
from minidbp.autodiff.shape import move_axis, reshape, transpose
from minidbp.autodiff.tensor import (
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    locally_constant,
    no_grad,
    record,
)

__all__ = [
    "NotDifferentiableError",
    "Tensor",
    "TensorLike",
    "abs",
    "as_tensor",
    "astype",
    "broadcast_to",
    "conv2d",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "exp",
    "grad",
    "hvp",
    "jacobian",
    "jacobian_of",
    "jvp",
    "locally_constant",
    "log",
    "log_softmax",
    "logsumexp",
    "masked",
    "matmul",
    "max",
    "maximum",
    "mean",
    "move_axis",
    "no_grad",
    "record",
    "relu",
    "reshape",
    "sign",
    "softmax",
    "sum",
    "transpose",
    "vjp",
]

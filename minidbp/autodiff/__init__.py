"""A small reverse-mode autodiff engine, closed under differentiation.

Read in this order: `tensor` (what is remembered), `shape`, `reduce`, `elementwise`, `linear`, `functions` (the
operations, each with its rules), `differentiate` (grad and what is built on it), `operators` (+, *, @ ...),
`differences` and `gradcheck` (how to know that a rule is right), `catalogue` (every operation, checked), `trace` and
`watch` (to look at what is computed).
"""

from minidbp.autodiff import operators as _operators  # noqa: F401  (gives Tensor its operators)
from minidbp.autodiff.differences import complex_step_hvp
from minidbp.autodiff.differentiate import grad, hvp, jacobian, jacobian_of, jvp, vjp
from minidbp.autodiff.elementwise import abs, astype, exp, log, masked, maximum, relu, sign
from minidbp.autodiff.functions import log_softmax, logsumexp, max, mean, softmax
from minidbp.autodiff.gradcheck import GradcheckError, check_derivatives, gradcheck, gradgradcheck
from minidbp.autodiff.linear import conv2d, conv2d_transpose, conv2d_weight_grad, matmul
from minidbp.autodiff.reduce import broadcast_to, sum
from minidbp.autodiff.shape import move_axis, reshape, transpose
from minidbp.autodiff.steps import Step
from minidbp.autodiff.tensor import (
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    locally_constant,
    no_grad,
    record,
)
from minidbp.autodiff.trace import Trace, trace
from minidbp.autodiff.watch import watch

__all__ = [
    "GradcheckError",
    "NotDifferentiableError",
    "Step",
    "Tensor",
    "TensorLike",
    "Trace",
    "abs",
    "as_tensor",
    "astype",
    "broadcast_to",
    "check_derivatives",
    "complex_step_hvp",
    "conv2d",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "exp",
    "grad",
    "gradcheck",
    "gradgradcheck",
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
    "trace",
    "transpose",
    "vjp",
    "watch",
]

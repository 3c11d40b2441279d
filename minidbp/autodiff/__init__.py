"""A small reverse-mode autodiff engine, closed under differentiation.

Read in this order: `tensor` (what is remembered, and how an operation is declared), `shapes`, `elementwise`,
`reductions` and `linear` (the operations, each with its rules), `differentiate` (grad and what is built on it),
`operators` (+, *, @ and so on).
"""

from minidbp.autodiff import operators as _operators  # gives Tensor its operators
from minidbp.autodiff.differentiate import grad, hvp, jacobian, jacobian_of, jvp, vjp
from minidbp.autodiff.elementwise import abs, astype, exp, log, masked, maximum, relu, sign
from minidbp.autodiff.linear import conv2d, conv2d_relu, conv2d_transpose, conv2d_weight_grad, linear_relu, matmul
from minidbp.autodiff.reductions import log_softmax, logsumexp, max, mean, softmax
from minidbp.autodiff.shapes import broadcast_to, moveaxis, reshape, sum, transpose, unbroadcast
from minidbp.autodiff.tensor import (
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    locally_constant,
    no_grad,
    operation,
)

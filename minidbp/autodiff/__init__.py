"""A small reverse-mode autodiff engine, closed under differentiation.

Read in this order: `tensor` (what is remembered, and how an operation is declared), `operations` and `linear` (the
operations, each with its rules), `differentiate` (grad and what is built on it), `operators` (+, *, @ and so on).
"""

from minidbp.autodiff import operators as _operators  # gives Tensor its operators
from minidbp.autodiff.differentiate import grad, hvp, jacobian, jacobian_of, jvp, vjp
from minidbp.autodiff.linear import conv2d, conv2d_relu, conv2d_transpose, conv2d_weight_grad, linear_relu, matmul
from minidbp.autodiff.operations import (
    abs,
    astype,
    broadcast_to,
    exp,
    log,
    log_softmax,
    logsumexp,
    masked,
    max,
    maximum,
    mean,
    move_axis,
    relu,
    reshape,
    sign,
    softmax,
    sum,
    transpose,
)
from minidbp.autodiff.tensor import (
    NotDifferentiableError,
    Tensor,
    TensorLike,
    as_tensor,
    locally_constant,
    no_grad,
    operation,
)

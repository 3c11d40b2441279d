"""A small reverse-mode autodiff engine, closed under differentiation.

Read in this order: `tensor` (what is remembered, and how an operation is declared), `shapes`, `elementwise`,
`reductions` and `linear` (the operations, each with its rules), `differentiate` (grad and what is built on it),
`operators` (+, *, @ and so on).
"""

from minidbp.autodiff import operators as _operators  # gives Tensor its operators
from minidbp.autodiff.differentiate import (
    full_jacobian,
    grad,
    hessian,
    hvp,
    jacobian,
    jacobian_of,
    jvp,
    value_and_grad,
    vjp,
)
from minidbp.autodiff.elementwise import (
    abs,
    astype,
    clip,
    cos,
    exp,
    log,
    masked,
    maximum,
    minimum,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    where,
)
from minidbp.autodiff.linear import (
    conv2d,
    conv2d_relu,
    conv2d_transpose,
    conv2d_weight_grad,
    dot,
    einsum,
    linear_relu,
    matmul,
)
from minidbp.autodiff.reductions import log_softmax, logsumexp, max, mean, min, norm, softmax
from minidbp.autodiff.shapes import (
    broadcast_to,
    concatenate,
    expand_dims,
    moveaxis,
    reshape,
    squeeze,
    stack,
    sum,
    transpose,
    unbroadcast,
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

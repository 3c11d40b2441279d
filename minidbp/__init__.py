"""minidbp: double backpropagation from scratch on NumPy.

An educational implementation of "L1-norm double backpropagation adversarial defense" (Seck, Loosli, Canu, ESANN 2019).

    import minidbp as mdb

    model = mdb.nn.build_model("C", seed=0)
    J = mdb.jacobian(model, images)                            # (N, 10, 28, 28, 1): one backward pass
    loss = mdb.nn.cross_entropy(model(images), labels) + 0.01 * mdb.robust.jacobian_l1(model, images)
    gradients = mdb.grad(loss, model.parameters())             # through the backward pass: double backpropagation
"""

from minidbp import autodiff, checking, data, inspection, nn, robust, training
from minidbp.autodiff import (
    NotDifferentiableError,
    Tensor,
    abs,
    conv2d,
    conv2d_relu,
    conv2d_transpose,
    conv2d_weight_grad,
    exp,
    grad,
    hvp,
    jacobian,
    jvp,
    linear_relu,
    locally_constant,
    log,
    log_softmax,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    no_grad,
    operation,
    relu,
    reshape,
    sign,
    softmax,
    sum,
    transpose,
    vjp,
)
from minidbp.checking import GradcheckError, check_derivatives, complex_step_hvp, gradcheck, gradgradcheck
from minidbp.inspection import Step, Trace, trace, watch

__version__ = "0.2.0"

__all__ = [
    "GradcheckError",
    "NotDifferentiableError",
    "Step",
    "Tensor",
    "Trace",
    "abs",
    "autodiff",
    "check_derivatives",
    "checking",
    "complex_step_hvp",
    "conv2d",
    "conv2d_relu",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "data",
    "exp",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "hvp",
    "inspection",
    "jacobian",
    "jvp",
    "linear_relu",
    "locally_constant",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "nn",
    "no_grad",
    "operation",
    "relu",
    "reshape",
    "robust",
    "sign",
    "softmax",
    "sum",
    "trace",
    "training",
    "transpose",
    "vjp",
    "watch",
]

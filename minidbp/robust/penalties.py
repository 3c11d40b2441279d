"""The penalties: what is added to the loss so that f is flat around the training images.

Each takes any function of a Tensor (N, ...) -> (N, c) whose samples do not depend on each other, and returns a Tensor
of shape () that is differentiable in the function's parameters: double backpropagation is taking that derivative.
Under `no_grad` they return the value alone.
"""

from collections.abc import Callable

from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, TensorLike, abs, grad, jacobian_of, softmax
from minidbp.autodiff.differentiate import with_graph
from minidbp.autodiff.tensor import is_recording, recording
from minidbp.nn import sample_cross_entropy

Model = Callable[[Tensor], Tensor]

READINGS = ("logits", "softmax")  # of "f" in the paper's eq. 3, which does not say
REDUCTIONS = ("sum", "mean")


def jacobian_l1(model: Model, x: TensorLike, of: str = "logits", reduction: str = "sum") -> Tensor:
    """||J||_1,1 = sum_i sum_j |df_i / dx_j| (Seck, Loosli, Canu 2019, eq. 3), mean over the N samples of x.

    of: "logits" or "softmax", the f that is differentiated.  reduction: "sum" over classes i and pixels j, or "mean"
    (the sum divided by c * d).  Raises ValueError for any other word.
    """
    x, logits = evaluate(model, x)
    return jacobian_l1_of(logits, x, of, reduction)


def summed_jacobian_l1(model: Model, x: TensorLike, of: str = "logits", reduction: str = "sum") -> Tensor:
    """sum_j |sum_i df_i / dx_j|, the surrogate of the paper's Table 3, mean over the N samples of x.

    One cotangent of ones in place of c, and so c times cheaper; but sum_i f_i is the direction that softmax ignores,
    and of="softmax" gives 0, to rounding.  reduction: "sum" over pixels j, or "mean" (divided by d).
    """
    x, logits = evaluate(model, x)
    return summed_jacobian_l1_of(logits, x, of, reduction)


def loss_gradient_penalty(
    model: Model, x: TensorLike, y: ArrayLike, norm: int = 2, label_smoothing: float = 0.0
) -> Tensor:
    """Drucker and LeCun's double backpropagation (1992): sum_j (dL / dx_j)^2 for norm=2, mean over the N samples of x.

    L is one sample's cross-entropy with label y.  The square needs no root, which has no derivative where the gradient
    vanishes; the factor 1/2 of the original belongs to lambda.  norm=1 gives sum_j |dL / dx_j|.
    """
    x, logits = evaluate(model, x)
    return loss_gradient_penalty_of(logits, x, y, norm, label_smoothing)


def evaluate(model: Model, x: TensorLike) -> tuple[Tensor, Tensor]:
    """x as a Tensor that requires a gradient, and model(x) with its graph: what the functions below start from."""
    (variable,), logits = with_graph(model, (x,))
    return variable, logits


def jacobian_l1_of(logits: Tensor, x: Tensor, of: str = "logits", reduction: str = "sum") -> Tensor:
    """`jacobian_l1` of logits (N, c) that were already computed from x."""
    check_reading(of, reduction)
    f = _reading(logits, of)
    J = jacobian_of(f, x, create_graph=is_recording())
    return _over_samples(abs(J), x, reduction)


def summed_jacobian_l1_of(logits: Tensor, x: Tensor, of: str = "logits", reduction: str = "sum") -> Tensor:
    """`summed_jacobian_l1` of logits (N, c) that were already computed from x."""
    check_reading(of, reduction)
    with recording(True):
        total = _reading(logits, of).sum()
    (summed,) = grad(total, x, create_graph=is_recording())
    return _over_samples(abs(summed), x, reduction)


def loss_gradient_penalty_of(
    logits: Tensor, x: Tensor, y: ArrayLike, norm: int = 2, label_smoothing: float = 0.0
) -> Tensor:
    """`loss_gradient_penalty` of logits (N, c) that were already computed from x."""
    if norm not in (1, 2):
        raise ValueError(f"loss_gradient_penalty: norm must be 1 or 2; got {norm!r}")
    with recording(True):
        total = sample_cross_entropy(logits, y, label_smoothing).sum()  # dL/dx of each sample, not of their mean
    (g,) = grad(total, x, create_graph=is_recording())
    return _over_samples(abs(g) if norm == 1 else g * g, x, "sum")


def check_reading(of: str, reduction: str) -> None:
    """Raise ValueError for a word that is not in READINGS or REDUCTIONS."""
    if of not in READINGS:
        raise ValueError(f"the penalised function must be one of {', '.join(READINGS)}; got {of!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")


def _reading(logits: Tensor, of: str) -> Tensor:
    with recording(True):
        return logits if of == "logits" else softmax(logits)


def _over_samples(values: Tensor, x: Tensor, reduction: str) -> Tensor:
    """The sum (or mean) of each sample's values, mean over the samples: values (N, ...) to ()."""
    return values.sum() / x.shape[0] if reduction == "sum" else values.mean()

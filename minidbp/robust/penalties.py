"""The penalties, which make a model's outputs change little around the training images, and the loss with one of them.

Each penalty takes any function of a Tensor `(N, ...) -> (N, c)` whose samples are independent. It does not check that
they are, because it runs in every training step; `minidbp.jacobian` checks. It returns a Tensor of shape `()`. That
Tensor is differentiable in the function's parameters, and its derivative is double backpropagation. Under `no_grad` a
penalty returns its value alone. An unknown value of `of` or `reduction` raises ValueError, and so does a batch of no
samples, or with a pixel that is not finite. Images of integers raise TypeError.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, TensorLike, abs, as_tensor, grad, jacobian_of, softmax
from minidbp.autodiff.differentiate import with_graph
from minidbp.autodiff.tensor import COMPLEX, state
from minidbp.nn import cross_entropy, sample_cross_entropy
from minidbp.nn.checks import (
    refuse_bytes,
    validate_choice,
    validate_finite_images,
    validate_label_smoothing,
    validate_sample_count,
)

Model = Callable[[Tensor], Tensor]

PENALTY_TARGETS = ("logits", "softmax")  # the f that is differentiated: the paper's eq. 3 does not say which
REDUCTIONS = ("sum", "mean")
PENALTIES = ("jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1")


def jacobian_l1(model: Model, x: TensorLike, of: str = "logits", reduction: str = "sum") -> Tensor:
    """`||J||_1,1 = sum_i sum_j |df_i / dx_j|` (Seck, Loosli, Canu 2019, eq. 3), averaged over the N samples of x.

    Args:
        of: "logits" differentiates f itself, "softmax" its softmax.
        reduction: "sum" over classes i and pixels j, or "mean", which is the sum divided by c * d.
    """
    _check_words(of, reduction)
    return _jacobian_l1(model, _checked(x), of, reduction)


def _jacobian_l1(model: Model, x: Tensor, of: str, reduction: str) -> Tensor:
    (variable,), outputs = with_graph(_target(model, of), (x,))
    J = jacobian_of(outputs, variable, create_graph=state.recording)
    return _averaged(abs(J), reduction)


def summed_jacobian_l1(model: Model, x: TensorLike, of: str = "logits", reduction: str = "sum") -> Tensor:
    """`sum_j |sum_i df_i / dx_j|`, the surrogate of the paper's Table 3, averaged over the N samples of x.

    It is c times cheaper than `jacobian_l1`, because it needs one cotangent of ones instead of c cotangents. But
    softmax does not depend on `sum_i f_i`, so with of="softmax" the surrogate is 0 to rounding.

    Args:
        of: "logits" or "softmax", as in `jacobian_l1`.
        reduction: "sum" over pixels j, or "mean", which is the sum divided by d.
    """
    _check_words(of, reduction)
    return _summed_jacobian_l1(model, _checked(x), of, reduction)


def _summed_jacobian_l1(model: Model, x: Tensor, of: str, reduction: str) -> Tensor:
    return _averaged(abs(_gradient_of_sum(_target(model, of), x)), reduction)


def loss_gradient_penalty(
    model: Model, x: TensorLike, y: ArrayLike, norm: int = 2, label_smoothing: float = 0.0
) -> Tensor:
    """Drucker and LeCun's double backpropagation (1992): `sum_j (dL / dx_j)^2`, averaged over the N samples of x.

    L is the cross-entropy of one sample with its label of y (N,); norm=1 gives `sum_j |dL / dx_j|`. No root is taken
    of the sum, because a root has no derivative at 0. The factor 1/2 of the original belongs to lambda.
    """
    if norm not in (1, 2):
        raise ValueError(f"loss_gradient_penalty: norm must be 1 or 2; got {norm!r}")
    return _loss_gradient_penalty(model, _checked(x), y, norm, label_smoothing)


def _loss_gradient_penalty(model: Model, x: Tensor, y: ArrayLike, norm: int, label_smoothing: float) -> Tensor:
    g = _gradient_of_sum(lambda t: sample_cross_entropy(model(t), y, label_smoothing), x)
    return _averaged(abs(g) if norm == 1 else g * g, "sum")


def _target(model: Model, of: str) -> Model:
    return model if of == "logits" else lambda t: softmax(model(t))


def _gradient_of_sum(f: Model, x: Tensor) -> Tensor:
    """The gradient in x of the sum of f(x); samples are independent, so each has the gradient of its own outputs."""
    (variable,), total = with_graph(lambda t: f(t).sum(), (x,))
    return grad(total, variable, create_graph=state.recording)[0]


def _checked(x: TensorLike) -> Tensor:
    """`_samples`, if they are finite floats.  Training does not pay for this in every step."""
    samples = _samples(x)
    pixels = x if isinstance(x, np.ndarray) else samples.data
    if pixels.ndim and pixels.dtype != COMPLEX:
        validate_finite_images(pixels)
    return samples


def _samples(x: TensorLike) -> Tensor:
    """The samples x (N, ...) as a Tensor, if there is at least one, and they are not of uint8."""
    refuse_bytes(x)
    samples = as_tensor(x)
    if samples.ndim:  # the model refuses a single number
        validate_sample_count(len(samples.data))
    return samples


def _averaged(values: Tensor, reduction: str) -> Tensor:
    """The sum (or mean) of each sample's values, averaged over the samples: values (N, ...) to ()."""
    return values.sum() / values.shape[0] if reduction == "sum" else values.mean()


class Loss(NamedTuple):
    """The value of an objective, differentiable in the model's parameters, and its two parts."""

    total: Tensor  #: cross_entropy + lambda * penalty
    cross_entropy: Tensor  #: the mean over the batch
    penalty: Tensor | None  #: None for lambda = 0


@dataclass(frozen=True)
class Objective:
    """Eq. 3 as a function of a model, images and labels; `Protocol.objective` makes the one that is trained.

    Raises ValueError for an unknown value of penalty, of or reduction, a lambda that is negative or not finite, and a
    label_smoothing outside [0, 1].
    """

    lam: float  #: lambda, the weight of the penalty
    penalty: str = "jacobian_l1"  #: eq. 3; summed_jacobian_l1 is Table 3's, the two others are Drucker and LeCun's
    of: str = "logits"  #: "logits" or "softmax", which the first two penalties differentiate
    reduction: str = "mean"  #: "mean" or "sum" over classes and pixels, in the first two penalties
    label_smoothing: float = 0.0  #: the share s of each label that is spread over all classes

    def __post_init__(self) -> None:
        check_lambda(self.lam)
        validate_choice("the penalty", self.penalty, PENALTIES)
        _check_words(self.of, self.reduction)
        validate_label_smoothing(self.label_smoothing)

    def __call__(self, model: Model, x: TensorLike, y: ArrayLike) -> Loss:
        """The loss of images x (N, ...) with labels y (N,), from one forward pass.

        Raises ValueError if the loss is not finite because a pixel is not.
        """
        samples = _samples(x)
        if self.lam == 0:
            loss = cross_entropy(model(samples), y, self.label_smoothing)
            result = Loss(loss, loss, None)
        else:
            (variable,), logits = with_graph(model, (samples,))
            penalty = self._penalty(lambda _: logits, variable, y)  # the logits of `variable` are known already
            loss = cross_entropy(logits, y, self.label_smoothing)
            result = Loss(loss + self.lam * penalty, loss, penalty)
        if not np.isfinite(result.total.data):
            _checked(samples)
        return result

    def _penalty(self, model: Model, x: Tensor, y: ArrayLike) -> Tensor:
        if self.penalty == "jacobian_l1":
            return _jacobian_l1(model, x, self.of, self.reduction)
        if self.penalty == "summed_jacobian_l1":
            return _summed_jacobian_l1(model, x, self.of, self.reduction)
        return _loss_gradient_penalty(model, x, y, 2 if self.penalty == "loss_gradient_l2" else 1, self.label_smoothing)


def check_lambda(lam: float) -> None:
    """Raise ValueError unless lam is a finite number of at least 0."""
    if not (math.isfinite(lam) and lam >= 0):
        raise ValueError(f"lambda must be a number of at least 0; got {lam}")


def _check_words(of: str, reduction: str) -> None:
    validate_choice("the penalised function", of, PENALTY_TARGETS)
    validate_choice("reduction", reduction, REDUCTIONS)

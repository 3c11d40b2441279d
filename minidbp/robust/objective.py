"""The loss that is trained: eq. 3 of the paper, L_gp = L(f(x), y) + lambda * penalty."""

import math
from typing import NamedTuple

from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor
from minidbp.nn import cross_entropy
from minidbp.robust.penalties import (
    Model,
    check_reading,
    evaluate,
    jacobian_l1_of,
    loss_gradient_penalty_of,
    summed_jacobian_l1_of,
)

PENALTIES = ("jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1")


class Objective(NamedTuple):
    """The loss, differentiable in the model's parameters, and its two parts; penalty is None for lambda = 0."""

    loss: Tensor
    cross_entropy: Tensor
    penalty: Tensor | None


def penalised_loss(
    model: Model,
    x: TensorLike,
    y: ArrayLike,
    lam: float,
    penalty: str = "jacobian_l1",
    of: str = "logits",
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Objective:
    """Cross-entropy + lam * penalty of images x (N, ...) with labels y (N,), from one forward pass.

    penalty: "jacobian_l1" (eq. 3), "summed_jacobian_l1" (Table 3), "loss_gradient_l2" or "loss_gradient_l1" (Drucker
    and LeCun); `of` and `reduction` belong to the first two.  Raises ValueError for an unknown word and for a lam
    that is negative or not finite.
    """
    check_lambda(lam)
    if penalty not in PENALTIES:
        raise ValueError(f"the penalty must be one of {', '.join(PENALTIES)}; got {penalty!r}")
    check_reading(of, reduction)
    if lam == 0:
        loss = cross_entropy(model(as_tensor(x)), y, label_smoothing)
        return Objective(loss, loss, None)
    x, logits = evaluate(model, x)
    if penalty == "jacobian_l1":
        value = jacobian_l1_of(logits, x, of, reduction)
    elif penalty == "summed_jacobian_l1":
        value = summed_jacobian_l1_of(logits, x, of, reduction)
    else:
        value = loss_gradient_penalty_of(logits, x, y, 2 if penalty == "loss_gradient_l2" else 1, label_smoothing)
    plain = cross_entropy(logits, y, label_smoothing)
    return Objective(plain + lam * value, plain, value)


def check_lambda(lam: float) -> None:
    """Raise ValueError unless lam is a finite number of at least 0."""
    if not (math.isfinite(lam) and lam >= 0):
        raise ValueError(f"lambda must be a number of at least 0; got {lam}")

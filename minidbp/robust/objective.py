"""The loss that is trained: eq. 3 of the paper, `L_gp = L(f(x), y) + lambda * penalty`."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, TensorLike, as_tensor
from minidbp.autodiff.differentiate import with_graph
from minidbp.nn import cross_entropy
from minidbp.robust.penalties import Model, check_words, jacobian_l1, loss_gradient_penalty, summed_jacobian_l1

PENALTIES = ("jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1")


class Loss(NamedTuple):
    """The value of an objective, differentiable in the model's parameters, and its two parts."""

    total: Tensor  # cross_entropy + lambda * penalty
    cross_entropy: Tensor
    penalty: Tensor | None  # None for lambda = 0


@dataclass(frozen=True)
class Objective:
    """Eq. 3 as a function of a model, images and labels; `Protocol.objective` makes the one that is trained.

    Raises ValueError for an unknown word, and for a lambda that is negative or not finite.
    """

    lam: float  # lambda, the weight of the penalty
    penalty: str = "jacobian_l1"  # eq. 3; summed_jacobian_l1 is Table 3's, the two others are Drucker and LeCun's
    of: str = "logits"  # or "softmax": what the first two penalties differentiate
    reduction: str = "mean"  # or "sum": over classes and pixels, in the first two penalties
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_lambda(self.lam)
        if self.penalty not in PENALTIES:
            raise ValueError(f"the penalty must be one of {', '.join(PENALTIES)}; got {self.penalty!r}")
        check_words(self.of, self.reduction)

    def __call__(self, model: Model, x: TensorLike, y: ArrayLike) -> Loss:
        """The loss of images x (N, ...) with labels y (N,), from one forward pass."""
        if self.lam == 0:
            loss = cross_entropy(model(as_tensor(x)), y, self.label_smoothing)
            return Loss(loss, loss, None)
        (variable,), logits = with_graph(model, (x,))
        penalty = self._penalty(lambda _: logits, variable, y)  # the logits of `variable` are known already
        loss = cross_entropy(logits, y, self.label_smoothing)
        return Loss(loss + self.lam * penalty, loss, penalty)

    def _penalty(self, model: Model, x: Tensor, y: ArrayLike) -> Tensor:
        if self.penalty == "jacobian_l1":
            return jacobian_l1(model, x, self.of, self.reduction)
        if self.penalty == "summed_jacobian_l1":
            return summed_jacobian_l1(model, x, self.of, self.reduction)
        return loss_gradient_penalty(model, x, y, 2 if self.penalty == "loss_gradient_l2" else 1, self.label_smoothing)


def check_lambda(lam: float) -> None:
    """Raise ValueError unless lam is a finite number of at least 0."""
    if not (math.isfinite(lam) and lam >= 0):
        raise ValueError(f"lambda must be a number of at least 0; got {lam}")

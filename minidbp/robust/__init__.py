"""Attacks, and penalties against them.  Everything here takes any function of a Tensor, not only our models."""

from minidbp.robust.attacks import fgsm, pgd
from minidbp.robust.objective import PENALTIES, Objective, penalised_loss
from minidbp.robust.penalties import READINGS, REDUCTIONS, jacobian_l1, loss_gradient_penalty, summed_jacobian_l1

__all__ = [
    "PENALTIES",
    "READINGS",
    "REDUCTIONS",
    "Objective",
    "fgsm",
    "jacobian_l1",
    "loss_gradient_penalty",
    "penalised_loss",
    "pgd",
    "summed_jacobian_l1",
]

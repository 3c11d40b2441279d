"""Attacks, and penalties against them.  Everything here takes any function of a Tensor, not only our models."""

from minidbp.robust.attacks import fgsm, pgd, pgd_from, random_noise
from minidbp.robust.auto_pgd import apgd
from minidbp.robust.diagnostics import gradient_cosines, input_gradients, zero_shares
from minidbp.robust.penalties import (
    PENALTIES,
    PENALTY_TARGETS,
    REDUCTIONS,
    Loss,
    Objective,
    jacobian_l1,
    loss_gradient_penalty,
    summed_jacobian_l1,
)
from minidbp.robust.square_attack import square
from minidbp.robust.worst_case import STRONGEST, WorstCase, strongest

__all__ = [
    "PENALTIES",
    "PENALTY_TARGETS",
    "REDUCTIONS",
    "STRONGEST",
    "Loss",
    "Objective",
    "WorstCase",
    "apgd",
    "fgsm",
    "gradient_cosines",
    "input_gradients",
    "jacobian_l1",
    "loss_gradient_penalty",
    "pgd",
    "pgd_from",
    "random_noise",
    "square",
    "strongest",
    "summed_jacobian_l1",
    "zero_shares",
]

"""Training and judging models by the paper's protocol."""

from minidbp.training.adam import Adam
from minidbp.training.evaluate import (
    accuracy,
    percent,
    percent_by_class,
    predict,
    right,
    right_under_fgsm,
    right_under_pgd,
)
from minidbp.training.gradients import BatchGradient, batch_gradient
from minidbp.training.loop import Epoch, train
from minidbp.training.protocol import Protocol
from minidbp.training.step import DivergenceError, training_step
from minidbp.training.workers import Workers, available_cores, workers

__all__ = [
    "Adam",
    "BatchGradient",
    "DivergenceError",
    "Epoch",
    "Protocol",
    "Workers",
    "accuracy",
    "available_cores",
    "batch_gradient",
    "percent",
    "percent_by_class",
    "predict",
    "right",
    "right_under_fgsm",
    "right_under_pgd",
    "train",
    "training_step",
    "workers",
]

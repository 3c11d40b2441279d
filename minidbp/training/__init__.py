"""Training and judging models by the paper's protocol."""

from minidbp.training.adam import Adam
from minidbp.training.evaluate import accuracy, fgsm_accuracy, pgd_accuracy, predict
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
    "fgsm_accuracy",
    "pgd_accuracy",
    "predict",
    "train",
    "training_step",
    "workers",
]

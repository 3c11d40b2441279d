"""Training and judging models by the paper's protocol."""

from minidbp.training.adam import Adam
from minidbp.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidbp.training.evaluate import (
    Tracked,
    accuracy,
    check_fits,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
    predict,
    track,
    track_passes,
)
from minidbp.training.gradients import BatchGradient, DivergenceError, batch_gradient
from minidbp.training.loop import Epoch, TrainingState, quickly_trained, train, training_step
from minidbp.training.protocol import Protocol
from minidbp.training.sgd import SGD
from minidbp.training.workers import Workers, available_cores, workers

__all__ = [
    "SGD",
    "Adam",
    "BatchGradient",
    "CheckpointError",
    "DivergenceError",
    "Epoch",
    "Protocol",
    "Tracked",
    "TrainingState",
    "Workers",
    "accuracy",
    "available_cores",
    "batch_gradient",
    "check_fits",
    "correct",
    "correct_under_fgsm",
    "correct_under_pgd",
    "load_checkpoint",
    "percent",
    "percent_by_class",
    "predict",
    "quickly_trained",
    "save_checkpoint",
    "track",
    "track_passes",
    "train",
    "training_step",
    "workers",
]

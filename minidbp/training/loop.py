"""Training: epochs of Adam on eq. 3, until the protocol says stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidbp.data import Split, batches
from minidbp.nn import Sequential
from minidbp.nn.checks import validate_images
from minidbp.training.adam import Adam
from minidbp.training.evaluate import accuracy
from minidbp.training.protocol import Protocol
from minidbp.training.step import DivergenceError, training_step
from minidbp.training.workers import Workers


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: the mean of the loss and of its two parts over the steps, accuracy in percent, seconds."""

    number: int
    loss: float
    cross_entropy: float
    penalty: float
    validation_accuracy: float
    seconds: float


def train(
    model: Sequential,
    split: Split,
    lam: float,
    protocol: Protocol,
    rng: np.random.Generator,
    workers: Workers,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` in place on eq. 3 with this lambda; the order of the images comes from `rng`.

    on_step(epoch, step, steps) is called after every step, on_epoch after every epoch, both counting from 1.
    Returns what every epoch did.  Raises DivergenceError, with epoch, step and lambda, at a NaN or an infinity, and
    ValueError or TypeError for images outside [0, 1].
    """
    validate_images(split.x_train)
    validate_images(split.x_validation)
    adam = Adam(model.parameters(), protocol.learning_rate, protocol.beta1, protocol.beta2, protocol.adam_eps)
    steps = -(-len(split.x_train) // protocol.batch_size)
    history: list[Epoch] = []
    best: tuple[float, list[np.ndarray]] = (-1.0, [])
    while not _finished(history, protocol):
        number, started, sums = len(history) + 1, time.perf_counter(), np.zeros(3)
        for step, batch in enumerate(batches(len(split.x_train), protocol.batch_size, rng), start=1):
            x, y = split.x_train[batch], split.y_train[batch]
            try:
                found = training_step(model, adam, x, y, lam, protocol, workers)
            except DivergenceError as error:
                raise DivergenceError(
                    f"training diverged in epoch {number}, step {step}, at lambda {lam:g}: {error}; "
                    "a smaller learning rate or lambda may help"
                ) from None
            sums += len(batch) * np.array([found.loss, found.cross_entropy, found.penalty])
            if on_step:
                on_step(number, step, steps)
        valid = accuracy(model, split.x_validation, split.y_validation, workers)
        loss, cross_entropy, penalty = map(float, sums / len(split.x_train))
        history.append(Epoch(number, loss, cross_entropy, penalty, valid, time.perf_counter() - started))
        if protocol.keep == "best" and valid > best[0]:
            best = valid, [p.data for p in model.parameters()]
        if on_epoch:
            on_epoch(history[-1])
    if protocol.keep == "best":
        for parameter, values in zip(model.parameters(), best[1], strict=True):
            parameter.data = values
    return history


def _finished(history: list[Epoch], protocol: Protocol) -> bool:
    """The paper's rule: after min_epochs, stop when validation accuracy changes by less than the tolerance."""
    if len(history) >= protocol.max_epochs:
        return True
    if protocol.stop_rule == "none" or len(history) < max(2, protocol.min_epochs + 1):
        return False
    change = (history[-1].validation_accuracy - history[-2].validation_accuracy) / 100
    return (abs(change) if protocol.stop_rule == "absolute" else change) < protocol.stop_tolerance

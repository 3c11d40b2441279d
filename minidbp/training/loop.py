"""Training: epochs of Adam on eq. 3, until the protocol says stop."""

import time
from collections.abc import Callable

import numpy as np

from minidbp.data import Split, batches
from minidbp.nn.checks import validate_images
from minidbp.training.evaluate import accuracy
from minidbp.training.protocol import Protocol
from minidbp.training.state import Epoch, TrainingState
from minidbp.training.step import DivergenceError, training_step
from minidbp.training.workers import Workers


def train(
    state: TrainingState,
    split: Split,
    workers: Workers,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train the state's model in place, from where the state is to where its protocol says stop.

    on_step(epoch, step, steps) is called after every step, on_epoch after every epoch, both counting from 1; in
    on_epoch the state can be saved.  Gone on with from there, training has the same bits as one that never stopped.

    Returns what every epoch did, those before included.  Raises DivergenceError, with epoch, step and lambda, at a
    NaN or an infinity; ValueError for a state in the middle of an epoch, as an error leaves it, or of other data than
    `split`; ValueError or TypeError for images outside [0, 1].
    """
    validate_images(split.x_train)
    validate_images(split.x_validation)
    model, lam, protocol, history = state.model, state.lam, state.protocol, state.history
    steps = -(-len(split.x_train) // protocol.batch_size)
    if state.adam.t != steps * len(history):
        raise ValueError(
            f"a training of {len(split.x_train)} images goes on after {steps * len(history)} steps, the whole of "
            f"{len(history)} epochs; this state is after {state.adam.t}: begin anew, or from a checkpoint"
        )
    while not _finished(history, protocol):
        number, started, sums = len(history) + 1, time.perf_counter(), np.zeros(3)
        for step, batch in enumerate(batches(len(split.x_train), protocol.batch_size, state.rng), start=1):
            x, y = split.x_train[batch], split.y_train[batch]
            try:
                found = training_step(model, state.adam, x, y, lam, protocol, workers)
            except DivergenceError as error:
                raise DivergenceError(
                    f"training diverged in epoch {number}, step {step}, at lambda {lam:g}: {error}; "
                    "a smaller learning rate or lambda may help",
                    number,
                    step,
                ) from None
            sums += len(batch) * np.array([found.loss, found.cross_entropy, found.penalty])
            if on_step:
                on_step(number, step, steps)
        valid = accuracy(model, split.x_validation, split.y_validation, workers)
        loss, cross_entropy, penalty = map(float, sums / len(split.x_train))
        state.end_epoch(Epoch(number, loss, cross_entropy, penalty, valid, time.perf_counter() - started))
        if on_epoch:
            on_epoch(history[-1])
    if protocol.keep == "best":
        for parameter, values in zip(model.parameters(), state.best, strict=True):
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

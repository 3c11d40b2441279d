"""Training: one step, epochs until the protocol says stop, and a short training for lessons."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor
from minidbp.data import Split, batches
from minidbp.files.reading import Count, Duration, Percent
from minidbp.nn import N_CLASSES, Layer, Sequential, TrainableModel, build_model
from minidbp.nn.checks import validate_images, validate_labels, validate_sample_count
from minidbp.training.adam import Adam
from minidbp.training.evaluate import Tracked, accuracy
from minidbp.training.gradients import BatchGradient, DivergenceError, batch_gradient
from minidbp.training.protocol import Protocol
from minidbp.training.rules import stops
from minidbp.training.workers import Workers, workers


@dataclass(frozen=True)
class Epoch:
    """One epoch: the mean of the loss and of its two parts over the images, validation accuracy in percent, seconds.

    seconds: of training, validation and tracking.
    tracked: what the model does with test images after the epoch; None if no `track` was given.
    """

    number: Count
    loss: float
    cross_entropy: float
    penalty: float
    validation_accuracy: Percent
    seconds: Duration
    tracked: Tracked | None = None


Model = TypeVar("Model", bound=TrainableModel)


class TrainingState(Generic[Model]):
    """A training of `model` on eq. 3 with lambda `lam`; `train` moves it on, one epoch at a time.

    `save_checkpoint` writes all of it, `load_checkpoint` reads it. The model is any Layer, or another function of a
    Tensor (N, ...) to logits (N, c) with a method `parameters()`.

    Attributes:
        rng: draws the order of the images, and the starts of PGD in adversarial training.
        adam: the optimiser.
        history: all epochs so far.
        best: the parameters' values after the best epoch so far, if `protocol.keep` is "best"; else empty.

    Raises:
        TypeError: the model has no method `parameters()`, or this gives no list of Tensors that require a gradient.
        ValueError: it has no parameters.
    """

    def __init__(self, model: Model, lam: float, protocol: Protocol, rng: np.random.Generator) -> None:
        self.model, self.lam, self.protocol, self.rng = model, lam, protocol, rng
        p, what = protocol, type(model).__name__
        if not callable(getattr(model, "parameters", None)):
            raise TypeError(f"a model must be a Layer or have a method parameters(); got {what}")
        listed: Any = model.parameters()
        if not isinstance(listed, list | tuple) or not all(isinstance(p, Tensor) and p.requires_grad for p in listed):
            raise TypeError(f"parameters() of {what} must return a list of Tensors that require a gradient")
        if not listed:
            raise ValueError(f"there is nothing to train, because this {what} has no parameters")
        self.adam = Adam(model.parameters(), p.learning_rate, p.beta1, p.beta2, p.adam_eps)
        self.history: list[Epoch] = []
        self.best: list[np.ndarray] = []

    def end_epoch(self, epoch: Epoch) -> None:
        """Add an epoch to the history, and keep the model's parameters if it is the best so far."""
        best_accuracy = max((e.validation_accuracy for e in self.history), default=-1.0)
        if self.protocol.keep == "best" and epoch.validation_accuracy > best_accuracy:
            self.best = [p.data for p in self.model.parameters()]
        self.history.append(epoch)


@np.errstate(over="ignore", invalid="ignore", under="ignore")  # DivergenceError reports them
def training_step(state: TrainingState, x: np.ndarray, y: np.ndarray, pool: Workers) -> BatchGradient:
    """Take one step of Adam on eq. 3, for images x (N, ...) and labels y (N,).

    Raises:
        DivergenceError: the loss or its gradient is not finite; the parameters are unchanged.
    """
    batch = batch_gradient(state.model, x, y, state.lam, state.protocol, pool, seed=state.rng)
    if not (math.isfinite(batch.loss) and all(np.isfinite(g.sum()) for g in batch.gradients)):
        raise DivergenceError(f"the loss is {batch.loss:g}, and it or its gradient is not finite")
    state.adam.step(batch.gradients)
    return batch


def train(
    state: TrainingState[Model],
    split: Split,
    pool: Workers,
    on_step: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    track: Callable[[Model], Tracked] | None = None,
) -> list[Epoch]:
    """Train the state's model in place until its protocol says stop, and return all epochs, earlier ones included.

    A training resumed from a checkpoint gives the same bits as one that was never interrupted. A model with
    Dropout is an exception: a checkpoint does not hold the generator of its masks, and the threads share this
    generator. Dropout is on in the steps, and off for the accuracy and afterwards, if the model is a Layer. The
    mode of any other model is never changed.

    Args:
        on_step: called after every step with the epoch, the step (both from 1) and the number of steps in an epoch.
        on_epoch: called after every epoch; the state can be saved there.
        track: called with the model after every epoch; its result becomes part of the history.

    Raises:
        DivergenceError: a NaN or an infinity, with its epoch, step and lambda.
        ValueError: the state is in the middle of an epoch, as an error leaves it, or belongs to another number of
            images; there are no images; an image is outside [0, 1]; or there is not one label for each image.
        TypeError: the images are not floats, or the labels are not integers.
    """
    for x, y in (split.x_train, split.y_train), (split.x_validation, split.y_validation):
        validate_sample_count(len(x))
        validate_images(x)
        validate_labels(y, None, n_images=len(x))
    protocol, history = state.protocol, state.history
    steps = -(-len(split.x_train) // protocol.batch_size)
    if state.adam.t != steps * len(history):
        raise ValueError(
            f"a training of {len(split.x_train)} images continues after {steps * len(history)} steps, the whole of "
            f"{len(history)} epochs; this state is after {state.adam.t}: start again, or resume from a checkpoint"
        )
    while not stops([epoch.validation_accuracy for epoch in history], protocol):
        number, started, sums = len(history) + 1, time.perf_counter(), np.zeros(3)
        if isinstance(state.model, Layer):
            state.model.train()
        for step, indices in enumerate(batches(len(split.x_train), protocol.batch_size, state.rng), start=1):
            try:
                batch = training_step(state, split.x_train[indices], split.y_train[indices], pool)
            except DivergenceError as error:
                raise error.at(f"in epoch {number}, step {step}", state.lam, number, step) from None
            sums += len(indices) * np.array([batch.loss, batch.cross_entropy, batch.penalty])
            if on_step:
                on_step(number, step, steps)
        if isinstance(state.model, Layer):
            state.model.eval()
        validation = accuracy(state.model, split.x_validation, split.y_validation, pool)
        try:
            tracked = track(state.model) if track else None
        except DivergenceError as error:  # caused by the last step, which no later step could notice
            raise error.at(f"at the end of epoch {number}", state.lam, number, steps) from None
        loss, cross_entropy, penalty = map(float, sums / len(split.x_train))
        seconds = time.perf_counter() - started
        state.end_epoch(Epoch(number, loss, cross_entropy, penalty, validation, seconds, tracked))
        if on_epoch:
            on_epoch(history[-1])
    if protocol.keep == "best":
        for parameter, values in zip(state.model.parameters(), state.best, strict=True):
            parameter.data = values
    return history


def quickly_trained(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    steps: int = 300,
    *,
    lam: float = 0.0,
    protocol: Protocol | None = None,
    seed: int = 0,
    dtype: DTypeLike = "float32",
    threads: int | None = None,
    n_classes: int = N_CLASSES,
    on_step: Callable[[], None] | None = None,
) -> Sequential:
    """Model `name` after a few seconds of training on random batches of x (N, H, W, C), y (N,).

    It is for lessons and pictures; results come from `train`. The same seed gives the same bits.

    Args:
        dtype: of the model that is returned. Training is in float32.
        on_step: called after each step.

    Raises:
        ValueError: there is no such model for such images, there are no images, an image is outside [0, 1], there is
            not one label for each image, or steps or threads are less than 1.
        TypeError: the images are not floats, or the labels are not integers.
        DivergenceError: the loss is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    validate_sample_count(len(x))
    validate_images(x)
    validate_labels(y, n_classes, n_images=len(x))
    protocol = protocol or Protocol()
    model = build_model(
        name, seed, "float32", protocol.initialiser, protocol.padding, input_shape=x.shape[1:], n_classes=n_classes
    )
    state = TrainingState(model, lam, protocol, np.random.default_rng(seed))
    with workers(threads) as pool:
        for _ in range(steps):
            indices = state.rng.integers(0, len(x), protocol.batch_size)
            training_step(state, x[indices], y[indices], pool)
            if on_step:
                on_step()
    return model.astype(dtype)

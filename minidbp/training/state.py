"""What a training goes on from, between two epochs."""

from dataclasses import dataclass

import numpy as np

from minidbp.nn import Sequential
from minidbp.training.adam import Adam
from minidbp.training.protocol import Protocol


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: the mean of the loss and of its two parts over the steps, accuracy in percent, seconds."""

    number: int
    loss: float
    cross_entropy: float
    penalty: float
    validation_accuracy: float
    seconds: float


class TrainingState:
    """A training of `model` on eq. 3 with lambda `lam`, at its beginning; `train` moves it on, an epoch at a time.

    The order of the images comes from `rng`.  Attributes besides the four arguments: `adam`; `history`, what every
    epoch did; `best`, the parameters' values after the best epoch so far (empty where protocol.keep is "last").
    `save_checkpoint` keeps all of it, `load_checkpoint` puts it back.
    """

    def __init__(self, model: Sequential, lam: float, protocol: Protocol, rng: np.random.Generator) -> None:
        self.model, self.lam, self.protocol, self.rng = model, lam, protocol, rng
        p = protocol
        self.adam = Adam(model.parameters(), p.learning_rate, p.beta1, p.beta2, p.adam_eps)
        self.history: list[Epoch] = []
        self.best: list[np.ndarray] = []

    def end_epoch(self, epoch: Epoch) -> None:
        """Note what an epoch did, and keep the model's parameters if it is the best so far."""
        before = max((e.validation_accuracy for e in self.history), default=-1.0)
        if self.protocol.keep == "best" and epoch.validation_accuracy > before:
            self.best = [p.data for p in self.model.parameters()]
        self.history.append(epoch)

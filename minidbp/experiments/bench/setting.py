"""What is timed: a model in the middle of its training, and batches of real images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidbp.data import Mnist
from minidbp.nn import Sequential
from minidbp.training import Adam, BatchGradient, Protocol, Workers, training_step

Batch = tuple[np.ndarray, np.ndarray]
N_BATCHES = 64  # a step meets each of these in turn


@dataclass
class Trainer:
    """A model, its optimiser and its batches; `step()` is exactly what `minidbp train` repeats."""

    model: Sequential
    lam: float
    protocol: Protocol
    batches: list[Batch]
    workers: Workers

    def __post_init__(self) -> None:
        p = self.protocol
        self.adam = Adam(self.model.parameters(), p.learning_rate, p.beta1, p.beta2, p.adam_eps)
        self.steps = 0

    def step(self) -> BatchGradient:
        x, y = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        return training_step(self.model, self.adam, x, y, self.lam, self.protocol, self.workers)

    def steps_of(self, n: int, done: Callable[[], None] | None = None) -> None:
        """n steps; done() is called after each."""
        for _ in range(n):
            self.step()
            if done:
                done()


def batches_of(mnist: Mnist, size: int, count: int = N_BATCHES) -> list[Batch]:
    """Batches of `size` training images and labels, in the order of the file, over and over if it is at its end.

    Raises ValueError for a size that MNIST's training images do not fill.
    """
    n = len(mnist.x_train)
    if not 1 <= size <= n:
        raise ValueError(f"--batch must lie in 1..{n}; got {size}")
    starts = [i * size % (n - size + 1) for i in range(count)]
    return [(mnist.x_train[s : s + size], mnist.y_train[s : s + size]) for s in starts]

"""What is timed: a model in training, on batches of real images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minidbp.data import Mnist
from minidbp.nn import Sequential
from minidbp.training import BatchGradient, Protocol, TrainingState, Workers, training_step

Batch = tuple[np.ndarray, np.ndarray]
Done = Callable[[], object]


def nothing() -> None:
    """The `done` of those who do not want to be told."""


@dataclass
class Trainer:
    """A model, its optimiser and its batches; `step()` is exactly what `minidbp train` repeats."""

    model: Sequential
    lam: float
    protocol: Protocol
    batches: list[Batch]
    workers: Workers

    def __post_init__(self) -> None:
        self.state = TrainingState(self.model, self.lam, self.protocol, np.random.default_rng(0))
        self.steps = 0

    @property
    def next_batch(self) -> Batch:
        """What the next step is going to be given."""
        return self.batches[self.steps % len(self.batches)]

    def step(self) -> BatchGradient:
        """One step, on the next batch."""
        x, y = self.next_batch
        self.steps += 1
        return training_step(self.state, x, y, self.workers)

    def seconds(self, steps: int, done: Done = nothing) -> list[float]:
        """Take `steps` steps: the seconds of each.  done() is called after each."""
        found = []
        for _ in range(steps):
            started = time.perf_counter()
            self.step()
            found.append(time.perf_counter() - started)
            done()
        return found


def as_many_as_needed(mnist: Mnist, batch: int, steps: int) -> Mnist:
    """MNIST with the first training images only, so that the memory of a step can be told from that of the data."""
    n = min(batch * steps, len(mnist.x_train))
    return replace(mnist, x_train=mnist.x_train[:n].copy(), y_train=mnist.y_train[:n].copy())


def batches_of(mnist: Mnist, size: int) -> list[Batch]:
    """All whole batches of `size` training images and labels, in the order of the file.

    Raises ValueError for a size of 0 or one that MNIST's training images do not fill.
    """
    n = len(mnist.x_train)
    if not 1 <= size <= n:
        raise ValueError(f"the batch must have 1 to {n} images; got {size}")
    return [(mnist.x_train[i : i + size], mnist.y_train[i : i + size]) for i in range(0, n - size + 1, size)]

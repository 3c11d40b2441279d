"""Two models whose adversarial images a diagnosis tries on the model under test: a plain one, and one that imitates it.

An attack on a substitute needs no gradient of the model under test (Papernot et al. 2017, "Practical black-box
attacks"). The plain one shows what a model without any defence is fooled by. The imitation is trained on the answers
that the model gives, so it has about the same classes, with gradients that lead across their borders.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from minidbp.data import Dataset
from minidbp.nn import Sequential, build_model, fuse
from minidbp.robust import fgsm, random_noise
from minidbp.robust.penalties import Model
from minidbp.training import Protocol, TrainingState, Workers, predict, quickly_trained, training_step

SUBSTITUTES = PLAIN, IMITATION = "a plain model", "an imitation of it"
SEED = 6  # a model under test may have been trained with seed 0: its substitutes begin elsewhere
WARM_UP = 1 / 3  # of the steps: before it, the imitation is too bad to say where its answers may be wrong


@dataclass(frozen=True)
class OnStep:
    """Called after each step of a training: an error from it ends the training.  All are equal, for `lru_cache`."""

    call: Callable[[], None] = field(compare=False)


@lru_cache(maxsize=2)
def reference(dataset: Dataset, steps: int, threads: int, on_step: OnStep) -> Sequential:
    """Model C after so many plain steps on the training images, without a penalty. The same for every model."""
    x, y, n_classes = dataset.x_train, dataset.y_train, dataset.n_classes
    return quickly_trained("C", x, y, steps, seed=SEED, threads=threads, n_classes=n_classes, on_step=on_step.call)


def imitation(model: Model, dataset: Dataset, eps: float, steps: int, pool: Workers, on_step: OnStep) -> Sequential:
    """Model C, trained to answer as `model` does on training images and around them, up to eps away.

    Half of each batch are training images. The others are the same images with uniform noise, and after the first
    third of the steps with the imitation's own FGSM on top: the places where the two models are most likely to differ.
    """
    protocol = Protocol(label_smoothing=0.0)
    imitator = build_model("C", SEED + 1, input_shape=dataset.image_shape, n_classes=dataset.n_classes)
    state = TrainingState(imitator, 0.0, protocol, np.random.default_rng(SEED))
    fused, own = fuse(model), fuse(state.model)
    for step in range(steps):
        x = dataset.x_train[state.rng.integers(0, len(dataset.x_train), protocol.batch_size // 2)]
        near = random_noise(x, eps, state.rng)
        if step >= WARM_UP * steps:
            moved = fgsm(own, near, predict(fused, near), eps)
            near = np.clip(moved, x - np.float32(eps), x + np.float32(eps))
        images = np.concatenate([x, near])
        training_step(state, images, predict(fused, images), pool)
        on_step.call()
    return state.model

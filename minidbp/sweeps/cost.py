"""How much work a run is: for progress bars, and for the time that is left."""

import functools

import numpy as np

from minidbp.autodiff import Tensor, no_grad
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, Sequential, build_model
from minidbp.sweeps.runs import Run
from minidbp.training.judgement import Judge


class Cost:
    """A run in GFLOP: passes through the model times its multiply-adds."""

    def __init__(self, run: Run, judge: Judge) -> None:
        p = run.protocol
        self.forward = 2e-9 * _multiply_adds(run.model, p.padding)
        rows = 0 if run.lam == 0 else N_CLASSES if p.penalty == "jacobian_l1" else 1
        self.train_image = (3 + 3 * rows) * self.forward  # forward, two adjoints; the same for each row of J
        if p.adversarial_training:
            self.train_image = 2 * self.train_image + 3 * self.forward
        epochs = p.max_epochs if p.stop_rule == "none" else min(p.max_epochs, 2 * p.min_epochs)  # the paper's 20
        self.epoch = p.n_train * self.train_image
        self.total = epochs * self.epoch + judge.passes(p) * self.forward


@functools.cache
def _multiply_adds(name: str, padding: str) -> int:
    return multiply_adds(build_model(name, padding=padding))


def multiply_adds(model: Sequential) -> int:
    """Multiply-adds of one forward pass of one image."""
    total, y = 0, Tensor(np.zeros((1, *IMAGE_SHAPE), np.float32))
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            if layer.parameters():
                weights = layer.parameters()[0]
                total += weights.size * (y.size // weights.shape[-1])  # each weight once for each output position
    return total

"""A step taken apart, which several tests look at: a model trained for a few steps, so that its biases are not 0."""

import functools

import numpy as np

import minidbp as mdb
from minidbp.explain.explanation import Explanation, explain
from minidbp.explain.step import TrainingStep
from minidbp.nn import Sequential
from minidbp.training import Adam

LAM = 10.0


@functools.cache
def trained(name: str, steps: int = 4) -> Sequential:
    model, mnist = mdb.nn.build_model(name, seed=3), mdb.data.load_mnist()
    adam = Adam(model.parameters())
    for step in range(steps):
        batch = slice(16 * step, 16 * step + 16)
        loss = mdb.nn.cross_entropy(model(mnist.x_train[batch]), mnist.y_train[batch])
        adam.step([g.data for g in mdb.grad(loss, model.parameters())])
    return model.astype(np.float64)


@functools.cache
def explained(name: str, lam: float = LAM, image: int = 7) -> Explanation:
    mnist = mdb.data.load_mnist()
    step = TrainingStep(trained(name), mnist.x_test[[image]].astype(np.float64), mnist.y_test[[image]], lam)
    return explain(step, name, image, np.random.default_rng(0))

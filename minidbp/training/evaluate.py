"""How many images a model gets right, clean and under attack."""

from collections.abc import Callable

import numpy as np

from minidbp.autodiff import no_grad
from minidbp.nn import Sequential
from minidbp.robust import fgsm, pgd
from minidbp.training.protocol import Protocol, attack_reading
from minidbp.training.workers import Workers, shard_size, shards

Done = Callable[[int], None]


def predict(model: Sequential, x: np.ndarray) -> np.ndarray:
    """The class with the largest logit, for images x (N, ...): (N,) integers."""
    with no_grad():
        return np.argmax(model(x).data, axis=1)


def accuracy(model: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None) -> float:
    """The share of images x (N, ...) whose predicted class is y (N,), in percent.  done(n): n more are judged."""
    return _share(model, x, y, workers, lambda images, labels, shard: images, done)


def fgsm_accuracy(
    model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol, workers: Workers, done: Done | None = None
) -> float:
    """`accuracy` under the protocol's FGSM."""

    def attack(images: np.ndarray, labels: np.ndarray, shard: slice) -> np.ndarray:
        return fgsm(model, images, labels, protocol.eps, **attack_reading(protocol))

    return _share(model, x, y, workers, attack, done)


def pgd_accuracy(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    workers: Workers,
    seed: int = 0,
    done: Done | None = None,
) -> float:
    """`accuracy` under the protocol's PGD, on its first n_pgd images."""

    def attack(images: np.ndarray, labels: np.ndarray, shard: slice) -> np.ndarray:
        rng = np.random.default_rng([seed, 3, shard.start])  # 0, 1, 2 are the streams of `Run`
        return pgd(
            model, images, labels, protocol.eps, protocol.pgd_step, protocol.pgd_steps, protocol.pgd_restarts, rng,
            **attack_reading(protocol),
        )  # fmt: skip

    return _share(model, x[: protocol.n_pgd], y[: protocol.n_pgd], workers, attack, done)


def _share(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    workers: Workers,
    attack: Callable[[np.ndarray, np.ndarray, slice], np.ndarray],
    done: Done | None,
) -> float:
    def right(shard: slice) -> int:
        images = attack(x[shard], y[shard], shard)
        found = int(np.sum(predict(model, images) == y[shard]))
        if done:
            done(shard.stop - shard.start)
        return found

    # at least two shards for each of a few cores, and none so large that a progress bar stands still
    size = min(shard_size(model, x[0]), 250)
    return 100.0 * sum(workers.map(right, shards(0, len(x), size))) / len(x)

"""How many images a model gets right, clean and under attack."""

from collections.abc import Callable

import numpy as np

from minidbp.autodiff import no_grad
from minidbp.nn import N_CLASSES, Sequential
from minidbp.robust import fgsm, pgd
from minidbp.training.protocol import Protocol, attack_reading
from minidbp.training.workers import Workers, shard_size, shards

Done = Callable[[int], None]


def predict(model: Sequential, x: np.ndarray) -> np.ndarray:
    """The class with the largest logit, for images x (N, ...): (N,) integers."""
    with no_grad():
        return np.argmax(model(x).data, axis=1)


def right(model: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None) -> np.ndarray:
    """Whether the predicted class of each image x (N, ...) is y (N,): (N,) booleans.  done(n): n more are judged."""
    return _judge(model, x, y, workers, lambda images, labels, shard: images, done)


def accuracy(model: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers) -> float:
    """The share of images x (N, ...) whose predicted class is y (N,), in percent."""
    return percent(right(model, x, y, workers))


def right_under_fgsm(
    model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol, workers: Workers, done: Done | None = None
) -> np.ndarray:
    """`right` under the protocol's FGSM."""

    def attack(images: np.ndarray, labels: np.ndarray, shard: slice) -> np.ndarray:
        return fgsm(model, images, labels, protocol.eps, **attack_reading(protocol))

    return _judge(model, x, y, workers, attack, done)


def right_under_pgd(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    workers: Workers,
    seed: int = 0,
    done: Done | None = None,
) -> np.ndarray:
    """`right` under the protocol's PGD, for its first n_pgd images."""

    def attack(images: np.ndarray, labels: np.ndarray, shard: slice) -> np.ndarray:
        rng = np.random.default_rng([seed, 3, shard.start])  # 0, 1, 2 are the streams of `Run`
        return pgd(
            model, images, labels, protocol.eps, protocol.pgd_step, protocol.pgd_steps, protocol.pgd_restarts, rng,
            **attack_reading(protocol),
        )  # fmt: skip

    return _judge(model, x[: protocol.n_pgd], y[: protocol.n_pgd], workers, attack, done)


def percent(right: np.ndarray) -> float:
    """How many of (N,) booleans are true, in percent."""
    return 100.0 * int(np.sum(right)) / len(right)


def percent_by_class(right: np.ndarray, y: np.ndarray) -> list[float | None]:
    """`percent` for the images of each class 0, 1, ..., 9 of y (N,); None for a class without images."""
    classes = [right[y == label] for label in range(N_CLASSES)]
    return [percent(mine) if mine.size else None for mine in classes]


def _judge(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    workers: Workers,
    attack: Callable[[np.ndarray, np.ndarray, slice], np.ndarray],
    done: Done | None,
) -> np.ndarray:
    def judge(shard: slice) -> np.ndarray:
        images = attack(x[shard], y[shard], shard)
        found = predict(model, images) == y[shard]
        if done:
            done(len(found))
        return found

    # at least two shards for each of a few cores, and none so large that a progress bar stands still
    size = min(shard_size(model, x[0]), 250)
    return np.concatenate(workers.map(judge, shards(0, len(x), size)))

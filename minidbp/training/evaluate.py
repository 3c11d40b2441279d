"""How many images a model gets right, clean and under attack."""

from collections.abc import Callable

import numpy as np

from minidbp.autodiff import no_grad
from minidbp.nn import Sequential
from minidbp.robust import fgsm, pgd
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Result, Workers, shard_size, shards

Done = Callable[[int], None]
Attack = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # images, labels, chance: new images


def predict(model: Sequential, x: np.ndarray) -> np.ndarray:
    """The class with the largest logit, for images x (N, ...): (N,) integers."""
    with no_grad():
        return np.argmax(model(x).data, axis=1)


def percent(right: np.ndarray) -> float:
    """The share of True in an array of bool, in percent."""
    return 100.0 * int(right.sum()) / right.size


def correct(model: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None) -> np.ndarray:
    """Whether the predicted class of each image x (N, ...) is y (N,): (N,) of bool.  done(n): n more are judged."""
    return np.concatenate(over_shards(model, x, workers, lambda part: predict(model, x[part]) == y[part], done))


def attacked(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    workers: Workers,
    attack: Attack,
    seed: int = 0,
    done: Done | None = None,
) -> np.ndarray:
    """What `attack` makes of images x (N, ...) with labels y (N,), in shards, each with its own stream of `seed`."""

    def on_shard(part: slice) -> np.ndarray:
        rng = np.random.default_rng([seed, 3, part.start])  # 0, 1, 2 are the streams of `Run`
        return attack(x[part], y[part], rng)

    return np.concatenate(over_shards(model, x, workers, on_shard, done))


def accuracy(model: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None) -> float:
    """The share of images x (N, ...) whose predicted class is y (N,), in percent.  done(n): n more are judged."""
    return percent(correct(model, x, y, workers, done))


def fgsm_accuracy(
    model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol, workers: Workers, done: Done | None = None
) -> float:
    """`accuracy` under the protocol's FGSM."""

    def attack(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return fgsm(model, images, labels, protocol.eps, **attack_reading(protocol))

    return accuracy(model, attacked(model, x, y, workers, attack, done=done), y, workers)


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

    def attack(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return pgd(
            model, images, labels, protocol.eps, protocol.pgd_step, protocol.pgd_steps, protocol.pgd_restarts, rng,
            **attack_reading(protocol),
        )  # fmt: skip

    x, y = x[: protocol.n_pgd], y[: protocol.n_pgd]
    return accuracy(model, attacked(model, x, y, workers, attack, seed, done), y, workers)


def attack_reading(protocol: Protocol) -> dict:
    """The arguments of `fgsm` and `pgd` that the paper does not say."""
    return {
        "clip": (0.0, 1.0) if protocol.clip else None,
        "label": "predicted" if protocol.attack_label == "predicted" else "true",
        "label_smoothing": protocol.label_smoothing if protocol.attack_label == "smoothed" else 0.0,
    }


def over_shards(
    model: Sequential,
    x: np.ndarray,
    workers: Workers,
    work: Callable[[slice], Result],
    done: Done | None = None,
    rows: int = 1,
) -> list[Result]:
    """What `work` returns for each shard of images x (N, ...), if it makes `rows` copies of each."""

    def on_shard(part: slice) -> Result:
        result = work(part)
        if done:
            done(part.stop - part.start)
        return result

    # at least two shards for each of a few cores, and none so large that a progress bar stands still
    return workers.map(on_shard, shards(0, len(x), min(shard_size(model, x[0], rows), 250)))

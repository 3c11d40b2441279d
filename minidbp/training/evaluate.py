"""How many images a model gets right, clean and under attack."""

from collections.abc import Callable

import numpy as np

from minidbp.nn import N_CLASSES, Sequential, fuse
from minidbp.robust.images import predict
from minidbp.training.gradients import DivergenceError
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Result, Workers, shard_size, shards

Done = Callable[[int], None] | None  # its argument: how many more images are done
Attack = Callable[[Sequential, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # x, y and rng to new images


def correct(model: Sequential, x: np.ndarray, y: np.ndarray, pool: Workers, done: Done = None) -> np.ndarray:
    """Whether the predicted class of each image x (N, ...) is y (N,): (N,) booleans."""
    fused = fuse(model)
    return np.concatenate(over_shards(model, x, pool, lambda part: predict(fused, x[part]) == y[part], done))


def percent(correct: np.ndarray) -> float:
    """How many of (N,) booleans are true, in percent."""
    return 100.0 * int(np.sum(correct)) / len(correct)


def percent_by_class(correct: np.ndarray, y: np.ndarray) -> list[float | None]:
    """`percent` for the images of each class 0, 1, ..., 9 of y (N,); None for a class without images."""
    classes = [correct[y == label] for label in range(N_CLASSES)]
    return [percent(of_class) if of_class.size else None for of_class in classes]


def accuracy(model: Sequential, x: np.ndarray, y: np.ndarray, pool: Workers) -> float:
    """The share of images x (N, ...) whose predicted class is y (N,), in percent."""
    return percent(correct(model, x, y, pool))


def attacked(
    model: Sequential, x: np.ndarray, y: np.ndarray, pool: Workers, attack: Attack, *, seed: int = 0, done: Done = None
) -> np.ndarray:
    """The images that `attack` makes of x (N, ...) with labels y (N,), in shards; each has its own stream of `seed`.

    Raises:
        DivergenceError: the model's gradient is not finite, and so the attack proves nothing.
    """
    fused = fuse(model)

    def on_shard(part: slice) -> np.ndarray:
        rng = np.random.default_rng([seed, 3, part.start])  # `Run` uses the streams 0, 1 and 2
        images = attack(fused, x[part], y[part], rng)
        if not np.isfinite(images).all():
            raise DivergenceError("the gradient in an image is not finite, and no attack can follow it")
        return images

    return np.concatenate(over_shards(model, x, pool, on_shard, done))


def correct_under_fgsm(
    model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol, pool: Workers, done: Done = None
) -> np.ndarray:
    """`correct` under the protocol's FGSM."""
    images = attacked(model, x, y, pool, lambda model, x, y, rng: protocol.fgsm(model, x, y), done=done)
    return correct(model, images, y, pool)


def correct_under_pgd(
    model: Sequential,
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    pool: Workers,
    *,
    seed: int = 0,
    done: Done = None,
) -> np.ndarray:
    """`correct` under the protocol's PGD, for the first n_pgd images."""
    x, y = x[: protocol.n_pgd], y[: protocol.n_pgd]
    images = attacked(model, x, y, pool, protocol.pgd, seed=seed, done=done)
    return correct(model, images, y, pool)


def over_shards(
    model: Sequential, x: np.ndarray, pool: Workers, work: Callable[[slice], Result], done: Done = None, rows: int = 1
) -> list[Result]:
    """The results of `work` on each shard of images x (N, ...), if it makes `rows` copies of each image."""

    @np.errstate(over="ignore", invalid="ignore")  # `attacked` reports them
    def on_shard(part: slice) -> Result:
        result = work(part)
        if done:
            done(part.stop - part.start)
        return result

    # At most 250 images in a shard: several cores have work, and a progress bar moves.
    return pool.map(on_shard, shards(0, len(x), min(shard_size(model, x[0], rows), 250)))

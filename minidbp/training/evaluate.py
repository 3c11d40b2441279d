"""How many images a model gets right, clean and under attack."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import Tensor, no_grad
from minidbp.data import Dataset
from minidbp.data.dataset import in_words
from minidbp.files.reading import Amount, Percent
from minidbp.nn import Sequential, fuse
from minidbp.nn.checks import validate_finite_images, validate_labels, validate_sample_count
from minidbp.robust import jacobian_l1
from minidbp.robust.images import predict
from minidbp.robust.penalties import Model
from minidbp.training.gradients import DivergenceError
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Result, Workers, footprint, shard_size, shards

FGSM_PASSES = 3  # forward, backward, and the forward pass that judges

Done = Callable[[int], None] | None  # its argument: how many more images are done
Attack = Callable[[Model, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # x, y and rng to new images


def correct(model: Model, x: np.ndarray, y: np.ndarray, pool: Workers, done: Done = None) -> np.ndarray:
    """Whether the predicted class of each image x (N, ...) is y (N,): (N,) booleans."""
    fused, y = fuse(model), validate_labels(y, None, n_images=len(x))
    return np.concatenate(over_shards(model, x, pool, lambda part: predict(fused, x[part]) == y[part], done))


def percent(correct: np.ndarray) -> float:
    """How many of (N,) booleans are true, in percent.  ValueError if there are none."""
    validate_sample_count(len(correct))
    return 100.0 * int(np.sum(correct)) / len(correct)


def percent_by_class(correct: np.ndarray, y: np.ndarray, n_classes: int) -> list[float | None]:
    """`percent` for the images of each class 0 to n_classes - 1 of y (N,); None for a class without images."""
    classes = [correct[y == label] for label in range(n_classes)]
    return [percent(of_class) if of_class.size else None for of_class in classes]


def accuracy(model: Model, x: np.ndarray, y: np.ndarray, pool: Workers) -> float:
    """The share of images x (N, ...) whose predicted class is y (N,), in percent."""
    return percent(correct(model, x, y, pool))


def attacked(
    model: Model, x: np.ndarray, y: np.ndarray, pool: Workers, attack: Attack, *, seed: int = 0, done: Done = None
) -> np.ndarray:
    """The images that `attack` makes of x (N, ...) with labels y (N,), in shards; each has its own stream of `seed`.

    Raises:
        DivergenceError: the model's gradient is not finite, and so the attack proves nothing.
    """
    fused = watched(fuse(model), done)

    def on_shard(part: slice) -> np.ndarray:
        rng = np.random.default_rng([seed, 3, part.start])  # `Run` uses the streams 0, 1 and 2
        images = attack(fused, x[part], y[part], rng)
        if not np.isfinite(images).all():
            raise DivergenceError("the gradient in an image is not finite, and no attack can follow it")
        return images

    return np.concatenate(over_shards(model, x, pool, on_shard, done))


def correct_under_fgsm(
    model: Model, x: np.ndarray, y: np.ndarray, protocol: Protocol, pool: Workers, done: Done = None
) -> np.ndarray:
    """`correct` under the protocol's FGSM."""
    images = attacked(model, x, y, pool, lambda model, x, y, rng: protocol.fgsm(model, x, y), done=done)
    return correct(model, images, y, pool)


def correct_under_pgd(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    pool: Workers,
    *,
    seed: int = 0,
    done: Done = None,
) -> np.ndarray:
    """`correct` under the protocol's PGD."""
    images = attacked(model, x, y, pool, protocol.pgd, seed=seed, done=done)
    return correct(model, images, y, pool)


@dataclass(frozen=True)
class Tracked:
    """Accuracy in percent after an epoch: clean, under FGSM and PGD of size eps and small_eps; the mean ||J||_1,1."""

    clean: Percent
    fgsm: Percent
    pgd: Percent
    fgsm_small: Percent
    pgd_small: Percent
    jacobian_l1: Amount


def track(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    protocol: Protocol,
    pool: Workers,
    *,
    seed: int = 0,
    done: Done = None,
) -> Tracked:
    """What `model` does with images x (N, ...) with labels y (N,) under the protocol's attacks.

    done: told how many more passes of an image through the model are done, `track_passes` for each image in all.

    Raises DivergenceError if a gradient in an image or ||J||_1,1 is not finite.
    """

    def report(passes: int) -> Done:
        return (lambda n: done(n * passes)) if done else None

    small = protocol.at(protocol.small_eps)
    passes = pgd_passes(protocol)
    fgsm, fgsm_small = (correct_under_fgsm(model, x, y, p, pool, report(FGSM_PASSES)) for p in (protocol, small))
    pgd, pgd_small = (
        correct_under_pgd(model, x, y, p, pool, seed=seed, done=report(passes)) for p in (protocol, small)
    )
    norms = jacobian_norms(model, x, pool, report(jacobian_passes(footprint(model, x[0]).classes)))
    return Tracked(
        percent(correct(model, x, y, pool, report(1))), percent(fgsm), percent(pgd), percent(fgsm_small),
        percent(pgd_small), float(norms.mean()),
    )  # fmt: skip


def track_passes(protocol: Protocol, n_classes: int) -> int:
    """How many passes of each image `track` reports."""
    return 1 + 2 * (FGSM_PASSES + pgd_passes(protocol)) + jacobian_passes(n_classes)


def jacobian_passes(n_classes: int) -> int:
    """How many passes of each image `jacobian_norms` makes: forward, and a row of J for each class."""
    return 1 + n_classes


def pgd_passes(protocol: Protocol) -> int:
    """How many passes of each image `correct_under_pgd` makes at most."""
    return 2 * protocol.pgd_steps * protocol.pgd_restarts


def jacobian_norms(model: Model, x: np.ndarray, pool: Workers, done: Done = None) -> np.ndarray:
    """||J||_1,1 of the logits at each image x (N, ...): (N,), where an image has the mean of its shard.

    Raises DivergenceError if a norm is not finite.
    """
    fused = fuse(model)

    def on_shard(part: slice) -> np.ndarray:
        with no_grad():
            norm = jacobian_l1(fused, x[part]).item()
        if not np.isfinite(norm):
            raise DivergenceError("the Jacobian of the logits is not finite, or its norm is not")
        return np.full(part.stop - part.start, norm)

    return np.concatenate(over_shards(model, x, pool, on_shard, done, of_jacobian=True))


def check_fits(model: Sequential, dataset: Dataset, source: str) -> None:
    """Raise ValueError unless the model takes these images and gives a logit for each class; `source` names it."""
    shape = model.input_shape or dataset.image_shape
    n_classes = footprint(model, np.zeros(shape, model.parameters()[0].dtype)).classes
    if (shape, n_classes) != (dataset.image_shape, dataset.n_classes):
        of_model, of_data = (
            f"{in_words(size)} in {c} classes"
            for size, c in ((shape, n_classes), (dataset.image_shape, dataset.n_classes))
        )
        raise ValueError(
            f"{source} is for images of {of_model}, and {dataset.name} has images of {of_data}: "
            "give the data that the model was trained on"
        )


def watched(model: Model, done: Done) -> Model:
    """The function of a model that calls `done(0)` before each pass: an error from it ends an attack in its midst."""
    if done is None:
        return model

    def function(x: Tensor) -> Tensor:
        done(0)
        return model(x)

    return function


def over_shards(
    model: Model,
    x: np.ndarray,
    pool: Workers,
    work: Callable[[slice], Result],
    done: Done = None,
    *,
    of_jacobian: bool = False,
) -> list[Result]:
    """The results of `work` on each shard of images x (N, ...); `of_jacobian` if it makes a row for each class.

    Raises ValueError if there is no image or a pixel is not finite, TypeError unless they are float32 or float64.
    """
    validate_sample_count(len(x))
    validate_finite_images(x)

    @np.errstate(over="ignore", invalid="ignore", under="ignore")  # `attacked` reports them
    def on_shard(part: slice) -> Result:
        result = work(part)
        if done:
            done(part.stop - part.start)
        return result

    rows = footprint(model, x[0]).classes if of_jacobian else 1
    # At most 250 images in a shard: several cores have work, and a progress bar moves.
    return pool.map(on_shard, shards(0, len(x), min(shard_size(model, x[0], rows), 250)))

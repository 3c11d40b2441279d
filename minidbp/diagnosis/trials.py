"""The attacks of a diagnosis, and the images that they all get."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidbp.autodiff import Tensor
from minidbp.nn import Layer, fuse
from minidbp.robust import fgsm, pgd, random_noise, strongest
from minidbp.robust.penalties import Model
from minidbp.robust.worst_case import STRONGEST
from minidbp.training import Protocol, Workers, correct, predict
from minidbp.training.evaluate import Attack, attacked, over_shards, watched

CLIP = (0.0, 1.0)
DRAWS = 10  # of noise, for each image


@dataclass(frozen=True)
class Trial:
    """One attack; its most passes of an image through the model; whether it counts for the worst case.

    It counts if its images lie within the protocol's eps and within [0, 1].
    """

    attack: Attack
    passes: int
    counts: bool = True


def fgsm_trial(eps: float, counts: bool = True, **options: Any) -> Trial:
    return Trial(lambda model, x, y, rng: fgsm(model, x, y, eps, **options), 2, counts)


def pgd_trial(eps: float, steps: int, counts: bool = True, restarts: int = 1, **options: Any) -> Trial:
    """PGD with steps of 2.5 eps / steps (Madry et al. 2018): they can cross the ball."""
    step, options["restarts"] = 2.5 * eps / steps, restarts
    return Trial(
        lambda model, x, y, rng: pgd(model, x, y, eps, step, steps, seed=rng, **options), 2 * steps * restarts, counts
    )


def noise_trial(eps: float, kind: str, counts: bool = True, **options: Any) -> Trial:
    """For each image the last of DRAWS noisy ones that the model gets wrong, or the image itself."""

    def attack(model: Model, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        worst = x.copy()
        for _ in range(DRAWS):
            noisy = random_noise(x, eps=eps, kind=kind, rng=rng, **options)
            wrong = predict(model, noisy) != y
            worst[wrong] = noisy[wrong]
        return worst

    return Trial(attack, DRAWS, counts)


def transfer_trial(p: Protocol) -> Trial:
    """The images for other models: PGD on the margin that continues after its own model is fooled."""
    return pgd_trial(p.eps, p.pgd_steps, loss="margin", go_on=True)


def strongest_passes(p: Protocol) -> int:
    """The most passes of an image through the model that the strongest attacks make."""
    return 2 * 2 * p.apgd_steps * p.apgd_restarts + p.square_queries


class Function(Layer):
    """Any function of a Tensor (N, ...) -> (N, c) as a layer.

    A result that no gradient leads to gets a gradient of 0: it is a sign of masking, and no error.
    """

    def __init__(self, function: Model) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        result = self.function(x)
        if result.requires_grad or not x.requires_grad:
            return result
        return result + 0 * x.reshape((len(x.data), -1))[:, :1]


@dataclass(frozen=True)
class LabelledImages:
    """Images x (N, H, W, C) in [0, 1] with labels y (N,), and how to attack them.

    done: told how many more passes of an image through a model are done.
    """

    x: np.ndarray
    y: np.ndarray
    pool: Workers
    seed: int = 0
    done: Callable[[int], None] = lambda passes: None

    def attacked(self, model: Model, trial: Trial) -> np.ndarray:
        """The images of this attack on the model."""
        return attacked(model, self.x, self.y, self.pool, trial.attack, seed=self.seed, done=self._done(trial.passes))

    def correct(self, model: Model, images: np.ndarray) -> np.ndarray:
        """Which of the N images the model gets right, where `images` take the place of x."""
        return correct(model, images, self.y, self.pool)

    def strongest(self, model: Model, p: Protocol) -> dict[str, np.ndarray]:
        """Which images the model gets right, bool (N,), after each attack of STRONGEST at eps and those before it."""
        done = self._done(strongest_passes(p))
        fused = watched(fuse(model), done)

        def on_shard(part: slice) -> np.ndarray:
            worst = strongest(
                fused, self.x[part], self.y[part], p.eps, steps=p.apgd_steps, restarts=p.apgd_restarts,
                queries=p.square_queries, seed=np.random.default_rng([self.seed, 5, part.start]),
                clip=CLIP if p.clip else None,
            )  # fmt: skip
            return np.array([worst.right[name] for name in STRONGEST])

        parts = over_shards(model, self.x, self.pool, on_shard, done)
        return dict(zip(STRONGEST, np.hstack(parts), strict=True))

    def figures(self, model: Model, of_shard: Callable[[Model, slice], np.ndarray], passes: int) -> np.ndarray:
        """`of_shard(fused model, part)` (k, n) of each part of the N images, together (k, N)."""
        fused = fuse(model)
        parts = over_shards(
            model, self.x, self.pool, lambda part: of_shard(fused, part), self._done(passes), of_jacobian=True
        )
        return np.hstack(parts)

    def _done(self, passes: int) -> Callable[[int], None]:
        return lambda n: self.done(n * passes)

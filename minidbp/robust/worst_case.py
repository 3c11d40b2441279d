"""The strongest attacks one after the other, each on the images that withstood the ones before."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor
from minidbp.nn.checks import validate_sample_count
from minidbp.robust.auto_pgd import apgd
from minidbp.robust.images import Clip, checked, predict
from minidbp.robust.penalties import Model
from minidbp.robust.square_attack import square

STRONGEST = ("apgd_ce", "apgd_dlr", "square")


@dataclass(frozen=True)
class WorstCase:
    """N images under the attacks of STRONGEST.

    Attributes:
        images: what the attacks made of each image (N, ...): the first point that the model gets wrong, or else
            the last attack's worst point.
        right: which images the model gets right, bool (N,): "clean", then after each attack and all before it.
    """

    images: np.ndarray
    right: dict[str, np.ndarray]

    @property
    def broken(self) -> np.ndarray:
        """Which of the N images the model gets wrong, without attack or under one of the attacks: bool (N,)."""
        return ~self.right[STRONGEST[-1]]

    @property
    def accuracy(self) -> dict[str, float]:
        """`right` in percent.  ValueError if there are no images."""
        validate_sample_count(len(self.images))
        return {name: 100.0 * float(np.mean(right)) for name, right in self.right.items()}


def strongest(
    model: Model,
    x: np.ndarray | Tensor,
    y: ArrayLike,
    eps: float,
    *,
    steps: int = 100,
    restarts: int = 5,
    queries: int = 5000,
    seed: int | np.random.Generator = 0,
    clip: Clip = (0.0, 1.0),
) -> WorstCase:
    """APGD on the cross-entropy, APGD on the ratio of logits, Square Attack: the worst case of each image.

    Each attack gets only the images that withstood the ones before. The cross-entropy saturates, the ratio does
    not, and Square needs no gradient.
    The arguments are those of `apgd` and `square`, the errors too. An image without a finite gradient becomes NaN, as
    under `fgsm`, and counts as right.
    """
    pixels, targets = checked(model, x, y, clip, "true", eps=eps)
    rng = np.random.default_rng(seed)
    attacks = {
        "apgd_ce": lambda x, y: apgd(model, x, y, eps, "ce", steps, restarts=restarts, seed=rng, clip=clip),
        "apgd_dlr": lambda x, y: apgd(model, x, y, eps, "dlr", steps, restarts=restarts, seed=rng, clip=clip),
        "square": lambda x, y: square(model, x, y, eps, queries, seed=rng, clip=clip),
    }
    images, right = pixels.copy(), predict(model, pixels) == targets
    after = {"clean": right}
    for name, attack in attacks.items():
        rows = np.flatnonzero(right & np.isfinite(images).reshape(len(images), -1).all(axis=1))
        right = right.copy()
        if rows.size:
            images[rows] = attack(pixels[rows], targets[rows])
            rows = rows[~np.isnan(images[rows]).reshape(len(rows), -1).any(axis=1)]  # a NaN is no image
            right[rows] = predict(model, images[rows]) == targets[rows]
        after[name] = right
    return WorstCase(images, after)

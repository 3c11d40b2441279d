"""What a verdict on a model rests on.  Tables and `minidbp diagnose` gather it by the same trials."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import Tensor, no_grad
from minidbp.data import Dataset
from minidbp.diagnosis.substitutes import IMITATION, PLAIN, OnStep, imitation, reference
from minidbp.diagnosis.trials import (
    CLIP,
    LabelledImages,
    Trial,
    fgsm_trial,
    noise_trial,
    pgd_trial,
    strongest_passes,
    transfer_trial,
)
from minidbp.diagnosis.verdict import Evidence
from minidbp.robust import gradient_cosines, input_gradients, jacobian_l1, random_noise, zero_shares
from minidbp.robust.images import predict
from minidbp.robust.losses import loss_gradient
from minidbp.robust.penalties import Model
from minidbp.training import Protocol, percent
from minidbp.training.judgement import GradientFigures
from minidbp.training.workers import footprint

REACHES_ALL = 1.0  # the eps at which an attack may make any image of any other
SCALE = 0.1  # of eps: the length of the steps that test how far the gradient tells the margin's change
DIRECTIONS = 4  # of these steps, from each point
EXPLAINED = 0.5  # of the margin's change; the median is above 0.99 on models that were trained plainly
TURNED, STEEPER = 0.3, 3.0  # f is flat at x alone: below this cosine, and with so many times the slope at x + delta


def shared_trials(p: Protocol) -> dict[str, Trial]:
    """The attacks that every verdict rests on, besides the strongest set and the substitutes' images.

    They take the true label. PGD takes steps of 2.5 eps / pgd_steps, whatever the protocol's step is.
    """
    clip = CLIP if p.clip else None

    def by_pgd(eps: float, loss: str = "cross_entropy") -> Trial:
        return pgd_trial(eps, p.pgd_steps, eps <= p.eps, restarts=p.pgd_restarts, clip=clip, loss=loss)

    return {
        "noise_uniform": noise_trial(p.eps, "uniform", clip=clip),
        "noise_sign": noise_trial(p.eps, "sign", clip=clip),
        "fgsm_true": fgsm_trial(p.eps, clip=clip),
        "pgd": by_pgd(p.eps),
        "pgd_margin": by_pgd(p.eps, "margin"),
        "pgd_half": by_pgd(p.eps / 2),
        "pgd_all": by_pgd(max(REACHES_ALL, p.eps)),
    }


def evidence_passes(p: Protocol, n_classes: int) -> int:
    """How many passes of each image `gather` reports; the training of substitutes is not among them."""
    attacks = sum(trial.passes for trial in shared_trials(p).values())
    return attacks + 2 * transfer_trial(p).passes + strongest_passes(p) + gradient_passes(n_classes)


def gradient_passes(n_classes: int) -> int:
    """How many passes of each image `gradient_figures` makes, at x and at x + delta."""
    return 2 * (4 + n_classes + DIRECTIONS) + 1


@dataclass(frozen=True)
class Gathered:
    """The evidence, and the means of the figures about gradients."""

    evidence: Evidence
    gradients: GradientFigures


def gather(
    model: Model, images: LabelledImages, p: Protocol, dataset: Dataset, more: Mapping[str, np.ndarray] | None = None
) -> Gathered:
    """The evidence on a model at the protocol's eps.

    Args:
        dataset: its training images train the two substitutes.
        more: which images made on other models it gets right, bool (N,), by their names.
    """
    right, points = {"clean": images.correct(model, images.x)}, {}
    for name, trial in shared_trials(p).items():
        points[name] = images.attacked(model, trial)
        right[name] = images.correct(model, points[name])
    strongest = images.strongest(model, p)
    on_step = OnStep(lambda: images.done(0))  # may stop the run
    substitutes = {
        PLAIN: reference(dataset, p.reference_steps, images.pool.threads, on_step),
        IMITATION: imitation(model, dataset, p.eps, p.reference_steps, images.pool, on_step),
    }
    transfer = {
        name: images.correct(model, images.attacked(substitute, transfer_trial(p)))
        for name, substitute in substitutes.items()
    }
    gradients, signs = gradient_figures(model, images, points["fgsm_true"], p)
    evidence = Evidence(right, strongest, {**transfer, **(more or {})}, *signs)
    return Gathered(evidence, gradients)


def gradient_figures(
    model: Model, images: LabelledImages, x_adv: np.ndarray, p: Protocol
) -> tuple[GradientFigures, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The figures about gradients at x and x_adv, and which images (N,) show each of their signs of masking.

    The signs are in the order of `Evidence`: no_gradient, flattened, unexplained, inconsistent.
    """

    def of_shard(fused: Model, part: slice) -> np.ndarray:
        y, rng = images.y[part], np.random.default_rng([images.seed, 7, part.start])
        at = []
        for points in images.x[part], x_adv[part]:
            g = input_gradients(fused, points, y)
            slope, _, predicted = loss_gradient(fused, points, y, loss="margin")
            with no_grad():
                J = np.full(len(g), jacobian_l1(fused, points).item())
            at.append((g, slope, predicted, J, explained_share(fused, points, y, slope, rng=rng, p=p)))
        (g, slope, predicted, J, explained), (g_adv, slope_adv, predicted_adv, J_adv, explained_adv) = at
        steeper = _sizes(slope_adv) > STEEPER * _sizes(slope)
        return np.array([
            zero_shares(g), gradient_cosines(g, g_adv), J, J_adv, predicted == predicted_adv,
            (gradient_cosines(slope, slope_adv) < TURNED) & steeper, explained, explained_adv,
            predicted != in_halves(fused, images.x[part]),
        ], np.float64)  # fmt: skip

    zero, cosine, J, J_adv, same, flattened, *explained, differs = images.figures(
        model, of_shard, gradient_passes(footprint(model, images.x[0]).classes)
    )
    figures = GradientFigures(
        zero_gradients=100 * float(zero.mean()),
        zero_gradient_images=percent(zero == 1),
        gradient_cosine=float(cosine.mean()),
        jacobian_l1=float(J.mean()),
        jacobian_l1_adv=float(J_adv.mean()),
        same_prediction=percent(same == 1),
    )
    unexplained = max((share < EXPLAINED for share in explained), key=np.sum)  # at x, or at x + delta
    return figures, (zero == 1, flattened == 1, unexplained, differs == 1)


def _sizes(g: np.ndarray) -> np.ndarray:
    """`sum_j |g_j|` of each image's gradient g (N, ...): (N,)."""
    return np.abs(g).reshape(len(g), -1).sum(axis=1)


def in_halves(model: Model, x: np.ndarray) -> np.ndarray:
    """The predicted class of each image x (N, ...), in two batches and without a graph: (N,) integers."""
    predicted = np.empty(len(x), np.intp)
    for half in slice(0, None, 2), slice(1, None, 2):
        if len(x[half]):
            predicted[half] = predict(model, x[half])
    return predicted


def explained_share(
    model: Model, x: np.ndarray, y: np.ndarray, g: np.ndarray, *, rng: np.random.Generator, p: Protocol
) -> np.ndarray:
    """How much of the change of the margin `f_i - f_y` the gradient explains: (N,), at most 1; below 0 it misleads.

    `1 - sum (change - <g, d>)^2 / sum change^2` over DIRECTIONS steps d of random signs and a tenth of eps. g (N, ...)
    is the margin's gradient at x, and i the largest class but y at x, at x + d too. 1 where nothing changes.
    """
    rows, before = np.arange(len(x)), _logits(model, x)
    others = before.copy()
    others[rows, y] = -np.inf
    i = np.argmax(others, axis=1)
    missed, total = np.zeros(len(x)), np.zeros(len(x))
    for _ in range(DIRECTIONS):
        d = random_noise(x, SCALE * p.eps, rng, clip=CLIP if p.clip else None, kind="sign") - x
        moved = _logits(model, x + d) - before
        change = moved[rows, i] - moved[rows, y]
        missed += (change - (g * d).reshape(len(x), -1).sum(axis=1, dtype=np.float64)) ** 2
        total += change**2
    return 1 - np.divide(missed, total, out=np.zeros(len(x)), where=total > 0)


def _logits(model: Model, x: np.ndarray) -> np.ndarray:
    with no_grad():
        return model(Tensor(x)).data.astype(np.float64)

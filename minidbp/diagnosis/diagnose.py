"""`minidbp diagnose`: many attacks on the same images, figures about gradients, and a verdict for each model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.autodiff import no_grad
from minidbp.diagnosis.verdict import Evidence, MaskingVerdict, judge
from minidbp.nn import N_CLASSES, Sequential, fuse
from minidbp.robust import fgsm, gradient_cosines, input_gradients, jacobian_l1, pgd, random_noise, zero_shares
from minidbp.training import Protocol, Workers, correct, percent, predict
from minidbp.training.evaluate import Attack, attacked, over_shards
from minidbp.training.judgement import GradientFigures

EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)  # 1 reaches every image
STEPS = (1, 2, 5, 10, 20, 50, 100)  # those below the protocol's; the protocol's and twice as many come on top
DRAWS = 10  # of noise, for each image
CHANCE = 100 / N_CLASSES
CLIP = (0.0, 1.0)
GRADIENT_PASSES = 2 * (2 + N_CLASSES)  # a gradient and a Jacobian, at x and at x + delta

# Results.  `dataclasses.asdict` makes their JSON.  Accuracies are in percent.


@dataclass(frozen=True)
class Settings:
    """What all attacks of a diagnosis have in common."""

    eps: float
    images: int
    steps: int
    restarts: int
    seed: int
    label_smoothing: float
    noise_draws: int = DRAWS


@dataclass(frozen=True)
class ModelDiagnosis:
    """One model."""

    accuracy: dict[str, float]  # by attack
    against_eps: dict[str, list[float]]  # columns eps, from 0, and pgd (one start), fgsm and noise, accuracy under each
    against_steps: dict[str, list[float]]  # columns steps and pgd (one start)
    gradients: GradientFigures
    transfer: dict[str, float]  # by the model that the images were made on
    worst_case: float  # of images that withstand every attack
    verdict: MaskingVerdict


@dataclass(frozen=True)
class Transfer:
    """Accuracy on images made on the row's model and judged on the column's."""

    labels: list[str]
    accuracy: list[list[float]]


@dataclass(frozen=True)
class Diagnosis:
    """The models by label.  transfer is None for one model."""

    settings: Settings
    models: dict[str, ModelDiagnosis]
    transfer: Transfer | None
    environment: dict[str, Any] = field(default_factory=dict)


# Attacks.


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


def pgd_trial(
    eps: float, steps: int, counts: bool = True, *, step: float | None = None, restarts: int = 1, **options: Any
) -> Trial:
    """PGD with steps of 2.5 eps / steps (Madry et al. 2018), unless `step` is given: they can cross the ball."""
    step, passes = 2.5 * eps / steps if step is None else step, 2 * steps * restarts
    options["restarts"] = restarts
    return Trial(lambda model, x, y, rng: pgd(model, x, y, eps, step, steps, seed=rng, **options), passes, counts)


def noise_trial(eps: float, kind: str, counts: bool = True, **options: Any) -> Trial:
    """For each image the last of DRAWS noisy ones that the model gets wrong, or the image itself."""

    def attack(model: Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        worst = x.copy()
        for _ in range(DRAWS):
            noisy = random_noise(x, eps=eps, kind=kind, rng=rng, **options)
            wrong = predict(model, noisy) != y
            worst[wrong] = noisy[wrong]
        return worst

    return Trial(attack, DRAWS, counts)


def trials(p: Protocol) -> dict[str, dict[Any, Trial]]:
    """Every attack on a model by itself: "attacks" by name, "pgd", "fgsm" and "noise" by eps, PGD by "steps"."""
    attacks = {"clean": Trial(lambda model, x, y, rng: x, 1)}
    for kind in "uniform", "sign":
        attacks[f"noise_{kind}"] = noise_trial(p.eps, kind)
    labels: dict[str, dict[str, Any]] = {
        "true": {},
        "predicted": {"label": "predicted"},
        "smoothed": {"label_smoothing": p.label_smoothing},
    }
    for suffix, clip in ("", CLIP), ("_unclipped", None):
        for label, options in labels.items():
            attacks[f"fgsm_{label}{suffix}"] = fgsm_trial(p.eps, clip is not None, clip=clip, **options)
    for name, loss in ("pgd", "cross_entropy"), ("pgd_margin", "margin"):
        attacks[name] = pgd_trial(p.eps, p.pgd_steps, restarts=p.pgd_restarts, loss=loss)
    sizes = sorted({*EPS, p.eps})
    steps = sorted({*(k for k in STEPS if k < p.pgd_steps), p.pgd_steps, 2 * p.pgd_steps})
    return {
        "attacks": attacks,
        "pgd": {eps: pgd_trial(eps, p.pgd_steps, eps <= p.eps) for eps in sizes},
        "fgsm": {eps: fgsm_trial(eps, eps <= p.eps) for eps in sizes},
        "noise": {eps: noise_trial(eps, "sign", eps <= p.eps) for eps in sizes},
        "steps": {k: pgd_trial(p.eps, k) for k in steps},
    }


def transfer_trial(p: Protocol) -> Trial:
    """The images for other models: PGD on the margin that goes on after its own model is fooled."""
    return pgd_trial(p.eps, p.pgd_steps, loss="margin", go_on=True)


@dataclass(frozen=True)
class LabelledImages:
    """Images x (N, 28, 28, 1) in [0, 1] with labels y (N,), and how to attack them.

    done: told how many more passes of an image through a model are done.
    """

    x: np.ndarray
    y: np.ndarray
    pool: Workers
    seed: int = 0
    done: Callable[[int], None] = lambda passes: None

    def attacked(self, model: Sequential, trial: Trial) -> np.ndarray:
        """The images of this attack on the model."""

        def done(n: int) -> None:
            self.done(n * trial.passes)

        return attacked(model, self.x, self.y, self.pool, trial.attack, seed=self.seed, done=done)

    def correct(self, model: Sequential, images: np.ndarray) -> np.ndarray:
        """Which of the N images the model gets right, where `images` take the place of x."""
        return correct(model, images, self.y, self.pool)

    def gradient_figures(self, model: Sequential, x_adv: np.ndarray) -> tuple[GradientFigures, np.ndarray]:
        """The figures about gradients at x and x_adv, and which images have a gradient of exactly 0 at x."""
        fused = fuse(model)

        def on_shard(part: slice) -> np.ndarray:
            pair = self.x[part], x_adv[part]
            g, g_adv = (input_gradients(fused, images, self.y[part]) for images in pair)
            with no_grad():
                J, J_adv = (np.full(len(g), jacobian_l1(fused, images).item()) for images in pair)
            same = predict(fused, pair[0]) == predict(fused, pair[1])
            return np.array([zero_shares(g), gradient_cosines(g, g_adv), J, J_adv, same], np.float64)

        parts = over_shards(
            model, self.x, self.pool, on_shard, lambda n: self.done(n * GRADIENT_PASSES), rows=N_CLASSES
        )
        zero, cosine, J, J_adv, same = np.hstack(parts)
        gradients = GradientFigures(
            zero_gradients=100 * float(zero.mean()),
            zero_gradient_images=percent(zero == 1),
            gradient_cosine=float(cosine.mean()),
            jacobian_l1=float(J.mean()),
            jacobian_l1_adv=float(J_adv.mean()),
            same_prediction=percent(same == 1),
        )
        return gradients, zero == 1


# The diagnosis.


def labels_of(weights: Sequence[Path]) -> list[str]:
    """A label for each weights file: its name, or its path if names are equal.  ValueError for a repeated file."""
    for path in weights:
        if weights.count(path) > 1:
            raise ValueError(f"every weights file counts once; got {path} {weights.count(path)} times")
    stems = [path.stem for path in weights]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in weights]


def work(models: int, p: Protocol) -> int:
    """How many passes of an image `diagnose` reports for this number of models."""
    each = sum(trial.passes for group in trials(p).values() for trial in group.values()) + GRADIENT_PASSES
    return models * p.n_test * (each + (transfer_trial(p).passes if models > 1 else 0))


def diagnose(models: Mapping[str, Sequential], images: LabelledImages, protocol: Protocol) -> Diagnosis:
    """Diagnose models by label.  Of the protocol, eps in (0, 1], label_smoothing, pgd_steps and pgd_restarts count.

    Attacks take the true label and clip to [0, 1] unless their name says otherwise.  The curves take PGD from one
    start.
    """
    p, right_on = protocol, {}
    for source, model in models.items() if len(models) > 1 else ():
        made = images.attacked(model, transfer_trial(p))
        right_on[source] = {label: images.correct(other, made) for label, other in models.items()}
    matrix = [[*_percents(row).values()] for row in right_on.values()]
    return Diagnosis(
        Settings(p.eps, len(images.x), p.pgd_steps, p.pgd_restarts, images.seed, p.label_smoothing),
        {
            label: _diagnose_one(model, label, images, p, {source: row[label] for source, row in right_on.items()})
            for label, model in models.items()
        },
        Transfer(list(models), matrix) if matrix else None,
    )


def _diagnose_one(
    model: Sequential, label: str, images: LabelledImages, protocol: Protocol, transfer: dict[str, np.ndarray]
) -> ModelDiagnosis:
    """transfer: which images made on each model, this one too, it gets right."""
    right: dict[str, dict[Any, np.ndarray]] = {}
    counted = list(transfer.values())
    for group, of_group in trials(protocol).items():
        right[group] = {}
        for key, trial in of_group.items():
            made = images.attacked(model, trial)
            right[group][key] = images.correct(model, made)
            if trial.counts:
                counted.append(right[group][key])
            if key == "fgsm_true":
                gradients, no_gradient = images.gradient_figures(model, made)
    attacks, steps = right["attacks"], right["steps"]
    curves = {name: {0.0: attacks["clean"], **right[name]} for name in ("pgd", "fgsm", "noise")}
    others = {source: value for source, value in transfer.items() if source != label}
    worst_case = np.all(counted, axis=0)
    evidence = Evidence(attacks, curves["pgd"], steps, protocol.pgd_steps, others, worst_case, no_gradient)
    return ModelDiagnosis(
        accuracy=_percents(attacks),
        against_eps={"eps": [*curves["pgd"]], **{name: [*_percents(of).values()] for name, of in curves.items()}},
        against_steps={"steps": [*steps], "pgd": [*_percents(steps).values()]},
        gradients=gradients,
        transfer=_percents(others),
        worst_case=percent(worst_case),
        verdict=judge(evidence, CHANCE),
    )


def _percents(right: Mapping[Any, np.ndarray]) -> dict[Any, float]:
    return {key: percent(value) for key, value in right.items()}

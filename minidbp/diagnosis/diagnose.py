"""`minidbp diagnose`: many attacks on the same images, figures about gradients, and a verdict for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.data import MNIST, DataIdentity, Dataset, load_mnist
from minidbp.diagnosis.evidence import evidence_passes, gather
from minidbp.diagnosis.trials import (
    CLIP,
    DRAWS,
    Function,
    LabelledImages,
    Trial,
    fgsm_trial,
    noise_trial,
    pgd_trial,
    transfer_trial,
)
from minidbp.diagnosis.verdict import OVERSTATED, POINTS, Finding, MaskingVerdict, judge, stronger
from minidbp.files.reading import printable
from minidbp.nn import Sequential
from minidbp.robust.penalties import Model
from minidbp.training import Protocol, percent
from minidbp.training.environment import Environment, environment
from minidbp.training.judgement import GradientFigures

EPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)  # 1 reaches every image
STEPS = (1, 2, 5, 10, 20, 50, 100)  # those below the protocol's; the protocol's and twice as many come on top

# Results.  `dataclasses.asdict` makes their JSON.  Accuracies are in percent.


@dataclass(frozen=True)
class Settings:
    """What all attacks of a diagnosis have in common."""

    eps: float
    images: int
    steps: int
    restarts: int
    apgd_steps: int
    apgd_restarts: int
    square_queries: int
    reference_steps: int
    seed: int
    label_smoothing: float
    noise_draws: int = DRAWS
    data: DataIdentity = MNIST
    chance: float = 100 / MNIST.n_classes  # accuracy of a guess, in percent

    @property
    def of_data(self) -> str:
        """Whose images they are, for a sentence; nothing for MNIST."""
        return "" if self.data == MNIST else f" of {self.data.name}"


@dataclass(frozen=True)
class ModelDiagnosis:
    """One model."""

    accuracy: dict[str, float]  # by attack; after each of the strongest attacks, of images that withstood those before
    against_eps: dict[str, list[float]]  # columns eps, from 0, and pgd (one start), fgsm and noise, accuracy under each
    against_steps: dict[str, list[float]]  # columns steps and pgd (one start)
    gradients: GradientFigures
    transfer: dict[str, float]  # by the model that the images were made on: the two substitutes, then the others
    worst_case: float  # of images that withstand every attack
    verdict: MaskingVerdict


@dataclass(frozen=True)
class Transfer:
    """Accuracy on images made on the row's model and judged on the column's."""

    labels: list[str]
    accuracy: list[list[float]]


@dataclass(frozen=True)
class Diagnosis:
    """The models by label.  transfer, between these models, is None for one model."""

    settings: Settings
    models: dict[str, ModelDiagnosis]
    transfer: Transfer | None
    environment: Environment


def page_trials(p: Protocol) -> dict[str, dict[Any, Trial]]:
    """The attacks that a page shows and no verdict needs: "attacks" by name; "pgd", "fgsm", "noise" by eps; "steps"."""
    attacks = {}
    labels: dict[str, dict[str, Any]] = {
        "true": {},
        "predicted": {"label": "predicted"},
        "smoothed": {"label_smoothing": p.label_smoothing},
    }
    for suffix, clip in ("", CLIP), ("_unclipped", None):
        for label, options in labels.items():
            attacks[f"fgsm_{label}{suffix}"] = fgsm_trial(p.eps, clip is not None, clip=clip, **options)
    del attacks["fgsm_true"]  # the verdict needs it
    sizes = sorted({*EPS, p.eps})
    steps = sorted({*(k for k in STEPS if k < p.pgd_steps), p.pgd_steps, 2 * p.pgd_steps})
    return {
        "attacks": attacks,
        "pgd": {eps: pgd_trial(eps, p.pgd_steps, eps <= p.eps) for eps in sizes},
        "fgsm": {eps: fgsm_trial(eps, eps <= p.eps) for eps in sizes},
        "noise": {eps: noise_trial(eps, "sign", eps <= p.eps) for eps in sizes},
        "steps": {k: pgd_trial(p.eps, k) for k in steps},
    }


# The diagnosis.


def labels_of(weights: Sequence[Path]) -> list[str]:
    """A label for each weights file: its name, or its path if names are equal.  ValueError for a repeated path."""
    paths = [printable(str(path)) for path in weights]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"give each weights file once; {path} is given {paths.count(path)} times")
    for names in [path.stem for path in weights], [str(path.with_suffix("")) for path in weights]:
        labels = [*map(printable, names)]
        if len(set(labels)) == len(labels):
            return labels
    return paths


def work(models: int, p: Protocol, n_classes: int) -> int:
    """How many passes of an image `diagnose` reports for this number of models."""
    each = sum(trial.passes for group in page_trials(p).values() for trial in group.values()) + evidence_passes(
        p, n_classes
    )
    return models * p.n_test * (each + (transfer_trial(p).passes if models > 1 else 0))


def diagnose(
    models: Mapping[str, Model], images: LabelledImages, protocol: Protocol, dataset: Dataset | None = None
) -> Diagnosis:
    """Diagnose models by label: functions of a Tensor (N, H, W, C) to logits (N, c).

    Of the protocol, eps in (0, 1], label_smoothing, clip and the sizes of the attacks count. Attacks take the true
    label and clip to [0, 1] unless their name says otherwise. The curves take PGD from one start.

    dataset: its training images train the substitutes, whose images are transferred to each model; by default
    `load_mnist()`.

    Raises ValueError if the images have another shape than those of `dataset`.
    """
    p, dataset, right_on = protocol, dataset or _loaded(), {}
    if (shape := images.x.shape[1:]) != dataset.image_shape:
        raise ValueError(
            f"the images have the shape {shape}, and those of {dataset.name} {dataset.image_shape}: give the data that "
            "they belong to"
        )
    networks = {label: model if isinstance(model, Sequential) else Function(model) for label, model in models.items()}
    for source, network in networks.items() if len(networks) > 1 else ():
        made = images.attacked(network, transfer_trial(p))
        right_on[source] = {label: images.correct(other, made) for label, other in networks.items()}
    matrix = [[*_percents(row).values()] for row in right_on.values()]
    settings = Settings(
        p.eps, len(images.x), p.pgd_steps, p.pgd_restarts, p.apgd_steps, p.apgd_restarts, p.square_queries,
        p.reference_steps, images.seed, p.label_smoothing, data=dataset.identity, chance=dataset.chance,
    )  # fmt: skip
    diagnosed = {}
    for label, network in networks.items():
        others = {source: row[label] for source, row in right_on.items() if source != label}
        diagnosed[label] = _diagnose_one(network, images, p, dataset, others)
    return Diagnosis(settings, diagnosed, Transfer(list(models), matrix) if matrix else None, environment())


_loaded = lru_cache(maxsize=1)(load_mnist)  # one object, so that the reference is trained once


def _diagnose_one(
    model: Model, images: LabelledImages, protocol: Protocol, dataset: Dataset, transfer: dict[str, np.ndarray]
) -> ModelDiagnosis:
    """transfer: which images made on each other model it gets right."""
    gathered = gather(model, images, protocol, dataset, transfer)
    right: dict[str, dict[Any, np.ndarray]] = {}
    others = []
    for group, of_group in page_trials(protocol).items():
        right[group] = {}
        for key, trial in of_group.items():
            right[group][key] = images.correct(model, images.attacked(model, trial))
            if trial.counts:
                others.append(right[group][key])
    evidence = replace(gathered.evidence, others=others)
    steps = right["steps"]
    curves = {name: {0.0: evidence.right["clean"], **right[name]} for name in ("pgd", "fgsm", "noise")}
    return ModelDiagnosis(
        accuracy=_percents({**evidence.right, **right["attacks"], **evidence.strongest}),
        against_eps={"eps": [*curves["pgd"]], **{name: [*_percents(of).values()] for name, of in curves.items()}},
        against_steps={"steps": [*steps], "pgd": [*_percents(steps).values()]},
        gradients=gathered.gradients,
        transfer=_percents(evidence.transfer),
        worst_case=percent(evidence.worst_case),
        verdict=judge(evidence, dataset.chance, _weak_attacks(evidence.right["fgsm_true"], right, protocol.pgd_steps)),
    )


def _weak_attacks(fgsm: np.ndarray, right: Mapping[str, Mapping[Any, np.ndarray]], steps: int) -> list[Finding]:
    """Attacks of the page that overstate robustness."""
    predicted, smoothed = (right["attacks"][f"fgsm_{label}"] for label in ("predicted", "smoothed"))
    *_, most_steps = right["steps"].values()
    return [
        stronger("FGSM with the predicted label overstates robustness", fgsm, predicted, OVERSTATED, POINTS),
        stronger("FGSM with smoothed labels overstates robustness", fgsm, smoothed, OVERSTATED, POINTS),
        stronger("more steps make PGD stronger", most_steps, right["steps"][steps], OVERSTATED),
    ]


def _percents(right: Mapping[Any, np.ndarray]) -> dict[Any, float]:
    return {key: percent(value) for key, value in right.items()}

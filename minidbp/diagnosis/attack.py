"""`minidbp attack`: a trained model under the attacks of a protocol."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.autodiff import Tensor, no_grad, softmax
from minidbp.data import MNIST, DataIdentity, Dataset
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.diagnosis.judge import accuracy_at, correct_by_attack, correct_by_eps, judged_images, sizes_passes
from minidbp.diagnosis.trials import CLIP, LabelledImages, pgd_trial, strongest_passes
from minidbp.files.atomic import write_text
from minidbp.files.plots import save
from minidbp.nn.weights import SavedModel
from minidbp.robust import input_gradients, zero_shares
from minidbp.robust.penalties import Model
from minidbp.training import Protocol, percent, workers
from minidbp.training.environment import Environment, environment
from minidbp.training.evaluate import FGSM_PASSES, pgd_passes
from minidbp.training.judgement import AccuracyAt

PROTOCOL = (
    "eps", "small_eps", "attack_label", "clip", "n_test", "pgd_steps", "pgd_step", "pgd_restarts", "apgd_steps",
    "apgd_restarts", "square_queries",
)  # fmt: skip
SATURATION_PASSES = 3


@dataclass(frozen=True)
class Saturation:
    """Images where softmax has rounded to 0 and 1, so that the cross-entropy has no gradient that an attack can follow.

    Attributes:
        images: in percent of all images: dL/dx is exactly 0, or the label's probability is exactly 1.
        pgd: how many of them the model gets right under PGD on the cross-entropy, in percent; None without such images.
        pgd_margin: under PGD on the margin too.
    """

    images: float
    pgd: float | None
    pgd_margin: float | None

    def __str__(self) -> str:
        if not self.images:
            return "the softmax is saturated on no image"
        return (
            f"the softmax is saturated on {self.images:.1f}% of the images: PGD on the cross-entropy leaves "
            f"{self.pgd:.1f}% of them, and PGD on the margin {self.pgd_margin:.1f}%"
        )


@dataclass(frozen=True)
class AttackResult:
    """Test accuracy in percent; `protocol` holds the fields of PROTOCOL."""

    model: str
    weights: str
    seed: int
    clean: float
    fgsm: float
    pgd: float
    by_eps: list[AccuracyAt]  # at small_eps and eps, from small to large
    saturation: Saturation
    protocol: dict[str, Any]
    environment: Environment
    data: DataIdentity = MNIST

    def in_words(self) -> list[str]:
        """The result in three lines."""
        p, on = self.protocol, "" if self.data == MNIST else f" on {self.data.name}"
        attacks = f"clean {self.clean:.2f}%, FGSM {self.fgsm:.2f}%, PGD {self.pgd:.2f}%"
        worst = ", ".join(f"{of_eps.worst_case:.2f}% at eps {of_eps.eps:g}" for of_eps in self.by_eps)
        return [
            f"model {self.model}{on}, eps {p['eps']:g}, {p['n_test']} random test images: {attacks}",
            f"worst case of these, APGD-CE, APGD-DLR and Square: {worst}",
            str(self.saturation),
        ]


def attack(
    saved: SavedModel,
    protocol: Protocol,
    seed: int,
    folder: Path,
    dataset: Dataset,
    *,
    threads: int | None,
    advance: Callable[[float], object] = lambda passes: None,
) -> AttackResult:
    """Judge the model of a weights file, in float32, on these data.  Writes attack.json and images.png to `folder`.

    advance(passes): called after so many of the `attack_passes`.
    """
    p = replace(protocol, judged_eps=())
    model, name = saved.model.astype(np.float32), saved.name  # the dtype of the images
    x, y = judged_images(dataset, p, seed)

    def report(passes: float, what: str = "") -> None:
        advance(passes)

    with workers(threads) as pool:
        images = LabelledImages(x, y, pool, seed, report)
        right = correct_by_attack(model, x, y, p, pool, seed=seed, report=report)
        withstood = np.all([*right.values()], axis=0)
        by_eps = correct_by_eps(
            model, x, y, p, pool, images.strongest(model, p), withstood=withstood, seed=seed, report=report
        )
        found = saturation(model, images, p, right["pgd"])
    accuracies = {attack: percent(of_attack) for attack, of_attack in right.items()}
    fields = {field: getattr(p, field) for field in PROTOCOL}
    sizes = [accuracy_at(eps, of_eps, [*right.values()] if eps == p.eps else []) for eps, of_eps in by_eps.items()]
    result = AttackResult(
        name, saved.source, seed, **accuracies, by_eps=sizes, saturation=found, protocol=fields,
        environment=environment(), data=dataset.identity,
    )  # fmt: skip
    write_text(folder / "attack.json", json.dumps(asdict(result), indent=1) + "\n")
    picture = adversarial_twins({f"model {name}": model}, dataset, p)
    save(picture, folder / "images.png")
    return result


def attack_passes(p: Protocol) -> int:
    """How many passes of an image `attack` reports."""
    return p.n_test * (1 + FGSM_PASSES + 2 * pgd_passes(p) + strongest_passes(p) + sizes_passes(p) + SATURATION_PASSES)


def saturation(model: Model, images: LabelledImages, p: Protocol, by_pgd: np.ndarray) -> Saturation:
    """What PGD leaves where the softmax is saturated.  by_pgd: which images withstand it on the cross-entropy, (N,)."""

    def of_shard(fused: Model, part: slice) -> np.ndarray:
        x, y = images.x[part], images.y[part]
        with no_grad():
            probabilities = softmax(fused(Tensor(x))).data[np.arange(len(y)), y]
        return ((zero_shares(input_gradients(fused, x, y)) == 1) | (probabilities == 1))[None]

    (saturated,) = images.figures(model, of_shard, SATURATION_PASSES)
    trial = pgd_trial(p.eps, p.pgd_steps, restarts=p.pgd_restarts, loss="margin", clip=CLIP if p.clip else None)
    if not saturated.any():
        images.done(trial.passes * len(images.x))  # no image needs the attack
        return Saturation(0.0, None, None)
    by_margin = images.correct(model, images.attacked(model, trial))
    return Saturation(percent(saturated), percent(by_pgd[saturated]), percent(by_margin[saturated]))

"""Robust, not robust, or gradients masked: a verdict from the images that withstood each attack, by stated rules.

The signs of masking are those of Athalye, Carlini and Wagner 2018 ("Obfuscated gradients give a false sense of
security", section 3.1) and of Carlini et al. 2019 ("On evaluating adversarial robustness"): one step beats many,
attacks without gradients beat those with gradients, an unbounded attack fails, a larger eps makes the attack weaker.
The worst case of each image over all attacks, a loss that does not saturate, and the warning of gradients that are
exactly 0 are from AutoAttack (Croce and Hein 2020).

A difference must exceed STANDARD_ERRORS standard errors, so that chance triggers no rule.  All attacks get the same
images, so the error of a difference is that of paired proportions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from minidbp.training import percent

STANDARD_ERRORS = 3
POINTS = 5.0  # honest attacks differ too: a smaller difference, in percent of the images, overstates nothing
ZERO_IMAGES = 1.0  # percent of the images may have a gradient that is zero everywhere
ROBUST = 0.5  # of the clean accuracy is left in the worst case


@dataclass(frozen=True)
class Finding:
    """One rule.  It holds if figure > limit, both in percent of the images.

    kind: "masking", a sign of masked gradients; "overstated", a weak attack passes for a strong one.
    """

    rule: str
    kind: str
    figure: float
    limit: float
    holds: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", self.figure > self.limit)


@dataclass(frozen=True)
class MaskingVerdict:
    """word: "robust", "partly robust", "not robust" or "masks"; sentences: the reasons, the word's own first."""

    word: str
    sentences: list[str]
    findings: list[Finding]


@dataclass(frozen=True)
class Evidence:
    """Which of n images a model gets right, bool (n,) each: by attack; under PGD by eps and by steps; by source.

    The attacks are at least clean, pgd (cross-entropy, true label), pgd_margin, fgsm_true, fgsm_predicted,
    fgsm_smoothed, noise_uniform and noise_sign.
    """

    attacks: Mapping[str, np.ndarray]
    pgd_eps: Mapping[float, np.ndarray]  # from 0 to an eps that reaches every image
    pgd_steps: Mapping[int, np.ndarray]  # of `steps` steps and of more
    steps: int
    transfer: Mapping[str, np.ndarray]
    worst_case: np.ndarray  # under all attacks together
    no_gradient: np.ndarray  # no attack: which images have a gradient of exactly 0


def share_error(right: np.ndarray) -> float:
    """The standard error of a share of n images, in percent; two successes and failures added (Agresti, Coull 1998)."""
    n = right.size + 4
    p = (right.sum() + 2) / n
    return 100 * math.sqrt(p * (1 - p) / n)


def difference_error(a: np.ndarray, b: np.ndarray) -> float:
    """The standard error of the difference of two shares of the same images, in percent (Agresti and Min 2005).

    Half an image is added to each of the four cells, so that it is not 0 where the attacks never disagree.
    """
    only_a, only_b, n = np.sum(a & ~b) + 0.5, np.sum(b & ~a) + 0.5, a.size + 2
    return 100 * math.sqrt(only_a + only_b - (only_a - only_b) ** 2 / n) / n


def judge(evidence: Evidence, chance: float) -> MaskingVerdict:
    """Apply the rules.  chance: the accuracy of a guess, in percent."""
    findings = apply_rules(evidence, chance)
    holding = [(f.kind, f"{f.rule} ({f.figure:.1f}% of the images)") for f in findings if f.holds]
    signs = [sentence for kind, sentence in holding if kind == "masking"]
    clean, pgd, worst = map(percent, (evidence.attacks["clean"], evidence.attacks["pgd"], evidence.worst_case))
    left = f"{worst:.1f}% of the images withstand every attack"
    if clean <= _no_better_than(chance, evidence.attacks["clean"]):
        word, why = "not robust", f"the model guesses: {clean:.1f}% are right without any attack, {left}"
    elif signs:
        word = "masks"
        why = f"{'; '.join(signs)}: the {pgd:.1f}% under PGD are no measure of robustness, {left}"
    elif worst <= _no_better_than(chance, evidence.worst_case):
        word, why = "not robust", f"{left}, no more than a guess would get right"
    else:
        word = "robust" if worst >= ROBUST * clean else "partly robust"
        why = f"{left}, of {clean:.1f}% without attack, and there is no sign of masked gradients"
    return MaskingVerdict(word, [why, *(sentence for kind, sentence in holding if kind == "overstated")], findings)


def apply_rules(evidence: Evidence, chance: float) -> list[Finding]:
    """Every rule with its figure and its limit; the rule on another model's images only if there are such images."""
    right, steps, over = evidence.attacks, evidence.pgd_steps, "overstated"
    pgd, fgsm, margin = right["pgd"], right["fgsm_true"], right["pgd_margin"]
    from_others = [
        _stronger(f"images made on {source} are stronger than PGD on the model itself", images, pgd)
        for source, images in evidence.transfer.items()
    ]
    *_, unbounded = evidence.pgd_eps.values()
    rises = [
        _stronger(f"PGD at eps {small:g} is stronger than at eps {large:g}", a, b)
        for (small, a), (large, b) in pairwise(evidence.pgd_eps.items())
    ]
    return [
        _stronger("FGSM is stronger than PGD", fgsm, pgd),
        _stronger("uniform noise is stronger than PGD", right["noise_uniform"], pgd),
        _stronger("random signs are stronger than PGD", right["noise_sign"], pgd),
        *from_others,
        _more_than(chance, "PGD does not bring accuracy down to chance at the largest eps", unbounded),
        max(rises, key=lambda rise: rise.figure - rise.limit),
        _more_than(ZERO_IMAGES, "many images have no gradient at all", evidence.no_gradient),
        _stronger("PGD on the margin is far stronger than on the cross-entropy", margin, pgd, least=POINTS),
        _stronger("FGSM overstates robustness: PGD is far stronger", pgd, fgsm, over, POINTS),
        _stronger("FGSM with the predicted label overstates robustness", fgsm, right["fgsm_predicted"], over, POINTS),
        _stronger("FGSM with smoothed labels overstates robustness", fgsm, right["fgsm_smoothed"], over, POINTS),
        _stronger("more steps make PGD stronger", list(steps.values())[-1], steps[evidence.steps], over),
    ]


def _stronger(rule: str, strong: np.ndarray, weak: np.ndarray, kind: str = "masking", least: float = 0.0) -> Finding:
    """How many more images withstand `weak` than `strong`; the limit is at least `least`."""
    limit = max(least, STANDARD_ERRORS * difference_error(weak, strong))
    return Finding(rule, kind, percent(weak) - percent(strong), limit)


def _more_than(share: float, rule: str, images: np.ndarray) -> Finding:
    return Finding(rule, "masking", percent(images), _no_better_than(share, images))


def _no_better_than(share: float, right: np.ndarray) -> float:
    """The largest share that may be `share`, in percent, but for chance."""
    return share + STANDARD_ERRORS * share_error(right)

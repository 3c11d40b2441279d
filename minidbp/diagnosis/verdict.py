"""Robust, not robust, or gradients masked: a verdict from which images withstood which attack, by rules one can read.

The signs are those of Athalye, Carlini and Wagner 2018 ("Obfuscated gradients give a false sense of security", section
3.1) and of Carlini et al. 2019 ("On evaluating adversarial robustness"): one step beats many, attacks without gradients
beat those with, an unbounded attack fails, a larger eps makes the attack weaker.  AutoAttack (Croce and Hein 2020) has
the worst case of each image over all attacks, a loss that does not saturate, and warns of gradients that are exactly 0.

No rule is triggered by chance: every difference must exceed STANDARD_ERRORS standard errors.  Attacks are compared on
the same images, so the error of a difference is that of paired proportions.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidbp.training.evaluate import percent

STANDARD_ERRORS = 3
POINTS = 5.0  # honest attacks differ too: by less than this, in percent of the images, nothing is overstated
ZERO_IMAGES = 1.0  # percent of the images whose whole gradient may be zero
ROBUST = 0.5  # of the clean accuracy is left in the worst case


class Finding(NamedTuple):
    """One rule: it holds if figure > limit, both in percent of the images.

    kind: "masking", a sign that gradients are masked; "overstated", a weak attack passes for a strong one.
    """

    rule: str
    kind: str
    figure: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.figure > self.limit

    @property
    def sentence(self) -> str:
        return f"{self.rule} ({self.figure:.1f}% of the images)"


class Verdict(NamedTuple):
    """word: "robust", "partly robust", "not robust" or "masks"; sentences: why, the verdict's own first."""

    word: str
    sentences: list[str]
    findings: list[Finding]


class Withstood(NamedTuple):
    """Which of n images a model gets right, bool (n,) each: by attack; under PGD by eps and by steps; by source.

    attacks has at least clean, pgd (cross-entropy, the true label), pgd_margin, fgsm_true, fgsm_predicted,
    fgsm_smoothed, noise_uniform, noise_sign.  pgd_eps begins with 0 and ends with an eps that reaches every image;
    pgd_steps has `steps` of them and more.
    """

    attacks: Mapping[str, np.ndarray]
    pgd_eps: Mapping[float, np.ndarray]
    pgd_steps: Mapping[int, np.ndarray]
    steps: int
    transfer: Mapping[str, np.ndarray]
    worst_case: np.ndarray
    no_gradient: np.ndarray  # not an attack: which images have a gradient of exactly 0


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


def judge(withstood: Withstood, chance: float) -> Verdict:
    """Apply the rules.  chance: the accuracy of a guess, in percent."""
    clean = withstood.attacks["clean"]
    findings = find(withstood, chance)
    signs = [f.sentence for f in findings if f.kind == "masking" and f.holds]
    worst, pgd = percent(withstood.worst_case), percent(withstood.attacks["pgd"])
    left = f"{worst:.1f}% of the images withstand every attack"
    if percent(clean) <= chance + STANDARD_ERRORS * share_error(clean):
        word, why = "not robust", f"it guesses: {percent(clean):.1f}% are right without any attack, {left}"
    elif signs:
        word = "masks"
        why = f"{'; '.join(signs)}: the {pgd:.1f}% under PGD are no measure of robustness, {left}"
    elif worst <= chance + STANDARD_ERRORS * share_error(withstood.worst_case):
        word, why = "not robust", f"{left}, no more than a guess would get right"
    else:
        word = "robust" if worst >= ROBUST * percent(clean) else "partly robust"
        why = f"{left}, of {percent(clean):.1f}% without attack, and there is no sign of masked gradients"
    return Verdict(word, [why, *(f.sentence for f in findings if f.kind == "overstated" and f.holds)], findings)


def find(withstood: Withstood, chance: float) -> list[Finding]:
    """Every rule with its figure and its limit; a rule that needs another model's images is there if they are."""
    right = withstood.attacks
    pgd, fgsm, unbounded = right["pgd"], right["fgsm_true"], list(withstood.pgd_eps.values())[-1]
    findings = [
        _stronger("FGSM is stronger than PGD", fgsm, pgd),
        _stronger("uniform noise is stronger than PGD", right["noise_uniform"], pgd),
        _stronger("random signs are stronger than PGD", right["noise_sign"], pgd),
    ]
    for source, images in withstood.transfer.items():
        findings.append(_stronger(f"images made on {source} are stronger than PGD on the model itself", images, pgd))
    limit = chance + STANDARD_ERRORS * share_error(unbounded)
    findings.append(
        Finding("PGD does not bring accuracy down to chance at the largest eps", "masking", percent(unbounded), limit)
    )
    rises = [
        _stronger(f"PGD at eps {small:g} is stronger than at eps {large:g}", a, b)
        for (small, a), (large, b) in pairwise(withstood.pgd_eps.items())
    ]
    findings.append(max(rises, key=lambda rise: rise.figure - rise.limit))
    none = withstood.no_gradient
    limit = ZERO_IMAGES + STANDARD_ERRORS * share_error(none)
    findings.append(Finding("many images have no gradient at all", "masking", percent(none), limit))
    findings.append(_far("PGD on the margin is far stronger than on the cross-entropy", right["pgd_margin"], pgd))
    for rule, weak, strong in (
        ("FGSM overstates robustness: PGD is far stronger", fgsm, pgd),
        ("FGSM with the predicted label overstates robustness", right["fgsm_predicted"], fgsm),
        ("FGSM with smoothed labels overstates robustness", right["fgsm_smoothed"], fgsm),
    ):
        findings.append(_far(rule, strong, weak)._replace(kind="overstated"))
    more = list(withstood.pgd_steps.values())[-1]
    findings.append(
        _stronger("more steps make PGD stronger", more, withstood.pgd_steps[withstood.steps])._replace(
            kind="overstated"
        )
    )
    return findings


def _stronger(rule: str, strong: np.ndarray, weak: np.ndarray) -> Finding:
    """How many more images withstand the attack that should be the stronger one."""
    return Finding(rule, "masking", percent(weak) - percent(strong), STANDARD_ERRORS * difference_error(weak, strong))


def _far(rule: str, strong: np.ndarray, weak: np.ndarray) -> Finding:
    found = _stronger(rule, strong, weak)
    return found._replace(limit=max(found.limit, POINTS))

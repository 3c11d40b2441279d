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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from minidbp.training import percent

STANDARD_ERRORS = 3
MASKING, OVERSTATED = "masking", "overstated"
POINTS = 5.0  # honest attacks differ too: a smaller difference, in percent of the images, overstates nothing
HIDDEN = 3.0  # percent of the images: on models that hide nothing, attacks without the gradient break up to 1.5% more
ZERO_IMAGES = 1.0  # percent of the images may have a gradient that is zero everywhere
HALF = 50.0  # percent of the images, with a gradient that tells little: plain training alone can reach a third
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
    """What the rules need: of the same n images, which ones the model gets right, bool (n,) each.

    Attributes:
        right: clean; under noise_uniform, noise_sign, fgsm_true, pgd (cross-entropy) and pgd_margin of size eps; under
            pgd_half of half that size; under pgd_all, which may make any image of any other.
        strongest: after each attack of `robust.STRONGEST` and those before it.
        transfer: under images made on other models, by their names.
        no_gradient: no attack: which images have a gradient of exactly 0.
        flattened: the margin's gradient at FGSM's x + delta is far larger than at x, and points elsewhere.
        unexplained: the margin's gradient does not tell how the margin changes at a tenth of eps from x, or from
            x + delta, where that is so for more images.
        inconsistent: the model's answer depends on the other images of the batch, on chance, or on whether a graph
            is recorded.
        others: under further attacks, which count for the worst case alone.
    """

    right: Mapping[str, np.ndarray]
    strongest: Mapping[str, np.ndarray]
    transfer: Mapping[str, np.ndarray]
    no_gradient: np.ndarray
    flattened: np.ndarray
    unexplained: np.ndarray
    inconsistent: np.ndarray
    others: Sequence[np.ndarray] = ()

    @property
    def by_gradients(self) -> np.ndarray:
        """Which images withstand every attack that follows the model's own gradient."""
        names = "clean", "fgsm_true", "pgd", "pgd_margin", "pgd_half"
        return np.all([*(self.right[name] for name in names), self.strongest["apgd_dlr"]], axis=0)

    @property
    def by_all_kinds(self) -> np.ndarray:
        """Which images withstand these, noise, Square and the images made on other models."""
        noise = self.right["noise_uniform"], self.right["noise_sign"]
        return np.all([self.by_gradients, *noise, self.strongest["square"], *self.transfer.values()], axis=0)

    @property
    def worst_case(self) -> np.ndarray:
        """Which images withstand every attack."""
        return np.all([self.by_all_kinds, *self.others], axis=0)


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


def judge(evidence: Evidence, chance: float, more: Sequence[Finding] = ()) -> MaskingVerdict:
    """Apply the rules.

    chance: the accuracy of a guess, in percent.
    more: findings about weak attacks, which the verdict repeats; they do not change its word.
    """
    findings = [*apply_rules(evidence, chance), *more]
    holding = [(f.kind, f"{f.rule} ({f.figure:.1f}% of the images)") for f in findings if f.holds]
    signs = [sentence for kind, sentence in holding if kind == MASKING]
    clean, worst = percent(evidence.right["clean"]), percent(evidence.worst_case)
    left = f"{worst:.1f}% of the images withstand every attack"
    if clean <= _no_better_than(chance, evidence.right["clean"]):
        word, why = "not robust", f"the model guesses: {clean:.1f}% are right without any attack, {left}"
    elif signs:
        word, why = "masks", f"{'; '.join(signs)}: its gradients mislead attacks, and {left}"
    elif worst <= _no_better_than(chance, evidence.worst_case):
        word, why = "not robust", f"{left}, no more than a guess would get right"
    else:
        word = "robust" if worst >= ROBUST * clean else "partly robust"
        why = f"{left}, of {clean:.1f}% without attack, and there is no sign of masked gradients"
    return MaskingVerdict(word, [why, *(sentence for kind, sentence in holding if kind == "overstated")], findings)


def apply_rules(evidence: Evidence, chance: float) -> list[Finding]:
    """Every rule with its figure and its limit.

    Two rules are about the gradient at the images, and no attack fails under them. They are signs of masking only if
    the attacks with the gradient leave more than a guess: else the gradient does lead to adversarial images.
    """
    right, by_gradients = evidence.right, evidence.by_gradients
    pgd, margin, fgsm, signs = (right[name] for name in ("pgd", "pgd_margin", "fgsm_true", "noise_sign"))
    gradient_free = {
        "uniform noise is": right["noise_uniform"],
        "random signs are": signs,
        **{f"images made on {source} are": images for source, images in evidence.transfer.items()},
    }
    at_images = MASKING if percent(by_gradients) > _no_better_than(chance, by_gradients) else OVERSTATED
    return [
        stronger(
            "attacks without the model's gradient break images that withstand those with it",
            evidence.by_all_kinds, by_gradients, least=HIDDEN,
        ),
        *(
            stronger(f"{which} stronger than all attacks with the gradient", images, by_gradients)
            for which, images in gradient_free.items()
        ),
        stronger("FGSM is stronger than PGD", fgsm, pgd),
        stronger("PGD of half the size is stronger", right["pgd_half"], pgd),
        _more_than(chance, "PGD that may change every pixel leaves more than chance", right["pgd_all"]),
        _more_than(ZERO_IMAGES, "many images have no gradient at all", evidence.no_gradient),
        _more_than(0, "many answers depend on chance or on the batch", evidence.inconsistent),
        _more_than(HALF, "f is flat at most images and steep beside them", evidence.flattened, at_images),
        _more_than(HALF, "the gradient does not tell how the margin changes near most images", evidence.unexplained,
                   at_images),
        stronger("FGSM overstates robustness: PGD is far stronger", pgd, fgsm, OVERSTATED, POINTS),
        stronger("FGSM overstates robustness: random signs are far stronger", signs, fgsm, OVERSTATED, POINTS),
        stronger("the cross-entropy overstates robustness: PGD on the margin is far stronger", margin, pgd, OVERSTATED,
                 POINTS),
        stronger("PGD overstates robustness: the strongest attacks are far stronger", evidence.strongest["square"],
                 pgd & margin, OVERSTATED, POINTS),
    ]  # fmt: skip


def stronger(rule: str, strong: np.ndarray, weak: np.ndarray, kind: str = MASKING, least: float = 0.0) -> Finding:
    """How many more images withstand `weak` than `strong`; the limit is at least `least`."""
    limit = max(least, STANDARD_ERRORS * difference_error(weak, strong))
    return Finding(rule, kind, percent(weak) - percent(strong), limit)


def _more_than(share: float, rule: str, images: np.ndarray, kind: str = MASKING) -> Finding:
    return Finding(rule, kind, percent(images), _no_better_than(share, images))


def _no_better_than(share: float, right: np.ndarray) -> float:
    """The largest share that may be `share`, in percent, but for chance."""
    return share + STANDARD_ERRORS * share_error(right)

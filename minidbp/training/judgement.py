"""What a judge of trained models is, and what it says.  Sweeps are handed one; `minidbp.diagnosis` has the paper's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from minidbp.data import Dataset
from minidbp.files.reading import Amount, Percent, Range
from minidbp.robust.penalties import Model
from minidbp.training.evaluate import Tracked
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Workers

Cosine = Annotated[float, Range(-1.001, 1.001)]  # beyond 1 by the rounding of float32
ACCURACIES = ("clean", "fgsm", "pgd")
Report = Callable[[float, str], None]  # how much work was done since the last call, and the current phase


@dataclass(frozen=True)
class GradientFigures:
    """Means over images x and what FGSM makes of them, x + delta."""

    zero_gradients: Percent  # elements of the loss's gradient dL/dx that are exactly 0, in percent
    zero_gradient_images: Percent  # images whose whole dL/dx is exactly 0, in percent
    gradient_cosine: Cosine  # the cosine of dL/dx at x and at x + delta
    jacobian_l1: Amount  # the norm ||J||_1,1 at x
    jacobian_l1_adv: Amount  # the norm at x + delta
    same_prediction: Percent  # images with the same predicted class at x and x + delta, in percent


@dataclass(frozen=True)
class MaskingFigures(GradientFigures):
    """Figures that tell robustness from masked gradients, with accuracies in percent; and what they show."""

    noise: Percent  # under random signs, the worst of 10 draws for each image
    pgd_margin: Percent  # under PGD on the margin
    worst_case: Percent  # of images that withstand every attack of the judge
    word: str  # the verdict of `minidbp.diagnosis`: "robust", "partly robust", "not robust" or "masks"
    reasons: list[str]  # sentences without a capital and a full stop; the word's own first


@dataclass(frozen=True)
class AccuracyAt:
    """Accuracy in percent under attacks of size `eps`, all on the same images.

    The strongest attacks follow each other: each figure is of images that withstand that attack and those before it.
    """

    eps: float
    fgsm: Percent
    apgd_ce: Percent
    apgd_dlr: Percent
    square: Percent
    worst_case: Percent  # of images that withstand the strongest attacks and every other attack of this size


@dataclass(frozen=True)
class Judgement:
    """Test accuracy in percent: clean, under FGSM and under PGD; of each class (None without images); the diagnosis.

    by_eps: accuracy at each of the protocol's `attack_sizes`, in their order.
    """

    clean: Percent
    fgsm: Percent
    pgd: Percent
    by_eps: list[AccuracyAt]
    per_class: dict[str, list[Percent | None]]
    diagnosis: MaskingFigures

    def __post_init__(self) -> None:
        if self.per_class.keys() != set(ACCURACIES) or len({len(of) for of in self.per_class.values()}) != 1:
            raise ValueError(f"per_class must hold equally many numbers for each of {', '.join(ACCURACIES)}")

    def at(self, eps: float) -> AccuracyAt:
        """The accuracies under attacks of this size.  Raises ValueError if the model was not judged at it."""
        for accuracies in self.by_eps:
            if accuracies.eps == eps:
                return accuracies
        raise ValueError(f"the model was judged at eps {[a.eps for a in self.by_eps]}; got {eps:g}")


@dataclass(frozen=True)
class Judge:
    """Two functions of a module's top level, so that worker processes can unpickle a judge.

    Attributes:
        judge: Takes a model, the data, the protocol, the run's seed, the threads and a report.  It reports every
            forward pass of one image that it has done.  It raises DivergenceError for a model that no attack can
            follow.
        passes: Takes the protocol and the number of classes; returns how many forward passes `judge` reports in all.
        track: Takes the same as `judge`; says what a model does after an epoch.  It reports `track_passes` for each
            tracked image.
    """

    judge: Callable[[Model, Dataset, Protocol, int, Workers, Report], Judgement]
    passes: Callable[[Protocol, int], float]
    track: Callable[[Model, Dataset, Protocol, int, Workers, Report], Tracked]

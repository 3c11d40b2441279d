"""What a judge of trained models is, and what it says.  Sweeps are handed one; `minidbp.diagnosis` has the paper's."""

from collections.abc import Callable
from dataclasses import dataclass

from minidbp.data import Mnist
from minidbp.nn import N_CLASSES, Sequential
from minidbp.training.protocol import Protocol
from minidbp.training.workers import Workers

ACCURACIES = ("clean", "fgsm", "pgd")
Report = Callable[[float, str], None]  # how much work was done since the last call, and what goes on


@dataclass(frozen=True)
class GradientFigures:
    """Means over images x and what FGSM makes of them, x + delta.

    Attributes:
        zero_gradients: Elements of the loss's gradient dL/dx that are exactly 0, in percent.
        zero_gradient_images: Images whose whole dL/dx is exactly 0, in percent.
        gradient_cosine: The cosine of dL/dx at x and at x + delta.
        jacobian_l1: The norm `||J||_1,1` at x.
        jacobian_l1_adv: The norm at x + delta.
        same_prediction: Images with the same predicted class at x and x + delta, in percent.
    """

    zero_gradients: float
    zero_gradient_images: float
    gradient_cosine: float
    jacobian_l1: float
    jacobian_l1_adv: float
    same_prediction: float


@dataclass(frozen=True)
class MaskingFigures(GradientFigures):
    """Figures that tell robustness from masked gradients; accuracies in percent.

    Attributes:
        noise: Under random signs, the worst of 10 draws for each image.
        pgd_margin: Under PGD on the margin.
        worst_case: Of images that withstand every attack of the judge.
    """

    noise: float
    pgd_margin: float
    worst_case: float


@dataclass(frozen=True)
class Judgement:
    """Test accuracy in percent: clean, under FGSM and under PGD; of each class (None without images); the diagnosis."""

    clean: float
    fgsm: float
    pgd: float
    per_class: dict[str, list[float | None]]
    diagnosis: MaskingFigures

    def __post_init__(self) -> None:
        if {name: len(of_class) for name, of_class in self.per_class.items()} != dict.fromkeys(ACCURACIES, N_CLASSES):
            raise ValueError(f"per_class must hold {N_CLASSES} numbers for each of {', '.join(ACCURACIES)}")


@dataclass(frozen=True)
class Judge:
    """Two functions of a module's top level, so that worker processes can unpickle a judge.

    Attributes:
        judge: Takes a model, MNIST, the protocol, the run's seed, the threads and a report.  It reports every forward
            pass of one image that it has done.  It raises DivergenceError for a model that no attack can follow.
        passes: Takes the protocol; returns how many forward passes `judge` reports in all.
    """

    judge: Callable[[Sequential, Mnist, Protocol, int, Workers, Report], Judgement]
    passes: Callable[[Protocol], float]

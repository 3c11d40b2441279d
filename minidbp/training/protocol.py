"""The protocol: everything that decides a result, except the model, lambda and the seed."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from minidbp.nn import INITIALISERS
from minidbp.nn.models import PADDINGS
from minidbp.robust import PENALTIES, PENALTY_TARGETS, REDUCTIONS, Objective, fgsm, pgd, pgd_from
from minidbp.robust.penalties import Model

CHOICES = {
    "penalty": PENALTIES,
    "penalty_target": PENALTY_TARGETS,
    "reduction": REDUCTIONS,
    "padding": PADDINGS,
    "stop_rule": ("absolute", "signed", "none"),
    "keep": ("last", "best"),
    "initialiser": tuple(INITIALISERS),
    "training_attack": ("fgsm", "pgd"),
    "attack_label": ("true", "predicted", "smoothed"),
    "validation_split": ("random", "first", "last"),
}
# What a file with a protocol in it can rightly hold, and what the arithmetic of costs and bytes can bear.
MOST = {"label_smoothing": 1, "eps": 1, "small_eps": 1, "max_epochs": 10_000}  # pixels are in 0 to 1
MOST_OF_OTHERS = 10**9
MOST_SIZES = 16  # numbers in judged_eps


class FieldError(ValueError):
    """A field of the protocol, or another setting, has a value that makes no sense: its name, and the reason.

    The command line says the option in place of the name.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"{self.field} {self.reason}"


def check_choice(field: str, value: Any, choices: Collection[str]) -> None:
    """Raise FieldError unless `value` is one of the choices for a field."""
    if value not in choices:
        raise FieldError(field, f"must be one of {', '.join(choices)}; got {value!r}")


@dataclass(frozen=True)
class Protocol:
    """The paper's protocol, with Table 2's values as defaults. Raises ValueError for a value that makes no sense.

    The paper gives the fields of the first group. It does not give those of the second; docs/protocol.md argues for
    their defaults. The third group is ours: how much of the data is used, and the attacks beside the paper's FGSM, to
    judge and to train.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    label_smoothing: float = 0.1
    eps: float = 0.3  # of the attack, in pixel units
    n_validation: int = 5000
    min_epochs: int = 10
    max_epochs: int = 100
    stop_tolerance: float = 1e-4  # in validation accuracy, between two epochs
    adversarial_training: bool = False  # section 4.2: each image, and its adversarial image, in the batch

    penalty: str = "jacobian_l1"
    penalty_target: str = "logits"  # the f that the penalty differentiates
    reduction: str = "mean"  # over classes and pixels; over samples it is always the mean
    padding: str = "same_first"
    stop_rule: str = "absolute"  # "signed": stop unless accuracy rises by the tolerance; "none": train max_epochs
    keep: str = "last"  # which epoch's weights are judged
    batch_size: int = 128
    initialiser: str = "glorot_uniform"
    attack_label: str = "true"  # in FGSM and PGD; "smoothed": the true label with the training's smoothing
    clip: bool = True  # adversarial images to [0, 1]
    validation_split: str = "random"

    n_train: int = 55_000
    n_test: int = 10_000  # chosen at random by the run's seed; every attack gets the same images
    n_tracked: int = 1000  # of them, on which accuracy is measured after every epoch
    small_eps: float = 0.1  # tracked too, and shown beside eps: at 0.3 nothing here is robust
    judged_eps: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)  # FGSM and the strongest attacks, besides eps and small_eps
    pgd_steps: int = 40
    pgd_step: float = 0.01
    pgd_restarts: int = 1
    apgd_steps: int = 100  # of APGD, which is one of the strongest attacks, for each loss and restart
    apgd_restarts: int = 5
    square_queries: int = 5000  # of Square, another one
    reference_steps: int = 300  # of training the two models whose adversarial images are tried on the judged one
    training_attack: str = "fgsm"  # what makes the adversarial images of adversarial_training, of size eps
    training_attack_steps: int = 10  # of training_attack "pgd"
    training_attack_step: float = 0.03  # in pixel units

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise FieldError(field.name, f"must be a whole number of at least 1; got {value!r:.40}")
            if field.type is float and not 0 <= value < math.inf:
                raise FieldError(field.name, f"must be a number of at least 0; got {value!r:.40}")
            if field.type in (int, float) and value > (most := MOST.get(field.name, MOST_OF_OTHERS)):
                raise FieldError(field.name, f"must be at most {most}; got {value!r:.40}")
            if field.type is bool and not isinstance(value, bool):
                raise FieldError(field.name, f"must be True or False; got {value!r}")
            if field.type is float:
                object.__setattr__(self, field.name, float(value) + 0.0)  # so that equal protocols have one text
        for name in ("pgd_step", "training_attack_step"):
            if getattr(self, name) == 0:
                raise FieldError(name, "must be more than 0, or PGD would leave every image as it is; got 0")
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise FieldError(name, f"must be less than 1; got {getattr(self, name)}")
        sizes = self.judged_eps
        if not isinstance(sizes, tuple | list) or not all(isinstance(e, int | float) and 0 <= e <= 1 for e in sizes):
            raise FieldError("judged_eps", f"must be a tuple of numbers from 0 to 1; got {sizes!r:.80}")
        if len(sizes) > MOST_SIZES:
            raise FieldError("judged_eps", f"must hold at most {MOST_SIZES} numbers; got {len(sizes)}")
        object.__setattr__(self, "judged_eps", tuple(float(eps) + 0.0 for eps in sizes))
        if self.n_tracked > self.n_test:
            raise FieldError("n_tracked", f"must be at most {self.n_test}; got {self.n_tracked}")

    def check_sizes(self, n_train: int, n_test: int) -> None:
        """Raise FieldError if data with so many training and test images have too few for this protocol."""
        training = f"{n_train} training images"
        limits = {
            "n_validation": (n_train - 1, f"{training}, and at least one is trained on"),
            "n_train": (n_train - self.n_validation, f"{training}, {self.n_validation} of them for validation"),
            "n_test": (n_test, f"{n_test} test images"),
        }
        for name, (most, why) in limits.items():
            if getattr(self, name) > most:
                raise FieldError(name, f"must be at most {most}, as the data have {why}; got {getattr(self, name)}")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON gives them back: a tuple is a list."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def attack_sizes(self) -> list[float]:
        """Every eps at which a model is judged, from small to large."""
        return sorted({*self.judged_eps, self.small_eps, self.eps})

    def at(self, eps: float) -> "Protocol":
        """The same protocol with attacks of another size; PGD's step grows and shrinks with it."""
        step = self.pgd_step * eps / self.eps if self.eps > 0 and eps > 0 else self.pgd_step
        return replace(self, eps=eps, pgd_step=step)

    def objective(self, lam: float) -> Objective:
        """The loss that is trained, with this lambda."""
        return Objective(lam, self.penalty, self.penalty_target, self.reduction, self.label_smoothing)

    def fgsm(self, model: Model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The FGSM images of x (N, ...) with labels y (N,)."""
        return fgsm(model, x, y, self.eps, **self._attack_kwargs())

    def pgd(self, model: Model, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The PGD images of x (N, ...) with labels y (N,)."""
        restarts, kwargs = self.pgd_restarts, self._attack_kwargs()
        return pgd(model, x, y, self.eps, self.pgd_step, self.pgd_steps, restarts=restarts, seed=rng, **kwargs)

    def training_images(self, model: Model, x: np.ndarray, y: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The adversarial images of adversarial training; PGD begins at `start` (N, ...), FGSM at x itself."""
        if self.training_attack == "fgsm":
            return self.fgsm(model, x, y)
        step, steps = self.training_attack_step, self.training_attack_steps
        return pgd_from(model, x, y, self.eps, step, steps, start=start, **self._attack_kwargs())

    def _attack_kwargs(self) -> dict[str, Any]:
        """The arguments of all attacks that the paper does not give."""
        return {
            "clip": (0.0, 1.0) if self.clip else None,
            "label": "predicted" if self.attack_label == "predicted" else "true",
            "label_smoothing": self.label_smoothing if self.attack_label == "smoothed" else 0.0,
        }


def check_training_images(n_train: int) -> None:
    """Raise ValueError for fewer than two training images."""
    if n_train < 2:
        raise ValueError(f"there must be two training images at least, one of them for validation; got {n_train}")


def sizes_for(n_train: int, n_test: int, most_tested: int = 1000) -> dict[str, int]:
    """The protocol's sizes for data with so many training and test images; all are trained on but for validation.

    A twelfth, at most 5,000, are for validation: the paper's share.  At most `most_tested` test images are judged.

    Raises ValueError for fewer than two training images.
    """
    check_training_images(n_train)
    n_validation, tested = max(1, min(n_train // 12, 5000)), min(most_tested, n_test)
    return {
        "n_validation": n_validation, "n_train": n_train - n_validation, "n_test": tested,
        "n_tracked": min(1000, tested),
    }  # fmt: skip

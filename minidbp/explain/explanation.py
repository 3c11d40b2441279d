"""One training step on one image: every number of eq. 3 and its gradient, beside its finite difference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidbp.data import MNIST, DataIdentity
from minidbp.explain.comparisons import Comparison, compare_all, inactive_biases_lowered
from minidbp.explain.step import PROTOCOL, LayerGradients, Losses, Prediction, StepShare, TrainingStep, distance, gather
from minidbp.nn import Sequential
from minidbp.nn.losses import smoothed_labels
from minidbp.robust import fgsm
from minidbp.robust.penalties import check_lambda

PROGRESS_STEPS = 10  # how often `explain` calls `advance`
TRAINING_STEPS = {"A": 60, "B": 40, "C": 300}  # of 128 images: some seconds, and 9 of 10 digits are read


@dataclass(frozen=True, eq=False)
class Explanation:
    """One step by PROTOCOL. P is the penalty of that protocol: ||J||_1,1 / (c d), the mean of |J_ij|."""

    model: str
    image: int
    label: int
    lam: float
    at_x: Prediction
    at_x_adv: Prediction  # at clip(x + eps v)
    gradient: np.ndarray  # (H, W, C): g, of the attacked loss in x
    unclipped: float  # the rise of that loss at x + eps v
    J: np.ndarray  # (c, H, W, C)
    layers: list[LayerGradients]
    before: Losses
    shares: list[StepShare]
    lowered: Mapping[int, list[int]]  # by layer: inactive units exactly on ReLU's kink, lowered for the differences
    comparisons: Mapping[str, list[Comparison]]  # by section
    data: DataIdentity = MNIST

    @property
    def thing(self) -> str:
        """What to call the image: "digit" for MNIST, "image" for other data."""
        return "digit" if self.data == MNIST else "image"

    def named(self, label: int) -> str:
        """A class: "a 7" or "class 7"."""
        return f"a {label}" if self.data == MNIST else self.data.class_name(label)

    def answer(self, at: Prediction) -> str:
        """The predicted class: "7" or "class 7"."""
        return self.data.class_name(at.predicted)

    @property
    def count(self) -> str:
        """The number of classes for a sentence: "ten", or "3"."""
        return "ten" if len(self.J) == 10 else str(len(self.J))

    @property
    def v(self) -> np.ndarray:
        """(H, W, C): sign(g)."""
        return np.sign(self.gradient)

    @property
    def promised(self) -> float:
        """eps ||g||_1: the rise of the attacked loss by FGSM, to first order."""
        return PROTOCOL.eps * float(np.abs(self.gradient).sum())

    @property
    def clipped(self) -> float:
        """The rise of the attacked loss at x_adv."""
        return self.at_x_adv.attacked_loss - self.at_x.attacked_loss

    @property
    def S(self) -> np.ndarray:
        """(c, H, W, C): sign(J)."""
        return np.sign(self.J)

    @property
    def rows(self) -> np.ndarray:
        """(c,): ||J_i||_1, in logits per unit of pixel value."""
        return np.abs(self.J).sum(axis=(1, 2, 3))

    @property
    def penalty(self) -> float:
        """P."""
        return float(self.rows.sum()) / self.J.size

    @cached_property
    def agreements(self) -> dict[str, float]:
        """The relative errors of equalities that need no difference."""
        residual = self.at_x.probabilities - smoothed_labels([self.label], len(self.J))[0]
        losses, penalties, whole = (
            np.concatenate([a.ravel() for a in gather(self.layers, part)])
            for part in ("loss_part", "penalty_part", "whole")
        )
        return {
            "∇ₓ(−log p_y) = (p − y)ᵀ J": distance(self.gradient, np.tensordot(residual, self.J, axes=1)),
            **{f"d(λP)/dW{g.number} = λ/{self.J.size} Σₖ T{g.number - 1}[k] ⊗ V{g.number}[k]":
               distance(g.penalty_part, g.product) for g in self.layers},
            **{f"⟨W{g.number}, d(λP)/dW{g.number}⟩ = λP (Euler)": distance(self.before.weighted_penalty, g.euler)
               for g in self.layers},
            "dL/dW + d(λP)/dW = the gradient that train takes": distance(whole, losses + penalties),
        }  # fmt: skip

    @property
    def all_comparisons(self) -> list[Comparison]:
        return [c for cs in self.comparisons.values() for c in cs]

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest relative error."""
        return max(self.all_comparisons, key=lambda c: -1.0 if c.relative_error is None else c.relative_error)

    @property
    def kinked(self) -> list[Comparison]:
        """The comparisons without a difference, because the point lies on a kink."""
        return [c for c in self.all_comparisons if c.difference is None]


def explain(
    step: TrainingStep,
    name: str,
    image: int,
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
    data: DataIdentity = MNIST,
) -> Explanation:
    """Take the step apart, by PROTOCOL. The model must be float64; its parameters are the same afterwards.

    Args:
        name: of the model.
        image: the number of step.x in the test set.
        rng: draws the direction through all parameters at once.
        advance: is called PROGRESS_STEPS times.
        data: whose test image it is.

    Raises:
        TypeError: step.model is no Sequential, whose layers are taken one by one.
        ValueError: lambda is below 0 or not finite.
        ArithmeticError: the logits or J are not finite.
    """
    if not isinstance(step.model, Sequential):
        raise TypeError(
            f"explain takes a model apart layer by layer, so it needs a Sequential; got {type(step.model).__name__}"
        )
    check_lambda(step.lam)
    at_x = step.predict(step.x)
    g, J, layers = step.differentiate()
    if not (np.isfinite(at_x.logits).all() and np.isfinite(J).all()):
        raise ArithmeticError(f"the logits of model {name} on test image {image}, or their derivatives, are not finite")
    advance()
    comparisons: dict[str, list[Comparison]] = {}
    with inactive_biases_lowered(layers) as lowered:
        for section, of_section in compare_all(step, g, J, layers, rng):
            comparisons.setdefault(section, []).extend(of_section)
            advance()
    shares = step.adam_steps(gather(layers, "whole"))
    advance()
    return Explanation(
        model=name, image=image, label=int(step.y[0]), lam=step.lam,
        at_x=at_x, at_x_adv=step.predict(fgsm(step.model, step.x, step.y, PROTOCOL.eps)),
        gradient=g[0], unclipped=step.predict(step.x + PROTOCOL.eps * np.sign(g)).attacked_loss - at_x.attacked_loss,
        J=J, layers=layers, before=step.values(), shares=shares, lowered=lowered, comparisons=comparisons, data=data,
    )  # fmt: skip

"""Take one training step on one digit apart, with a finite difference beside each number of eq. 3 and its gradient.

For a ReLU network and one image x, the Jacobian J = df/dx is a product of weights and masks. Cut at layer l, it has
the norm

    ||J||_1,1 = sum_k <V_l[k], layer_l(T_(l-1)[k])>    (over the classes k, with layer_l without its bias).

V_l[k] = df_k/dz_l comes down from the logits, where z_l is the output of layer l before the ReLU. T_(l-1)[k] comes up
from S = sign(J): it is the derivative of layer l's input along S_k. So the penalty's gradient in W_l is the sum over
the classes of the outer products of T_(l-1)[k] and V_l[k]. Everything here is in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import Tensor, abs, grad
from minidbp.explain.comparisons import Comparison, compare_all, lower_inactive_biases
from minidbp.explain.step import (
    PROTOCOL,
    Arrays,
    LayerGradients,
    LossValues,
    Prediction,
    TrainingStep,
    WeightedLayer,
    distance,
    forward,
    outer_products,
    restored,
)
from minidbp.nn import N_CLASSES, cross_entropy
from minidbp.nn.losses import smoothed_labels
from minidbp.robust import fgsm
from minidbp.robust.penalties import check_lambda
from minidbp.training import Adam

PROGRESS_STEPS = 10  # how often `explain` calls `advance`
SHARES = (1.0, 0.1, 0.01, 0.001)  # of Adam's step
TRAINING_STEPS = {"A": 60, "B": 40, "C": 300}  # of 128 images: some seconds, and 9 of 10 digits are read


@dataclass(frozen=True)
class StepShare:
    """A share of Adam's first step, the change of the whole loss that the gradient promises, and the losses after."""

    share: float
    promised: float
    after: LossValues


@dataclass(frozen=True, eq=False)
class Explanation:
    """One step by PROTOCOL. P is the penalty of that protocol: ||J||_1,1 / (c d), the mean of |J_ij|."""

    model: str
    image: int
    label: int
    lam: float
    at_x: Prediction
    at_x_adv: Prediction  # at clip(x + eps v)
    gradient: np.ndarray  # (28, 28, 1): g, of the attacked loss in x
    unclipped: float  # the rise of that loss at x + eps v
    J: np.ndarray  # (10, 28, 28, 1)
    layers: list[LayerGradients]
    before: LossValues
    shares: list[StepShare]
    lowered: Mapping[int, list[int]]  # by layer: inactive units exactly on ReLU's kink, lowered for the differences
    comparisons: Mapping[str, list[Comparison]]  # by section
    agreements: Mapping[str, float]  # relative errors of equalities that need no difference

    @property
    def v(self) -> np.ndarray:
        """(28, 28, 1): sign(g)."""
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
        """(10, 28, 28, 1): sign(J)."""
        return np.sign(self.J)

    @property
    def rows(self) -> np.ndarray:
        """(10,): ||J_i||_1, in logits per unit of pixel value."""
        return np.abs(self.J).sum(axis=(1, 2, 3))

    @property
    def penalty(self) -> float:
        """P."""
        return float(self.rows.sum()) / self.J.size

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
    step: TrainingStep, name: str, image: int, rng: np.random.Generator, advance: Callable[[], None] = lambda: None
) -> Explanation:
    """Take the step apart, by PROTOCOL. The model must be float64; its parameters are the same afterwards.

    Args:
        name: of the model.
        image: the number of step.x in the test set.
        rng: draws the direction through all parameters at once.
        advance: is called PROGRESS_STEPS times.

    Raises:
        ValueError: lambda is below 0 or not finite.
        ArithmeticError: the logits or J are not finite.
    """
    check_lambda(step.lam)
    model, parameters = step.model, step.model.parameters()
    weighted = [layer for layer in model.layers if isinstance(layer, WeightedLayer)]

    # forward: the input and the output of each layer with weights; then the gradients of both losses
    inputs, outputs = forward(model.layers, Tensor(step.x, requires_grad=True, name="x"))
    logits = outputs[-1]
    g = grad(cross_entropy(logits, step.y), inputs[0])[0].data.reshape(step.x.shape)
    losses = [t.data for t in grad(cross_entropy(logits, step.y, PROTOCOL.label_smoothing), parameters)]

    # backward, recorded: the ten rows of J at once, and the cotangents on both sides of each layer
    V_L = Tensor(np.eye(N_CLASSES)[:, None, :], requires_grad=True)  # (c, N, c): the cotangents of the logits
    down = grad(logits, [*inputs, *outputs[:-1]], V_L, create_graph=True)
    at_inputs, at_outputs = down[: len(inputs)], [*down[len(inputs) :], V_L]
    if not (np.isfinite(logits.data).all() and np.isfinite(at_inputs[0].data).all()):
        raise ArithmeticError(f"the logits of model {name} on test image {image}, or their derivatives, are not finite")

    # backward of the backward: the derivative of ||J||_1,1 in those cotangents is the tangent pass, T_0 = sign(J)
    l1 = abs(at_inputs[0]).sum()
    V, T = ([t.data[:, 0] for t in ts] for ts in (at_outputs, grad(l1, at_inputs)))
    penalties = [step.scale * t.data for t in grad(l1, parameters)]
    whole = [t.data for t in grad(step.whole(), parameters)]
    layers = [
        LayerGradients(
            number=k + 1,
            layer=layer,
            weights=layer.w.data,
            V=V[k],
            T=T[k],
            product=step.scale * outer_products(layer, T[k], V[k]),
            loss_part=losses[2 * k],
            penalty_part=penalties[2 * k],
            whole=whole[2 * k],
            bias_loss_part=losses[2 * k + 1],
            bias_penalty_part=penalties[2 * k + 1],
        )
        for k, layer in enumerate(weighted)
    ]
    J = at_inputs[0].data.reshape(N_CLASSES, *step.x.shape[1:])  # a Flatten may come before layer 1
    advance()

    comparisons: dict[str, list[Comparison]] = {}
    with restored(parameters):
        lowered = lower_inactive_biases(step, layers)
        for section, found in compare_all(step, g, J, layers, rng):
            comparisons.setdefault(section, []).extend(found)
            advance()

    at_x, before = step.predict(step.x), step.values()
    shares = _adam_steps(step, whole)
    advance()
    residual = at_x.probabilities - smoothed_labels(step.y, N_CLASSES)[0]
    together = [np.concatenate([t.ravel() for t in ts]) for ts in (whole, map(np.add, losses, penalties))]
    agreements = {
        "∇ₓ(−log p_y) = (p − y)ᵀ J": distance(g[0], np.tensordot(residual, J, axes=1)),
        **{f"d(λP)/dW{p.number} = λ/7840 Σₖ T{p.number - 1}[k] ⊗ V{p.number}[k]": distance(p.penalty_part, p.product)
           for p in layers},
        **{f"⟨W{p.number}, d(λP)/dW{p.number}⟩ = λP (Euler)": distance(before.weighted_penalty, p.euler)
           for p in layers},
        "dL/dW + d(λP)/dW = the gradient that train takes": distance(*together),
    }  # fmt: skip
    return Explanation(
        model=name,
        image=image,
        label=int(step.y[0]),
        lam=step.lam,
        at_x=at_x,
        at_x_adv=step.predict(fgsm(model, step.x, step.y, PROTOCOL.eps)),
        gradient=g[0],
        unclipped=step.predict(step.x + PROTOCOL.eps * np.sign(g)).attacked_loss - at_x.attacked_loss,
        J=J,
        layers=layers,
        before=before,
        shares=shares,
        lowered=lowered,
        comparisons=comparisons,
        agreements=agreements,
    )


def _adam_steps(step: TrainingStep, gradient: Arrays) -> list[StepShare]:
    """Shares of Adam's first step along `gradient`; the promised change is <gradient, change of the parameters>."""
    parameters, p = step.model.parameters(), PROTOCOL
    with restored(parameters) as before:
        Adam(parameters, p.learning_rate, p.beta1, p.beta2, p.adam_eps).step(gradient)
        changes = [parameter.data - value for parameter, value in zip(parameters, before, strict=True)]
        promised = float(sum(np.sum(g * change) for g, change in zip(gradient, changes, strict=True)))
        shares = []
        for share in SHARES:
            for parameter, value, change in zip(parameters, before, changes, strict=True):
                parameter.data = value + share * change
            shares.append(StepShare(share, share * promised, step.values()))
    return shares

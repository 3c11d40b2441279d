"""One training step on one digit, taken apart: every number of eq. 3 and its gradient beside its finite difference.

For a ReLU network and one image x, J = df/dx is a product of weights and masks.  Cut at layer l it reads

    ||J||_1,1 = sum_k <V_l[k], layer_l(T_(l-1)[k])>    (each class k; layer_l without its bias),

where V_l[k] = df_k/dz_l comes down from the logits (z_l is what layer l returns, before the ReLU), and T_(l-1)[k], the
derivative of layer l's input along S_k, comes up from S = sign(J).  So the penalty's gradient in W_l is the sum over
the classes of the outer products of T_(l-1)[k] and V_l[k] (DESIGN, section 4).  Everything here is in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import Tensor, abs, grad
from minidbp.explain.checks import (
    Check,
    along,
    check_cotangents,
    check_everywhere,
    check_part,
    check_tangents,
    off_the_kink,
)
from minidbp.explain.step import (
    PROTOCOL,
    Arrays,
    Moment,
    Objective,
    Part,
    Step,
    distance,
    forward,
    kept,
    outer_products,
    relative,
)
from minidbp.nn import N_CLASSES, Sequential, cross_entropy
from minidbp.nn.losses import smoothed_labels
from minidbp.robust import fgsm
from minidbp.robust.objective import check_lambda
from minidbp.training import Adam

Done = Callable[[], None]

PIECES = 10  # how often `explain` says that it got on
SHARES = (1.0, 0.1, 0.01, 0.001)  # of Adam's step
TRAINING_STEPS = {"A": 60, "B": 40, "C": 300}  # of 128 images: some seconds, and 9 of 10 digits are read


@dataclass(frozen=True)
class Taken:
    """A share of Adam's first step: what the gradient promises for the whole loss, and what became of it."""

    share: float
    promised: float
    after: Objective


@dataclass(frozen=True, eq=False)
class Explanation:
    """All of one step, by PROTOCOL.  P is the penalty as that reads it: ||J||_1,1 / (c d), the mean of |J_ij|."""

    model: str
    image: int
    label: int
    lam: float
    at_x: Moment
    at_x_adv: Moment  # clip(x + eps v)
    gradient: np.ndarray  # (28, 28, 1): g, of the attacked loss in x
    v: np.ndarray  # (28, 28, 1): sign(g)
    promised: float  # eps ||g||_1, how much FGSM raises the loss to first order
    unclipped: float  # how much it does rise at x + eps v
    clipped: float  # and at x_adv
    J: np.ndarray  # (10, 28, 28, 1)
    parts: list[Part]
    before: Objective
    taken: list[Taken]  # Adam's first step, and smaller ones the same way
    lowered: Mapping[int, list[int]]  # by layer: units that sat on ReLU's kink, off; lowered for the checks alone
    checks: Mapping[str, list[Check]]  # by section
    agreements: Mapping[str, float]  # relative errors of what must be equal without any difference

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
    def worst(self) -> Check:
        """The check with the largest relative error."""
        return max((c for cs in self.checks.values() for c in cs if c.error is not None), key=lambda c: c.error or 0)

    @property
    def kinked(self) -> list[Check]:
        """The checks that have no difference, as the point lies on a kink."""
        return [c for cs in self.checks.values() for c in cs if c.difference is None]


def explain(
    model: Sequential,
    name: str,
    image: int,
    x: np.ndarray,
    label: int,
    lam: float,
    rng: np.random.Generator,
    done: Done = lambda: None,
) -> Explanation:
    """Take one step of model `name` on image x (28, 28, 1), the `image`-th of the test set, apart, by PROTOCOL.

    The model must be float64; it is as before afterwards.  rng draws the direction "through everything".  done() is
    called PIECES times.

    Raises ValueError for a lam below 0 or not finite, and ArithmeticError if the logits or J are not finite.
    """
    check_lambda(lam)
    step = Step(model, x.astype(np.float64)[None], np.array([label]), lam)
    parameters = model.parameters()

    # forward: every layer with weights, what it is given and what it returns; then both losses' gradients
    variable = Tensor(step.x, requires_grad=True, name="x")
    layers, given, returned = forward(model, variable)
    logits = returned[-1]
    (g,) = (t.data for t in grad(cross_entropy(logits, step.y), variable))
    losses = [t.data for t in grad(cross_entropy(logits, step.y, PROTOCOL.label_smoothing), parameters)]

    # backward, recorded: the ten rows of J at once, and the cotangents on both sides of every layer
    unit = Tensor(np.eye(N_CLASSES)[:, None, :], requires_grad=True)  # (c, N, c): V_L, the cotangents of the logits
    down = grad(logits, [*given, *returned[:-1]], unit, create_graph=True)
    at_inputs, V = down[: len(layers)], [*down[len(layers) :], unit]
    J = at_inputs[0]
    if not (np.isfinite(logits.data).all() and np.isfinite(J.data).all()):
        raise ArithmeticError(f"the logits of model {name} on test image {image}, or their derivatives, are not finite")

    # backward of the backward: the derivative of ||J||_1,1 in those cotangents is the tangent pass, T_0 = sign(J)
    l1 = abs(J).sum()
    T = grad(l1, at_inputs)
    penalties = [step.scale * t.data for t in grad(l1, parameters)]
    whole = [t.data for t in grad(step.whole(), parameters)]
    parts = [
        Part(
            number=k + 1,
            layer=repr(layer),
            weights=layer.w.data,
            V=V[k].data[:, 0],
            T=T[k].data[:, 0],
            loss_part=losses[2 * k],
            penalty_part=penalties[2 * k],
            product=step.scale * outer_products(layer, T[k].data[:, 0], V[k].data[:, 0]),
            whole=whole[2 * k],
            bias_loss_part=losses[2 * k + 1],
            bias_penalty_part=penalties[2 * k + 1],
        )
        for k, layer in enumerate(layers)
    ]
    done()

    rows, v = J.data.reshape(N_CLASSES, *x.shape), np.sign(g)  # a Flatten may come before layer 1
    with kept(parameters):
        lowered = off_the_kink(model, step.x)
        checks, slope = {}, float(np.abs(g).sum())
        checks["loss"] = [
            along("‖g‖₁: slope along v", slope, lambda ts: cross_entropy(model(ts[0]), step.y), [step.x], [v])
        ]
        done()
        checks["jacobian"], tangents = check_tangents(step, rows, parts)
        done()
        checks["passes"] = [*check_cotangents(model, returned, parts), *tangents]
        done()
        checks["weights"] = []
        for part, layer in zip(parts, layers, strict=True):
            checks["weights"] += check_part(step, part, layer)
            done()
        checks["everywhere"] = check_everywhere(step, losses, penalties, rng)
        done()

    at_x = step.moment(step.x)
    x_adv = fgsm(model, step.x, step.y, PROTOCOL.eps)
    at_x_adv = step.moment(x_adv)
    before = step.values()
    taken = _adam_steps(step, whole)
    done()
    residual = at_x.probabilities - smoothed_labels(step.y, N_CLASSES)[0]
    together = [np.concatenate([t.ravel() for t in ts]) for ts in (whole, map(np.add, losses, penalties))]
    agreements = {
        "∇ₓ(−log p_y) = (p − y)ᵀ J": distance(g[0], np.tensordot(residual, rows, axes=1)),
        **{f"d(λP)/dW{p.number} = λ/7840 Σₖ T{p.number - 1}[k] ⊗ V{p.number}[k]": distance(
            p.penalty_part, p.product) for p in parts},
        **{f"⟨W{p.number}, d(λP)/dW{p.number}⟩ = λP (Euler)": relative(before.weighted, p.euler)
           for p in parts},
        "dL/dW + d(λP)/dW = the gradient that train takes": distance(*together),
    }  # fmt: skip
    return Explanation(
        model=name,
        image=image,
        label=label,
        lam=lam,
        at_x=at_x,
        at_x_adv=at_x_adv,
        gradient=g[0],
        v=v[0],
        promised=PROTOCOL.eps * slope,
        unclipped=step.moment(step.x + PROTOCOL.eps * v).attacked_loss - at_x.attacked_loss,
        clipped=at_x_adv.attacked_loss - at_x.attacked_loss,
        J=rows,
        parts=parts,
        before=before,
        taken=taken,
        lowered=lowered,
        checks=checks,
        agreements=agreements,
    )


def _adam_steps(step: Step, whole: Arrays) -> list[Taken]:
    """Shares of Adam's first step along `whole`; what is promised is <whole, what the step adds>."""
    parameters, p = step.model.parameters(), PROTOCOL
    with kept(parameters) as before:
        Adam(parameters, p.learning_rate, p.beta1, p.beta2, p.adam_eps).step(whole)
        added = [parameter.data - value for parameter, value in zip(parameters, before, strict=True)]
        promised = float(sum(np.sum(g * a) for g, a in zip(whole, added, strict=True)))
        taken = []
        for share in SHARES:
            for parameter, value, a in zip(parameters, before, added, strict=True):
                parameter.data = value + share * a
            taken.append(Taken(share, share * promised, step.values()))
    return taken

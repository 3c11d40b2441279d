"""One training step on one digit, taken apart: every number of eq. 3 and its gradient beside its finite difference.

For a ReLU network and one image x, J = df/dx is a product of weights and masks.  Cut at layer l it reads

    ||J||_1,1 = sum_k <V_l[k], layer_l(T_(l-1)[k])>    (each class k; layer_l without its bias),

where V_l[k] = df_k/dz_l comes down from the logits (z_l is what layer l returns, before the ReLU), and T_(l-1)[k], the
derivative of layer l's input along S_k, comes up from S = sign(J).  So the penalty's gradient in W_l is the sum over
the classes of the outer products of T_(l-1)[k] and V_l[k] (DESIGN, section 4).  Everything here is in float64.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from minidbp.autodiff import NotDifferentiableError, Tensor, abs, conv2d_weight_grad, grad, no_grad, softmax
from minidbp.autodiff.differences import directional_difference
from minidbp.experiments.runs import Run
from minidbp.nn import N_CLASSES, Sequential, cross_entropy
from minidbp.nn.layers import Conv2d, Linear
from minidbp.nn.losses import smoothed_labels
from minidbp.robust import fgsm, jacobian_l1, penalised_loss
from minidbp.robust.objective import check_lambda
from minidbp.training import Adam, Protocol

Arrays = Sequence[np.ndarray]
Done = Callable[[], None]
Function = Callable[[list[Tensor]], Tensor]  # several Tensors to a scalar
Weighted = Linear | Conv2d

PIECES = 10  # how often `explain` says that it got on
PROTOCOL = Protocol()  # eq. 3 on logits, as a mean; label smoothing 0.1 in the loss, none in the attack; eps 0.3
SHARES = (1.0, 0.1, 0.01, 0.001)  # of Adam's step
LOWERED_BY = 0.1
TRAINING_STEPS = {"A": 60, "B": 40, "C": 300}  # of 128 images: some seconds, and 9 of 10 digits are read


@dataclass(frozen=True)
class Check:
    """A number by the engine and by differences; the latter is None, and `why` says why, where there is a kink.

    error: relative, of the number, or of the whole array that it is the norm of; None if there is no difference.
    step: the half width h of the difference, at which no mask and no sign had changed.
    """

    quantity: str
    engine: float
    difference: float | None = None
    error: float | None = None
    step: float | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """Layer l with what the two passes leave at it, and its dW in two parts, both as in the loss (lambda is in)."""

    number: int  # l = 1 ... L
    layer: str
    weights: np.ndarray  # W_l: (in, out) or (kh, kw, in, out)
    V: np.ndarray  # (c, *out): V_l[k] = df_k / dz_l
    T: np.ndarray  # (c, *in): T_(l-1)[k], the derivative of the layer's input along S_k
    loss_part: np.ndarray  # dL/dW_l
    penalty_part: np.ndarray  # d(lambda P)/dW_l, by the engine
    product: np.ndarray  # the same by hand: lambda / (c d) sum_k T_(l-1)[k] x V_l[k]
    whole: np.ndarray  # the gradient that `minidbp train` takes
    bias_loss_part: np.ndarray  # dL/db_l
    bias_penalty_part: np.ndarray  # d(lambda P)/db_l: zeros, as no bias is in J

    @property
    def cosine(self) -> float | None:
        """Of the angle between the two parts of dW_l; None if one of them is 0."""
        norms = norm(self.loss_part) * norm(self.penalty_part)
        return float(np.sum(self.loss_part * self.penalty_part) / norms) if norms else None

    @property
    def euler(self) -> float:
        """sum of W_l * d(lambda P)/dW_l: as J is linear in each W_l, that is lambda P itself, for every l (Euler)."""
        return float(np.sum(self.weights * self.penalty_part))


@dataclass(frozen=True, eq=False)
class Moment:
    """What the model says at an image, and the loss that FGSM raises there: -log p_y."""

    x: np.ndarray  # (28, 28, 1)
    logits: np.ndarray  # (10,)
    probabilities: np.ndarray  # (10,)
    attacked_loss: float

    @property
    def predicted(self) -> int:
        return int(np.argmax(self.logits))


@dataclass(frozen=True)
class Objective:
    """Eq. 3 on the image: whole = loss + weighted, where weighted is lambda P."""

    whole: float
    loss: float
    weighted: float


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


def training(model: str, seed: int) -> Run:
    """The short plain training (lambda 0) that makes a model with something to see, where no weights are given.

    Raises ValueError for an unknown model or a negative seed.
    """
    images = TRAINING_STEPS.get(model, 1) * PROTOCOL.batch_size
    return Run(model, 0.0, seed, replace(PROTOCOL, n_train=images, max_epochs=1, stop_rule="none", n_validation=1000))


def in_float64(model: Sequential) -> Sequential:
    """A copy of the model in float64: differences need the digits."""
    layers = [copy.copy(layer) for layer in model.layers]
    for layer in layers:
        if isinstance(layer, (Linear, Conv2d)):
            layer.w, layer.b = (Tensor(p.data.astype(np.float64), requires_grad=True) for p in layer.parameters())
    return Sequential(layers, model.input_shape)


class _Step:
    """Eq. 3 for one model, image and lambda, as functions of whatever values the parameters have now."""

    def __init__(self, model: Sequential, x: np.ndarray, y: np.ndarray, lam: float) -> None:
        self.model, self.x, self.y, self.lam = model, x, y, lam
        self.scale = lam / (N_CLASSES * x.size)  # of ||J||_1,1 in the loss

    def loss(self) -> Tensor:
        return cross_entropy(self.model(self.x), self.y, PROTOCOL.label_smoothing)

    def penalty(self) -> Tensor:
        return jacobian_l1(self.model, self.x) * self.scale

    def whole(self) -> Tensor:
        return penalised_loss(
            self.model, self.x, self.y, self.lam, PROTOCOL.penalty, PROTOCOL.penalised, PROTOCOL.reduction,
            PROTOCOL.label_smoothing,
        ).loss  # fmt: skip

    def values(self) -> Objective:
        with no_grad():
            return Objective(self.whole().item(), self.loss().item(), self.penalty().item())

    def moment(self, x: np.ndarray) -> Moment:
        with no_grad():
            logits = self.model(x)
            return Moment(x[0], logits.data[0], softmax(logits).data[0], cross_entropy(logits, self.y).item())


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
    step = _Step(model, x.astype(np.float64)[None], np.array([label]), lam)
    parameters = model.parameters()

    # forward: every layer with weights, what it is given and what it returns; then both losses' gradients
    variable = Tensor(step.x, requires_grad=True, name="x")
    layers, given, returned = _forward(model, variable)
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
    with _kept(parameters):
        lowered = _off_the_kink(model, step.x)
        checks, slope = {}, float(np.abs(g).sum())
        checks["loss"] = [
            along("‖g‖₁: slope along v", slope, lambda ts: cross_entropy(model(ts[0]), step.y), [step.x], [v])
        ]
        done()
        checks["jacobian"], tangents = _check_tangents(step, rows, parts)
        done()
        checks["passes"] = [*_check_cotangents(model, returned, parts), *tangents]
        done()
        checks["weights"] = []
        for part, layer in zip(parts, layers, strict=True):
            checks["weights"] += _check_part(step, part, layer)
            done()
        checks["everywhere"] = _check_everywhere(step, losses, penalties, rng)
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


def outer_products(layer: Weighted, T: np.ndarray, V: np.ndarray) -> np.ndarray:
    """sum_k T[k] x V[k], as the layer uses its weights: T (c, *in) and V (c, *out) to the shape of W.

    For a convolution every place of the filter adds its outer product: that is conv's adjoint in the filter.
    """
    if isinstance(layer, Linear):
        return T.T @ V
    kh, kw = layer.w.shape[:2]
    return conv2d_weight_grad(T, V, (kh, kw), layer.stride, layer.padding).data


def along(quantity: str, engine: float, f: Function, at: Arrays, direction: Arrays) -> Check:
    """The check of a slope: of the scalar f at `at`, along `direction`."""
    try:
        found = directional_difference(lambda ts: [f(ts)], at, direction)
    except NotDifferentiableError as error:
        return Check(quantity, engine, why=str(error))
    value = float(found.values[0])
    return Check(quantity, engine, value, relative(engine, value), found.step)


def norm(a: np.ndarray) -> float:
    """Euclid's, of an array of any shape."""
    return float(np.linalg.norm(a.ravel()))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / ||a||; 0 if both are 0."""
    apart = norm(a - b)
    return apart / (norm(a) or norm(b)) if apart else 0.0


def relative(a: float, b: float) -> float:
    """|a - b| / |a|; 0 if both are 0."""
    return math.fabs(a - b) / math.fabs(a or b) if a != b else 0.0


def _unit(a: np.ndarray) -> np.ndarray:
    return a / (norm(a) or 1.0)


def _forward(model: Sequential, x: Tensor) -> tuple[list[Weighted], list[Tensor], list[Tensor]]:
    """The layers with weights, and of each the input h_(l-1) (h_0 is x) and the output z_l, all in one graph."""
    layers: list[Weighted] = []
    given, returned = [], []
    h = x
    for layer in model.layers:
        if isinstance(layer, (Linear, Conv2d)):
            layers.append(layer)
            given.append(h)
            returned.append(h := layer(h))
        else:
            h = layer(h)
    return layers, given, returned


def _off_the_kink(model: Sequential, x: np.ndarray) -> dict[int, list[int]]:
    """Lower the biases of units that are nowhere on at x and somewhere exactly 0: which ones, by layer.

    A filter that never was on still has the bias 0, and where the image is black it returns exactly that, so that no
    difference in x or b exists.  Lower, it is as off as before: ReLU'(0) is 0 here, so no number changes but the bias.
    """
    lowered = {}
    with no_grad():
        layers, _, returned = _forward(model, Tensor(x))
    for number, (layer, z) in enumerate(zip(layers[:-1], returned[:-1], strict=True), start=1):
        places = z.data.reshape(-1, z.shape[-1])
        on_the_kink = (places.max(axis=0) == 0).nonzero()[0]
        if on_the_kink.size:
            b = layer.b.data.copy()
            b[on_the_kink] -= LOWERED_BY
            layer.b.data = b
            lowered[number] = on_the_kink.tolist()
    return lowered


def _check_tangents(step: _Step, J: np.ndarray, parts: Sequence[Part]) -> tuple[list[Check], list[Check]]:
    """Ten copies of the image, copy k moved along S_k: the slope of f_k is ||J_k||_1, those of the inputs are T[k]."""
    named = [(f"‖J{_index(k)}‖₁: slope of f{_index(k)} along S{_index(k)}", float(np.abs(row).sum()))
             for k, row in enumerate(J)]  # fmt: skip
    tangents = [(f"‖T{part.number - 1}‖: up from S", part.T) for part in parts[1:]]
    P = "P = Σᵢ ‖Jᵢ‖₁ / 7840", float(np.abs(J).mean())

    def everything(ts: list[Tensor]) -> list[Tensor]:
        _, given, returned = _forward(step.model, ts[0])
        return [*given[1:], returned[-1]]

    try:
        found = directional_difference(everything, [np.repeat(step.x, N_CLASSES, axis=0)], [np.sign(J)])
    except NotDifferentiableError as error:
        rows = [Check(name, value, why=str(error)) for name, value in [*named, P]]
        return rows, [Check(name, norm(T), why=str(error)) for name, T in tangents]
    slopes = np.diag(found.values[-1])
    values = [*map(float, slopes), float(slopes.sum()) / J.size]
    rows = [
        Check(name, engine, value, relative(engine, value), found.step)
        for (name, engine), value in zip([*named, P], values, strict=True)
    ]
    return rows, [
        Check(name, norm(T), norm(value), distance(T, value), found.step)
        for (name, T), value in zip(tangents, found.values[:-1], strict=True)
    ]


def _check_cotangents(model: Sequential, returned: Sequence[Tensor], parts: Sequence[Part]) -> list[Check]:
    """Ten copies of z_l, copy k moved along V_l[k] / ||V_l||: the slopes of f_k add up to ||V_l||."""
    places = [i for i, layer in enumerate(model.layers) if layer.parameters()]
    checks = []
    for part, z, place in zip(parts[:-1], returned[:-1], places[:-1], strict=True):

        def own_logits(ts: list[Tensor], place: int = place) -> Tensor:
            h = ts[0]
            for layer in model.layers[place + 1 :]:
                h = layer(h)
            return (h * np.eye(N_CLASSES)).sum()

        copies = np.repeat(z.data, N_CLASSES, axis=0)
        name = f"‖V{part.number}‖: down from the logits"
        checks.append(along(name, norm(part.V), own_logits, [copies], [_unit(part.V)]))
    return checks


def _check_part(step: _Step, part: Part, layer: Weighted) -> list[Check]:
    """The slope along a gradient of length 1 is that gradient's norm; lambda P also along the loss's gradient."""
    n, W, b = part.number, layer.w, layer.b
    plain, penal, bias = _unit(part.loss_part), _unit(part.penalty_part), _unit(part.bias_loss_part)
    slopes = [
        (f"‖dL/dW{n}‖", part.loss_part, step.loss, W, plain),
        (f"‖d(λP)/dW{n}‖", part.penalty_part, step.penalty, W, penal),
        (f"‖dW{n}‖, both together", part.whole, step.whole, W, _unit(part.whole)),
        (f"slope of λP along dL/dW{n}", part.penalty_part, step.penalty, W, plain),
        (f"‖dL/db{n}‖", part.bias_loss_part, step.loss, b, bias),
        (f"slope of λP along dL/db{n}", part.bias_penalty_part, step.penalty, b, bias),
    ]
    return [
        along(name, float(np.sum(gradient * direction)), _with_values([p], f), [p.data], [direction])
        for name, gradient, f, p, direction in slopes
    ]


def _check_everywhere(step: _Step, losses: Arrays, penalties: Arrays, rng: np.random.Generator) -> list[Check]:
    """The slopes along one random direction of length 1 through all weights and biases at once."""
    parameters = step.model.parameters()
    drawn = [rng.standard_normal(p.shape) for p in parameters]
    length = math.sqrt(sum(norm(r) ** 2 for r in drawn))
    direction = [r / length for r in drawn]
    of_loss, of_penalty = (
        float(sum(np.sum(g * r) for g, r in zip(gradients, direction, strict=True)))
        for gradients in (losses, penalties)
    )
    here = [p.data for p in parameters]
    return [
        along(f"slope of {name}, random direction", value, _with_values(parameters, f), here, direction)
        for name, value, f in (
            ("L", of_loss, step.loss),
            ("λP", of_penalty, step.penalty),
            ("L + λP", of_loss + of_penalty, step.whole),
        )
    ]


def _with_values(parameters: Sequence[Tensor], f: Callable[[], Tensor]) -> Function:
    """f as a function of the parameters' values; their own are put back afterwards."""

    def there(ts: list[Tensor]) -> Tensor:
        with _kept(parameters):
            for p, t in zip(parameters, ts, strict=True):
                p.data = t.data
            return f()

    return there


@contextmanager
def _kept(parameters: Sequence[Tensor]) -> Iterator[list[np.ndarray]]:
    """The parameters' values, which they have again after the block."""
    values = [p.data for p in parameters]
    try:
        yield values
    finally:
        for p, value in zip(parameters, values, strict=True):
            p.adopt(value)


def _adam_steps(step: _Step, whole: Arrays) -> list[Taken]:
    """Shares of Adam's first step along `whole`; what is promised is <whole, what the step adds>."""
    parameters, p = step.model.parameters(), PROTOCOL
    with _kept(parameters) as before:
        Adam(parameters, p.learning_rate, p.beta1, p.beta2, p.adam_eps).step(whole)
        added = [parameter.data - value for parameter, value in zip(parameters, before, strict=True)]
        promised = float(sum(np.sum(g * a) for g, a in zip(whole, added, strict=True)))
        taken = []
        for share in SHARES:
            for parameter, value, a in zip(parameters, before, added, strict=True):
                parameter.data = value + share * a
            taken.append(Taken(share, share * promised, step.values()))
    return taken


def _index(k: int) -> str:
    return "₀₁₂₃₄₅₆₇₈₉"[k]

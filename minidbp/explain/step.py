"""A training step on one image: the loss of eq. 3, its gradient in two parts, and the two passes behind the second.

For a ReLU network and one image x, the Jacobian J = df/dx is a product of weights and masks. Cut at layer l, it has
the norm

    ||J||_1,1 = sum_k <V_l[k], layer_l(T_(l-1)[k])>    (over the classes k, with layer_l without its bias).

V_l[k] = df_k/dz_l comes down from the logits, where z_l is the output of layer l before the ReLU. T_(l-1)[k] comes up
from S = sign(J): it is the derivative of layer l's input along S_k. So the penalty's gradient in W_l is the sum over
the classes of the outer products of T_(l-1)[k] and V_l[k]. Everything here is in float64.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, abs, conv2d_weight_grad, grad, no_grad, softmax
from minidbp.nn import Sequential, cross_entropy
from minidbp.nn.layer import Layer
from minidbp.nn.layers import Conv2d, Linear
from minidbp.robust import jacobian_l1
from minidbp.training import Adam, Protocol

Arrays = Sequence[np.ndarray]
WeightedLayer = Linear | Conv2d

PROTOCOL = Protocol()  # Table 2's: the penalty is a mean over logits, labels are smoothed in the loss, eps is 0.3
SHARES = (1.0, 0.1, 0.01, 0.001)  # of Adam's step


@dataclass(frozen=True, eq=False)
class Prediction:
    """The model's answer for one image, and the loss -log p_y that FGSM raises there."""

    x: np.ndarray  # (H, W, C)
    logits: np.ndarray  # (c,)
    probabilities: np.ndarray  # (c,)
    attacked_loss: float

    @property
    def predicted(self) -> int:
        return int(np.argmax(self.logits))


@dataclass(frozen=True)
class Losses:
    """Eq. 3 on one image: whole = loss + weighted_penalty, which is L + lambda P."""

    whole: float
    loss: float
    weighted_penalty: float


@dataclass(frozen=True)
class StepShare:
    """A share of Adam's first step, the change of the whole loss that the gradient promises, and the losses after."""

    share: float
    promised: float
    after: Losses


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """Layer l, the results of the two passes at it, and the two parts of its gradients; lambda is included."""

    number: int  # l = 1 ... L
    layer: WeightedLayer
    weights: np.ndarray  # W_l: (in, out) or (kh, kw, in, out)
    z: np.ndarray  # (1, *out): the output
    V: np.ndarray  # (c, *out): V_l[k] = df_k / dz_l
    T: np.ndarray  # (c, *in): T_(l-1)[k], the derivative of the layer's input along S_k
    loss_part: np.ndarray  # dL/dW_l
    penalty_part: np.ndarray  # d(lambda P)/dW_l, by the engine
    product: np.ndarray  # the same by hand: lambda / (c d) sum_k T_(l-1)[k] x V_l[k]
    whole: np.ndarray  # the gradient that `minidbp train` uses
    bias_loss_part: np.ndarray  # dL/db_l
    bias_penalty_part: np.ndarray  # d(lambda P)/db_l: zeros, as J does not depend on the biases
    bias_whole: np.ndarray

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between the two parts of dW_l; None if one of them is 0."""
        norms = norm(self.loss_part) * norm(self.penalty_part)
        return float(np.sum(self.loss_part * self.penalty_part) / norms) if norms else None

    @property
    def euler(self) -> float:
        """The sum of `W_l * d(lambda P)/dW_l`. J is linear in each W_l, so by Euler's theorem this is lambda P."""
        return float(np.sum(self.weights * self.penalty_part))


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """Eq. 3 for one model, one image x (1, H, W, C) with label y (1,), and lambda, at the parameters' values."""

    model: Sequential
    x: np.ndarray
    y: np.ndarray
    lam: float

    @cached_property
    def n_classes(self) -> int:
        """The number c of logits."""
        with no_grad():
            return self.model(self.x).shape[1]

    @property
    def scale(self) -> float:
        """The factor of ||J||_1,1 in the loss."""
        return self.lam / (self.n_classes * self.x.size)

    def loss(self) -> Tensor:
        return cross_entropy(self.model(self.x), self.y, PROTOCOL.label_smoothing)

    def weighted_penalty(self) -> Tensor:
        return jacobian_l1(self.model, self.x) * self.scale

    def whole(self) -> Tensor:
        return PROTOCOL.objective(self.lam)(self.model, self.x, self.y).total

    def values(self) -> Losses:
        with no_grad():
            return Losses(self.whole().item(), self.loss().item(), self.weighted_penalty().item())

    def predict(self, x: np.ndarray) -> Prediction:
        with no_grad():
            logits = self.model(x)
            return Prediction(x[0], logits.data[0], softmax(logits).data[0], cross_entropy(logits, self.y).item())

    def differentiate(self) -> tuple[np.ndarray, np.ndarray, list[LayerGradients]]:
        """The attacked loss's gradient g in x, J (c, H, W, C), and the gradients of each layer with weights."""
        model, parameters = self.model, self.model.parameters()

        # forward: the input and the output of each layer with weights; then the gradients of both losses
        inputs, outputs = forward(model.layers, Tensor(self.x, requires_grad=True, name="x"))
        (g,) = grad(cross_entropy(outputs[-1], self.y), inputs[0])
        losses = grad(cross_entropy(outputs[-1], self.y, PROTOCOL.label_smoothing), parameters)

        # backward, recorded: the c rows of J at once, and the cotangents on both sides of each layer
        V_L = Tensor(np.eye(self.n_classes)[:, None, :], requires_grad=True)  # (c, N, c): the cotangents of the logits
        down = grad(outputs[-1], [*inputs, *outputs[:-1]], V_L, create_graph=True)
        at_inputs, at_outputs = down[: len(inputs)], [*down[len(inputs) :], V_L]
        J = at_inputs[0]

        # backward of the backward: the derivative of ||J||_1,1 in those cotangents is the tangent pass, T_0 = sign(J)
        l1 = abs(J).sum()
        V, T = ([t.data[:, 0] for t in ts] for ts in (at_outputs, grad(l1, at_inputs)))
        penalties = [self.scale * t.data for t in grad(l1, parameters)]
        whole = grad(self.whole(), parameters)
        weighted = (layer for layer in model.layers if isinstance(layer, WeightedLayer))
        layers = [
            LayerGradients(
                number=k + 1, layer=layer, weights=layer.w.data, z=outputs[k].data, V=V[k], T=T[k],
                product=self.scale * outer_products(layer, T[k], V[k]),
                loss_part=losses[2 * k].data, penalty_part=penalties[2 * k], whole=whole[2 * k].data,
                bias_loss_part=losses[2 * k + 1].data, bias_penalty_part=penalties[2 * k + 1],
                bias_whole=whole[2 * k + 1].data,
            )
            for k, layer in enumerate(weighted)
        ]  # fmt: skip
        shape = self.x.shape  # which a Flatten before layer 1 has changed
        return g.data.reshape(shape), J.data.reshape(self.n_classes, *shape[1:]), layers

    def adam_steps(self, gradient: Arrays) -> list[StepShare]:
        """Shares of Adam's first step along `gradient`; the promised change is <gradient, change of the parameters>."""
        parameters, p = self.model.parameters(), PROTOCOL
        with restored(parameters) as before:
            Adam(parameters, p.learning_rate, p.beta1, p.beta2, p.adam_eps).step(gradient)
            changes = [parameter.data - value for parameter, value in zip(parameters, before, strict=True)]
            promised = float(sum(np.sum(g * change) for g, change in zip(gradient, changes, strict=True)))
            shares = []
            for share in SHARES:
                for parameter, value, change in zip(parameters, before, changes, strict=True):
                    parameter.data = value + share * change
                shares.append(StepShare(share, share * promised, self.values()))
        return shares


def forward(layers: Sequence[Layer], h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The input h_(l-1) and the output z_l of each layer with weights, in one graph."""
    inputs, outputs = [], []
    for layer in layers:
        before, h = h, layer(h)
        if isinstance(layer, WeightedLayer):
            inputs.append(before)
            outputs.append(h)
    return inputs, outputs


def outer_products(layer: WeightedLayer, T: np.ndarray, V: np.ndarray) -> np.ndarray:
    """sum_k T[k] x V[k], for T (c, *in) and V (c, *out), in the shape of W; a filter's positions add theirs up."""
    if isinstance(layer, Linear):
        return T.T @ V
    kh, kw = layer.w.shape[:2]
    return conv2d_weight_grad(T, V, (kh, kw), layer.stride, layer.padding).data


def gather(layers: Sequence[LayerGradients], part: str) -> list[np.ndarray]:
    """The "loss_part", the "penalty_part" or the "whole" of the gradient, parameter by parameter."""
    return [getattr(g, prefix + part) for g in layers for prefix in ("", "bias_")]


@contextmanager
def restored(parameters: Sequence[Tensor]) -> Iterator[list[np.ndarray]]:
    """Give the parameters' values to the block, and put them back after it."""
    values = [p.data for p in parameters]
    try:
        yield values
    finally:
        for p, value in zip(parameters, values, strict=True):
            p.data = value


def norm(a: np.ndarray) -> float:
    """The Euclidean norm of an array of any shape."""
    return float(np.linalg.norm(a.ravel()))


def distance(a: ArrayLike, b: ArrayLike) -> float:
    """||a - b|| / ||a|| of arrays or numbers; ||b|| divides if a is 0, and the distance of two zeros is 0."""
    a, b = np.asarray(a), np.asarray(b)
    difference = norm(a - b)
    return difference / (norm(a) or norm(b)) if difference else 0.0

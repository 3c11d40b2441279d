"""The parts of a training step on one image: the loss of eq. 3, each layer's gradients, and the layers' values."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, conv2d_weight_grad, no_grad, softmax
from minidbp.nn import N_CLASSES, Sequential, cross_entropy
from minidbp.nn.layers import Conv2d, Layer, Linear
from minidbp.robust import jacobian_l1
from minidbp.training import Protocol

Arrays = Sequence[np.ndarray]
WeightedLayer = Linear | Conv2d

PROTOCOL = Protocol()  # Table 2's: the penalty is a mean over logits, labels are smoothed in the loss, eps is 0.3


@dataclass(frozen=True, eq=False)
class Prediction:
    """The model's answer for one image, and the loss -log p_y that FGSM raises there."""

    x: np.ndarray  # (28, 28, 1)
    logits: np.ndarray  # (10,)
    probabilities: np.ndarray  # (10,)
    attacked_loss: float

    @property
    def predicted(self) -> int:
        return int(np.argmax(self.logits))


@dataclass(frozen=True)
class LossValues:
    """Eq. 3 on one image: whole = loss + weighted_penalty, which is L + lambda P."""

    whole: float
    loss: float
    weighted_penalty: float


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """Layer l, the results of the two passes at it, and the two parts of its gradients; lambda is included."""

    number: int  # l = 1 ... L
    layer: WeightedLayer
    weights: np.ndarray  # W_l: (in, out) or (kh, kw, in, out)
    V: np.ndarray  # (c, *out): V_l[k] = df_k / dz_l
    T: np.ndarray  # (c, *in): T_(l-1)[k], the derivative of the layer's input along S_k
    loss_part: np.ndarray  # dL/dW_l
    penalty_part: np.ndarray  # d(lambda P)/dW_l, by the engine
    product: np.ndarray  # the same by hand: lambda / (c d) sum_k T_(l-1)[k] x V_l[k]
    whole: np.ndarray  # the gradient that `minidbp train` uses
    bias_loss_part: np.ndarray  # dL/db_l
    bias_penalty_part: np.ndarray  # d(lambda P)/db_l: zeros, as J does not depend on the biases

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
    """Eq. 3 for one model, one image x (1, 28, 28, 1) with label y (1,), and lambda, at the parameters' values."""

    model: Sequential
    x: np.ndarray
    y: np.ndarray
    lam: float

    @functools.cached_property
    def scale(self) -> float:
        """The factor of ||J||_1,1 in the loss."""
        return self.lam / (N_CLASSES * self.x.size)

    def loss(self) -> Tensor:
        return cross_entropy(self.model(self.x), self.y, PROTOCOL.label_smoothing)

    def weighted_penalty(self) -> Tensor:
        return jacobian_l1(self.model, self.x) * self.scale

    def whole(self) -> Tensor:
        return PROTOCOL.objective(self.lam)(self.model, self.x, self.y).total

    def values(self) -> LossValues:
        with no_grad():
            return LossValues(self.whole().item(), self.loss().item(), self.weighted_penalty().item())

    def predict(self, x: np.ndarray) -> Prediction:
        with no_grad():
            logits = self.model(x)
            return Prediction(x[0], logits.data[0], softmax(logits).data[0], cross_entropy(logits, self.y).item())


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

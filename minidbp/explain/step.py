"""What a step on one image is made of: eq. 3, the layers with weights, each dW in two parts, the outer products."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from minidbp.autodiff import Tensor, conv2d_weight_grad, no_grad, softmax
from minidbp.nn import N_CLASSES, Sequential, cross_entropy
from minidbp.nn.layers import Conv2d, Linear
from minidbp.robust import jacobian_l1, penalised_loss
from minidbp.training import Protocol

Arrays = Sequence[np.ndarray]
Weighted = Linear | Conv2d

PROTOCOL = Protocol()  # eq. 3 on logits, as a mean; label smoothing 0.1 in the loss, none in the attack; eps 0.3


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


class Step:
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
            self.model, self.x, self.y, self.lam, PROTOCOL.penalty, PROTOCOL.penalty_target, PROTOCOL.reduction,
            PROTOCOL.label_smoothing,
        ).loss  # fmt: skip

    def values(self) -> Objective:
        with no_grad():
            return Objective(self.whole().item(), self.loss().item(), self.penalty().item())

    def moment(self, x: np.ndarray) -> Moment:
        with no_grad():
            logits = self.model(x)
            return Moment(x[0], logits.data[0], softmax(logits).data[0], cross_entropy(logits, self.y).item())


def forward(model: Sequential, x: Tensor) -> tuple[list[Weighted], list[Tensor], list[Tensor]]:
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


def outer_products(layer: Weighted, T: np.ndarray, V: np.ndarray) -> np.ndarray:
    """sum_k T[k] x V[k], as the layer uses its weights: T (c, *in) and V (c, *out) to the shape of W.

    For a convolution every place of the filter adds its outer product: that is conv's adjoint in the filter.
    """
    if isinstance(layer, Linear):
        return T.T @ V
    kh, kw = layer.w.shape[:2]
    return conv2d_weight_grad(T, V, (kh, kw), layer.stride, layer.padding).data


@contextmanager
def kept(parameters: Sequence[Tensor]) -> Iterator[list[np.ndarray]]:
    """The parameters' values, which they have again after the block."""
    values = [p.data for p in parameters]
    try:
        yield values
    finally:
        for p, value in zip(parameters, values, strict=True):
            p.adopt(value)


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

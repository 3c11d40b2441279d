"""The losses that attacks raise, and the gradient of each in the images."""

import numpy as np

from minidbp.autodiff import Tensor, grad
from minidbp.autodiff.differentiate import with_graph
from minidbp.autodiff.tensor import recording
from minidbp.nn import sample_cross_entropy
from minidbp.nn.checks import validate_labels
from minidbp.robust.penalties import Model


def margin(logits: Tensor, labels: np.ndarray) -> Tensor:
    """`max_{i != y} f_i - f_y` for each row f of logits (N, c) and label y of (N,): above 0 where the model is wrong.

    Raises ValueError if the logits have other axes, or a label is out of range.
    """
    if logits.ndim != 2:
        raise ValueError(f"margin: logits must have the axes (N, c); got shape {logits.shape}")
    n, c = logits.shape
    labels = validate_labels(labels, c, n_images=n)
    others = np.where(np.eye(c, dtype=bool)[labels], -np.inf, logits.data)
    return _difference(logits, np.argmax(others, axis=1), labels)


def dlr(logits: Tensor, labels: np.ndarray) -> Tensor:
    """The difference of logits ratio: the margin, divided by the distance of the largest logit to the third largest.

    The quotient does not change if all logits are multiplied by one number: a model cannot escape by large or small
    logits (Croce and Hein 2020, eq. 6).  Two classes have no third logit; for them it is the margin.
    """
    margins = margin(logits, labels)
    if logits.shape[1] < 3:
        return margins
    order = np.argsort(logits.data, axis=1)
    return margins / (_difference(logits, order[:, -1], order[:, -3]) + 1e-12)


def _difference(logits: Tensor, i: np.ndarray, j: np.ndarray) -> Tensor:
    """`f_i - f_j` for each row f of logits (N, c), with i and j (N,)."""
    unit = np.eye(logits.shape[1], dtype=logits.dtype)
    return (logits * (unit[i] - unit[j])).sum(axis=1)


def loss_gradient(
    model: Model, pixels: np.ndarray, targets: np.ndarray, label_smoothing: float = 0.0, loss: str = "cross_entropy"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image of pixels (N, ...): dL/dx (N, ...), the loss L (N,), and the predicted class (N,).

    loss: "cross_entropy", the only one with label_smoothing, "margin" or "dlr".
    """
    (x,), logits = with_graph(model, (Tensor(pixels),))
    with recording(True):
        if loss == "cross_entropy":
            losses = sample_cross_entropy(logits, targets, label_smoothing)
        else:
            losses = {"margin": margin, "dlr": dlr}[loss](logits, targets)
    (g,) = grad(losses, x, np.ones(len(pixels), logits.dtype))
    return g.data, losses.data, np.argmax(logits.data, axis=1)

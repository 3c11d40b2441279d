"""Table 3's surrogate penalty is vacuous in function space.

The surrogate is sum_j |sum_i df_i/dx_j|, and softmax ignores the direction sum_i f_i. Subtracting from the last layer's
weights and bias their mean over the classes changes neither the predictions nor the loss, and makes the surrogate 0.
"""

from dataclasses import astuple, dataclass

import numpy as np
from rich import box
from rich.table import Table

from minidbp.autodiff import no_grad, softmax
from minidbp.nn import Sequential, cross_entropy
from minidbp.robust import jacobian_l1, summed_jacobian_l1
from minidbp.training import Workers
from minidbp.training.evaluate import Done, over_shards, percent


@dataclass(frozen=True)
class Means:
    """Means over the images: cross-entropy, the surrogate, and the exact norm sum_ij |df_i/dx_j|."""

    loss: float
    surrogate: float
    jacobian_l1: float


@dataclass(frozen=True)
class Comparison:
    """What centring changes, and what it leaves."""

    images: int
    original: Means
    centred: Means
    same_prediction: float  # the share of images, in percent
    largest_change: float  # of the probability of any class of any image


def centre(model: Sequential) -> None:
    """Subtract from the last layer's W (in, c) and b (c,) their mean over the classes."""
    for parameter in model.parameters()[-2:]:
        parameter.data = parameter.data - parameter.data.mean(axis=-1, keepdims=True)


def compare(
    original: Sequential, centred: Sequential, x: np.ndarray, y: np.ndarray, workers: Workers, done: Done = None
) -> Comparison:
    """Compare two models on images x (N, H, W, C) with labels y (N,). done(n): n more images are through."""

    def measure(part: slice) -> tuple[np.ndarray, np.ndarray]:
        images, labels = x[part], y[part]
        sums, probabilities = [], []
        with no_grad():
            for model in original, centred:
                logits = model(images)
                values = cross_entropy(logits, labels), summed_jacobian_l1(model, images), jacobian_l1(model, images)
                sums.append([value.item() * len(images) for value in values])
                probabilities.append(softmax(logits).data)
        return np.array(sums), np.array(probabilities)

    parts = over_shards(original, x, workers, measure, done, of_jacobian=True)
    before, after = (np.sum([sums for sums, _ in parts], axis=0) / len(x)).tolist()
    p, q = np.concatenate([probabilities for _, probabilities in parts], axis=1)
    same_prediction = percent(p.argmax(axis=1) == q.argmax(axis=1))
    return Comparison(len(x), Means(*before), Means(*after), same_prediction, float(np.abs(p - q).max()))


def on_screen(comparison: Comparison) -> Table:
    """For a terminal: a column for each model."""
    caption = (
        f"{comparison.images} test images: the same prediction for {comparison.same_prediction:g}%, no probability "
        f"changed by more than {comparison.largest_change:.1g}"
    )
    screen = Table("mean over the images", box=box.SIMPLE_HEAD, caption=caption)
    for column in "original", "centred":
        screen.add_column(column, justify="right")
    labels = "loss (cross-entropy)", "surrogate, Σ_j |Σ_i ∂f_i/∂x_j|", "exact norm, Σ_ij |∂f_i/∂x_j|"
    before, after = astuple(comparison.original), astuple(comparison.centred)
    for label, *values in zip(labels, before, after, strict=True):
        screen.add_row(label, *(f"{value:.6g}" for value in values))
    return screen

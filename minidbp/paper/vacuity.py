"""Table 3's surrogate is vacuous in function space (DESIGN, section 6).

The surrogate is sum_j |sum_i df_i/dx_j|, and sum_i f_i is the direction that softmax ignores: taking the mean over the
classes from the last layer's weights and bias leaves every prediction and the loss as they are, and makes it 0.
"""

from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from minidbp.autodiff import no_grad, softmax
from minidbp.nn import Sequential, cross_entropy
from minidbp.robust import jacobian_l1, summed_jacobian_l1
from minidbp.training import Workers
from minidbp.training.evaluate import Done, over_shards, percent

FIGURES = {
    "loss": "loss (cross-entropy)",
    "surrogate": "surrogate, Σ_j |Σ_i ∂f_i/∂x_j|",
    "jacobian_l1": "exact norm, Σ_ij |∂f_i/∂x_j|",
}


def centre(model: Sequential) -> None:
    """Take the mean over the classes from the last layer's W (in, c) and b (c,)."""
    for parameter in model.parameters()[-2:]:
        parameter.data = parameter.data - parameter.data.mean(axis=-1, keepdims=True)


def compare(
    models: dict[str, Sequential], x: np.ndarray, y: np.ndarray, workers: Workers, done: Done | None = None
) -> dict[str, Any]:
    """Two models (by label) on images x (N, 28, 28, 1) with labels y (N,): what differs, and what does not.

    For each label the means over the images of FIGURES; `same_prediction`, the share of images in percent, and
    `largest_change`, of the probability of any class of any image.  done(n): n more images are through.
    """

    def measured(part: slice) -> tuple[np.ndarray, np.ndarray]:
        images, labels = x[part], y[part]
        figures, outputs = [], []
        with no_grad():
            for model in models.values():
                logits = model(images)
                values = cross_entropy(logits, labels), summed_jacobian_l1(model, images), jacobian_l1(model, images)
                figures.append([value.item() * len(images) for value in values])
                outputs.append(softmax(logits).data)
        return np.array(figures), np.array(outputs)

    parts = over_shards(next(iter(models.values())), x, workers, measured, done, rows=10)
    means = np.sum([figures for figures, _ in parts], axis=0) / len(x)
    p, q = np.concatenate([outputs for _, outputs in parts], axis=1)
    return {
        "images": len(x),
        **{label: dict(zip(FIGURES, map(float, row), strict=True)) for label, row in zip(models, means, strict=True)},
        "same_prediction": percent(p.argmax(axis=1) == q.argmax(axis=1)),
        "largest_change": float(np.abs(p - q).max()),
    }


def on_screen(found: dict[str, Any], labels: list[str]) -> Table:
    """For a terminal: a column for each model."""
    screen = Table(
        box=box.SIMPLE_HEAD,
        caption=f"{found['images']} test images: the same prediction for {found['same_prediction']:g}%, no probability "
        f"changed by more than {found['largest_change']:.1g}",
    )
    screen.add_column("mean over the images")
    for label in labels:
        screen.add_column(label, justify="right")
    for name, text in FIGURES.items():
        screen.add_row(text, *(f"{found[label][name]:.6g}" for label in labels))
    return screen

"""Cross-entropy with label smoothing."""

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, log_softmax
from minidbp.nn.checks import validate_label_smoothing, validate_labels, validate_sample_count


def smoothed_labels(labels: ArrayLike, n_classes: int, label_smoothing: float = 0.0) -> np.ndarray:
    """The targets y: `(1 - s) one_hot + s / c`, with s = label_smoothing (Szegedy et al. 2016); float64 (N, c)."""
    validate_label_smoothing(label_smoothing)
    one_hot = np.eye(n_classes)[validate_labels(labels, n_classes)]
    return (1 - label_smoothing) * one_hot + label_smoothing / n_classes


def sample_cross_entropy(logits: Tensor, labels: ArrayLike, label_smoothing: float = 0.0) -> Tensor:
    """`L(f(x), y) = -sum_i y_i log softmax(f(x))_i` of each sample: logits (N, c), integer labels (N,), result (N,).

    Raises ValueError if the labels are not N integers in 0..c-1.
    """
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits must have the axes (N, c); got shape {logits.shape}")
    labels = validate_labels(labels, logits.shape[1], n_images=logits.shape[0])
    targets = smoothed_labels(labels, logits.shape[1], label_smoothing)
    return -(targets * log_softmax(logits)).sum(axis=1)


def cross_entropy(logits: Tensor, labels: ArrayLike, label_smoothing: float = 0.0) -> Tensor:
    """The mean of `sample_cross_entropy` over the batch; a Tensor of shape (). ValueError too if the batch is empty."""
    validate_sample_count(len(logits.data))
    return sample_cross_entropy(logits, labels, label_smoothing).mean()

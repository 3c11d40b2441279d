"""Figures that tell robustness from masked gradients, for any function of a Tensor `(N, ...) -> (N, c)`.

A model masks its gradients if adversarial images exist but its gradients do not lead to them. Attacks that follow the
gradients then fail, although the model is not robust (Papernot et al. 2017; Athalye, Carlini, Wagner 2018, "Obfuscated
gradients give a false sense of security"). Two signs are gradients that vanish and gradients
that change direction after one step.
"""

import numpy as np
from numpy.typing import ArrayLike

from minidbp.nn.checks import validate_finite_images, validate_labels
from minidbp.robust.losses import loss_gradient
from minidbp.robust.penalties import Model


def input_gradients(model: Model, x: np.ndarray, y: ArrayLike) -> np.ndarray:
    """`dL(f(x), y) / dx` of each image, where L is the cross-entropy: x (N, ...), y (N,), result (N, ...).

    Images must be finite; errors are otherwise those of `fgsm`.
    """
    validate_finite_images(x)
    return loss_gradient(model, x, validate_labels(y, None, n_images=len(x)))[0]


def zero_shares(g: np.ndarray) -> np.ndarray:
    """The share of each image's gradient, g (N, ...), that is exactly 0: float64 (N,) in [0, 1].

    Single zeros are normal: ReLUs are inactive over a blank border. A share of 1 is a sign of saturation: softmax has
    rounded to 0 and 1.
    """
    return np.mean(g.reshape(len(g), -1) == 0, axis=1)


@np.errstate(under="ignore")  # of a product of small gradients
def gradient_cosines(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """`<g_n, h_n> / (|g_n| |h_n|)` of each image's two gradients (N, ...): float64 (N,), 0 where one of them is 0."""
    if g.shape != h.shape:
        raise ValueError(f"both gradients must have the same shape; got {g.shape} and {h.shape}")
    a, b = (_directions(v) for v in (g, h))
    return (a * b).sum(axis=1)


def _directions(g: np.ndarray) -> np.ndarray:
    """Each image's gradient as a float64 vector of length 1, or 0."""
    flat = g.reshape(len(g), -1).astype(np.float64)
    flat /= np.maximum(np.abs(flat).max(axis=1, keepdims=True, initial=0), np.finfo(float).tiny)  # no square underflows
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(float).tiny)

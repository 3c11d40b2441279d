"""Figures that tell robustness from masked gradients, on arrays and any function of a Tensor (N, ...) -> (N, c).

A model masks its gradients if they do not lead to adversarial images that are there: attacks that follow them fail, and
the model is no more robust for it (Papernot et al. 2017; Athalye, Carlini, Wagner 2018, "Obfuscated gradients give a
false sense of security").  The signs are there that gradients vanish, or point elsewhere a step further on.
"""

import numpy as np
from numpy.typing import ArrayLike

from minidbp.nn.checks import validate_images, validate_labels
from minidbp.robust.attacks import loss_gradient
from minidbp.robust.penalties import Model


def input_gradients(model: Model, x: np.ndarray, y: ArrayLike) -> np.ndarray:
    """dL(f(x), y) / dx of each image, L the cross-entropy with the true label: x (N, ...), y (N,), result as x.

    Raises ValueError or TypeError for images that are not finite numbers, or labels out of range or not N.
    """
    validate_images(x, -np.inf, np.inf)
    return loss_gradient(model, x, validate_labels(y, np.iinfo(np.intp).max, n_images=len(x)))[0]


def zero_shares(g: np.ndarray) -> np.ndarray:
    """Of each image's gradient, g (N, ...), the share of elements that are exactly 0: float64 (N,) in [0, 1].

    Single elements vanish in honest models too (ReLUs that are off over a black border); whole gradients, a share of 1,
    do where softmax rounds to 0 and 1.
    """
    return np.mean(g.reshape(len(g), -1) == 0, axis=1)


def gradient_cosines(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """<g_n, h_n> / (|g_n| |h_n|) of each image's two gradients, (N, ...) both: float64 (N,).

    0 where one of them is zero: there is no direction to agree on.  Raises ValueError for different shapes.
    """
    if g.shape != h.shape:
        raise ValueError(f"both gradients must have the same shape; got {g.shape} and {h.shape}")
    a, b = (_directions(v) for v in (g, h))
    return (a * b).sum(axis=1)


def _directions(g: np.ndarray) -> np.ndarray:
    """Each image's gradient as a float64 vector of length 1, or 0."""
    flat = g.reshape(len(g), -1).astype(np.float64)
    flat /= np.maximum(np.abs(flat).max(axis=1, keepdims=True, initial=0), np.finfo(float).tiny)  # no square underflows
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(float).tiny)

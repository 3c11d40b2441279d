"""Attacks in the max norm: FGSM and PGD, which use the model's gradient, and noise, which does not.

The model is any function of a Tensor `(N, ...) -> (N, c)`. Images are an array or a Tensor; the result has the same
kind, shape and dtype.
"""

import numpy as np
from numpy.typing import ArrayLike

from minidbp.nn.checks import validate_choice
from minidbp.robust.images import Clip, Images, ball, checked, checked_images, clipped, like, validate_counts
from minidbp.robust.losses import loss_gradient
from minidbp.robust.penalties import Model

LOSSES = ("cross_entropy", "margin")
NOISES = ("uniform", "sign")


def fgsm(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
    *,
    label_smoothing: float = 0.0,
) -> Images:
    """`x + eps * sign(dL(f(x), y) / dx)`, clipped: the fast gradient sign method (Goodfellow et al. 2015).

    Args:
        x: images (N, ...) within `clip`.
        y: their labels (N,).
        eps: the size of the attack, in pixel units.
        clip: the range of valid pixels, or None for no limits.
        label: "true" attacks y. "predicted" attacks the class that the model predicts for x, and y may be None.
        label_smoothing: of the loss inside the attack. With 0.1 the sign flips where the model is confident.

    Raises:
        ValueError: eps is negative, not finite, or larger than the range of `clip`; a pixel or label is out of range;
            or there are not N labels.
        TypeError: the images are not floats, or the labels are not integers.
    """
    pixels, targets = checked(model, x, y, clip, label, eps=eps)
    g, _, _ = loss_gradient(model, pixels, targets, label_smoothing)
    return like(x, clipped(pixels + pixels.dtype.type(eps) * np.sign(g), clip))


def random_noise(
    x: Images, eps: float, rng: np.random.Generator, clip: Clip = (0.0, 1.0), kind: str = "uniform"
) -> Images:
    """`x + noise`, clipped: an attack that uses nothing of the model; every other attack should do at least as well.

    kind="uniform" draws each pixel of the noise from U(-eps, eps), kind="sign" from {-eps, eps}: a corner of the ball.
    Errors are those of `fgsm`.
    """
    validate_choice("kind", kind, NOISES)
    pixels = checked_images(x, clip, eps=eps)
    noise = rng.uniform(-1, 1, pixels.shape).astype(pixels.dtype)
    if kind == "sign":
        noise = np.where(noise < 0, -1, 1).astype(pixels.dtype)
    return like(x, clipped(pixels + pixels.dtype.type(eps) * noise, clip))


def pgd(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    step: float,
    steps: int,
    *,
    restarts: int = 1,
    seed: int | np.random.Generator = 0,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
    label_smoothing: float = 0.0,
    loss: str = "cross_entropy",
    go_on: bool = False,
) -> Images:
    """Projected gradient descent (Madry et al. 2018): steps along the sign of the gradient, inside the ball around x.

    Each restart begins at a random point of the ball. Every image gets the worst of all points seen, x included: the
    first point that the model gets wrong, or else the point with the largest loss. The arguments and errors that are
    not listed are those of `fgsm`.

    Args:
        step: the size of one step, in pixel units.
        steps: how many steps each restart takes, at least 1.
        restarts: at least 1.
        seed: of the random points.
        loss: "cross_entropy", or "margin" for `max_{i != y} f_i(x') - f_y(x')` (Carlini and Wagner 2017). The margin's
            gradient does not vanish where softmax saturates. It has no labels to smooth: label_smoothing must be 0.
        go_on: do not stop at the first wrong point, but return the wrong point with the largest loss. Such images
            fool other models too.
    """
    validate_choice("loss", loss, LOSSES)
    if loss == "margin" and label_smoothing:
        raise ValueError(f'label_smoothing belongs to loss="cross_entropy"; got {label_smoothing} with "margin"')
    pixels, targets = checked(model, x, y, clip, label, eps=eps, step=step)
    validate_counts("pgd", steps=steps, restarts=restarts)
    rng = np.random.default_rng(seed)
    number = pixels.dtype.type
    low, high = ball(pixels, eps, clip)
    worst, worst_loss = pixels.copy(), np.full(len(pixels), -np.inf)
    fooled = np.zeros(len(pixels), bool)
    for attempt in range(restarts + 1):
        # Attempt 0 evaluates the images themselves: a wrong prediction needs no attack.
        noise = rng.uniform(-eps, eps, pixels.shape) if attempt else np.zeros(pixels.shape)
        active = np.flatnonzero(~fooled | go_on)  # indices of the images that still take steps
        point = np.clip(pixels + noise.astype(pixels.dtype), low, high)[active]
        for _ in range(steps + 1 if attempt else 1):  # the last pass only evaluates the point after the last step
            if not active.size:
                break
            g, losses, predicted = loss_gradient(model, point, targets[active], label_smoothing, loss)
            wrong, wrong_before = predicted != targets[active], fooled[active]
            better = (wrong & ~wrong_before) | ((wrong | ~wrong_before) & (losses > worst_loss[active]))
            worst[active[better]], worst_loss[active[better]] = point[better], losses[better]
            fooled[active[wrong]] = True
            if not go_on:
                active, point, g = active[~wrong], point[~wrong], g[~wrong]
            point = np.clip(point + number(step) * np.sign(g), low[active], high[active])
    return like(x, worst)


def pgd_from(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    step: float,
    steps: int,
    *,
    start: np.ndarray,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
    label_smoothing: float = 0.0,
) -> Images:
    """The point that PGD reaches from `start` after exactly `steps` steps: the images of adversarial training.

    Madry et al. (2018) train on this point. `pgd` is for evaluation: it stops at the first wrong point, which is often
    just across the decision boundary, where the loss is small. The last point needs no evaluation of its own.

    Args:
        start: the first point (N, ...), which is projected into the ball around x. In training it is random.

    The other arguments and the errors are those of `pgd`. ValueError too if `start` has another shape than x.
    """
    pixels, targets = checked(model, x, y, clip, label, eps=eps, step=step)
    validate_counts("pgd_from", steps=steps)
    if start.shape != pixels.shape:
        raise ValueError(f"pgd_from: start must have the shape of x, {pixels.shape}; got {start.shape}")
    low, high = ball(pixels, eps, clip)
    point = np.clip(start.astype(pixels.dtype), low, high)
    for _ in range(steps):
        g, _, _ = loss_gradient(model, point, targets, label_smoothing)
        point = np.clip(point + pixels.dtype.type(step) * np.sign(g), low, high)
    return like(x, point)

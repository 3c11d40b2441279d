"""Attacks in the max norm: FGSM and PGD, which look into the model, and noise, which does not.

The model is any function of a Tensor (N, ...) -> (N, c).  Images may be an array or a Tensor; what comes back is of the
same kind, shape and dtype.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, grad
from minidbp.autodiff.tensor import recording
from minidbp.nn import sample_cross_entropy
from minidbp.nn.checks import validate_images, validate_labels
from minidbp.robust.penalties import Model, evaluate

Images = TypeVar("Images", np.ndarray, Tensor)
Clip = tuple[float, float] | None

LABELS = ("true", "predicted")
LOSSES = ("cross_entropy", "margin")
NOISES = ("uniform", "sign")


def fgsm(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
    label_smoothing: float = 0.0,
) -> Images:
    """x + eps * sign(dL(f(x), y) / dx), clipped: the fast gradient sign method (Goodfellow et al. 2015).

    x: (N, ...) in `clip`, the range of valid pixels, or None for no limits.  y: (N,) labels.  eps: in pixel units.
    label: "true" attacks y, "predicted" what the model says of x (then y is not used, and may be None).
    label_smoothing: of the loss inside the attack; with 0.1 the sign flips on points the model is sure of.

    Raises ValueError or TypeError for eps negative or not finite, images outside `clip`, labels out of range or not
    N, an unknown `label`.
    """
    pixels, targets = _checked(model, x, y, clip, label, eps=eps)
    g, _, _ = loss_gradient(model, pixels, targets, label_smoothing)
    return _like(x, _clipped(pixels + pixels.dtype.type(eps) * np.sign(g), clip))


def random_noise(
    x: Images, eps: float, rng: np.random.Generator, clip: Clip = (0.0, 1.0), kind: str = "uniform"
) -> Images:
    """x + noise, clipped: what an attack that knows nothing of the model can do, and so the least that one should do.

    kind: "uniform" draws each pixel of the noise from U(-eps, eps), "sign" from {-eps, eps}, a corner of the ball.
    Raises ValueError or TypeError for eps negative or not finite, images outside `clip`, an unknown `kind`.
    """
    if kind not in NOISES:
        raise ValueError(f"kind must be one of {', '.join(NOISES)}; got {kind!r}")
    pixels = _checked_images(x, clip, eps=eps)
    noise = rng.uniform(-1, 1, pixels.shape).astype(pixels.dtype)
    if kind == "sign":
        noise = np.where(noise < 0, -1, 1).astype(pixels.dtype)
    return _like(x, _clipped(pixels + pixels.dtype.type(eps) * noise, clip))


def pgd(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    step: float,
    steps: int,
    restarts: int = 1,
    seed: int | np.random.Generator = 0,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
    label_smoothing: float = 0.0,
    loss: str = "cross_entropy",
    go_on: bool = False,
) -> Images:
    """Projected gradient descent (Madry et al. 2018) in the ball |x' - x| <= eps: `steps` sign steps of size `step`.

    Each of `restarts` runs begins at a random point of the ball, drawn from `seed`.  Every image gets the worst point
    seen, itself included: the first that the model gets wrong, or else the one with the largest loss.
    loss: "cross_entropy", or "margin" = max_{i != y} f_i(x') - f_y(x') (Carlini and Wagner 2017), whose gradient does
    not vanish where softmax saturates; label_smoothing is of no use to it, and must be 0.
    go_on: do not stop at the first wrong point, but look for the wrong point with the largest loss: such images fool
    other models too.
    Other arguments and errors are fgsm's; steps and restarts must be at least 1.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
    if loss == "margin" and label_smoothing:
        raise ValueError(f'label_smoothing belongs to loss="cross_entropy"; got {label_smoothing} with "margin"')
    pixels, targets = _checked(model, x, y, clip, label, eps=eps, step=step)
    for name, count in ("steps", steps), ("restarts", restarts):
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"pgd: {name} must be a whole number of at least 1; got {count!r}")
    rng = np.random.default_rng(seed)
    number = pixels.dtype.type
    low, high = pixels - number(eps), pixels + number(eps)
    worst, worst_loss = pixels.copy(), np.full(len(pixels), -np.inf)
    fooled = np.zeros(len(pixels), bool)
    for attempt in range(restarts + 1):
        # the image itself is judged first, without a step: what the model gets wrong already needs no attack
        noise = rng.uniform(-eps, eps, pixels.shape) if attempt else np.zeros(pixels.shape)
        left = np.flatnonzero(~fooled | go_on)  # an image that was fooled needs no more steps
        point = _clipped(np.clip(pixels + noise.astype(pixels.dtype), low, high), clip)[left]
        for _ in range(steps + 1 if attempt else 1):  # each pass judges where the last step led
            if not left.size:
                break
            if loss == "margin":
                g, height, predicted = _margin_gradient(model, point, targets[left])
            else:
                g, height, predicted = loss_gradient(model, point, targets[left], label_smoothing)
            wrong, before = predicted != targets[left], fooled[left]
            better = (wrong & ~before) | ((wrong | ~before) & (height > worst_loss[left]))
            worst[left[better]], worst_loss[left[better]] = point[better], height[better]
            fooled[left[wrong]] = True
            if not go_on:
                left, point, g = left[~wrong], point[~wrong], g[~wrong]
            point = _clipped(np.clip(point + number(step) * np.sign(g), low[left], high[left]), clip)
    return _like(x, worst)


def _checked(
    model: Model, x: np.ndarray | Tensor, y: ArrayLike | None, clip: Clip, label: str, **sizes: float
) -> tuple[np.ndarray, np.ndarray]:
    """The images as an array and the labels to attack, after all checks of the arguments."""
    if label not in LABELS:
        raise ValueError(f"label must be one of {', '.join(LABELS)}; got {label!r}")
    pixels = _checked_images(x, clip, **sizes)
    if label == "predicted":
        return pixels, np.argmax(evaluate(model, pixels)[1].data, axis=1)
    if y is None:
        raise ValueError('label="true" needs the labels y; got None')
    n_classes = np.iinfo(np.intp).max  # how many there are is known, and checked, where the loss is taken
    return pixels, validate_labels(y, n_classes, n_images=len(pixels))


def _checked_images(x: np.ndarray | Tensor, clip: Clip, **sizes: float) -> np.ndarray:
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 0):
            raise ValueError(f"{name} must be a number of at least 0, in pixel units; got {size}")
    pixels = x.data if isinstance(x, Tensor) else np.asarray(x)
    validate_images(pixels, *(clip or (-math.inf, math.inf)))
    return pixels


def loss_gradient(
    model: Model, pixels: np.ndarray, targets: np.ndarray, label_smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image of pixels (N, ...): dL/dx (N, ...), the cross-entropy L (N,), and the predicted class (N,)."""
    x, logits = evaluate(model, Tensor(pixels))
    with recording(True):
        loss = sample_cross_entropy(logits, targets, label_smoothing)
    (g,) = grad(loss, x, np.ones(len(pixels), logits.dtype))
    return g.data, loss.data, np.argmax(logits.data, axis=1)


def _margin_gradient(
    model: Model, pixels: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image: the gradient of max_{i != y} f_i - f_y, its value, and the class that the model says."""
    x, logits = evaluate(model, Tensor(pixels))
    z = logits.data
    y = np.eye(z.shape[1], dtype=bool)[validate_labels(targets, z.shape[1], n_images=len(z))]
    other = np.argmax(np.where(y, -np.inf, z), axis=1)
    cotangent = np.eye(z.shape[1], dtype=z.dtype)[other] - y.astype(z.dtype)
    (g,) = grad(logits, x, cotangent)
    return g.data, (cotangent * z).sum(axis=1), np.argmax(z, axis=1)


def _clipped(pixels: np.ndarray, clip: Clip) -> np.ndarray:
    return pixels if clip is None else np.clip(pixels, *clip)


def _like(x: Images, pixels: np.ndarray) -> Images:
    return Tensor(pixels) if isinstance(x, Tensor) else pixels

"""White-box attacks in the max norm: FGSM and PGD.

Both take any function of a Tensor (N, ...) -> (N, c).  Images may be an array or a Tensor; what comes back is of the
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
    g, _, _ = _loss_gradient(model, pixels, targets, label_smoothing)
    return _like(x, _clipped(pixels + pixels.dtype.type(eps) * np.sign(g), clip))


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
) -> Images:
    """Projected gradient descent (Madry et al. 2018) in the ball |x' - x| <= eps: `steps` sign steps of size `step`.

    Each of `restarts` runs begins at a random point of the ball, drawn from `seed`.  Every image gets the worst point
    seen, itself included: the first that the model gets wrong, or else the one with the largest loss.
    Other arguments and errors are fgsm's; steps and restarts must be at least 1.
    """
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
        left = np.flatnonzero(~fooled)  # an image that was fooled needs no more steps
        point = _clipped(np.clip(pixels + noise.astype(pixels.dtype), low, high), clip)[left]
        for _ in range(steps + 1 if attempt else 1):  # each pass judges where the last step led
            if not left.size:
                break
            g, loss, predicted = _loss_gradient(model, point, targets[left], label_smoothing)
            wrong = predicted != targets[left]
            better = wrong | (loss > worst_loss[left])
            worst[left[better]], worst_loss[left[better]] = point[better], loss[better]
            fooled[left[wrong]] = True
            left, point, g = left[~wrong], point[~wrong], g[~wrong]
            point = _clipped(np.clip(point + number(step) * np.sign(g), low[left], high[left]), clip)
    return _like(x, worst)


def _checked(
    model: Model, x: np.ndarray | Tensor, y: ArrayLike | None, clip: Clip, label: str, **sizes: float
) -> tuple[np.ndarray, np.ndarray]:
    """The images as an array and the labels to attack, after all checks of the arguments."""
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 0):
            raise ValueError(f"{name} must be a number of at least 0, in pixel units; got {size}")
    if label not in LABELS:
        raise ValueError(f"label must be one of {', '.join(LABELS)}; got {label!r}")
    pixels = x.data if isinstance(x, Tensor) else np.asarray(x)
    validate_images(pixels, *(clip or (-math.inf, math.inf)))
    if label == "predicted":
        return pixels, np.argmax(evaluate(model, pixels)[1].data, axis=1)
    if y is None:
        raise ValueError('label="true" needs the labels y; got None')
    n_classes = np.iinfo(np.intp).max  # how many there are is known, and checked, where the loss is taken
    return pixels, validate_labels(y, n_classes, n_images=len(pixels))


def _loss_gradient(
    model: Model, pixels: np.ndarray, targets: np.ndarray, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image: dL/dx, L, and the class that the model says."""
    x, logits = evaluate(model, Tensor(pixels))
    with recording(True):
        loss = sample_cross_entropy(logits, targets, label_smoothing)
    (g,) = grad(loss, x, np.ones(len(pixels), logits.dtype))
    return g.data, loss.data, np.argmax(logits.data, axis=1)


def _clipped(pixels: np.ndarray, clip: Clip) -> np.ndarray:
    return pixels if clip is None else np.clip(pixels, *clip)


def _like(x: Images, pixels: np.ndarray) -> Images:
    return Tensor(pixels) if isinstance(x, Tensor) else pixels

"""What all attacks share: checks of their arguments, the points they may visit, and the kind of their result."""

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, as_tensor, no_grad
from minidbp.autodiff.differentiate import with_graph
from minidbp.nn.checks import validate_choice, validate_finite_images, validate_images, validate_labels
from minidbp.robust.penalties import Model

Images = TypeVar("Images", np.ndarray, Tensor)
Clip = tuple[float, float] | None

LABELS = ("true", "predicted")


def checked(
    model: Model, x: np.ndarray | Tensor, y: ArrayLike | None, clip: Clip, label: str, **sizes: float
) -> tuple[np.ndarray, np.ndarray]:
    """The images as an array and the labels to attack, after all checks of the arguments."""
    validate_choice("label", label, LABELS)
    pixels = checked_images(x, clip, **sizes)
    if label == "predicted":
        return pixels, np.argmax(with_graph(model, (pixels,))[1].data, axis=1)
    if y is None:
        raise ValueError('label="true" needs the labels y; got None')
    return pixels, validate_labels(y, None, n_images=len(pixels))  # the loss checks the number of classes


def predict(model: Model, x: np.ndarray) -> np.ndarray:
    """The class with the largest logit, for images x (N, ...): (N,) integers.

    Raises ValueError if a pixel is not finite, TypeError unless the images are float32 or float64.
    """
    validate_finite_images(x)
    with no_grad():
        return np.argmax(model(as_tensor(x)).data, axis=1)


def checked_images(x: np.ndarray | Tensor, clip: Clip, **sizes: float) -> np.ndarray:
    """The images as an array, after checks of them, of `clip`, and of sizes such as eps and step.

    eps may be at most the range of `clip`, with which an attack can reach every pixel value. If `clip` is None, eps has
    no upper bound.
    """
    if clip is not None and not _is_range(clip):
        raise ValueError(f"clip must be the lowest and the highest valid pixel, such as (0, 1), or None; got {clip}")
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 0):
            raise ValueError(f"{name} must be a number of at least 0, in pixel units; got {size}")
    if clip is not None and sizes["eps"] > (clip[1] - clip[0]) * (1 + 1e-9):  # 0.7 - 0.4 is a little less than 0.3
        raise ValueError(
            f"eps must be at most {clip[1] - clip[0]:g}, as pixels lie within [{clip[0]:g}, {clip[1]:g}]; "
            f"got {sizes['eps']:g} (divide a size in bytes by 255)"
        )
    pixels = x.data if isinstance(x, Tensor) else np.asarray(x)
    validate_images(pixels, *(clip or (-math.inf, math.inf)))
    return pixels


def _is_range(clip: Any) -> bool:
    return isinstance(clip, tuple | list) and len(clip) == 2 and -math.inf < clip[0] < clip[1] < math.inf


def validate_counts(attack: str, **counts: int) -> None:
    """Raise ValueError unless every count is a whole number of at least 1."""
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{attack}: {name} must be a whole number of at least 1; got {count!r}")


def ball(pixels: np.ndarray, eps: float, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each pixel: `x - eps` and `x + eps`, clipped."""
    size = pixels.dtype.type(eps)
    return clipped(pixels - size, clip), clipped(pixels + size, clip)


def clipped(pixels: np.ndarray, clip: Clip) -> np.ndarray:
    return pixels if clip is None else np.clip(pixels, *clip)


def like(x: Images, pixels: np.ndarray) -> Images:
    return Tensor(pixels) if isinstance(x, Tensor) else pixels

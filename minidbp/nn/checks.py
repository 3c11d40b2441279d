"""Checks of labels, images and named options."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

AS_FLOATS = "divide bytes by 255, as in x.astype('float32') / 255"


def validate_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of the choices for `name`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def validate_label_smoothing(label_smoothing: float) -> None:
    """Raise ValueError unless label_smoothing lies in [0, 1]."""
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1]; got {label_smoothing}")


def validate_images(x: np.ndarray, low: float = 0.0, high: float = 1.0) -> None:
    """Accept x (N, ...) if it is float32 or float64, finite and within [low, high]; the ends may be infinite.

    Raises:
        TypeError: x has another dtype.
        ValueError: x is a single number, or a pixel is out of range.
    """
    within = f" within [{low:g}, {high:g}]" if np.isfinite(high - low) else ""
    if x.dtype.newbyteorder("=") not in (np.float32, np.float64):
        hint = f": {AS_FLOATS}" if x.dtype == np.uint8 else ""
        raise TypeError(f"images must be float32 or float64{within}; got {x.dtype}{hint}")
    if x.ndim == 0:
        raise ValueError("images must have the axes (N, ...); got a single number")
    # min and max return NaN if there is one, and comparisons with it are False. No temporary as large as x is made.
    if x.size and not (-np.inf < (least := x.min()) and low <= least and (most := x.max()) <= high and most < np.inf):
        index = np.unravel_index(np.argmin((x >= low) & (x <= high) & np.isfinite(x)), x.shape)
        right = f"finite and lie{within}" if within else "finite"
        raise ValueError(f"images must be {right}; got {x[index]} at index {tuple(map(int, index))}")


def validate_finite_images(x: np.ndarray) -> None:
    """`validate_images` for any range: accept x (N, ...) if it is float32 or float64 and finite."""
    validate_images(x, -np.inf, np.inf)


def refuse_bytes(x: Any) -> None:
    """Raise TypeError if x is an array of uint8, as images are in files: a Tensor would hold 0 to 255 in float64."""
    if isinstance(x, np.ndarray) and x.dtype == np.uint8:
        raise TypeError(f"images must be float32 or float64; got uint8: {AS_FLOATS}")


def validate_sample_count(n: int) -> None:
    """Raise ValueError for a batch of no samples, which has no mean."""
    if n == 0:
        raise ValueError("there must be at least one sample; got none")


def validate_labels(y: ArrayLike, n_classes: int | None, n_images: int | None = None) -> np.ndarray:
    """The labels y as an array (N,), if they are 1-D, of an integer dtype and within 0..n_classes-1.

    Args:
        n_classes: None if it is not known; labels must then only be at least 0.
        n_images: the N that y must have, if it is known.

    Raises:
        TypeError: y has another dtype.
        ValueError: y has another shape or length, or a label is out of range.
    """
    y = np.asarray(y)
    if not np.issubdtype(y.dtype, np.integer) and y.size:
        raise TypeError(f"labels must be integers; got {y.dtype}")
    if y.ndim != 1:
        raise ValueError(f"labels must be 1-D, one class number per image; got the shape {y.shape}")
    if n_images is not None and len(y) != n_images:
        raise ValueError(f"there must be one label per image; got {len(y)} labels for {n_images} images")
    wrong = (y < 0) | (y >= n_classes) if n_classes is not None else y < 0
    if wrong.any():
        index = int(np.argmax(wrong))
        valid = f"lie in 0..{n_classes - 1}" if n_classes is not None else "be at least 0"
        raise ValueError(f"labels must {valid}; got {y[index]} at index {index}")
    return y.astype(np.intp)

"""Checks at the door: of labels in losses, of images in attacks and training."""

import numpy as np
from numpy.typing import ArrayLike


def validate_images(x: np.ndarray, low: float = 0.0, high: float = 1.0) -> None:
    """Accept x (N, ...) if it is float32 or float64, finite and within [low, high].

    Raises TypeError for another dtype, ValueError for a single number or a pixel out of range.
    """
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"images must be float32 or float64 within [{low:g}, {high:g}]; got {x.dtype}")
    if x.ndim == 0:
        raise ValueError("images must have the axes (N, ...); got a single number")
    # min and max hand NaN on, and any comparison with it is False: no temporary as large as x is needed.
    if x.size and not (x.min() >= low and x.max() <= high and np.isfinite([x.min(), x.max()]).all()):
        index = np.unravel_index(np.argmin((x >= low) & (x <= high) & np.isfinite(x)), x.shape)
        raise ValueError(
            f"images must be finite and lie within [{low:g}, {high:g}]; "
            f"got {x[index]} at index {tuple(map(int, index))}"
        )


def validate_labels(y: ArrayLike, n_classes: int, n_images: int | None = None) -> np.ndarray:
    """y as an array (N,), if it is 1-D, of an integer dtype and within 0..n_classes-1.

    `n_images`, where given, is the N that y must have.

    Raises TypeError for another dtype, ValueError for another shape or length, or a label out of range.
    """
    y = np.asarray(y)
    if not np.issubdtype(y.dtype, np.integer) and y.size:
        raise TypeError(f"labels must be integers; got {y.dtype}")
    if y.ndim != 1:
        raise ValueError(f"labels must be 1-D, one class number per image; got the shape {y.shape}")
    if n_images is not None and len(y) != n_images:
        raise ValueError(f"there must be one label per image; got {len(y)} labels for {n_images} images")
    wrong = (y < 0) | (y >= n_classes)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(f"labels must lie in 0..{n_classes - 1}; got {y[index]} at index {index}")
    return y.astype(np.intp)

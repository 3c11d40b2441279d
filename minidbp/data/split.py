"""Splits and mini-batches; all randomness comes from the Generator that is passed in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels in two disjoint parts; read-only, each part in the order of the whole."""

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_validation: NDArray[Any]
    y_validation: NDArray[Any]


def split_train_validation(
    x: NDArray[Any],
    y: NDArray[Any],
    n_validation: int = 5000,
    how: str = "random",
    rng: np.random.Generator | None = None,
) -> Split:
    """Set `n_validation` of the images x (N, ...) and labels y (N,) aside.  The paper takes 5,000 of 60,000.

    Args:
        how: The paper does not say which images. "random" draws them with `rng`; "first" and "last" take that end of
            the arrays, as views.

    Raises:
        ValueError: `how` is another word, "random" has no rng, x and y differ in length, or n_validation is not in
            0 to N - 1.
        TypeError: n_validation is not an integer.
    """
    n = _count(x, y)
    if not isinstance(n_validation, int | np.integer):
        raise TypeError(f"n_validation must be an integer; got {n_validation!r}")
    if not 0 <= n_validation < n:
        raise ValueError(f"n_validation must lie in 0..{n - 1} for {n} images; got {n_validation}")

    train: slice | NDArray[np.intp]
    validation: slice | NDArray[np.intp]
    if how == "random":
        if rng is None:
            raise ValueError("how='random' needs rng, a numpy.random.Generator; got None")
        order = rng.permutation(n)
        validation, train = np.sort(order[:n_validation]), np.sort(order[n_validation:])
    elif how == "first":
        validation, train = slice(0, n_validation), slice(n_validation, n)
    elif how == "last":
        train, validation = slice(0, n - n_validation), slice(n - n_validation, n)
    else:
        raise ValueError(f"how must be 'random', 'first' or 'last'; got {how!r}")

    parts = Split(x[train], y[train], x[validation], y[validation])
    for part in vars(parts).values():
        part.flags.writeable = False
    return parts


def random_images(
    x: NDArray[Any], y: NDArray[Any], n: int, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """`n` of the images x (N, ...) with their labels y (N,), in random order: the first of them are a sample too.

    Raises ValueError if x and y differ in length, or n is not in 1 to N.
    """
    in_all = _count(x, y)
    if not 1 <= n <= in_all:
        raise ValueError(f"n must lie in 1..{in_all} for {in_all} images; got {n}")
    rows = rng.permutation(in_all)[:n]
    return x[rows], y[rows]


def _count(x: NDArray[Any], y: NDArray[Any]) -> int:
    """How many images with labels there are.  Raises ValueError if the labels are not as many as the images."""
    if len(x) != len(y):
        raise ValueError(f"images and labels must be equally many; got {len(x)} images and {len(y)} labels")
    return len(x)


def batches(n: int, size: int, rng: np.random.Generator | None = None) -> Iterator[NDArray[np.intp]]:
    """Index arrays (size,) that cover 0..n-1 once; the last one is smaller if size does not divide n.

    They are in order without `rng` and shuffled with it.  One call draws one permutation, for one epoch.

    Raises:
        ValueError: size is below 1 or n below 0.
    """
    if size < 1:
        raise ValueError(f"the batch size must be at least 1; got {size}")
    if n < 0:
        raise ValueError(f"the number of samples must be at least 0; got {n}")
    # This is not a generator function, so that the checks and the draw happen at the call, not at the first next().
    order = np.arange(n) if rng is None else rng.permutation(n)
    return (order[start : start + size] for start in range(0, n, size))

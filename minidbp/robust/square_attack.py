"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search that needs no gradient."""

import math

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import Tensor, no_grad
from minidbp.robust.images import Clip, Images, ball, checked, like, validate_counts
from minidbp.robust.losses import margin
from minidbp.robust.penalties import Model

SHARE = 0.8  # of the pixels, in the first window
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the share: after so many of 10,000 queries


def square(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    queries: int = 5000,
    *,
    seed: int | np.random.Generator = 0,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
) -> Images:
    """Square Attack in the max norm: random search on the margin, which asks the model for nothing but its logits.

    The search begins with vertical stripes: each column of each channel moves by eps or by -eps. Then each query sets
    a random window to `x + eps` or `x - eps`, one sign for each channel, all clipped. A window stays if the margin
    `max_{i != y} f_i - f_y` grows. The windows begin with 80% of the pixels and shrink as in the paper, whose 10,000
    queries are rescaled to `queries`. The search on an image ends when the model gets it wrong.

    Every image gets the worst of all points seen, x included: a point that the model gets wrong, or else the point
    with the largest margin. The arguments and errors that are not listed are those of `fgsm`.

    Args:
        x: images (N, H, W, C) or (N, H, W), or vectors (N, d), whose windows are intervals. Further axes count as
            channels.
        queries: how many points each image may try, at least 1; x itself is not counted.
        seed: of the stripes and windows.
    """
    pixels, targets = checked(model, x, y, clip, label, eps=eps)
    validate_counts("square", queries=queries)
    rng = np.random.default_rng(seed)
    worst = pixels.copy()
    margins, wrong = _margins(model, pixels, targets)
    active = np.flatnonzero(~wrong)  # indices of the images that the model still gets right
    low, high = (end.reshape(_window_axes(pixels.shape))[active] for end in ball(pixels, eps, clip))
    best, best_margins = low.copy(), np.full(len(active), -np.inf)
    for query in range(queries):
        if not active.size:
            break
        points = _windows(best, low, high, query / queries, rng) if query else _stripes(low, high, rng)
        new_margins, wrong = _margins(model, points.reshape(-1, *pixels.shape[1:]), targets[active])
        better = wrong | (new_margins > best_margins)
        best[better], best_margins[better] = points[better], new_margins[better]
        if wrong.any():
            worst[active[wrong]] = points[wrong].reshape(-1, *pixels.shape[1:])
            active, low, high, best, best_margins = (a[~wrong] for a in (active, low, high, best, best_margins))
    better = best_margins > margins[active]
    worst[active[better]] = best[better].reshape(-1, *pixels.shape[1:])
    return like(x, worst)


def _window_axes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The shape (N, H, W, C) of images (N, H, W, ...), and (N, 1, d, 1) of vectors (N, d)."""
    n, *axes = shape
    height, width, *channels = axes if len(axes) > 1 else (1, math.prod(axes))
    return n, height, width, math.prod(channels)


def _stripes(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each column of each channel at its lowest or at its highest value: low and high (N, H, W, C)."""
    n, _, width, channels = low.shape
    return np.where(rng.random((n, 1, width, channels)) < 0.5, low, high)


def _windows(
    best: np.ndarray, low: np.ndarray, high: np.ndarray, progress: float, rng: np.random.Generator
) -> np.ndarray:
    """A copy of best (N, H, W, C) in which a window of each image has its lowest or its highest values.

    progress: the share of the queries that are done.
    """
    n, height, width, channels = best.shape
    share = SHARE / 2 ** sum(10_000 * progress > after for after in HALVINGS)
    side = share if height == 1 else math.sqrt(share)
    h, w = max(round(side * height), 1), max(round(side * width), 1)
    top, left = rng.integers(0, height - h + 1, (n, 1, 1)), rng.integers(0, width - w + 1, (n, 1, 1))
    window = np.arange(n)[:, None, None], top + np.arange(h)[:, None], left + np.arange(w)
    lowest, highest = low[window], high[window]
    up = rng.random((n, 1, 1, channels)) < 0.5
    values = np.where(up, highest, lowest)
    unchanged = (values == best[window]).all(axis=(1, 2, 3), keepdims=True)  # the other sign is worth the query
    points = best.copy()
    points[window] = np.where(unchanged, np.where(up, lowest, highest), values)
    return points


def _margins(model: Model, points: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The margin of each point (N, ...), and whether the model gets it wrong."""
    with no_grad():
        logits = model(Tensor(points))
        return margin(logits, targets).data, np.argmax(logits.data, axis=1) != targets

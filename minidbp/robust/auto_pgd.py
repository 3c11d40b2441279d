"""Auto-PGD (Croce and Hein 2020, arXiv 2003.01690): PGD with momentum that chooses its step sizes itself."""

import math

import numpy as np
from numpy.typing import ArrayLike

from minidbp.nn.checks import validate_choice
from minidbp.robust.images import Clip, Images, ball, checked, like, validate_counts
from minidbp.robust.losses import loss_gradient
from minidbp.robust.penalties import Model

LOSSES = {"ce": "cross_entropy", "dlr": "dlr"}
MOMENTUM = 0.75  # alpha: the share of the new step; the rest continues the last one
RISES = 0.75  # rho: the share of the steps since the last checkpoint that must raise the loss


def apgd(
    model: Model,
    x: Images,
    y: ArrayLike | None,
    eps: float,
    loss: str = "ce",
    steps: int = 100,
    *,
    restarts: int = 1,
    seed: int | np.random.Generator = 0,
    clip: Clip = (0.0, 1.0),
    label: str = "true",
) -> Images:
    """Auto-PGD in the max norm, a PGD that needs no step size (Croce and Hein 2020).

    One step is `z = P(x_k + s sign(g))`, then `x_(k+1) = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_(k-1)))`. P projects
    on the ball around x and on `clip`. The first s is 2 eps. At checkpoints, s is halved for each image whose loss
    rose in less than 75% of the steps since the last checkpoint, or whose s and largest loss have not changed since
    then. Such an image goes on from its best point.

    Each restart begins at a random point of the ball. Every image gets the worst of all points seen, x included: the
    first point that the model gets wrong, or else the point with the largest loss. An image takes no more steps once
    the model gets it wrong. The arguments and errors that are not listed are those of `fgsm`.

    Args:
        loss: "ce" for the cross-entropy, or "dlr" for the difference of logits ratio
            `(max_{i != y} f_i - f_y) / (f_(1) - f_(3))`, where f_(1) and f_(3) are the largest and the third largest
            logit. The ratio does not saturate and does not depend on the scale of f. Two classes have no third logit:
            then the denominator is 1.
        steps: how many steps each restart takes, at least 1.
        restarts: at least 1.
        seed: of the random points.
    """
    validate_choice("loss", loss, LOSSES)
    pixels, targets = checked(model, x, y, clip, label, eps=eps)
    validate_counts("apgd", steps=steps, restarts=restarts)
    rng = np.random.default_rng(seed)
    low, high = ball(pixels, eps, clip)
    _, losses, predicted = loss_gradient(model, pixels, targets, loss=LOSSES[loss])
    worst, worst_loss = pixels.copy(), losses.copy()
    active = np.flatnonzero(predicted == targets)  # indices of the images that the model still gets right
    for _ in range(restarts):
        noise = rng.uniform(-eps, eps, pixels.shape)  # for all images: no start depends on the fate of other images
        if not active.size:
            break
        ends = low[active], high[active]
        start = np.clip((pixels + noise.astype(pixels.dtype))[active], *ends)
        points, losses, right = _ascend(model, start, targets[active], ends, eps=eps, steps=steps, loss=LOSSES[loss])
        better = ~right | ~(losses <= worst_loss[active])  # a NaN counts too: the gradient was not finite
        worst[active[better]], worst_loss[active[better]] = points[better], losses[better]
        active = active[right]
    return like(x, worst)


def _ascend(
    model: Model,
    start: np.ndarray,
    targets: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    *,
    eps: float,
    steps: int,
    loss: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The worst point (N, ...) on the path from each start (N, ...), its loss (N,), and whether the model is right.

    ends: the lowest and the highest value of each pixel.
    """
    n, to_check = len(start), checkpoints(steps)
    point, before, best, best_g = start.copy(), start.copy(), start.copy(), np.empty_like(start)
    size = np.full((n, *[1] * (start.ndim - 1)), 2 * eps, start.dtype)
    last_loss, best_loss, checked_loss = np.full(n, np.inf), np.full(n, -np.inf), np.full(n, -np.inf)
    rises, halved, right = np.zeros(n, int), np.zeros(n, bool), np.ones(n, bool)
    active, last_checkpoint = np.arange(n), 0
    for k in range(steps + 1):  # the last pass only evaluates the point after the last step
        g, losses, predicted = loss_gradient(model, point[active], targets[active], loss=loss)
        wrong = predicted != targets[active]
        better = wrong | ~(losses <= best_loss[active])
        rows = active[better]
        best[rows], best_g[rows], best_loss[rows] = point[rows], g[better], losses[better]
        right[active[wrong]] = False
        active, g, losses = active[~wrong], g[~wrong], losses[~wrong]
        if k == steps or not active.size:
            break
        rises[active] += losses > last_loss[active]
        last_loss[active] = losses
        if k in to_check:
            no_progress = ~halved & (best_loss == checked_loss)
            halved = (rises < RISES * (k - last_checkpoint)) | no_progress
            size[halved] /= 2
            point[halved] = best[halved]
            g[halved[active]] = best_g[active[halved[active]]]
            checked_loss, last_checkpoint = best_loss.copy(), k
            rises[:] = 0
        x, low, high = point[active], ends[0][active], ends[1][active]
        z = np.clip(x + size[active] * np.sign(g), low, high)
        share = MOMENTUM if k else 1.0  # the first step has no step before it
        onward = x + share * (z - x) + (1 - share) * (x - before[active])
        before[active], point[active] = x, np.clip(onward, low, high)
    return best, best_loss, right


def checkpoints(steps: int) -> set[int]:
    """`ceil(p_j steps)` with p_1 = 0.22 and `p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)`, in whole percent."""
    percent, period = [22], 22
    while percent[-1] <= 94:
        period = max(period - 3, 6)
        percent.append(percent[-1] + period)
    return {math.ceil(p * steps / 100) for p in percent}

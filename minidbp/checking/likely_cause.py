"""What may have gone wrong, from a wrong Jacobian and the right one beside it."""

import numpy as np


def likely_cause(
    analytic: np.ndarray, numeric: np.ndarray, allowed: float, y: tuple[int, ...], x: tuple[int, ...], order: int
) -> str:
    """The most likely cause of a difference, in words; empty if none is recognised.

    analytic, numeric: Jacobians (size of y, size of x).  allowed: the difference that is no error.
    """
    if not np.isfinite(analytic).all():
        return "the rule divides by zero or overflows"
    if not (np.isfinite(numeric).all() and np.isfinite(allowed)):
        return "the function itself is not finite here"
    wrong = np.abs(analytic - numeric) > allowed
    if np.abs(analytic).max() <= allowed:
        return (
            "the derivative is lost: a value was detached, or captured as a constant"
            if order == 1
            else "a term of the backward pass was captured as a constant: a raw array saved in a rule, a detached value"
        )
    factor = float(np.vdot(numeric, analytic) / np.vdot(numeric, numeric)) if np.any(numeric) else np.nan
    if np.abs(analytic - factor * numeric).max() <= 10 * allowed:
        return "the sign is wrong" if abs(factor + 1) < 1e-4 else f"the result is {factor:.6g} times what it should be"
    if len(x) >= 2 and x[-1] == x[-2]:
        swapped = np.swapaxes(analytic.reshape(-1, *x), -1, -2).reshape(analytic.shape)
        if np.abs(swapped - numeric).max() <= allowed:
            return "the gradient is transposed"
    if len(y) >= 2 and y[-1] == y[-2]:
        swapped = np.swapaxes(analytic.reshape(*y, -1), len(y) - 1, len(y) - 2).reshape(analytic.shape)
        if np.abs(swapped - numeric).max() <= allowed:
            return "the cotangent is transposed"
    if np.abs(analytic[wrong]).max() <= allowed:
        return "a term is dropped: the entries that are wrong are 0"
    if np.allclose(np.sort(analytic, axis=None), np.sort(numeric, axis=None), rtol=0, atol=allowed):
        return "the right numbers stand in the wrong places: an axis, a stride or a flip"
    if np.allclose(analytic.sum(axis=1), numeric.sum(axis=1), rtol=0, atol=allowed * analytic.shape[1]):
        return "each output's derivative is spread over the wrong elements of the input"
    ratio = analytic[wrong] / np.where(numeric[wrong] == 0, np.nan, numeric[wrong])
    if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-4 * np.abs(ratio).max():
        return (
            f"some entries are {float(ratio.mean()):.6g} times what they should be: a term is missing or counted twice"
        )
    return ""

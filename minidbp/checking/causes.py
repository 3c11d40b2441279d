"""The likely cause of a wrong derivative, in words."""

import numpy as np

LEADING_AXES = "a rule does not carry over the extra leading axes of its cotangent"
NOT_LINEAR = "a rule is not linear in its cotangent: it clips, squares, drops or normalises it"
CHANGING = "the function or a rule draws random numbers or keeps a state: a check needs the same values at every call"
NARROW = "float32, or a rounding of like size, somewhere inside"
AFFINE = "a term of a rule does not depend on the cotangent"
IN_PLACE = "a rule or the function writes to an array that it was given"
LAYOUT = "the function or a rule relies on the memory layout of an array"


def likely_cause(
    analytic: np.ndarray, numeric: np.ndarray, allowed: np.ndarray, y: np.ndarray, x: np.ndarray, *, order: int
) -> str:
    """The most likely cause of a wrong Jacobian, in words; empty if none is recognised.

    Args:
        analytic, numeric: The Jacobian by the rules and by differences, of shape (size of y, size of x).
        allowed: The differences that are no errors, of the same shape.
        y, x: The output and the input.
        order: The order of the derivative.
    """
    if not np.isfinite(analytic).all():
        return "the rule divides by zero or overflows"
    if (np.abs(analytic) <= allowed).all():
        if order == 1:
            return "the derivative is lost: a value was detached, or captured as a constant"
        return "a term of the backward pass was captured as a constant: a raw array saved in a rule, a detached value"
    if (np.abs(numeric) <= allowed).all():
        return "the function does not change here, as after rounding to integers, but its rule says that it does"
    known = np.where(allowed <= 0.01 * np.abs(numeric), numeric, 0.0)  # where rounding does not hide it
    factor = float(np.vdot(known, analytic) / np.vdot(known, known)) if np.any(known) else np.nan
    if abs(factor - 1) > 1e-6 and (np.abs(analytic - factor * numeric) <= 10 * allowed).all():
        return "the sign is wrong" if abs(factor + 1) < 1e-2 else f"the result is {factor:.9g} times what it should be"
    for what, shape, offset in ("gradient", x.shape, y.ndim), ("cotangent", y.shape, 0):
        if len(shape) >= 2 and shape[-1] == shape[-2]:
            last = offset + len(shape) - 1
            swapped = analytic.reshape(*y.shape, *x.shape).swapaxes(last, last - 1).reshape(analytic.shape)
            if (np.abs(swapped - numeric) <= allowed).all():
                return f"the {what} is transposed"
    wrong = np.abs(analytic - numeric) > allowed
    if (np.abs(analytic) <= allowed)[wrong].all():
        return "a term is dropped: the entries that are wrong are 0"
    if (np.abs(numeric) <= allowed)[wrong].all():
        return "the rule lets through what should be 0: a mask is missing or too large"
    with np.errstate(all="ignore"):
        ratio = analytic[wrong] / numeric[wrong]
        if cause := _missing_factor(ratio, wrong, y, x):
            return cause
    least = float(allowed.min())
    if np.allclose(np.sort(analytic, axis=None), np.sort(numeric, axis=None), rtol=1e-5, atol=least):
        return "the right numbers stand in the wrong places: an axis, a stride or a flip"
    largest = float(allowed.max()) * analytic.shape[1]
    if wrong.mean() > 0.5 and np.allclose(analytic.sum(axis=1), numeric.sum(axis=1), rtol=0, atol=largest):
        return "each output's derivative is spread over the wrong elements of the input"
    if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-4 * np.abs(ratio).max():
        return f"some entries are {ratio.mean():.6g} times what they should be: a term is missing or counted twice"
    columns = wrong.any(axis=0)
    for name, there in (("negative", x < 0), ("positive", x > 0), ("beyond 1", np.abs(x) > 1)):
        if 0 < there.sum() < x.size and np.array_equal(columns, there.reshape(-1)):
            return f"the derivative is wrong only where the input is {name}"
    return ""


def _missing_factor(ratio: np.ndarray, wrong: np.ndarray, y: np.ndarray, x: np.ndarray) -> str:
    """Whether each wrong entry is off by a constant times the input or the output: a factor too many, or missing."""
    for name, values in (("input", x.reshape(1, -1)), ("output", y.reshape(-1, 1))):
        factors = np.broadcast_to(values, wrong.shape)[wrong]
        if np.ptp(factors) <= 1e-3 * np.abs(factors).max(initial=0.0):
            continue
        for text, quotient in (("too many", ratio / factors), ("missing", ratio * factors)):
            if np.isfinite(quotient).all() and np.ptp(quotient) <= 1e-5 * np.abs(quotient).max():
                return f"a factor of the {name} is {text}: a wrong exponent, or a factor that was left out"
    return ""

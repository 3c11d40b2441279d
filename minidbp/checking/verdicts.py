"""The thresholds by which a difference decides, and the error where it does not."""

import numpy as np

from minidbp.autodiff.tensor import NotDifferentiableError
from minidbp.checking.causes import NARROW
from minidbp.checking.errors import UndecidedError
from minidbp.checking.points import MACHINE_EPS, Arrays

# A difference may be wrong by its error.  These are errors relative to the derivative.
DOUBTFUL = 1e-4  # if the error is larger, other steps are tried
UNDECIDED = 3e-3  # if the error is larger after that too, the difference decides nothing
# Where rounding hides a small entry, the check passes without a message.
NEGLIGIBLE = 1e-5  # an entry is small, relative to the largest entry of the same output
NEGLIGIBLE_OUTPUT = 1e-8  # all entries of an output are small, relative to the largest entry of all outputs
# An output is constant if its slopes are not above ZERO times the largest value, and their errors not above ZERO_ERROR.
ZERO, ZERO_ERROR = 8 * MACHINE_EPS, 1e-9
NOISY = 0.01  # a value with more noise, relative to itself, decides nothing
COARSE = 1e4  # noise of more than so many times the bound: the values are computed in a lower precision than float64
RULE_ROUNDING = 8 * MACHINE_EPS  # the rounding of a rule, relative to the largest entry of the same output


def undecided(why: str, analytic: float, numeric: float, error: float) -> Exception:
    """The error for a derivative that the differences do not decide; `why` is what kept their steps small."""
    if why:
        return NotDifferentiableError(f"not differentiable here: {why}")
    return UndecidedError(
        f"the rule says {analytic:.6g}, differences say {numeric:.6g} with an error of up to {error:.1g}, as rounding "
        "in the function's values hides the derivative: leave out large terms that do not depend on the input"
    )


def check_precision(name: str, noise: Arrays, bounds: Arrays) -> None:
    """Raise UndecidedError where an output of the operations `name` has more noise than float64 explains."""
    for k, (e, bound) in enumerate(zip(noise, bounds, strict=True)):
        if ((e > COARSE * bound) & (bound > 0)).any():  # the bound is 0 at zeros
            times = f"{np.max(e[bound > 0] / bound[bound > 0]):.0e}"
            raise UndecidedError(f"output {k} of {name} has {times} times the rounding of float64: {NARROW}")

"""When a difference decides, and what is said when it does not."""

from minidbp.autodiff.tensor import NotDifferentiableError
from minidbp.checking.errors import UndecidedError
from minidbp.checking.points import MACHINE_EPS

DOUBTFUL = 1e-4  # a difference that may be further off than this, relative to the derivative, gets a second look
JUDGED = 3e-3  # and one that then may be further off than this decides nothing
NEGLIGIBLE = 1e-5  # relative to the largest entry of the same output: rounding may hide entries smaller than this
NEGLIGIBLE_OUTPUT = 1e-8  # relative to the largest entry of all: rounding may hide the derivative of such an output
ZERO, ZERO_ERROR = 8 * MACHINE_EPS, 1e-9  # relative to the largest value, and absolute: the output is constant
RULE_ROUNDING = 8 * MACHINE_EPS  # of a rule, relative to the largest entry of the same output


def undecided(why: str, analytic: float, numeric: float, error: float) -> Exception:
    """The error for a derivative that the differences do not decide; `why` is what kept their steps small."""
    if why:
        return NotDifferentiableError(f"not differentiable here: {why}")
    return UndecidedError(
        f"the rule says {analytic:.6g}, differences say {numeric:.6g} with an error of up to {error:.1g}, as rounding "
        "in the function's values hides the derivative: leave out large terms that do not depend on the input"
    )

"""Derivatives compared with finite differences and the complex step, at any order.

Read in this order: `gradcheck` (how every order becomes a first one), `calls` (what must hold before any difference),
`entries` and `directions` (the two comparisons), `finite_differences` and `noise` (a difference, and its error),
`verdicts` (when it decides), `causes`.
"""

from minidbp.checking.complex_step import complex_step_hvp
from minidbp.checking.errors import GradcheckError, UndecidedError
from minidbp.checking.gradcheck import check_derivatives, gradcheck, gradgradcheck

__all__ = [
    "GradcheckError",
    "UndecidedError",
    "check_derivatives",
    "complex_step_hvp",
    "gradcheck",
    "gradgradcheck",
]

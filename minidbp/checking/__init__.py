"""Derivatives compared with finite differences and the complex step, at any order."""

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

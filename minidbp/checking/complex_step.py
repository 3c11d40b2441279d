"""The complex step: a second derivative without rounding error."""

import numpy as np

from minidbp.autodiff.differentiate import Function, grad
from minidbp.autodiff.tensor import COMPLEX, TensorLike, from_array, recording


def complex_step_hvp(f: Function, x: TensorLike, v: TensorLike, h: float = 1e-30) -> np.ndarray:
    """H v = Im(grad f(x + i h v)) / h for a scalar f of a real x: one backward pass in complex numbers.

    No two nearly equal numbers are subtracted, so h can be so small that the truncation error of order h^2 vanishes:
    the result is exact to rounding (Squire and Trapp 1998).  Masks, signs and the positions of maxima depend on the
    real part.  The function works in float64 only; f may use constants and parameters of float64, but not astype.
    """
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    if x.shape != v.shape:
        raise ValueError(f"complex_step_hvp: v must have the input's shape {x.shape}; got {v.shape}")
    z = from_array(np.asarray(x + 1j * h * v, COMPLEX))
    z.requires_grad = True
    with recording(True):
        y = f(z)
    return np.asarray(grad(y, z)[0].data.imag / h)

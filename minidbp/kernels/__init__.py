"""Arrays in, arrays out: the hot loops, compiled by Numba.  `reference` has the same functions as plain NumPy loops."""

import numpy as np
from numpy import matmul  # `minidbp bench kernels` replaces it, as the others, to time it

from minidbp.kernels.conv import conv2d, conv2d_transpose, conv2d_weight_grad
from minidbp.kernels.elementwise import absolute, adam, masked
from minidbp.kernels.fast.buffers import axes_in_memory, empty, empty_like
from minidbp.kernels.memory import free_memory
from minidbp.kernels.patches import ConvGeometry, Padding, Pair, col2im, im2col


def warm_up() -> None:
    """Compile every kernel for float32, or fetch it from the cache, so that no first step has to wait."""
    geometry = ConvGeometry.of((6, 6), (3, 3), 1, 1)
    for n_in, n_out in (1, 1), (1, 16), (16, 16):  # the plain, the direct and the sparse route
        image, filters = np.ones((10, 6, 6, n_in), np.float32), np.ones((3, 3, n_in, n_out), np.float32)
        y = conv2d(image, filters, geometry)
        conv2d_transpose(y, filters, geometry)
        conv2d_weight_grad(image, y, geometry)
        conv2d(image, filters, geometry, y > 0)
    masked(image, image > 0)
    absolute(image)
    zeros = np.zeros_like(filters)
    adam(filters, filters, zeros, zeros.copy(), 1, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)


__all__ = [
    "ConvGeometry",
    "Padding",
    "Pair",
    "absolute",
    "adam",
    "axes_in_memory",
    "col2im",
    "conv2d",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "empty",
    "empty_like",
    "free_memory",
    "im2col",
    "masked",
    "matmul",
    "warm_up",
]

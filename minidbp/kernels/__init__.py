"""Arrays in, arrays out: the hot loops, compiled by Numba.  `reference` has the same functions as plain NumPy loops."""

from minidbp.kernels.conv import col2im, conv2d, conv2d_transpose, conv2d_weight_grad, im2col
from minidbp.kernels.elementwise import adam, masked
from minidbp.kernels.geometry import ConvGeometry, Padding

__all__ = [
    "ConvGeometry",
    "Padding",
    "adam",
    "col2im",
    "conv2d",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "im2col",
    "masked",
]

"""The three conv functions on arrays: one trilinear form T(x, w, g) = <mask * conv(x, w), g> and its adjoints.

    conv2d(x, w)             <conv2d(x, w), g> = T(x, w, g)
    conv2d_transpose(g, w)   <x, conv2d_transpose(g, w)> = T(x, w, g)
    conv2d_weight_grad(x, g) <w, conv2d_weight_grad(x, g)> = T(x, w, g)

Shapes: images x (*B, H, W, I), filters w (kh, kw, I, O), outputs g (*B, h, w, O), with any batch axes B.  Without a
geometry the product is one of matrices: x (*B, I), w (I, O), g (*B, O).  All arrays have one dtype.

A mask is a Boolean array of the outputs.  Its shape is the end of theirs: (*B', h, w, O), or (*B', O) for matrices,
where B' is the end of B.  The leading axes of B share it.  A mask of M images for N = K * M images is taken too: image
n has the mask of image n mod M.  `conv2d` gives 0 where the mask is False, and the other two take g as 0 there.
Each function raises ValueError for a mask that does not fit.
"""

import math

import numpy as np

from minidbp.kernels import patches
from minidbp.kernels.elementwise import mask_in_place, masked
from minidbp.kernels.fast import direct as narrow
from minidbp.kernels.fast import sparse
from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.fast.microkernel import VECTOR_BYTES
from minidbp.kernels.geometry import ONE_PIXEL, ConvGeometry
from minidbp.kernels.jit import contiguous


def conv2d(
    x: np.ndarray, w: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Cross-correlation, which deep learning calls convolution: x and w to (*B, h, w, O).  It is 0 outside the mask."""
    sizes = (x.shape[:-1] if geometry is None else (*x.shape[:-3], *geometry.output)) + w.shape[-1:]
    mask = _images_of_mask("conv2d", mask, sizes, geometry)
    return _conv2d(_images(x, geometry), _filters(w, geometry), geometry or ONE_PIXEL, mask).reshape(sizes)


def conv2d_transpose(
    g: np.ndarray, w: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in x: g and w to (*B, H, W, I).  g counts as 0 outside the mask."""
    sizes = (g.shape[:-1] if geometry is None else (*g.shape[:-3], *geometry.image)) + w.shape[-2:-1]
    mask = _images_of_mask("conv2d_transpose", mask, g.shape, geometry)
    return _conv2d_transpose(_images(g, geometry), _filters(w, geometry), geometry or ONE_PIXEL, mask).reshape(sizes)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in w: x and g to (kh, kw, I, O).  g counts as 0 outside the mask."""
    mask = _images_of_mask("conv2d_weight_grad", mask, g.shape, geometry)
    w = _conv2d_weight_grad(_images(x, geometry), _images(g, geometry), geometry or ONE_PIXEL, mask)
    return w.reshape(w.shape[2:]) if geometry is None else w


def _images(array: np.ndarray, geometry: ConvGeometry | None) -> np.ndarray:
    """Images (N, H, W, C) from images with any batch axes, or from the rows of a matrix."""
    if geometry is None:
        return array.reshape(math.prod(array.shape[:-1]), 1, 1, array.shape[-1])
    return array if array.ndim == 4 else array.reshape(math.prod(array.shape[:-3]), *array.shape[-3:])


def _filters(w: np.ndarray, geometry: ConvGeometry | None) -> np.ndarray:
    return w.reshape(1, 1, *w.shape) if geometry is None else w


def _images_of_mask(
    name: str, mask: np.ndarray | None, outputs: tuple[int, ...], geometry: ConvGeometry | None
) -> np.ndarray | None:
    """A mask as (M, h, w, O).  The compiled loops check no bounds, so a mask that does not fit is refused here."""
    if mask is None:
        return None
    axes = 1 if geometry is None else 3
    batch, mask_batch = outputs[:-axes], mask.shape[:-axes]
    fits = mask_batch == batch[len(batch) - len(mask_batch) :] and len(mask_batch) <= len(batch)
    shared = len(mask_batch) == 1 and mask_batch[0] > 0 and math.prod(batch) % mask_batch[0] == 0
    if mask.dtype != bool or mask.shape[-axes:] != outputs[-axes:] or not (fits or shared):
        raise ValueError(
            f"{name}: the mask must be Boolean, and its shape the end of the outputs' shape {outputs} from "
            f"{outputs[-axes:]} on; got {mask.dtype} of shape {mask.shape}"
        )
    return _images(mask, geometry)


def _conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None) -> np.ndarray:
    channels, filters = w.shape[2:]
    if not x.size or not w.size:
        return np.zeros((len(x), *geometry.output, filters), np.result_type(x, w))
    if mask is not None and sparse.pays(mask, len(x), channels, x, w):
        return sparse.conv2d(x, w, geometry, mask)
    if narrow.pays(channels, filters, x, w) or narrow.fills_blocks(geometry, filters, x, w):
        return narrow.conv2d(x, w, geometry, mask)
    everything = _everything(geometry, filters)
    if sparse.pays(everything, len(x), channels, x, w):
        y = sparse.conv2d(x, w, geometry, everything)
    else:
        y = patches.conv2d(x, w, geometry)
    if mask is not None:
        mask_in_place(sparse.rows_of(y, mask), mask)
    return y


def _conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None) -> np.ndarray:
    channels, filters = w.shape[2:]
    if not g.size or not w.size:
        return np.zeros((len(g), *geometry.image, channels), np.result_type(g, w))
    lanes = VECTOR_BYTES // g.itemsize
    if mask is not None and not sparse.pays(mask, len(g), max(channels, lanes), g, w):
        g, mask = masked(sparse.rows_of(g, mask), mask).reshape(g.shape), None
    if mask is None:
        mask = _everything(geometry, filters)
    if not sparse.pays(mask, len(g), max(channels, lanes), g, w):
        return patches.conv2d_transpose(g, w, geometry)
    if channels >= lanes:
        return sparse.conv2d_transpose(g, w, geometry, mask)
    # pixels are shorter than a vector, but patches, filled up to whole vectors, are not: col2im of a product with them
    taps = geometry.taps * channels
    wide = np.zeros((1, 1, -(-taps // lanes) * lanes, filters), w.dtype)
    wide[0, 0, :taps] = w.reshape(taps, filters)
    places = g.size // filters, 1, 1, filters
    col = sparse.conv2d_transpose(g.reshape(places), wide, ONE_PIXEL, mask.reshape(mask.size // filters, 1, 1, filters))
    x = empty((len(g), *geometry.image, channels), g.dtype)
    return patches.col2im(col.reshape(*g.shape[:3], wide.shape[2]), geometry, out=x)


def _conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None) -> np.ndarray:
    channels, filters = x.shape[3], g.shape[3]
    if not x.size or not g.size:
        return np.zeros((*geometry.kernel, channels, filters), np.result_type(x, g))
    if mask is not None and sparse.pays(mask, len(x), channels, x, g):
        return sparse.conv2d_weight_grad(x, g, geometry, mask)
    if narrow.pays(channels, filters, x, g):
        return narrow.conv2d_weight_grad(x, g, geometry, mask)
    if mask is not None:
        g = masked(sparse.rows_of(g, mask), mask).reshape(g.shape)
    if geometry == ONE_PIXEL:
        x, g = contiguous(x).reshape(len(x), channels), contiguous(g).reshape(len(x), filters)
        return (g.T @ x).T.reshape(1, 1, channels, filters)
    everything = _everything(geometry, filters)
    if sparse.pays(everything, len(x), channels, x, g):
        return sparse.conv2d_weight_grad(x, g, geometry, everything)
    return patches.conv2d_weight_grad(x, g, geometry)


def _everything(geometry: ConvGeometry, filters: int) -> np.ndarray:
    """The mask of one image that lets all through; images share it as a Jacobian's rows share theirs."""
    return np.ones((1, *geometry.output, filters), bool)

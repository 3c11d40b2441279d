"""The three conv functions on arrays: one trilinear form T(x, w, g) = <conv(x, w), g> and its partial adjoints.

    conv2d(x, w)             <conv2d(x, w), g> = T(x, w, g)
    conv2d_transpose(g, w)   <x, conv2d_transpose(g, w)> = T(x, w, g)
    conv2d_weight_grad(x, g) <w, conv2d_weight_grad(x, g)> = T(x, w, g)

Each is here once, and says which way it goes: along lists of what a mask lets through (`sparse.py`; without a mask, of
everything), straight from the images (`narrow.py`), or by patches and BLAS (`patches.py`).  Which is
faster where was measured (benchmarks/NOTES.md); all give the same to rounding.  `reference.py` has plain loops.

Images (N, H, W, I), filters (kh, kw, I, O), outputs (N, h, w, O); one dtype for all.  A mask (M, h, w, O) belongs to
the outputs, and M divides N: the N / M rows of each image share its mask.  ValueError for any other.
"""

import numpy as np

from minidbp.kernels import patches
from minidbp.kernels.elementwise import mask_in_place, masked
from minidbp.kernels.fast import direct as narrow
from minidbp.kernels.fast import sparse
from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.fast.microkernel import VECTOR_BYTES
from minidbp.kernels.geometry import ONE_PIXEL, ConvGeometry
from minidbp.kernels.jit import contiguous


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None) -> np.ndarray:
    """Cross-correlation, as deep learning calls convolution: images (N, H, W, I) to (N, h, w, O).

    With a mask, the result is 0 where it is False, and need not be computed there.
    """
    channels, filters = w.shape[2:]
    _check("conv2d", mask, (len(x), *geometry.output, filters))
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


def conv2d_transpose(
    g: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in x: outputs (N, h, w, O) back to images (N, H, W, I).

    With a mask, g counts as 0 where it is False.
    """
    channels, filters = w.shape[2:]
    _check("conv2d_transpose", mask, g.shape)
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


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in w: images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O).

    With a mask, g counts as 0 where it is False.  In memory, the filters lie one after the other, as the layers' do.
    """
    channels, filters = x.shape[3], g.shape[3]
    _check("conv2d_weight_grad", mask, g.shape)
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


def _check(name: str, mask: np.ndarray | None, outputs: tuple[int, ...]) -> None:
    """The compiled loops look at no bounds: a mask that does not fit must not reach them."""
    if mask is None:
        return
    if mask.dtype != bool or mask.shape[1:] != outputs[1:] or (outputs[0] % len(mask) if len(mask) else outputs[0]):
        raise ValueError(
            f"{name}: the mask must be boolean of shape (M, {', '.join(map(str, outputs[1:]))}), where M divides "
            f"{outputs[0]}; got {mask.dtype} of shape {mask.shape}"
        )


def _everything(geometry: ConvGeometry, filters: int) -> np.ndarray:
    """The mask of one image that lets all through; images share it as a Jacobian's rows share theirs."""
    return np.ones((1, *geometry.output, filters), bool)

"""The direct route: convolutions from the pixels where they are, without patches.

It is made for few channels, as the first layer has.  Patches of 3 x 3 x 1 give a matrix product nine numbers wide, at
which BLAS is slow, and im2col moves more numbers than the product multiplies.  The SIMD lanes are the filters.
"""

import numpy as np

from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.fast.microkernel import ROWS, add_products
from minidbp.kernels.jit import contiguous, kernel
from minidbp.kernels.patches import ConvGeometry


@kernel
def _conv2d(x, w, mask, stride_r, stride_c, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[n, i, j] = mask * <patch of x[n], w>: x already padded, w (kh, kw, I, O), mask (M, h, w, O) for n mod M."""
    images, height, width, channels = x.shape
    _, positions_r, positions_c, filters = out.shape
    flat_x, flat_w, flat_out, flat_mask = x.reshape(x.size), w.reshape(w.size), out.reshape(out.size), mask.reshape(-1)
    taps, line = kh * kw * channels, positions_c * filters
    w_at, tap_at = np.empty(taps, np.intp), np.empty(taps, np.intp)
    for k in range(taps):
        w_at[k] = k * filters
        tap_at[k] = k // (kw * channels) * width * channels + k % (kw * channels)
    out_at, x_at = np.empty(positions_c, np.intp), np.empty(positions_c, np.intp)
    for n in range(images):
        for i in range(positions_r):
            for j in range(positions_c):
                out_at[j] = ((n * positions_r + i) * positions_c + j) * filters
                x_at[j] = ((n * height + i * stride_r) * width + j * stride_c) * channels
            at = (n * positions_r + i) * line
            flat_out[at : at + line] = 0
            add_products(flat_out, out_at, flat_w, w_at, flat_x, x_at, tap_at, 0, positions_c, taps, 0, filters)
            if mask.size:  # while the line is in the cache
                first = (n % len(mask) * positions_r + i) * line
                here, on = flat_out[at : at + line], flat_mask[first : first + line]
                for k in range(line):
                    here[k] = here[k] if on[k] else 0


@kernel
def _conv2d_weight_grad(x, g, mask, stride_r, stride_c, kh, kw, masked, out):  # type: ignore[no-untyped-def]
    """out[tap] = sum over n, i, j of x[n, pixel of the tap] * mask * g[n, i, j]: x already padded.

    mask (M, h, w, O) is that of n mod M; without one (M = 0) all of g counts.  masked: room for a line of g.
    out (taps and as many more as fill the last block of rows, O): those hold no result.
    """
    images, height, width, channels = x.shape
    _, positions_r, positions_c, filters = g.shape
    flat_x, flat_g, flat_out, flat_mask = x.reshape(x.size), g.reshape(g.size), out.reshape(out.size), mask.reshape(-1)
    flat_out[:] = 0
    taps, rows, line = kh * kw * channels, len(out), positions_c * filters
    out_at, tap_at = np.empty(rows, np.intp), np.zeros(rows, np.intp)
    for k in range(rows):
        out_at[k] = k * filters
        if k < taps:
            tap_at[k] = k // (kw * channels) * width * channels + k % (kw * channels)
    g_at, x_at = np.empty(positions_c, np.intp), np.empty(positions_c, np.intp)
    for n in range(images):
        for i in range(positions_r):
            of, first = (n * positions_r + i) * line, (n % max(1, len(mask)) * positions_r + i) * line
            if mask.size:
                here, on = flat_g[of : of + line], flat_mask[first : first + line]
                for k in range(line):
                    masked[k] = here[k] if on[k] else 0
            else:
                masked[:] = flat_g[of : of + line]
            for j in range(positions_c):
                g_at[j] = j * filters
                x_at[j] = ((n * height + i * stride_r) * width + j * stride_c) * channels
            add_products(flat_out, out_at, masked, g_at, flat_x, tap_at, x_at, 0, rows, positions_c, 0, filters)


def _padded(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x, contiguous, with the zeros around it that its patches reach into."""
    if geometry.reach == geometry.image:
        return contiguous(x)
    (top, left), (height, width) = geometry.pad, geometry.image
    padded = empty((len(x), *geometry.reach, x.shape[3]), x.dtype)
    padded[:] = 0
    padded[:, top : top + height, left : left + width] = x
    return contiguous(padded)


def _or_none(mask: np.ndarray | None, geometry: ConvGeometry, filters: int) -> np.ndarray:
    """The mask as the kernels take it: a mask of no image stands for None."""
    return contiguous(np.empty((0, *geometry.output, filters), bool) if mask is None else mask)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None) -> np.ndarray:
    """Images (N, H, W, I) to (N, h, w, O), times a mask (M, h, w, O) if one is given, where M divides N."""
    out = empty((len(x), *geometry.output, w.shape[3]), x.dtype)
    mask = _or_none(mask, geometry, w.shape[3])
    _conv2d(_padded(x, geometry), contiguous(w), mask, *geometry.stride, *geometry.kernel, out)
    return out


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """Images (N, H, W, I) and outputs (N, h, w, O), times a mask as in conv2d, to filters (kh, kw, I, O)."""
    (kh, kw), channels, filters = geometry.kernel, x.shape[3], g.shape[3]
    taps = kh * kw * channels
    out = empty((-(-taps // ROWS) * ROWS, filters), x.dtype)
    line = empty((geometry.output[1] * filters,), x.dtype)
    mask = _or_none(mask, geometry, filters)
    _conv2d_weight_grad(_padded(x, geometry), contiguous(g), mask, *geometry.stride, kh, kw, line, out)
    return out[:taps].reshape(kh, kw, channels, filters)

"""Convolutions of images with few channels, as the first layer's are: nothing is skipped, and nothing laid out.

A patch of 3 x 3 x 1 gives a matrix product nine numbers wide, which BLAS is slow at, and laying the patches out moves
more than it multiplies.  The tile takes the pixels from where they are; its lanes are the filters.
"""

import numpy as np

from minidbp.kernels.geometry import ConvGeometry
from minidbp.kernels.jit import contiguous, kernel
from minidbp.kernels.memory import empty
from minidbp.kernels.tile import ROWS, VECTOR_BYTES, add_products


@kernel
def _conv2d(x, w, stride_r, stride_c, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[n, i, j] = <patch of x[n], w>: x already padded, w (kh, kw, I, O)."""
    images, height, width, channels = x.shape
    _, places_r, places_c, filters = out.shape
    flat_x, flat_w, flat_out = x.reshape(x.size), w.reshape(w.size), out.reshape(out.size)
    taps = kh * kw * channels
    w_at, tap_at = np.empty(taps, np.intp), np.empty(taps, np.intp)
    for k in range(taps):
        w_at[k] = k * filters
        tap_at[k] = k // (kw * channels) * width * channels + k % (kw * channels)
    out_at, x_at = np.empty(places_c, np.intp), np.empty(places_c, np.intp)
    for n in range(images):
        for i in range(places_r):
            for j in range(places_c):
                out_at[j] = ((n * places_r + i) * places_c + j) * filters
                x_at[j] = ((n * height + i * stride_r) * width + j * stride_c) * channels
            flat_out[out_at[0] : out_at[0] + places_c * filters] = 0
            add_products(flat_out, out_at, flat_w, w_at, flat_x, x_at, tap_at, places_c, taps, 0, filters)


@kernel
def _conv2d_weight_grad(x, g, stride_r, stride_c, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[tap] = sum over n, i, j of x[n, pixel of the tap] * g[n, i, j]: x already padded.

    out (taps and as many more as fill the last block up, O): what those hold means nothing.
    """
    images, height, width, channels = x.shape
    _, places_r, places_c, filters = g.shape
    flat_x, flat_g, flat_out = x.reshape(x.size), g.reshape(g.size), out.reshape(out.size)
    flat_out[:] = 0
    taps, rows = kh * kw * channels, len(out)
    out_at, tap_at = np.empty(rows, np.intp), np.zeros(rows, np.intp)
    for k in range(rows):
        out_at[k] = k * filters
        if k < taps:
            tap_at[k] = k // (kw * channels) * width * channels + k % (kw * channels)
    g_at, x_at = np.empty(places_c, np.intp), np.empty(places_c, np.intp)
    for n in range(images):
        for i in range(places_r):
            for j in range(places_c):
                g_at[j] = ((n * places_r + i) * places_c + j) * filters
                x_at[j] = ((n * height + i * stride_r) * width + j * stride_c) * channels
            add_products(flat_out, out_at, flat_g, g_at, flat_x, tap_at, x_at, rows, places_c, 0, filters)


def pays(channels: int, filters: int, *arrays: np.ndarray) -> bool:
    """Whether this beats patches and a matrix product: for few channels in and a vector's worth of filters out."""
    if {array.dtype for array in arrays} not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        return False
    return channels * arrays[0].itemsize < VECTOR_BYTES <= filters * arrays[0].itemsize


def _padded(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x with the zeros around it that its patches reach into."""
    size = [
        max(before + n, (places - 1) * stride + k)
        for before, n, places, stride, k in zip(
            geometry.pad, geometry.image, geometry.output, geometry.stride, geometry.kernel, strict=True
        )
    ]
    (top, left), (height, width) = geometry.pad, geometry.image
    if size == [height, width]:
        return contiguous(x)
    padded = empty((len(x), *size, x.shape[3]), x.dtype)
    padded[:] = 0
    padded[:, top : top + height, left : left + width] = x
    return contiguous(padded)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) to (N, h, w, O)."""
    out = empty((len(x), *geometry.output, w.shape[3]), x.dtype)
    _conv2d(_padded(x, geometry), contiguous(w), *geometry.stride, *geometry.kernel, out)
    return out


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O)."""
    (kh, kw), channels, filters = geometry.kernel, x.shape[3], g.shape[3]
    taps = kh * kw * channels
    out = empty((-(-taps // ROWS) * ROWS, filters), x.dtype)
    _conv2d_weight_grad(_padded(x, geometry), contiguous(g), *geometry.stride, kh, kw, out)
    return out[:taps].reshape(kh, kw, channels, filters)

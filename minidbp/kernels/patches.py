"""The conv family by patches: laid out as rows (im2col), the patches of an image turn a convolution into a product.

This serves every shape and dtype, and is what the other ways are measured against.  Numba moves the pixels, a few
images at a time so that their patches stay in the processor's cache; NumPy's BLAS multiplies.
"""

import math

import numpy as np

from minidbp.kernels.fast.buffers import empty
from minidbp.kernels.geometry import ConvGeometry
from minidbp.kernels.jit import contiguous, kernel

# Bytes of patches to hold at a time: measured best of 0.5 to 4 MiB on two cores with 1 MiB of L2 each (a smaller
# product wastes more than a spill into L3).
PATCH_BYTES = 1 << 21


@kernel
def _im2col(x, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """out[n, i, j, a, b, :] = x[n, i*stride_r + a - top, j*stride_c + b - left, :], and 0 outside the image."""
    n_images, height, width, channels = x.shape
    _, rows, cols, _ = out.shape
    run = kw * channels
    for n in range(n_images):
        for i in range(rows):
            for j in range(cols):
                c0 = j * stride_c - left
                for a in range(kh):
                    r = i * stride_r + a - top
                    patch = out[n, i, j, a * run : (a + 1) * run]
                    if r < 0 or r >= height:
                        patch[:] = 0
                    elif c0 >= 0 and c0 + kw <= width:
                        for b in range(kw):
                            for k in range(channels):
                                patch[b * channels + k] = x[n, r, c0 + b, k]
                    else:
                        for b in range(kw):
                            inside = 0 <= c0 + b < width
                            for k in range(channels):
                                patch[b * channels + k] = x[n, r, c0 + b, k] if inside else 0


@kernel
def _col2im(col, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """The adjoint of _im2col: add every patch of col (N, h, w, kh*kw*I or more) onto the pixels it was taken from."""
    n_images, height, width, channels = out.shape
    _, rows, cols, size = col.shape
    flat_col, flat_out = col.reshape(col.size), out.reshape(out.size)
    flat_out[:] = 0
    for n in range(n_images):
        for i in range(rows):
            for a in range(kh):
                r = i * stride_r + a - top
                if r < 0 or r >= height:
                    continue
                patch = (n * rows + i) * cols * size + a * kw * channels
                pixel = (n * height + r) * width * channels
                if kw * channels > 4:  # long runs of numbers lie together in both
                    for j in range(cols):
                        c0 = j * stride_c - left
                        first, last = max(0, -c0) * channels, min(kw, width - c0) * channels
                        to = flat_out[pixel + c0 * channels + first : pixel + c0 * channels + last]
                        run = flat_col[patch + j * size + first : patch + j * size + last]
                        for k in range(last - first):
                            to[k] += run[k]
                else:  # there are more patches in a line than numbers in a run
                    for b in range(kw):
                        first = max(0, -((b - left) // stride_c))  # the first and last patch whose column b is inside
                        last = min(cols, (width - 1 - b + left) // stride_c + 1)
                        for k in range(channels):
                            for j in range(first, last):
                                at = pixel + (j * stride_c - left + b) * channels + k
                                flat_out[at] += flat_col[patch + j * size + b * channels + k]


def im2col(x: np.ndarray, geometry: ConvGeometry, out: np.ndarray | None = None) -> np.ndarray:
    """The patches of x (N, H, W, I) as rows: (N, h, w, kh*kw*I), written into `out` if given."""
    if out is None:
        (kh, kw), channels = geometry.kernel, x.shape[3]
        out = empty((x.shape[0], *geometry.output, kh * kw * channels), x.dtype)
    _im2col(contiguous(x), *geometry.layout, out)
    return out


def col2im(col: np.ndarray, geometry: ConvGeometry, out: np.ndarray | None = None) -> np.ndarray:
    """The adjoint of im2col: patches (N, h, w, kh*kw*I) added up to images (N, H, W, I), into `out` if given."""
    if out is None:
        channels = col.shape[3] // geometry.taps
        out = empty((col.shape[0], *geometry.image, channels), col.dtype)
    _col2im(contiguous(col), *geometry.layout, out)
    return out


def _room(n: int, channels: int, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """Room for the patches of as many images, up to n, as PATCH_BYTES hold: (images, h, w, kh*kw*I)."""
    shape = *geometry.output, geometry.taps * channels
    image_bytes = max(1, math.prod(shape) * dtype.itemsize)
    return empty((max(1, min(n, PATCH_BYTES // image_bytes)), *shape), dtype)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) to (N, h, w, O)."""
    x, matrix = contiguous(x), w.reshape(-1, w.shape[3])
    taps, filters = matrix.shape
    y = empty((len(x), *geometry.output, filters), np.result_type(x, w))
    patches = _room(len(x), x.shape[3], geometry, x.dtype)
    for start in range(0, len(x), len(patches)):
        part = x[start : start + len(patches)]
        col = im2col(part, geometry, out=patches[: len(part)])
        rows = len(part) * geometry.places
        np.matmul(col.reshape(rows, taps), matrix, out=y[start : start + len(part)].reshape(rows, filters))
    return y


def conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Outputs (N, h, w, O) back to images (N, H, W, I)."""
    g, matrix = contiguous(g), w.reshape(-1, w.shape[3])
    taps, filters = matrix.shape
    x = empty((len(g), *geometry.image, w.shape[2]), np.result_type(g, w))
    patches = _room(len(g), w.shape[2], geometry, x.dtype)
    for start in range(0, len(g), len(patches)):
        part = g[start : start + len(patches)]
        col = patches[: len(part)]
        rows = len(part) * geometry.places
        np.matmul(part.reshape(rows, filters), matrix.T, out=col.reshape(rows, taps))
        col2im(col, geometry, out=x[start : start + len(part)])
    return x


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O), which lie apart in memory."""
    x, g = contiguous(x), contiguous(g)
    channels, filters = x.shape[3], g.shape[3]
    w = np.zeros((filters, geometry.taps * channels), np.result_type(x, g))
    patches = _room(len(x), channels, geometry, x.dtype)
    for start in range(0, len(x), len(patches)):
        part = x[start : start + len(patches)]
        col = im2col(part, geometry, out=patches[: len(part)])
        rows = len(part) * geometry.places
        w += g[start : start + len(part)].reshape(rows, filters).T @ col.reshape(rows, w.shape[1])
    return w.T.reshape(*geometry.kernel, channels, filters)

"""The three conv functions on arrays: one trilinear form T(x, w, g) = <conv(x, w), g> and its partial adjoints.

    conv2d(x, w)             <conv2d(x, w), g> = T(x, w, g)
    conv2d_transpose(g, w)   <x, conv2d_transpose(g, w)> = T(x, w, g)
    conv2d_weight_grad(x, g) <w, conv2d_weight_grad(x, g)> = T(x, w, g)

Each is a matrix product with the patches of the image laid out as rows (im2col), taken a few images at a time so that
the patches stay in the processor's cache.  Numba moves the pixels, NumPy's BLAS multiplies.  `reference.py` has the
same functions as plain loops.  Images (N, H, W, I), filters (kh, kw, I, O), outputs (N, h, w, O); one dtype for all.
"""

import math

import numpy as np

from minidbp.kernels import narrow, sparse
from minidbp.kernels.elementwise import mask_in_place, masked
from minidbp.kernels.geometry import ConvGeometry
from minidbp.kernels.jit import contiguous, kernel
from minidbp.kernels.memory import empty
from minidbp.kernels.tile import VECTOR_BYTES

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


def _patches(n: int, channels: int, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """Room for the patches of as many images, up to n, as PATCH_BYTES hold: (images, h, w, kh*kw*I)."""
    shape = *geometry.output, _taps(geometry) * channels
    image_bytes = max(1, math.prod(shape) * dtype.itemsize)
    return empty((max(1, min(n, PATCH_BYTES // image_bytes)), *shape), dtype)


ONE_PIXEL = ConvGeometry.of((1, 1), (1, 1), 1, "valid")


def _one_pixel(geometry: ConvGeometry) -> bool:
    """Whether the convolution is a matrix product."""
    return geometry == ONE_PIXEL


def _taps(geometry: ConvGeometry) -> int:
    return geometry.kernel[0] * geometry.kernel[1]


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
        channels = col.shape[3] // (geometry.kernel[0] * geometry.kernel[1])
        out = empty((col.shape[0], *geometry.image, channels), col.dtype)
    _col2im(contiguous(col), *geometry.layout, out)
    return out


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None) -> np.ndarray:
    """Cross-correlation, as deep learning calls convolution: images (N, H, W, I) to (N, h, w, O).

    mask (M, h, w, O), where M divides N: the result is 0 where it is False, and need not be computed there.
    """
    channels, filters = w.shape[2:]
    if sparse.pays(mask, len(x), channels, x, w):
        return sparse.conv2d(x, w, geometry, mask)  # type: ignore[arg-type]
    if narrow.pays(channels, filters, x, w):
        return narrow.conv2d(x, w, geometry, mask)
    if mask is not None:
        y = conv2d(x, w, geometry)
        mask_in_place(y.reshape(len(y) // max(1, len(mask)), *mask.shape), mask)
        return y
    x, matrix = contiguous(x), w.reshape(-1, filters)
    y = empty((x.shape[0], *geometry.output, filters), np.result_type(x, w))
    if _one_pixel(geometry):
        np.matmul(x.reshape(len(x), channels), matrix, out=y.reshape(len(x), filters))
        return y
    patches = _patches(len(x), channels, geometry, x.dtype)
    step = len(patches)
    for start in range(0, len(x), step):
        part = x[start : start + step]
        col = im2col(part, geometry, out=patches[: len(part)])
        rows = len(part) * geometry.output[0] * geometry.output[1]
        np.matmul(col.reshape(rows, len(matrix)), matrix, out=y[start : start + step].reshape(rows, filters))
    return y


def conv2d_transpose(
    g: np.ndarray, w: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in x: outputs (N, h, w, O) back to images (N, H, W, I).

    mask (M, h, w, O), where M divides N: g counts as 0 where it is False.
    """
    channels, filters = w.shape[2:]
    if sparse.pays(mask, len(g), channels, g, w):
        return sparse.conv2d_transpose(g, w, geometry, mask)  # type: ignore[arg-type]
    g, matrix = contiguous(g), w.reshape(-1, filters)
    if mask is not None and sparse.pays(mask, len(g), VECTOR_BYTES, g, w):  # pixels are short, but patches can be long
        return _transpose_by_patches(g, matrix, geometry, mask)
    if mask is not None:
        g = _masked(g, mask)
    x = empty((g.shape[0], *geometry.image, channels), np.result_type(g, w))
    if _one_pixel(geometry):
        np.matmul(g.reshape(len(g), filters), matrix.T, out=x.reshape(len(g), channels))
        return x
    patches = _patches(len(g), channels, geometry, x.dtype)
    step = len(patches)
    for start in range(0, len(g), step):
        part = g[start : start + step]
        col = patches[: len(part)]
        rows = len(part) * geometry.output[0] * geometry.output[1]
        np.matmul(part.reshape(rows, filters), matrix.T, out=col.reshape(rows, len(matrix)))
        col2im(col, geometry, out=x[start : start + step])
    return x


def _masked(g: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """g (R * M, ...) with 0 where mask (M, ...) is false."""
    return masked(g.reshape(len(g) // max(1, len(mask)), *mask.shape), mask).reshape(g.shape)


def _transpose_by_patches(g: np.ndarray, matrix: np.ndarray, geometry: ConvGeometry, mask: np.ndarray) -> np.ndarray:
    """conv2d_transpose as a masked product with the filters, into patches of whole vectors, and col2im."""
    taps, filters = matrix.shape
    lanes = VECTOR_BYTES // g.itemsize
    wide = np.zeros((1, 1, -(-taps // lanes) * lanes, filters), g.dtype)
    wide[0, 0, :taps] = matrix
    col = sparse.conv2d_transpose(
        g.reshape(g.size // filters, 1, 1, filters), wide, ONE_PIXEL, mask.reshape(mask.size // filters, 1, 1, filters)
    )
    x = empty((len(g), *geometry.image, taps // _taps(geometry)), g.dtype)
    return col2im(col.reshape(*g.shape[:3], wide.shape[2]), geometry, out=x)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, mask: np.ndarray | None = None
) -> np.ndarray:
    """The adjoint of conv2d in w: images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O).

    In memory, the filters lie one after the other, as the layers' do.
    mask (M, h, w, O), where M divides N: g counts as 0 where it is False.
    """
    channels, filters = x.shape[3], g.shape[3]
    if sparse.pays(mask, len(x), channels, x, g):
        return sparse.conv2d_weight_grad(x, g, geometry, mask)  # type: ignore[arg-type]
    if narrow.pays(channels, filters, x, g):
        return narrow.conv2d_weight_grad(x, g, geometry, mask)
    if mask is not None:
        g = _masked(g, mask)
    x, g = contiguous(x), contiguous(g)
    if _one_pixel(geometry):
        return (g.reshape(len(x), filters).T @ x.reshape(len(x), channels)).T.reshape(1, 1, channels, filters)
    w = np.zeros((filters, _taps(geometry) * channels), np.result_type(x, g))
    patches = _patches(len(x), channels, geometry, x.dtype)
    step = len(patches)
    for start in range(0, len(x), step):
        part = x[start : start + step]
        col = im2col(part, geometry, out=patches[: len(part)])
        rows = len(part) * geometry.output[0] * geometry.output[1]
        w += g[start : start + step].reshape(rows, filters).T @ col.reshape(rows, w.shape[1])
    return w.T.reshape(*geometry.kernel, channels, filters)

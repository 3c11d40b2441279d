"""The plain route of the conv family: the patches of the images as the rows of a matrix (im2col), multiplied by BLAS.

This route serves every shape and dtype, and the faster routes are measured against it.  It takes a few images at a
time, so that their patches stay in the processor's cache.  Images are (N, H, W, I), filters (kh, kw, I, O), and outputs
(N, h, w, O), all of one dtype and none of them empty.
"""

import numpy as np

from minidbp.kernels.geometry import ConvGeometry
from minidbp.kernels.jit import contiguous, kernel

# Bytes of patches at a time.  This was measured as the best of 0.5 to 4 MiB on two cores with 1 MiB of L2 each: a
# smaller product wastes more than a spill into L3.
PATCH_BYTES = 1 << 21


def im2col(x: np.ndarray, geometry: ConvGeometry, out: np.ndarray | None = None) -> np.ndarray:
    """The patches of x (N, H, W, I) as rows: (N, h, w, kh*kw*I), written into `out` if given."""
    n, height, width, channels = x.shape
    if out is None:
        out = np.empty((n, *geometry.output, geometry.taps * channels), x.dtype)
    if geometry.reach == geometry.image:
        x = np.ascontiguousarray(x)
    else:
        (top, left), image = geometry.pad, x
        x = np.zeros((n, *geometry.reach, channels), x.dtype)
        x[:, top : top + height, left : left + width] = image
    (stride_r, stride_c), (of_image, of_row, of_pixel, of_channel) = geometry.stride, x.strides
    patches = np.ndarray(  # a view of x, in which a pixel stands once for each patch that it is in
        (n, *geometry.output, *geometry.kernel, channels), x.dtype, x,
        strides=(of_image, of_row * stride_r, of_pixel * stride_c, of_row, of_pixel, of_channel),
    )  # fmt: skip
    out.reshape(patches.shape)[...] = patches
    return out


@kernel
def _col2im(col, stride_r, stride_c, top, left, kh, kw, out):  # type: ignore[no-untyped-def]
    """The adjoint of im2col: add every patch of col (N, h, w, kh*kw*I or more) to the pixels that it was taken from."""
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
                if kw * channels > 4:  # long runs of numbers are contiguous in both arrays
                    for j in range(cols):
                        c0 = j * stride_c - left
                        first, last = max(0, -c0) * channels, min(kw, width - c0) * channels
                        to = flat_out[pixel + c0 * channels + first : pixel + c0 * channels + last]
                        run = flat_col[patch + j * size + first : patch + j * size + last]
                        for k in range(last - first):
                            to[k] += run[k]
                else:  # a line has more patches than a run has numbers
                    for b in range(kw):
                        first = max(0, -((b - left) // stride_c))  # the first and last patch whose column b is inside
                        last = min(cols, (width - 1 - b + left) // stride_c + 1)
                        for k in range(channels):
                            for j in range(first, last):
                                at = pixel + (j * stride_c - left + b) * channels + k
                                flat_out[at] += flat_col[patch + j * size + b * channels + k]


def col2im(col: np.ndarray, geometry: ConvGeometry, out: np.ndarray | None = None) -> np.ndarray:
    """The adjoint of im2col: patches (N, h, w, kh*kw*I) added up to images (N, H, W, I), in `out` if given."""
    if out is None:
        out = np.empty((len(col), *geometry.image, col.shape[3] // geometry.taps), col.dtype)
    _col2im(contiguous(col), *geometry.layout, out)
    return out


def _room(images: np.ndarray, channels: int, geometry: ConvGeometry) -> np.ndarray:
    """Room for the patches (n, h, w, kh*kw*I) of as many of these images as PATCH_BYTES hold, and of one at least."""
    taps = geometry.taps * channels
    n = max(1, PATCH_BYTES // (geometry.positions * taps * images.itemsize))
    return np.empty((min(n, len(images)), *geometry.output, taps), images.dtype)


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) to (N, h, w, O)."""
    matrix, room = w.reshape(-1, w.shape[3]), _room(x, x.shape[3], geometry)
    taps, filters = matrix.shape
    y = np.empty((len(x), *geometry.output, filters), x.dtype)
    for start in range(0, len(x), len(room)):
        part = x[start : start + len(room)]
        col = im2col(part, geometry, room[: len(part)]).reshape(-1, taps)
        np.matmul(col, matrix, out=y[start : start + len(part)].reshape(-1, filters))
    return y


def conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Outputs (N, h, w, O) back to images (N, H, W, I)."""
    matrix, room = w.reshape(-1, w.shape[3]), _room(g, w.shape[2], geometry)
    taps, filters = matrix.shape
    x = np.empty((len(g), *geometry.image, w.shape[2]), g.dtype)
    for start in range(0, len(g), len(room)):
        part = g[start : start + len(room)]
        col = room[: len(part)]
        np.matmul(part.reshape(-1, filters), matrix.T, out=col.reshape(-1, taps))
        col2im(col, geometry, x[start : start + len(part)])
    return x


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O), one after the other in memory."""
    channels, filters, room = x.shape[3], g.shape[3], _room(x, x.shape[3], geometry)
    w = np.zeros((filters, room.shape[3]), x.dtype)
    for start in range(0, len(x), len(room)):
        part = x[start : start + len(room)]
        col = im2col(part, geometry, room[: len(part)]).reshape(-1, w.shape[1])
        w += g[start : start + len(part)].reshape(-1, filters).T @ col
    return w.T.reshape(*geometry.kernel, channels, filters)

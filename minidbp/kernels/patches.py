"""The patches of an image under a convolution's kernel, and the plain route: patches as rows (im2col), and BLAS.

The plain route serves every shape and dtype, and the faster routes are measured against it.  It takes a few images at a
time, so that their patches stay in the processor's cache.  Images are (N, H, W, I), filters (kh, kw, I, O), and outputs
(N, h, w, O), all of one dtype.  For the products, none of them is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from minidbp.kernels.jit import contiguous, kernel

Pair = tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[Pair, Pair]

# Bytes of patches at a time.  This was measured as the best of 0.5 to 4 MiB on two cores with 1 MiB of L2 each: a
# smaller product wastes more than a spill into L3.
PATCH_BYTES = 1 << 21


@dataclass(frozen=True)
class ConvGeometry:
    """All sizes, in pixels as (height, width), that the three conv functions agree on.

    `pad` is the number of zero rows and columns before the image (top, left).  `output` is the number of positions that
    the kernel takes; the zeros behind the image follow from it.
    """

    image: Pair
    kernel: Pair
    stride: Pair
    pad: Pair
    output: Pair

    @cached_property
    def taps(self) -> int:
        """How many pixels the kernel covers."""
        return self.kernel[0] * self.kernel[1]

    @cached_property
    def positions(self) -> int:
        """How many positions the kernel takes."""
        return self.output[0] * self.output[1]

    @cached_property
    def reach(self) -> Pair:
        """The size of the padded image, which all patches lie in."""
        (top, left), (height, width), (kh, kw), (sr, sc) = self.pad, self.image, self.kernel, self.stride
        return max(top + height, (self.output[0] - 1) * sr + kh), max(left + width, (self.output[1] - 1) * sc + kw)

    @cached_property
    def layout(self) -> tuple[int, int, int, int, int, int]:
        """Stride, padding before the image, and kernel, as the compiled loops take them."""
        return *self.stride, *self.pad, *self.kernel

    @staticmethod
    def of(image: Sequence[int], kernel: Sequence[int], stride: int | Pair, padding: Padding) -> "ConvGeometry":
        """The geometry of a convolution of an image (H, W) with a kernel (kh, kw).

        `padding` is "valid" (none), "same" (TensorFlow's: ceil(size / stride) outputs, the odd zero at the end), an
        int for all four sides, (vertical, horizontal), or ((top, bottom), (left, right)).  Raises ValueError for a
        stride below 1, a negative or unknown padding, and a kernel that is larger than the padded image.
        """
        try:
            return _cached(image, kernel, stride, padding)
        except TypeError:  # a list has no hash
            return _geometry(image, kernel, stride, padding)


def _geometry(image: Sequence[int], kernel: Sequence[int], stride: int | Pair, padding: Padding) -> ConvGeometry:
    image, kernel, strides = _pair(image, "the image"), _pair(kernel, "the kernel"), _pair(stride, "stride")
    if min(strides) < 1:
        raise ValueError(f"conv: stride must be at least 1; got {stride!r}")
    pads = _pads(image, kernel, strides, padding)
    output = []
    for size, k, s, (before, after) in zip(image, kernel, strides, pads, strict=True):
        if k < 1 or size + before + after < k:
            raise ValueError(
                f"conv: a kernel of {kernel[0]}x{kernel[1]} does not fit into an image of {image[0]}x{image[1]} "
                f"with padding {pads}"
            )
        output.append((size + before + after - k) // s + 1)
    return ConvGeometry(image, kernel, strides, (pads[0][0], pads[1][0]), (output[0], output[1]))


_cached = lru_cache(maxsize=1024, typed=True)(_geometry)


def _pair(value: int | Sequence[int], what: str) -> Pair:
    if isinstance(value, (int, np.integer)):
        return int(value), int(value)
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, (int, np.integer)) for v in value):
        return int(value[0]), int(value[1])
    raise ValueError(f"conv: {what} must be an int or a pair of ints; got {value!r}")


def _pads(image: Pair, kernel: Pair, stride: Pair, padding: Padding) -> tuple[Pair, Pair]:
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        vertical, horizontal = (_same(size, k, s) for size, k, s in zip(image, kernel, stride, strict=True))
        return vertical, horizontal
    if isinstance(padding, (int, np.integer)):
        padding = (int(padding), int(padding))
    if not isinstance(padding, (tuple, list)) or len(padding) != 2:
        raise ValueError(
            f'conv: padding must be "valid", "same", an int, (vertical, horizontal) or ((top, bottom), (left, right));'
            f" got {padding!r}"
        )
    vertical, horizontal = (_pair(side, "padding") for side in padding)
    if min(*vertical, *horizontal) < 0:
        raise ValueError(f"conv: padding must not be negative; got {padding!r}")
    return vertical, horizontal


def _same(size: int, kernel: int, stride: int) -> Pair:
    """TensorFlow's rule: ceil(size / stride) outputs, the padding split with the odd zero at the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


ONE_PIXEL = ConvGeometry.of((1, 1), (1, 1), 1, "valid")  # the convolution of images of one pixel is a matrix product


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


def conv2d(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) to (N, h, w, O)."""
    matrix = w.reshape(-1, w.shape[3])
    taps, filters = matrix.shape
    y = np.empty((len(x), *geometry.output, filters), np.result_type(x, w))
    step = 1 + PATCH_BYTES // (geometry.positions * taps * x.itemsize)  # images at a time
    for at in range(0, len(x), step):
        col = im2col(x[at : at + step], geometry).reshape(-1, taps)
        np.matmul(col, matrix, out=y[at : at + step].reshape(-1, filters))
    return y


def conv2d_transpose(g: np.ndarray, w: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Outputs (N, h, w, O) back to images (N, H, W, I)."""
    matrix = w.reshape(-1, w.shape[3])
    taps, filters = matrix.shape
    x = np.empty((len(g), *geometry.image, w.shape[2]), np.result_type(g, w))
    step = 1 + PATCH_BYTES // (geometry.positions * taps * g.itemsize)
    for at in range(0, len(g), step):
        col = g[at : at + step].reshape(-1, filters) @ matrix.T
        col2im(col.reshape(-1, *geometry.output, taps), geometry, x[at : at + step])
    return x


def conv2d_weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Images (N, H, W, I) and outputs (N, h, w, O) to filters (kh, kw, I, O), one after the other in memory."""
    taps, filters = geometry.taps * x.shape[3], g.shape[3]
    w = np.zeros((filters, taps), np.result_type(x, g))
    step = 1 + PATCH_BYTES // (geometry.positions * taps * x.itemsize)
    for at in range(0, len(x), step):
        col = im2col(x[at : at + step], geometry).reshape(-1, taps)
        w += g[at : at + step].reshape(-1, filters).T @ col
    return w.T.reshape(*geometry.kernel, x.shape[3], filters)

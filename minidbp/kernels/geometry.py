"""The geometry of a 2-D convolution: stride, padding, and the sizes they lead to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

Pair = tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[Pair, Pair]


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

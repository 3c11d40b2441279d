"""Double backward of the conv family on the geometries that PyTorch and Chainer try: small and awkward ones."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.checking.gradcheck import check_order

PADDINGS: list[Any] = ["valid", "same", 1, (0, 2), ((1, 0), (2, 1))]

# kernels 1 to 8, strides 1 to 3, every kind of padding; the image is as small as the kernel every other time, so that
# a valid convolution leaves one pixel; batch and channels run through 1 to 3 and 1 to 4
GEOMETRIES = [
    (k, stride, padding, k + (i % 2) * 2, 1 + i % 3, 1 + i % 4, 1 + (i // 2) % 4)
    for i, (k, stride, padding) in enumerate(product(range(1, 9), (1, 2, 3), PADDINGS))
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_double_backward(geometry: tuple[Any, ...]) -> None:
    """v^T J in x, w and v, which takes all three functions of the family and each one's rules."""
    k, stride, padding, size, n, channels, filters = geometry
    rng = np.random.default_rng(k)
    x, w = rng.standard_normal((n, size, size, channels)), rng.standard_normal((k, k, channels, filters))
    assert check_order(lambda x, w: mdb.conv2d(x, w, None, stride, padding), (x, w), 2)


@pytest.mark.parametrize(("stride", "padding"), list(product([(1, 2), (3, 1)], ["valid", "same", ((0, 1), (2, 0))])))
def test_uneven_strides_kernels_and_images(stride: tuple[int, int], padding: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 3, 2, 2))
    assert check_order(lambda x, w: mdb.conv2d(x, w, None, stride, padding), (x, w), 2)
    assert check_order(lambda x, w: mdb.conv2d(x, w, None, stride, padding), (x, w), 3)


def test_an_output_of_one_pixel() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 3, 3, 2)), rng.standard_normal((3, 3, 2, 3))
    y = mdb.conv2d(x, w)
    assert y.shape == (2, 1, 1, 3)
    np.testing.assert_allclose(y.data[:, 0, 0], np.tensordot(x, w, 3), rtol=1e-13)
    assert mdb.check_derivatives(lambda x, w: mdb.conv2d(x, w), (x, w), order=3)

"""The geometry, im2col with its adjoint, and the products by BLAS: the same as the plain loops."""

from typing import Any

import numpy as np
import pytest
from conv_problems import FEW, Problem, assert_close, problems
from hypothesis import given
from hypothesis import strategies as st

from minidbp.kernels import ConvGeometry, patches, reference
from minidbp.kernels.patches import ONE_PIXEL

DTYPES = (np.float32, np.float64, np.complex128)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_same_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    # www.tensorflow.org/api_docs/python/tf/nn, "Notes on padding", as it is written there
    outputs = int(np.ceil(size / stride))
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    geometry = ConvGeometry.of((size, size), (kernel, kernel), stride, "same")
    assert geometry.output == (outputs, outputs)
    assert geometry.pad == (total // 2, total // 2)


@pytest.mark.parametrize(
    ("stride", "padding", "pad", "output"),
    [
        (1, "valid", (0, 0), (5, 6)),
        (1, "same", (1, 0), (7, 7)),
        ((2, 3), "same", (1, 0), (4, 3)),
        (2, "valid", (0, 0), (3, 3)),
        (1, 2, (2, 2), (9, 10)),
        (1, (1, 2), (1, 2), (7, 10)),
        (1, ((0, 1), (2, 0)), (0, 2), (6, 8)),
        ([2, 1], [[0, 1], [2, 0]], (0, 2), (3, 8)),
        (np.int64(2), np.int32(1), (1, 1), (4, 4)),
        ((np.int64(2), 2), (np.int64(1), 1), (1, 1), (4, 4)),
    ],
)
def test_sizes(stride: Any, padding: Any, pad: tuple[int, int], output: tuple[int, int]) -> None:
    assert ConvGeometry.of((7, 7), (3, 2), stride, padding) == ConvGeometry(
        (7, 7), (3, 2), stride if isinstance(stride, tuple) else tuple(np.broadcast_to(stride, 2)), pad, output
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "message"),
    [
        ((3, 3), 0, "valid", "stride must be at least 1; got 0"),
        ((3, 3), (1, -1), "valid", r"stride must be at least 1; got \(1, -1\)"),
        ((3, 3), 1.5, "valid", "stride must be an int or a pair of ints; got 1.5"),
        ((3, 3), (1, 2, 3), "valid", r"stride must be an int or a pair of ints; got \(1, 2, 3\)"),
        ((3, 3), 1, "full", "padding must be .* got 'full'"),
        ((3, 3), 1, None, "padding must be .* got None"),
        ((3, 3), 1, 0.5, "padding must be .* got 0.5"),
        ((3, 3), 1, (1, 2, 3), r"padding must be .* got \(1, 2, 3\)"),
        ((3, 3), 1, -1, "padding must not be negative"),
        ((3, 3), 1, ((0, 0), (0, -1)), "padding must not be negative"),
        ((3, 3), 1, (0, "same"), "padding must be an int or a pair of ints; got 'same'"),
        ((6, 3), 1, "valid", r"kernel of 6x3 does not fit into an image of 5x4 with padding \(\(0, 0\), \(0, 0\)\)"),
        ((3, 9), 1, 2, "kernel of 3x9 does not fit into an image of 5x4"),
        ((0, 3), 1, "valid", "kernel of 0x3 does not fit"),
    ],
)
def test_what_does_not_fit(kernel: Any, stride: Any, padding: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"conv: (a )?{message}"):
        ConvGeometry.of((5, 4), kernel, stride, padding)


def test_a_geometry_is_made_once() -> None:
    first = ConvGeometry.of((7, 7), (3, 2), 2, "same")
    assert ConvGeometry.of((7, 7), (3, 2), 2, "same") is first
    assert ConvGeometry.of([7, 7], [3, 2], [2, 2], "same") == first


@given(problems(FEW, DTYPES, rows=(1,), images=(0, 1, 3)))
def test_im2col_and_col2im_are_their_references(problem: Problem) -> None:
    geometry, x = problem.geometry, problem.x
    col = patches.im2col(x, geometry)
    taps = geometry.kernel[0] * geometry.kernel[1] * x.shape[3]
    assert col.shape == (len(x), *geometry.output, taps)
    rows = col.reshape(-1, taps)
    if len(x):  # reference.im2col lets NumPy infer the row length, which it cannot from nothing
        np.testing.assert_array_equal(rows, reference.im2col(x, geometry))
    assert_close(patches.col2im(col, geometry), reference.col2im(rows, len(x), geometry), 300)


@pytest.mark.parametrize("patch_bytes", [1, 4000, patches.PATCH_BYTES])
@given(problem=problems(FEW, DTYPES, rows=(1,)))
def test_products_are_their_references(patch_bytes: int, problem: Problem) -> None:
    geometry, x, w, g = problem.geometry, problem.x, problem.w, problem.inside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "PATCH_BYTES", patch_bytes)  # 1: every image is a chunk of its own
        assert_close(patches.conv2d(x, w, geometry), reference.conv2d(x, w, geometry), 300)
        assert_close(patches.conv2d_transpose(g, w, geometry), problem.conv2d_transpose, 300)
        assert_close(patches.conv2d_weight_grad(x, g, geometry), problem.conv2d_weight_grad, 300)


def test_filters_lie_one_after_the_other() -> None:
    w = patches.conv2d_weight_grad(np.ones((2, 1, 1, 3)), np.ones((2, 1, 1, 4)), ONE_PIXEL)
    assert np.moveaxis(w, -1, 0).flags.c_contiguous


def test_what_was_in_the_output_before_does_not_matter() -> None:
    geometry = ConvGeometry.of((5, 5), (3, 3), 2, 1)
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3))
    dirty = np.full((2, 3, 3, 27), np.nan)
    np.testing.assert_array_equal(patches.im2col(x, geometry, out=dirty), patches.im2col(x, geometry))
    image = np.full((2, 5, 5, 3), np.nan)
    np.testing.assert_array_equal(patches.col2im(dirty, geometry, out=image), patches.col2im(dirty, geometry))


def test_longer_patches_than_the_kernel_takes() -> None:
    """The sparse route fills patches up to whole vectors; col2im ignores what is behind the kernel's pixels."""
    geometry = ConvGeometry.of((6, 5), (3, 2), (2, 1), 1)
    col = np.random.default_rng(0).standard_normal((2, *geometry.output, 8))
    col[..., 6:] = np.nan
    image = patches.col2im(col, geometry, out=np.empty((2, 6, 5, 1)))
    np.testing.assert_array_equal(image, patches.col2im(col[..., :6], geometry))


def test_images_are_not_changed() -> None:
    x = np.ones((1, 4, 4, 1))
    x.flags.writeable = False
    col = patches.im2col(x, ConvGeometry.of((4, 4), (2, 2), 1, "valid"))
    col[...] = 0
    np.testing.assert_array_equal(x, 1)

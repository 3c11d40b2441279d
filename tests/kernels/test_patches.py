"""im2col, its adjoint, and the products by BLAS: the same as the plain loops, whatever the memory held before."""

import numpy as np
import pytest
from conv_problems import FEW, Problem, assert_close, problems
from hypothesis import given

from minidbp.kernels import ConvGeometry, patches, reference
from minidbp.kernels.geometry import ONE_PIXEL

DTYPES = (np.float32, np.float64, np.complex128)


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

"""Convolutions from the pixels where they are: the same as the plain loops, with a mask and without."""

import numpy as np
import pytest
from conv_problems import Problem, assert_close, problems
from hypothesis import given

from minidbp.kernels import ConvGeometry, reference
from minidbp.kernels.fast import direct


@given(problems())
def test_without_a_mask(problem: Problem) -> None:
    geometry, x, w = problem.geometry, problem.x, problem.w
    assert_close(direct.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
    assert_close(direct.conv2d_weight_grad(x, problem.inside, geometry), problem.conv2d_weight_grad)


@given(problems())
def test_only_what_is_inside_the_mask_counts(problem: Problem) -> None:
    assert_close(direct.conv2d(problem.x, problem.w, problem.geometry, problem.mask), problem.masked_conv2d)
    got = direct.conv2d_weight_grad(problem.x, problem.g, problem.geometry, problem.mask)
    assert_close(got, problem.conv2d_weight_grad)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_inside_the_mask_comes_out(value: float) -> None:
    geometry = ConvGeometry.of((3, 3), (2, 2), 1, "valid")
    x, w = np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 16), np.float32)
    g, mask = np.ones((1, 2, 2, 16), np.float32), np.ones((1, 2, 2, 16), bool)
    x[0, 0, 0, 0] = g[0, 1, 1, 4] = value
    mask[0, 0, 0, 7] = False
    y = direct.conv2d(x, w, geometry, mask)
    assert y[0, 0, 0, 7] == 0
    assert not np.isfinite(np.delete(y[0, 0, 0], 7)).any()
    assert np.isfinite(y[0, 1, 1]).all()
    assert not np.isfinite(direct.conv2d_weight_grad(x, g, geometry, mask)[:, :, 0, 4]).any()

"""The loops along lists of what a mask lets through: the same as the plain loops."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conv_problems import Problem, assert_close, problems
from hypothesis import given

from minidbp.kernels import ConvGeometry, reference
from minidbp.kernels.fast import sparse


@given(problems())
def test_only_what_is_inside_the_mask_counts(problem: Problem) -> None:
    geometry, x, w, g, mask = problem.geometry, problem.x, problem.w, problem.g, problem.mask
    assert_close(sparse.conv2d(x, w, geometry, mask), problem.masked_conv2d)
    assert_close(sparse.conv2d_transpose(g, w, geometry, mask), problem.conv2d_transpose)
    assert_close(sparse.conv2d_weight_grad(x, g, geometry, mask), problem.conv2d_weight_grad)


@given(problems())
def test_without_a_mask_everything_counts(problem: Problem) -> None:
    geometry, x, w, g = problem.geometry, problem.x, problem.w, problem.inside
    assert_close(sparse.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
    assert_close(sparse.conv2d_transpose(g, w, geometry), problem.conv2d_transpose)
    assert_close(sparse.conv2d_weight_grad(x, g, geometry), problem.conv2d_weight_grad)


def test_a_long_pixel_is_taken_in_parts() -> None:
    """Model B's layer of 10,816 inputs, and a kernel of many taps: longer than what the loops take in one go."""
    rng = np.random.default_rng(0)
    for image, kernel, n_in in (1, 1, 10_816), (1, 1, 1601), (9, 8, 130):
        geometry = ConvGeometry.of((image, image), (kernel, kernel), 1, "valid")
        mask = rng.random((2, *geometry.output, 20)) < 0.4
        x = rng.standard_normal((20, image, image, n_in))
        w = rng.standard_normal((kernel, kernel, n_in, 20))
        g = (rng.standard_normal((10, *mask.shape)) * mask).reshape(20, *mask.shape[1:])
        problem = Problem(geometry, x, w, g, mask)
        np.testing.assert_allclose(sparse.conv2d(x, w, geometry, mask), problem.masked_conv2d, atol=1e-10)
        np.testing.assert_allclose(
            sparse.conv2d_transpose(g, w, geometry, mask), reference.conv2d_transpose(g, w, geometry), atol=1e-10
        )
        np.testing.assert_allclose(
            sparse.conv2d_weight_grad(x, g, geometry, mask), reference.conv2d_weight_grad(x, g, geometry), atol=1e-10
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_inside_the_mask_comes_out(value: float) -> None:
    geometry = ConvGeometry.of((1, 1), (1, 1), 1, "valid")
    x, w = np.ones((10, 1, 1, 64), np.float32), np.ones((1, 1, 64, 20), np.float32)
    g, mask = np.ones((10, 1, 1, 20), np.float32), np.ones((1, 1, 1, 20), bool)
    g[3, 0, 0, 4] = value
    assert not np.isfinite(sparse.conv2d_transpose(g, w, geometry, mask)[3]).any()
    assert not np.isfinite(sparse.conv2d_weight_grad(x, g, geometry, mask)[0, 0, :, 4]).any()


WITHOUT_AVX512 = """
import numba
import numpy as np
np._core._multiarray_umath.__cpu_features__["AVX512F"] = False
from minidbp import kernels
from minidbp.kernels import ConvGeometry, conv, reference
from minidbp.kernels.fast import sparse, microkernel
conv.SMALL = conv.LISTS_FROM = 0
rng = np.random.default_rng(0)
for image, kernel, n_in in ((1, 1, 100), (7, 3, 40), (7, 3, 1)):
    geometry = ConvGeometry.of((image, image), (kernel, kernel), 1, "same")
    mask = rng.random((2, *geometry.output, 24)) < 0.4
    x = rng.standard_normal((20, image, image, n_in)).astype(np.float32)
    w = rng.standard_normal((kernel, kernel, n_in, 24)).astype(np.float32)
    g = (rng.standard_normal((10, *mask.shape)) * mask).reshape(20, *mask.shape[1:]).astype(np.float32)
    y = reference.conv2d(x, w, geometry)
    for got, wanted in (
        (kernels.conv2d(x, w, geometry, mask), (y.reshape(10, *mask.shape) * mask).reshape(y.shape)),
        (kernels.conv2d_transpose(g, w, geometry, mask), reference.conv2d_transpose(g, w, geometry)),
        (kernels.conv2d_weight_grad(x, g, geometry, mask), reference.conv2d_weight_grad(x, g, geometry)),
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-3)
assert (microkernel._vector(numba.float32).count, microkernel.VECTORS) == (8, 2)
"""


@pytest.mark.slow
def test_a_processor_without_avx512(tmp_path: Path) -> None:
    """Numba compiles for Intel's Haswell (AVX2), as it would on one, with a cache of its own."""
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", WITHOUT_AVX512], check=True, env=environment, timeout=300)

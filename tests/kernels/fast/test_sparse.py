"""The kernels that skip what a mask turns off, and those for few channels: the same as the plain loops."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidbp import kernels
from minidbp.kernels import ConvGeometry, reference
from minidbp.kernels.fast import direct, sparse


class Problem(NamedTuple):
    geometry: ConvGeometry
    x: np.ndarray  # (R * N, H, W, I)
    w: np.ndarray  # (kh, kw, I, O)
    g: np.ndarray  # (R * N, h, w, O), NaN outside the mask
    mask: np.ndarray  # (N, h, w, O)

    @property
    def inside(self) -> np.ndarray:
        """g with zeros outside the mask."""
        return np.where(np.broadcast_to(self.mask, (len(self.g) // max(1, len(self.mask)), *self.mask.shape)).reshape(
            self.g.shape
        ), self.g, self.g.dtype.type(0))  # fmt: skip


CHANNELS = st.sampled_from([1, 2, 3, 8, 16, 17, 40, 64, 70, 130])  # around the widths of vectors and register blocks


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    side = st.integers(0, 2)
    padding = draw(
        st.one_of(st.sampled_from(["valid", "same"]), st.tuples(st.tuples(side, side), st.tuples(side, side)))
    )
    extra = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    geometry = ConvGeometry.of((kernel[0] + extra[0], kernel[1] + extra[1]), kernel, stride, padding)
    rows, images = draw(st.sampled_from([1, 2, 5, 7, 10, 11])), draw(st.sampled_from([1, 3]))
    n_in, n_out = draw(CHANNELS), draw(CHANNELS)
    dtype, share = draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    mask = rng.random((images, *geometry.output, n_out)) < share
    x = rng.standard_normal((rows * images, *geometry.image, n_in)).astype(dtype)
    w = rng.standard_normal((*geometry.kernel, n_in, n_out)).astype(dtype)
    g = rng.standard_normal((rows, *mask.shape)).astype(dtype)
    g[:, ~mask] = np.nan
    if draw(st.booleans()):  # the layers' own order in memory
        w = np.moveaxis(np.ascontiguousarray(np.moveaxis(w, -1, 0)), 0, -1)
    return Problem(geometry, x, w, g.reshape(rows * images, *mask.shape[1:]), mask)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    # both add the same at most 4000 products of size about 1, in another order
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=0, atol=4000 * np.finfo(got.dtype).eps)


def masked_reference(problem: Problem) -> np.ndarray:
    y = reference.conv2d(problem.x, problem.w, problem.geometry)
    return reference.masked(y.reshape(-1, *problem.mask.shape) if y.size else y[None], problem.mask).reshape(y.shape)


@given(problems())
def test_only_what_is_inside_the_mask_counts(problem: Problem) -> None:
    geometry, x, w, g, mask = problem
    assert_close(sparse.conv2d(x, w, geometry, mask), masked_reference(problem))
    assert_close(sparse.conv2d_transpose(g, w, geometry, mask), reference.conv2d_transpose(problem.inside, w, geometry))
    assert_close(
        sparse.conv2d_weight_grad(x, g, geometry, mask), reference.conv2d_weight_grad(x, problem.inside, geometry)
    )


@given(problems())
def test_with_few_channels(problem: Problem) -> None:
    geometry, x, w, g, mask = problem
    weights = reference.conv2d_weight_grad(x, problem.inside, geometry)
    assert_close(direct.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
    assert_close(direct.conv2d(x, w, geometry, mask), masked_reference(problem))
    assert_close(direct.conv2d_weight_grad(x, problem.inside, geometry), weights)
    assert_close(direct.conv2d_weight_grad(x, g, geometry, mask), weights)


@given(problems())
def test_whichever_is_chosen_is_the_reference(problem: Problem) -> None:
    geometry, x, w, g, mask = problem
    image, weights = (
        reference.conv2d_transpose(problem.inside, w, geometry),
        reference.conv2d_weight_grad(x, problem.inside, geometry),
    )
    assert_close(kernels.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
    assert_close(kernels.conv2d(x, w, geometry, mask), masked_reference(problem))
    assert_close(kernels.conv2d_transpose(g, w, geometry, mask), image)
    assert_close(kernels.conv2d_transpose(problem.inside, w, geometry), image)
    assert_close(kernels.conv2d_weight_grad(x, g, geometry, mask), weights)
    assert_close(kernels.conv2d_weight_grad(x, problem.inside, geometry), weights)


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
        np.testing.assert_allclose(sparse.conv2d(x, w, geometry, mask), masked_reference(problem), atol=1e-10)
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


@pytest.mark.parametrize("mask", [np.ones((2, 3, 3, 4)), np.ones((4, 3, 3, 4), bool), np.ones((2, 3, 4), bool)])
def test_a_mask_that_does_not_fit_is_refused(mask: np.ndarray) -> None:
    geometry = ConvGeometry.of((3, 3), (1, 1), 1, "valid")
    x, w, g = np.ones((6, 3, 3, 2)), np.ones((1, 1, 2, 4)), np.ones((6, 3, 3, 4))
    for call in (
        lambda: kernels.conv2d(x, w, geometry, mask),
        lambda: kernels.conv2d_transpose(g, w, geometry, mask),
        lambda: kernels.conv2d_weight_grad(x, g, geometry, mask),
    ):
        with pytest.raises(
            ValueError,
            match=r"mask must be Boolean, and its shape the end of .* \(6, 3, 3, 4\) from \(3, 3, 4\) on; got",
        ):
            call()


WITHOUT_AVX512 = """
import numba
import numpy as np
np._core._multiarray_umath.__cpu_features__["AVX512F"] = False
from minidbp import kernels
from minidbp.kernels import ConvGeometry, reference
from minidbp.kernels.fast import sparse, microkernel
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


def test_a_processor_without_avx512(tmp_path: Path) -> None:
    """Numba compiles for Intel's Haswell (AVX2), as it would on one, with a cache of its own."""
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", WITHOUT_AVX512], check=True, env=environment, timeout=300)

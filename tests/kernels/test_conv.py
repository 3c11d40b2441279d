import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d

from minidbp import kernels
from minidbp.kernels import ConvGeometry, patches, reference


class Problem(NamedTuple):
    geometry: ConvGeometry
    x: np.ndarray  # (N, H, W, I)
    w: np.ndarray  # (kh, kw, I, O)
    g: np.ndarray  # (N, h, w, O)


def array(rng: np.random.Generator, shape: tuple[int, ...], dtype: type, contiguous: bool) -> np.ndarray:
    """Normal numbers; if not contiguous, every second element of a wider array, its axes in reverse."""
    if contiguous:
        return rng.standard_normal(shape).astype(dtype)
    wide = rng.standard_normal((*shape[::-1], 2)).astype(dtype)
    return wide[..., 0].T


@st.composite
def problems(draw: st.DrawFn, dtypes: tuple[type, ...] = (np.float32, np.float64)) -> Problem:
    side, channels = st.integers(0, 2), st.integers(1, 4)
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(
        st.one_of(
            st.sampled_from(["valid", "same"]),
            side,
            st.tuples(side, side),
            st.tuples(st.tuples(side, side), st.tuples(side, side)),
        )
    )
    extra = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    geometry = ConvGeometry.of((kernel[0] + extra[0], kernel[1] + extra[1]), kernel, stride, padding)
    n, n_in, n_out = draw(st.sampled_from([0, 1, 3])), draw(channels), draw(channels)
    dtype, contiguous = draw(st.sampled_from(dtypes)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shapes = (n, *geometry.image, n_in), (*geometry.kernel, n_in, n_out), (n, *geometry.output, n_out)
    return Problem(geometry, *(array(rng, shape, dtype, contiguous) for shape in shapes))


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    # both add the same at most 300 products of size about 1, in another order
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=0, atol=300 * np.finfo(got.dtype).eps)


@pytest.mark.parametrize("patch_bytes", [1, 4000, patches.PATCH_BYTES])
@given(problem=problems())
def test_kernels_are_their_references(patch_bytes: int, problem: Problem) -> None:
    geometry, x, w, g = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "PATCH_BYTES", patch_bytes)  # 1: every image is a chunk of its own
        assert_close(kernels.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
        assert_close(kernels.conv2d_transpose(g, w, geometry), reference.conv2d_transpose(g, w, geometry))
        assert_close(kernels.conv2d_weight_grad(x, g, geometry), reference.conv2d_weight_grad(x, g, geometry))


@given(problems())
def test_im2col_and_col2im_are_their_references(problem: Problem) -> None:
    geometry, x, _, _ = problem
    col = kernels.im2col(x, geometry)
    taps = geometry.kernel[0] * geometry.kernel[1] * x.shape[3]
    assert col.shape == (len(x), *geometry.output, taps)
    rows = col.reshape(-1, taps)
    if len(x):  # reference.im2col lets NumPy infer the row length, which it cannot from nothing
        np.testing.assert_array_equal(rows, reference.im2col(x, geometry))
    assert_close(kernels.col2im(col, geometry), reference.col2im(rows, len(x), geometry))


def test_what_was_in_the_output_before_does_not_matter() -> None:
    geometry = ConvGeometry.of((5, 5), (3, 3), 2, 1)
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3))
    dirty = np.full((2, 3, 3, 27), np.nan)
    np.testing.assert_array_equal(kernels.im2col(x, geometry, out=dirty), kernels.im2col(x, geometry))
    image = np.full((2, 5, 5, 3), np.nan)
    np.testing.assert_array_equal(kernels.col2im(dirty, geometry, out=image), kernels.col2im(dirty, geometry))


@given(problems(dtypes=(np.float64,)))
def test_one_trilinear_form(problem: Problem) -> None:
    geometry, x, w, g = problem
    y = kernels.conv2d(x, w, geometry)
    t = np.vdot(y, g)
    # relative to the sum of the absolute values: t itself may cancel to nearly 0
    scale = np.vdot(kernels.conv2d(np.abs(x), np.abs(w), geometry), np.abs(g))
    assert abs(np.vdot(x, kernels.conv2d_transpose(g, w, geometry)) - t) <= 1e-12 * scale
    assert abs(np.vdot(w, kernels.conv2d_weight_grad(x, g, geometry)) - t) <= 1e-12 * scale


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("padding", "mode"), [("valid", "valid"), ("same", "same"), ((2, 4), "full")])
def test_forward_is_scipys_correlate2d(padding: kernels.Padding, mode: str, stride: int) -> None:
    if padding == "same":
        padding = (1, 2)  # SciPy's "same" always has stride 1
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 8, 9, 3)), rng.standard_normal((3, 5, 3, 4))
    got = kernels.conv2d(x, w, ConvGeometry.of((8, 9), (3, 5), stride, padding))
    for n in range(2):
        for o in range(4):
            expected = sum(correlate2d(x[n, :, :, i], w[:, :, i, o], mode) for i in range(3))
            np.testing.assert_allclose(got[n, :, :, o], expected[::stride, ::stride], rtol=1e-12, atol=1e-13)


DTYPES = (np.float32, np.float64, np.complex128)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if dtype is np.complex128 else values).astype(dtype)


@given(
    batch=st.lists(st.sampled_from([0, 1, 2, 5]), max_size=3).map(tuple).filter(lambda batch: math.prod(batch) <= 25),
    axes_of_mask=st.one_of(st.none(), st.integers(0, 3)),
    channels=st.tuples(st.sampled_from([1, 3, 16]), st.sampled_from([0, 1, 2, 17])),
    matrices=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_any_batch_axes_and_a_mask_that_leading_axes_share(
    batch: tuple[int, ...], axes_of_mask: int | None, channels: tuple[int, int], matrices: bool, dtype: type
) -> None:
    rng = np.random.default_rng(0)
    geometry = ConvGeometry.of((1, 1), (1, 1), 1, 0) if matrices else ConvGeometry.of((4, 5), (3, 2), (1, 2), 1)
    n, (n_in, n_out) = math.prod(batch), channels
    x, w, g = (
        numbers(rng, shape, dtype)
        for shape in ((n, *geometry.image, n_in), (*geometry.kernel, n_in, n_out), (n, *geometry.output, n_out))
    )
    mask = None
    on = np.ones((*batch, *geometry.output, n_out), bool)
    if axes_of_mask is not None:
        mask = rng.random((*batch[max(0, len(batch) - axes_of_mask) :], *geometry.output, n_out)) < 0.5
        on &= mask
    on = on.reshape(g.shape)
    y = np.where(on, reference.conv2d(x, w, geometry), dtype(0))
    inside = np.where(on, g, dtype(0))
    g[~on] = np.nan

    def shaped(array: np.ndarray) -> np.ndarray:
        return array.reshape(*batch, *array.shape[3 if matrices else 1 :])

    form = None if matrices else geometry
    weights = w[0, 0] if matrices else w
    if mask is not None and matrices:
        mask = mask.reshape(*mask.shape[:-3], n_out)
    assert_close(kernels.conv2d(shaped(x), weights, form, mask), shaped(y))
    back = reference.conv2d_transpose(inside, w, geometry)
    assert_close(kernels.conv2d_transpose(shaped(g), weights, form, mask), shaped(back))
    grad = reference.conv2d_weight_grad(x, inside, geometry)
    assert_close(kernels.conv2d_weight_grad(shaped(x), shaped(g), form, mask), grad[0, 0] if matrices else grad)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((3, 2, 5)),
        np.ones((3, 3, 5), bool),
        np.ones((4, 5), bool),
        np.ones((6,), bool),
        np.ones((2, 2, 3, 5), bool),
        np.ones((), bool),
    ],
)
def test_a_mask_of_a_matrix_product_that_does_not_fit_is_refused(mask: np.ndarray) -> None:
    x, w, g = np.ones((2, 3, 4)), np.ones((4, 5)), np.ones((2, 3, 5))
    for call in (
        lambda: kernels.conv2d(x, w, None, mask),
        lambda: kernels.conv2d_transpose(g, w, None, mask),
        lambda: kernels.conv2d_weight_grad(x, g, None, mask),
    ):
        with pytest.raises(ValueError, match=r"conv2d.*: the mask must be Boolean, and its shape the end of .* got"):
            call()


def test_nan_and_inf_reach_the_output() -> None:
    geometry = ConvGeometry.of((4, 4), (2, 2), 1, "valid")
    for value in np.nan, np.inf:
        x = np.ones((1, 4, 4, 1))
        x[0, 0, 0, 0] = value
        y = kernels.conv2d(x, np.ones((2, 2, 1, 1)), geometry)[0, :, :, 0]
        np.testing.assert_array_equal(np.isfinite(y), [[False, True, True], [True] * 3, [True] * 3])


def test_threads_do_not_share_patches() -> None:
    geometry = ConvGeometry.of((28, 28), (5, 5), 1, "same")
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((8, 28, 28, 3)) for _ in range(8)]
    w = rng.standard_normal((5, 5, 3, 4))
    alone = [kernels.conv2d_transpose(kernels.conv2d(x, w, geometry), w, geometry) for x in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda x: kernels.conv2d_transpose(kernels.conv2d(x, w, geometry), w, geometry), images * 4)
        )
    for got, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_array_equal(got, expected)

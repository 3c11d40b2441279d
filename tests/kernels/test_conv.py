"""The three conv functions, whichever route they take: the same as the plain loops, as each other, and as SciPy."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from conv_problems import FEW, Problem, assert_close, numbers, problems
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d

from minidbp import kernels
from minidbp.kernels import ConvGeometry, conv, reference

DTYPES = (np.float32, np.float64, np.complex128)


@contextmanager
def fast_from(products: int | None) -> Iterator[None]:
    """The fast routes are taken from so many multiply-adds on, by default as usual."""
    with pytest.MonkeyPatch.context() as patch:
        if products is not None:
            patch.setattr(conv, "SMALL", products)
            patch.setattr(conv, "LISTS_FROM", products)
        yield


@pytest.mark.parametrize("products", [None, 0])
@given(problem=st.one_of(problems(), problems(FEW, DTYPES, images=(0, 1, 3))))
def test_whichever_route_is_taken(products: int | None, problem: Problem) -> None:
    geometry, x, w, g, mask = problem.geometry, problem.x, problem.w, problem.g, problem.mask
    with fast_from(products):
        assert_close(kernels.conv2d(x, w, geometry), reference.conv2d(x, w, geometry))
        assert_close(kernels.conv2d(x, w, geometry, mask), problem.masked_conv2d)
        assert_close(kernels.conv2d_transpose(g, w, geometry, mask), problem.conv2d_transpose)
        assert_close(kernels.conv2d_transpose(problem.inside, w, geometry), problem.conv2d_transpose)
        assert_close(kernels.conv2d_weight_grad(x, g, geometry, mask), problem.conv2d_weight_grad)
        assert_close(kernels.conv2d_weight_grad(x, problem.inside, geometry), problem.conv2d_weight_grad)


@given(problems(FEW, (np.float64,), rows=(1,), images=(0, 1, 3)))
def test_one_trilinear_form(problem: Problem) -> None:
    geometry, x, w, g = problem.geometry, problem.x, problem.w, problem.inside
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


@given(
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.sampled_from(DTYPES),
    st.booleans(),
)
def test_masked_is_numpys_where(shape: tuple[int, ...], lead: tuple[int, ...], dtype: type, contiguous: bool) -> None:
    rng = np.random.default_rng(0)
    g = numbers(rng, lead + shape, dtype)
    mask = np.asarray(rng.random(shape) < 0.5)
    if not contiguous:
        g, mask = np.asarray(g, order="F"), np.asarray(mask, order="F")
    got = kernels.masked(g, mask)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.where(mask, g, dtype(0)))


@pytest.mark.parametrize("lead", [(), (3,)])
def test_masked_of_many_elements(lead: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    g, mask = rng.standard_normal((*lead, 30, 40)), rng.random((30, 40)) < 0.5
    for array in g, np.asarray(g, order="F"):
        np.testing.assert_array_equal(kernels.masked(array, mask), np.where(mask, g, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masked_drops_what_is_not_finite_where_the_mask_is_false(value: float) -> None:
    got = kernels.masked(np.array([[value, value], [1.0, value]]), np.array([True, False]))
    np.testing.assert_array_equal(got, [[value, 0.0], [1.0, 0.0]])


def test_masked_names_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"masked: an array of shape \(2, 3\) .* mask's shape \(2,\)"):
        kernels.masked(np.ones((2, 3)), np.ones(2, bool))


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

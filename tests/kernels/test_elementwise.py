import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidbp import kernels
from minidbp.kernels import reference


@given(
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_masked_is_its_reference(shape: tuple[int, ...], lead: tuple[int, ...], dtype: type, contiguous: bool) -> None:
    rng = np.random.default_rng(0)
    g = rng.standard_normal(lead + shape).astype(dtype)
    mask = np.asarray(rng.random(shape) < 0.5)
    if not contiguous:
        g, mask = np.asarray(g, order="F"), np.asarray(mask, order="F")
    got = kernels.masked(g, mask)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, reference.masked(g, mask))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masked_drops_what_is_not_finite_where_the_mask_is_false(value: float) -> None:
    got = kernels.masked(np.array([[value, value], [1.0, value]]), np.array([True, False]))
    np.testing.assert_array_equal(got, [[value, 0.0], [1.0, 0.0]])


def test_masked_names_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"masked: an array of shape \(2, 3\) .* mask's shape \(2,\)"):
        kernels.masked(np.ones((2, 3)), np.ones(2, bool))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (3, 40, 50)])
@pytest.mark.parametrize("form", ["C", "transposed", "every second", "broadcast"])
def test_absolute_is_its_reference(form: str, shape: tuple[int, ...], dtype: type) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    x.flat[:4] = [0.0, -0.0, np.nan, -np.inf][: x.size]
    if form == "transposed":
        x = x.T
    elif form == "every second" and x.ndim:
        x = x[..., ::2]
    elif form == "broadcast":
        x = np.broadcast_to(x, (2, *x.shape))
    for got, expected in zip(kernels.absolute(x), reference.absolute(x), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (7,), (0,), (3, 2, 4)])
@pytest.mark.parametrize(
    ("lr", "beta1", "beta2", "eps"),
    [(1e-3, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.6, 1e-3), (0.1, 0.0, 0.9, 1e-8), (0.1, 0.9, 0.0, 1e-8)],
)
def test_adam_is_its_reference(
    lr: float, beta1: float, beta2: float, eps: float, shape: tuple[int, ...], dtype: type
) -> None:
    rng = np.random.default_rng(0)
    p = rng.standard_normal(shape).astype(dtype)
    m, v = np.zeros(shape, dtype), np.zeros(shape, dtype)
    # the reference runs in float64; where the first moments cancel, float32 has lost digits relative to their size
    exact = p.astype(np.float64), np.zeros(shape), np.zeros(shape)
    for t in range(1, 8):
        g = np.asarray(rng.standard_normal(shape)).astype(dtype)
        before = p.copy()
        p_new = kernels.adam(p, g, m, v, lr, beta1, beta2, eps, t)
        np.testing.assert_array_equal(p, before)
        exact = reference.adam(exact[0], g.astype(np.float64), *exact[1:], lr, beta1, beta2, eps, t)
        p = p_new
        for got, expected in zip((p, m, v), exact, strict=True):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_adams_first_step_by_hand() -> None:
    # m = 0.1 g and v = 0.001 g^2, both corrected to g and g^2: the step is lr sign(g), but for eps
    m, v = np.zeros(3), np.zeros(3)
    p = kernels.adam(np.zeros(3), np.array([2.0, -3.0, 0.0]), m, v, 0.5, 0.9, 0.999, 1e-8, 1)
    np.testing.assert_allclose(p, [-0.5, 0.5, 0.0], rtol=1e-8)
    np.testing.assert_allclose(m, [0.2, -0.3, 0.0], rtol=1e-15)
    np.testing.assert_allclose(v, [0.004, 0.009, 0.0], rtol=1e-15)


def test_adam_hands_on_what_is_not_finite() -> None:
    """Training must see a divergence: NaN in, NaN out; and 0/0 where eps is 0, as in NumPy, without an exception."""
    zero = np.zeros(2)
    assert np.isnan(kernels.adam(zero, np.array([np.nan, 1.0]), zero.copy(), zero.copy(), 0.1, 0.9, 0.9, 1e-8, 1))[0]
    assert np.isnan(kernels.adam(zero, zero, zero.copy(), zero.copy(), 0.1, 0.9, 0.9, 0.0, 1)).all()


def test_adam_takes_arrays_that_are_not_contiguous() -> None:
    rng = np.random.default_rng(0)
    p, g = rng.standard_normal((4, 3)).T, rng.standard_normal((3, 8))[:, ::2]
    m, v = np.zeros_like(p), np.zeros_like(p)
    expected = reference.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-8, 1)
    got = kernels.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-8, 1)
    for a, b in zip((got, m, v), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_adam_refuses_moments_that_it_could_not_update_in_place() -> None:
    p = np.ones((4, 3)).T
    with pytest.raises(ValueError, match="m and v must lie in memory as p does"):
        kernels.adam(p, p, np.zeros((3, 4)), np.zeros_like(p), 0.1, 0.9, 0.99, 1e-8, 1)

import numpy as np
import pytest

from minidbp import kernels
from minidbp.kernels import reference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (3, 5, 7), (3, 40, 50)])
@pytest.mark.parametrize("form", ["C", "transposed", "every second", "broadcast"])
def test_absolute_is_numpys(form: str, shape: tuple[int, ...], dtype: type) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    x.flat[:4] = [0.0, -0.0, np.nan, -np.inf][: x.size]
    if form == "transposed":
        x = x.T
    elif form == "every second" and x.ndim:
        x = x[..., ::2]
    elif form == "broadcast":
        x = np.broadcast_to(x, (2, *x.shape))
    for got, expected in zip(kernels.absolute(x), (np.abs(x), np.sign(x)), strict=True):
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
        p_new = kernels.adam(p, g, m, v, t, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        np.testing.assert_array_equal(p, before)
        exact = reference.adam(exact[0], g.astype(np.float64), *exact[1:], t, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        p = p_new
        for got, expected in zip((p, m, v), exact, strict=True):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_adams_first_step_by_hand() -> None:
    # m = 0.1 g and v = 0.001 g^2, both corrected to g and g^2: the step is lr sign(g), but for eps
    m, v = np.zeros(3), np.zeros(3)
    p = kernels.adam(np.zeros(3), np.array([2.0, -3.0, 0.0]), m, v, 1, lr=0.5, beta1=0.9, beta2=0.999, eps=1e-8)
    np.testing.assert_allclose(p, [-0.5, 0.5, 0.0], rtol=1e-8)
    np.testing.assert_allclose(m, [0.2, -0.3, 0.0], rtol=1e-15)
    np.testing.assert_allclose(v, [0.004, 0.009, 0.0], rtol=1e-15)


def test_adam_hands_on_what_is_not_finite() -> None:
    """Training must see a divergence: NaN in, NaN out; and 0/0 where eps is 0, as in NumPy, without an exception."""
    zero = np.zeros(2)
    assert np.isnan(
        kernels.adam(zero, np.array([np.nan, 1.0]), zero.copy(), zero.copy(), 1, lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8)
    )[0]
    assert np.isnan(kernels.adam(zero, zero, zero.copy(), zero.copy(), 1, lr=0.1, beta1=0.9, beta2=0.9, eps=0.0)).all()


def test_adam_takes_arrays_that_are_not_contiguous() -> None:
    rng = np.random.default_rng(0)
    p, g = rng.standard_normal((4, 3)).T, rng.standard_normal((3, 8))[:, ::2]
    m, v = np.zeros_like(p), np.zeros_like(p)
    expected = reference.adam(p, g, m, v, 1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    got = kernels.adam(p, g, m, v, 1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    for a, b in zip((got, m, v), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_adam_refuses_moments_that_it_could_not_update_in_place() -> None:
    p = np.ones((4, 3)).T
    with pytest.raises(ValueError, match="m and v must lie in memory as p does"):
        kernels.adam(p, p, np.zeros((3, 4)), np.zeros_like(p), 1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)

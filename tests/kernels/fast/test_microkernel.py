"""The register blocks against plain loops: every size around a block, every offset, and nothing written beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidbp.kernels.fast import microkernel
from minidbp.kernels.fast.microkernel import (
    BLOCK_BYTES,
    LANES,
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    add_products,
    copy_block,
    dot_block,
    dot_row,
    lanes_of,
)
from minidbp.kernels.jit import kernel

DTYPES = st.sampled_from([np.float32, np.float64])


@kernel
def lanes_and_copy(x, x_at, out, out_at):  # type: ignore[no-untyped-def]
    copy_block(x, x_at, out, out_at)
    return lanes_of(x)


@kernel
def dots(many, x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length):  # type: ignore[no-untyped-def]
    if many:
        dot_block(x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length)
    else:
        dot_row(x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length)


def close(got: np.ndarray, expected: np.ndarray, terms: int) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=20 * (terms + 1) * np.finfo(got.dtype).eps)


@given(DTYPES, st.integers(0, 2 * ROWS + 1), st.integers(0, 6), st.integers(0, 150), st.integers(0, 5))
def test_add_products_is_its_formula(dtype: type, rows: int, n: int, length: int, shift: int) -> None:
    rng = np.random.default_rng(0)
    width = shift + length + 3
    out = rng.standard_normal((rows + 2) * width).astype(dtype)
    w, a = (rng.standard_normal(size).astype(dtype) for size in (7 * width, 100))
    out_at = rng.permutation(rows + 2)[:rows] * width  # each row of out at most once
    w_at, a_row, a_at = rng.integers(0, 7, n) * width, rng.integers(0, 50, rows), rng.integers(0, 50, n)
    expected = out.astype(np.float64)
    for r in range(rows):
        for k in range(n):
            part = w[w_at[k] + shift : w_at[k] + shift + length].astype(np.float64)
            expected[out_at[r] + shift : out_at[r] + shift + length] += a[a_row[r] + a_at[k]] * part
    untouched = expected == out
    before = out.copy()
    add_products(out, out_at, w, w_at, a, a_row, a_at, 0, rows, n, shift, shift + length)
    close(out, expected, n)
    np.testing.assert_array_equal(out[untouched], before[untouched])


@given(DTYPES, st.integers(1, VECTORS), st.integers(1, 3), st.integers(0, 70), st.booleans())
def test_dot_block_is_its_formula(dtype: type, count: int, parts: int, length: int, many: bool) -> None:
    rng = np.random.default_rng(0)
    x, w, out = (rng.standard_normal(size).astype(dtype) for size in (500, 600, 300))
    first, rows = 2, ROWS if many else 1
    x_at, out_at = rng.integers(0, 90, first + rows), np.arange(first + rows) * 40
    w_at, out_unit = rng.integers(0, 90, VECTORS), rng.permutation(40)[:VECTORS]
    x_step, w_step = 110, 130
    expected = out.astype(np.float64)
    for r in range(first, first + rows):
        for u in range(count):
            for p in range(parts):
                left = x[x_at[r] + p * x_step :][:length].astype(np.float64)
                expected[out_at[r] + out_unit[u]] += left @ w[w_at[u] + p * w_step :][:length]
    untouched = expected == out
    before = out.copy()
    dots(many, x, x_at, w, w_at, out, out_at, out_unit, first, count, parts, x_step, w_step, length)
    close(out, expected, parts * length)
    np.testing.assert_array_equal(out[untouched], before[untouched])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_is_copied_whole_from_any_position(dtype: type) -> None:
    x = np.arange(1, 200, dtype=dtype)
    for x_at, out_at in (0, 0), (3, 5), (17, 1):
        out = np.zeros(100, dtype)
        lanes = lanes_and_copy(x, x_at, out, out_at)
        assert lanes == LANES[np.dtype(dtype)] == VECTOR_BYTES // out.itemsize
        width = BLOCK_BYTES // out.itemsize
        assert width == VECTORS * lanes
        np.testing.assert_array_equal(out[out_at : out_at + width], x[x_at : x_at + width])
        assert not out[:out_at].any()
        assert not out[out_at + width :].any()


def test_a_block_with_its_operands_fits_the_registers() -> None:
    registers = 32 if microkernel.AVX512 else 16
    assert registers >= ROWS * VECTORS + VECTORS + 1

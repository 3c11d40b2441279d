from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidbp.kernels import ConvGeometry


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

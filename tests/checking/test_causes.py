"""The likely cause of a wrong Jacobian, told from the numbers."""

import numpy as np
import pytest

from minidbp.checking.causes import likely_cause

RNG = np.random.default_rng(0)
J = RNG.standard_normal((6, 9))  # of outputs (2, 3) in inputs (3, 3)
SQUARE = RNG.standard_normal((4, 9))  # of outputs (2, 2)
HALF = np.where(RNG.random((6, 9)) < 0.5, 0.0, J)
TRANSPOSED = J.reshape(6, 3, 3).swapaxes(1, 2).reshape(6, 9)
ROWS_TRANSPOSED = SQUARE.reshape(2, 2, 9).swapaxes(0, 1).reshape(4, 9)
SPREAD = np.broadcast_to(J.mean(axis=1, keepdims=True), J.shape)
SOME_TWICE = np.where(HALF == 0, 2 * J, J)


@pytest.mark.parametrize(
    ("analytic", "numeric", "y", "order", "words"),
    [
        (2 * J, J, (2, 3), 1, "2 times"),
        (0.5 * J, J, (2, 3), 1, "0.5 times"),
        (-J, J, (2, 3), 1, "the sign is wrong"),
        (0 * J, J, (2, 3), 1, "detached, or captured as a constant"),
        (0 * J, J, (2, 3), 2, "captured as a constant"),
        (TRANSPOSED, J, (2, 3), 1, "the gradient is transposed"),
        (ROWS_TRANSPOSED, SQUARE, (2, 2), 1, "the cotangent is transposed"),
        (HALF, J, (2, 3), 1, "a term is dropped"),
        (np.roll(J, 1, axis=1), J, (2, 3), 1, "the wrong places"),
        (SPREAD, J, (2, 3), 1, "spread over the wrong elements"),
        (SOME_TWICE, J, (2, 3), 1, "some entries are 2 times"),
        (J * np.nan, J, (2, 3), 1, "divides by zero or overflows"),
        (J + RNG.standard_normal(J.shape), J, (2, 3), 1, ""),
    ],
)
def test_the_cause(analytic: np.ndarray, numeric: np.ndarray, y: tuple[int, ...], order: int, words: str) -> None:
    allowed = np.full(numeric.shape, 1e-8)
    cause = likely_cause(analytic, numeric, allowed, RNG.standard_normal(y), RNG.standard_normal((3, 3)), order=order)
    assert words in cause
    assert bool(words) == bool(cause)

import math

import numpy as np
import pytest

from minidbp.nn import INITIALISERS, glorot_uniform, he_normal

# shape, fan in, fan out: a Linear's, then a conv's, whose every tap is an input and an output
SHAPES = [((784, 512), 784, 512), ((8, 8, 16, 64), 8 * 8 * 16, 8 * 8 * 64), ((400, 1), 400, 1)]


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
def test_glorot_fills_its_bounds(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    w = glorot_uniform(shape, np.random.default_rng(0))
    a = math.sqrt(6 / (fan_in + fan_out))
    assert w.shape == shape
    assert np.abs(w).max() <= a
    assert np.abs(w).max() > 0.98 * a  # of 400 numbers, the largest is below 0.98 a once in 3,000 seeds
    # a mean of n uniform numbers has the standard deviation a / sqrt(3 n)
    assert abs(w.mean()) < 4 * a / math.sqrt(3 * w.size)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
def test_he_has_its_deviation(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    w = he_normal(shape, np.random.default_rng(0))
    assert w.shape == shape
    # a standard deviation from n normal numbers is off by 1 / sqrt(2 n) of itself
    assert abs(w.std() / math.sqrt(2 / fan_in) - 1) < 4 / math.sqrt(2 * w.size)


@pytest.mark.parametrize("name", INITIALISERS)
def test_the_generator_decides(name: str) -> None:
    initialise = INITIALISERS[name]
    first, again, other = (initialise((3, 4), np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()

"""The two models whose adversarial images a diagnosis tries on another."""

import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.diagnosis.substitutes import OnStep, imitation, reference
from minidbp.training import workers


@pytest.fixture(scope="module")
def small() -> Dataset:
    rng, y = np.random.default_rng(0), np.arange(60) % 3
    x = rng.random((60, 6, 5, 1))
    return Dataset.from_arrays(x, y, x[:21], y[:21], name="small.npz")


def test_their_training_ends_where_a_step_is_refused(small: Dataset) -> None:
    """After Ctrl-C a command waited for hundreds of steps."""
    steps = []

    def refuse_the_third() -> None:
        steps.append(None)
        if len(steps) % 3 == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference(small, 1000, 1, OnStep(refuse_the_third))
    plain = reference(small, 2, 1, OnStep(lambda: None))
    assert reference(small, 2, 1, OnStep(refuse_the_third)) is plain  # it is trained once, whoever asks
    with workers(1) as pool, pytest.raises(KeyboardInterrupt):
        imitation(plain, small, 0.1, 1000, pool, OnStep(refuse_the_third))
    assert len(steps) == 6

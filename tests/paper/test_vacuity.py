"""Centring the last layer: the surrogate vanishes, and nothing that a user of the model sees changes."""

import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.nn import build_model
from minidbp.paper.vacuity import centre, compare
from minidbp.training import workers


@pytest.mark.parametrize("name", ["A", "C"])
def test_the_surrogate_vanishes_and_the_predictions_stay(mnist: Dataset, name: str) -> None:
    original, centred = models = [build_model(name, 3, "float64") for _ in range(2)]
    for model in models:
        model.parameters()[-1].data = np.linspace(-1, 2, 10)  # a bias to be centred too
    centre(centred)
    x, y = mnist.x_test[:12].astype(np.float64), mnist.y_test[:12]
    counted: list[int] = []
    with workers(2) as pool:
        found = compare(original, centred, x, y, pool, counted.append)
    assert sum(counted) == found.images == 12
    assert found.original.surrogate > 0.1
    assert found.centred.surrogate < 1e-12
    assert found.centred.jacobian_l1 > 0.5 * found.original.jacobian_l1
    assert found.centred.loss == pytest.approx(found.original.loss, rel=1e-12)
    assert found.same_prediction == 100
    assert found.largest_change < 1e-12
    z, w = (model(x).data for model in models)
    np.testing.assert_allclose(w, z - z.mean(axis=1, keepdims=True), atol=1e-12)

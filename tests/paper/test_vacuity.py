"""Centring the last layer: the surrogate vanishes, and nothing that a user of the model sees changes."""

import numpy as np
import pytest

from minidbp.data import Mnist
from minidbp.nn import build_model
from minidbp.paper.vacuity import FIGURES, centre, compare
from minidbp.training import workers


@pytest.mark.parametrize("name", ["A", "C"])
def test_the_surrogate_vanishes_and_the_predictions_stay(mnist: Mnist, name: str) -> None:
    models = {label: build_model(name, 3, "float64") for label in ("before", "after")}
    for model in models.values():
        model.parameters()[-1].data = np.linspace(-1, 2, 10)  # a bias to be centred too
    centre(models["after"])
    x, y = mnist.x_test[:12].astype(np.float64), mnist.y_test[:12]
    counted: list[int] = []
    with workers(2) as team:
        found = compare(models, x, y, team, counted.append)
    assert sum(counted) == found["images"] == 12
    assert set(found["before"]) == set(FIGURES)
    assert found["before"]["surrogate"] > 0.1
    assert found["after"]["surrogate"] < 1e-12
    assert found["after"]["jacobian_l1"] > 0.5 * found["before"]["jacobian_l1"]
    assert found["after"]["loss"] == pytest.approx(found["before"]["loss"], rel=1e-12)
    assert found["same_prediction"] == 100
    assert found["largest_change"] < 1e-12
    z, w = (model(x).data for model in models.values())
    np.testing.assert_allclose(w, z - z.mean(axis=1, keepdims=True), atol=1e-12)

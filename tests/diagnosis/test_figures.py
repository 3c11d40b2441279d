"""The picture of adversarial images: written as PNG, not blank, each image changed by eps."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from minidbp import nn
from minidbp.data import Mnist
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.files.plots import save
from minidbp.training import Protocol


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[], ["model C"], ["model A, λ = 0", "model C, λ = 50"]])
def test_adversarial_twins(labels: list[str], mnist: Mnist, tmp_path: Path) -> None:
    models = {label: nn.build_model("C", seed=i) for i, label in enumerate(labels)}
    x, y = mnist.x_test[:100], mnist.y_test[:100]
    figure = adversarial_twins(models, x, y, Protocol())
    save(figure, tmp_path / "twins.png")
    assert matplotlib.image.imread(tmp_path / "twins.png")[..., :3].std() > 0.03
    assert len(figure.axes) == 10 * (1 + len(labels))
    shown = np.array([np.asarray(axes.images[0].get_array()) for axes in figure.axes])
    assert shown.shape[1:] == (28, 28)
    for digit in range(10):
        np.testing.assert_array_equal(shown[digit], x[np.flatnonzero(y == digit)[0], ..., 0])
    for row in range(1, len(labels) + 1):
        change = np.abs(shown[10 * row : 10 * row + 10] - shown[:10])
        assert change.max() == pytest.approx(0.3, abs=1e-6)
        assert (change.max(axis=(1, 2)) > 0.29).all()

"""Four series of measurements, the models that they need, and their picture."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from minidbp.autodiff import Tensor
from minidbp.bench import scaling
from minidbp.bench.scaling import Point, Scaling, Series
from minidbp.bench.step import StepSettings, active_shares
from minidbp.data import Dataset
from minidbp.files.plots import save
from minidbp.nn import IMAGE_SHAPE

IMAGE = np.zeros(IMAGE_SHAPE, np.float32)


@pytest.mark.slow
def test_scaling_has_four_series(monkeypatch: pytest.MonkeyPatch, mnist: Dataset) -> None:
    for name, sizes in ("BATCHES", (2, 4)), ("CLASSES", (2, 12)), ("LAMBDAS", (1, 2)), ("ACTIVE_SHARES", (0.1, 1.0)):
        monkeypatch.setattr(scaling, name, sizes)
    done: list[int] = []
    result = scaling.time_scaling(StepSettings(steps=1, threads=1), mnist, lambda: done.append(1))
    assert len(done) == scaling.n_points() == 8
    assert [p.at for p in result.classes.points] == [2, 12]
    series = result.batch, result.classes, result.lambdas, result.active
    assert all(p.ms > 0 for s in series for p in s.points)
    assert json.loads(json.dumps(asdict(result))) == asdict(result)
    assert [row[0] for row in scaling.table(result)] == ["against", "batch", "classes", "lambdas", "active"]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_model_with_a_given_active_share(share: float, mnist: Dataset) -> None:
    x = mnist.x_test[:100]
    assert active_shares(scaling.with_active_share("C", share, x), x) == pytest.approx([share] * 3, abs=0.02)
    convolutional = active_shares(scaling.with_active_share("A", share, x), x)
    assert all(share - 0.02 < found < share + 0.25 for found in convolutional)


def test_a_straight_line_is_found() -> None:
    line = Series.with_line([Point(1, 5.0), Point(2, 7.0), Point(4, 11.0)])
    assert (line.slope, line.intercept, line.r2) == pytest.approx((2, 3, 1))
    assert line.formula == "3 + 2 n, R² = 1.0000"
    assert Series.with_line([Point(0, 0.0), Point(1, 1.0), Point(2, 0.0)]).r2 == pytest.approx(0)


def test_a_model_with_other_classes() -> None:
    model = scaling.with_classes("B", 3)
    assert model(Tensor(IMAGE[None])).shape == (1, 3)
    assert model.parameters()[0].name == "W1"


@pytest.mark.slow
def test_a_picture_of_scaling(tmp_path: Path) -> None:
    line = Series.with_line([Point(1, 1.0), Point(2, 2.0)])
    figure = scaling.picture(Scaling("C", 10.0, 1, 1, "", line, line, line, Series(line.points)))
    assert len(figure.axes) == 4
    save(figure, tmp_path / "scaling.png")

"""The pictures: written as PNG, and not blank."""

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from minidbp import nn
from minidbp.data import Mnist
from minidbp.experiments import figures
from minidbp.experiments.table2 import Row, table
from minidbp.training import Protocol


def results(models: str, lambdas: tuple[float, ...], seeds: int) -> list[Row]:
    return table(
        {"model": m, "lambda": lam, "clean": 98.0 + s, "fgsm": 20.0 + lam / 2 + s, "pgd": 3.0, "epochs": 20}
        for m in models
        for lam in lambdas
        for s in range(seeds)
    )


def drawn(figure: Figure, path: Path) -> np.ndarray:
    figures.save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.std() > 0.03
    return pixels


@pytest.mark.parametrize(
    "rows",
    [
        results("ABC", (0.0, 1.0, 50.0), 3),
        results("C", (0.0, 50.0), 1),  # no deviations
        results("C", (0.0,), 1),  # no numbers of the paper's
        results("B", (0.0, 7.0), 2),
        results("A", (50.0,), 2) + results("C", (0.0, 50.0), 1),  # an incomplete table
    ],
    ids=["full", "one run", "one point", "no paper", "incomplete"],
)
def test_accuracy_against_lambda(rows: list[Row], tmp_path: Path) -> None:
    figure = figures.accuracy_against_lambda(rows)
    drawn(figure, tmp_path / "a.png")
    models = sorted({row.model for row in rows})
    assert len(figure.axes) == len(models)
    for axes, model in zip(figure.axes, models, strict=True):
        assert model in axes.get_title()
        mine = [row for row in rows if row.model == model]
        heights = {container.get_label(): list(container.lines[0].get_ydata()) for container in axes.containers}
        assert heights["clean"] == [row.clean[0] for row in mine]
        assert heights["FGSM"] == [row.fgsm[0] for row in mine]
        assert heights["PGD"] == [row.pgd[0] for row in mine]
        assert heights["FGSM, paper"] == [row.paper.fgsm[0] for row in mine if row.paper]


def test_different_numbers_make_different_pictures(tmp_path: Path) -> None:
    rows = results("C", (0.0, 50.0), 2)
    changed = [dataclasses.replace(row, fgsm=row.pgd) for row in rows]
    first, second = (
        drawn(figures.accuracy_against_lambda(r), tmp_path / f"{i}.png") for i, r in enumerate((rows, changed))
    )
    assert (first != second).any()


@pytest.mark.parametrize("labels", [[], ["model C"], ["model A, λ = 0", "model C, λ = 50"]])
def test_adversarial_twins(labels: list[str], mnist: Mnist, tmp_path: Path) -> None:
    models = {label: nn.build_model("C", seed=i) for i, label in enumerate(labels)}
    x, y = mnist.x_test[:100], mnist.y_test[:100]
    figure = figures.adversarial_twins(models, x, y, Protocol())
    drawn(figure, tmp_path / "twins.png")
    assert len(figure.axes) == 10 * (1 + len(labels))
    shown = np.array([np.asarray(axes.images[0].get_array()) for axes in figure.axes])
    assert shown.shape[1:] == (28, 28)
    for digit in range(10):
        np.testing.assert_array_equal(shown[digit], x[np.flatnonzero(y == digit)[0], ..., 0])
    for row in range(1, len(labels) + 1):
        change = np.abs(shown[10 * row : 10 * row + 10] - shown[:10])
        assert change.max() == pytest.approx(0.3, abs=1e-6)
        assert (change.max(axis=(1, 2)) > 0.29).all()


def test_an_unwritable_place_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        figures.save(Figure(), tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == []

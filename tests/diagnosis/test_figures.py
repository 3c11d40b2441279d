"""Pictures of attacks: the scales of accuracy, what the values are; adversarial images, each changed by eps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from minidbp import nn
from minidbp.data import Dataset
from minidbp.diagnosis.figures import adversarial_twins, against_eps, against_steps, transfer
from minidbp.files.plots import save
from minidbp.training import Protocol


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[], ["model C"], ["model A, λ = 0", "model C, λ = 50"]])
def test_adversarial_twins(labels: list[str], mnist: Dataset, tmp_path: Path) -> None:
    models = {label: nn.build_model("C", seed=i) for i, label in enumerate(labels)}
    x, y = mnist.x_test[:100], mnist.y_test[:100]
    figure = adversarial_twins(models, mnist, Protocol())
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


@pytest.fixture(scope="module")
def diagnosis() -> Any:
    eps, falls, steps = [0.0, 0.3, 1.0], [100.0, 20.0, 0.0], [1.0, 5.0, 40.0]
    model = SimpleNamespace(
        against_eps={"eps": eps, "pgd": falls, "fgsm": falls, "noise": falls},
        against_steps={"steps": steps, "pgd": [30.0, 5.0, 0.0]},
        verdict=SimpleNamespace(word="not robust"),
    )
    return SimpleNamespace(
        models={"plain": model, "penalised": model},
        settings=SimpleNamespace(eps=0.3, images=1000, chance=10.0, of_data=""),
        transfer=SimpleNamespace(labels=["plain", "penalised"], accuracy=[[0.0, 60.0], [70.0, 0.0]]),
    )


def test_curves_of_accuracy_have_one_scale_from_0_to_100(diagnosis: Any) -> None:
    for figure in against_eps(diagnosis), against_steps(diagnosis):
        assert {axes.get_ylim() for axes in figure.axes} == {(0.0, 100.0)}
        lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() != "None"]
        assert lines
        assert not any(line.get_clip_on() for line in lines)  # so that a point at 0 or 100 is whole


def test_a_name_is_no_formula_and_is_not_left_out(diagnosis: Any, tmp_path: Path) -> None:
    names = [r"a$\foo$", "_b", r"c\$$d"]
    settings = SimpleNamespace(**{**vars(diagnosis.settings), "of_data": r" of $\foo$.npz"})
    matrix = SimpleNamespace(labels=names, accuracy=[[0.0] * 3] * 3)
    named = SimpleNamespace(models=dict.fromkeys(names, diagnosis.models["plain"]), settings=settings, transfer=matrix)
    for draw in against_eps, against_steps, transfer:
        save(draw(named), tmp_path / "a.png")  # a formula that cannot be set would raise ValueError
    legend = [text.get_text() for text in against_steps(named).legends[0].get_texts()]
    assert len(legend) == 4  # and chance


def test_pictures_of_a_diagnosis_say_what_their_values_are(diagnosis: Any) -> None:
    said = "one trained model on 1,000 random test images"
    assert said in against_eps(diagnosis).get_suptitle()
    assert said in against_steps(diagnosis).axes[0].get_title()
    assert said in transfer(diagnosis).axes[0].get_title()
    legend = [text.get_text() for text in against_eps(diagnosis).legends[0].get_texts()]
    assert "random signs, worst of 10 draws" in legend
    assert "logarithmic" in against_steps(diagnosis).axes[0].get_xlabel()


def test_twins_of_colour_images_in_three_classes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((9, 6, 8, 3)), np.arange(9) % 3
    data = Dataset.from_arrays(x, y, x[2:], y[2:], name="mine.npz")
    model = nn.build_model("C", input_shape=(6, 8, 3), n_classes=3)
    figure = adversarial_twins({"model C": model}, data, Protocol())
    assert [axes.get_title() for axes in figure.axes[:3]] == ["class 0", "class 1", "class 2"]
    assert all(axes.get_title().removeprefix("✗ ").startswith("class ") for axes in figure.axes[3:])
    shown = np.array([axes.images[0].get_array() for axes in figure.axes])
    np.testing.assert_array_equal(shown[:3], data.x_test[[1, 2, 0]])  # the first of each class, in colour
    assert figure.get_suptitle().replace("\n", " ").startswith("FGSM with ε = 0.3: the first test image of each class,")


def test_twins_of_many_classes_show_the_first_ten() -> None:
    x, y = np.random.default_rng(0).random((24, 4, 4)), np.arange(24) % 12
    figure = adversarial_twins({}, Dataset.from_arrays(x, y, x, y, name="mine"), Protocol())
    assert len(figure.axes) == 10
    assert "each of the classes 0 to 9" in figure.get_suptitle().replace("\n", " ")

"""The diagnosis as text and pictures: every figure is there, and where it belongs."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from bs4 import BeautifulSoup

from minidbp import nn
from minidbp.data import DataIdentity, Dataset
from minidbp.diagnosis import figures, report
from minidbp.diagnosis.diagnose import Diagnosis, diagnose
from minidbp.diagnosis.trials import LabelledImages
from minidbp.files.console import Console
from minidbp.files.page import as_html
from minidbp.training import Protocol, workers
from minidbp.training.environment import Environment


@pytest.fixture(scope="module", params=[1, 2, 4])
def diagnosis(request: pytest.FixtureRequest, mnist: Dataset) -> Diagnosis:
    models = {f"seed {seed}": nn.build_model("C", seed=seed) for seed in range(request.param)}
    with workers(1) as pool:
        images = LabelledImages(mnist.x_test[:20], mnist.y_test[:20], pool)
        result = diagnose(
            models,
            images,
            Protocol(eps=0.1, n_test=20, n_tracked=1, pgd_steps=2, apgd_steps=2, square_queries=5, reference_steps=2),
        )
    where = Environment("1", "3", {}, "l", "p", 2, [], {})
    return replace(result, environment=where)


@pytest.fixture(scope="module")
def found(diagnosis: Diagnosis) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(diagnosis)))  # a tuple is a list


def test_the_table_has_every_figure_in_its_column(diagnosis: Diagnosis, found: dict[str, Any]) -> None:
    header, rows = report.table(diagnosis)
    assert header[1:] == list(found["models"])
    by_name = {name: values for name, *values in rows}
    for i, model in enumerate(found["models"].values()):
        for key, name in report.ATTACKS.items():
            assert float(by_name[name][i]) == pytest.approx(model["accuracy"][key], abs=0.06)
        assert set(report.ATTACKS) == set(model["accuracy"])
        assert set(report.GRADIENTS) == set(model["gradients"])
        assert by_name["verdict"][i] == model["verdict"]["word"]
        assert float(by_name["worst case of each image"][i]) == pytest.approx(model["worst_case"], abs=0.06)
        for source in report.SUBSTITUTES:
            assert float(by_name[f"images made on {source}"][i]) == pytest.approx(model["transfer"][source], abs=0.06)
    assert ("made on the others here, strongest" in by_name) == (len(header) > 2)


def test_what_is_written(diagnosis: Diagnosis, found: dict[str, Any], tmp_path: Path) -> None:
    written = report.write(diagnosis, tmp_path, "minidbp diagnose w.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == set(written)
    assert json.loads((tmp_path / "diagnosis.json").read_text()) == found
    text = (tmp_path / "diagnosis.md").read_text()
    assert "`minidbp diagnose w.safetensors`" in text
    for label, model in found["models"].items():
        assert f"- {label}: {model['verdict']['word']}" in text
        for finding in model["verdict"]["findings"]:
            assert f"| {finding['rule']} | {finding['kind']} | {finding['figure']:.2f} |" in text
    assert ("transfer.png" in written) == (len(found["models"]) > 1)
    for name in written[2:]:
        assert f"({name})" in text
        assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.03


def test_the_name_of_a_file_is_text_on_the_page(diagnosis: Diagnosis) -> None:
    name = "![x](http://example.org/a.png)<img src=b.png> | `# y` $z$"
    labels = [f"{name} {k}" for k in range(len(diagnosis.models))]
    named = replace(
        diagnosis,
        models=dict(zip(labels, diagnosis.models.values(), strict=True)),
        transfer=diagnosis.transfer and replace(diagnosis.transfer, labels=labels),
        settings=replace(diagnosis.settings, data=DataIdentity(name, "", (28, 28, 1), 10)),
    )
    page = BeautifulSoup(as_html(report.as_markdown(named, name, []), "t", Path()), "html.parser")
    assert not page(["img", "a"])
    assert name in [code.get_text() for code in page("code")]
    assert f"images of {name}, chosen" in page("p")[0].get_text()
    assert [cell.get_text() for cell in page("tr")[0]("th")][1:] == labels
    assert [h.get_text() for h in page("h2")][: len(labels)] == [f"Rules: {label}" for label in labels]
    assert page("li")[0].get_text().startswith(f"{labels[0]}: ")


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_shows_it_all(diagnosis: Diagnosis, found: dict[str, Any], width: int) -> None:
    """Nothing is cut, and only the verdict may be broken, between its words; long labels are given numbers."""
    names = [f"{k}_lambda1000_seed0_2fc671ed84_of_many_words" for k in range(len(diagnosis.models))]
    long = replace(diagnosis, models=dict(zip(names, diagnosis.models.values(), strict=True)))
    for shown in diagnosis, long:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(report.on_screen(shown, width))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for name in (*report.ATTACKS.values(), "worst case of each image", "verdict"):
            assert name in text
        if len(shown.models) > 1:
            assert all(label in text for label in shown.models)
        _, rows = report.table(shown)
        clean = [words[1:] for words in map(str.split, text.splitlines()) if words[:1] == ["clean"]]
        assert [value for line in clean for value in line] == rows[0][1:]


def test_the_pictures_show_the_figures(diagnosis: Diagnosis, found: dict[str, Any]) -> None:
    eps = figures.against_eps(diagnosis)
    assert sum(axes.get_visible() for axes in eps.axes) == len(found["models"])
    for axes, (label, model) in zip(eps.axes, found["models"].items(), strict=False):
        assert label in axes.get_title()
        lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        assert lines["PGD"] == model["against_eps"]["pgd"]
        assert lines["FGSM"] == model["against_eps"]["fgsm"]
        assert lines["random signs, worst of 10 draws"] == model["against_eps"]["noise"]
        assert lines["chance"] == [10, 10]
    (axes,) = figures.against_steps(diagnosis).axes
    for label, model in found["models"].items():
        (line,) = (line for line in axes.lines if line.get_label() == label)
        assert list(line.get_xdata()) == model["against_steps"]["steps"]
        assert list(line.get_ydata()) == model["against_steps"]["pgd"]


def test_the_matrix_of_transfer_has_rows_for_sources(diagnosis: Diagnosis, found: dict[str, Any]) -> None:
    if found["transfer"]:
        axes = figures.transfer(diagnosis).axes[0]
        np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), found["transfer"]["accuracy"])
        assert axes.get_ylabel() == "adversarial images made on"
        shown = {text.get_position(): text.get_text() for text in axes.texts}
        for row, values in enumerate(found["transfer"]["accuracy"]):
            for column, value in enumerate(values):
                assert shown[column, row] == f"{value:.1f}"

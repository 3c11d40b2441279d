"""The pictures: written as PNG, not blank, every number where it belongs, and told in words."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweep_fixtures import made_up_result

from minidbp.files.plots import save
from minidbp.paper import figures
from minidbp.paper.experiments import EXPERIMENTS, SECTION_4_2, TABLE2, TABLE3, TABLE4, Choice, Experiment
from minidbp.paper.tables import Row, rows_of
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol

MEASURES = {
    "clean": "clean", "fgsm": "FGSM 0.3", "worst": "worst 0.3", "fgsm_small": "FGSM 0.1", "worst_small": "worst 0.1",
}  # fmt: skip
MakeRows = Callable[..., list[Row]]
EPS = tuple({**SECTION_4_2, "eps": eps} for eps in (0.05, 0.1, 0.3))


@pytest.fixture(scope="module")
def make(made_up: Callable[..., dict[str, Any]]) -> MakeRows:
    def make(
        models: str,
        lambdas: tuple[float, ...],
        seeds: int,
        variants: tuple[Mapping[str, Any], ...] = ({},),
        experiment: Experiment = TABLE2,
    ) -> list[Row]:
        return rows_of(
            experiment,
            [
                made_up(Run(m, lam, s, Protocol(**r)), clean=98.0 + s, fgsm=20.0 + lam / 2 + s + i, pgd=3.0)
                for m in models
                for lam in lambdas
                for i, r in enumerate(variants)
                for s in range(seeds)
            ],
        )

    return make


def drawn(figure: Figure, path: Path) -> np.ndarray:
    save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.std() > 0.03
    return pixels


def heights(axes: Axes) -> dict[str, list[float]]:
    """What each line of a panel goes through."""
    return {container.get_label(): list(container.lines[0].get_ydata()) for container in axes.containers}


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "groups",
    [
        [("ABC", (0.0, 1.0, 50.0), 3)],
        [("C", (0.0, 50.0), 1)],  # no deviations
        [("C", (0.0,), 1)],  # no numbers of the paper's
        [("B", (0.0, 7.0), 2)],
        [("A", (50.0,), 2), ("C", (0.0, 50.0), 1)],  # an incomplete table
    ],
    ids=["full", "one run", "one point", "no paper", "incomplete"],
)
def test_accuracy_along_lambda(groups: list[tuple], make: MakeRows, tmp_path: Path) -> None:
    rows = [row for group in groups for row in make(*group)]
    figure = figures.accuracy_along(rows, "lambda")
    drawn(figure, tmp_path / "a.png")
    models = sorted({row.model for row in rows})
    lambdas = sorted({row.lam for row in rows})
    assert len(figure.axes) == len(models)
    assert "%" in figure.axes[0].get_ylabel()
    for axes, model in zip(figure.axes, models, strict=True):
        assert axes.get_title().startswith(f"model {model}\n")
        assert axes.get_xlabel() == "λ (logarithmic; 0 stands apart)"
        assert ticks(axes) == [f"{lam:g}" for lam in lambdas]
        mine = [row for row in rows if row.model == model]
        found = heights(axes)
        for measure, name in MEASURES.items():
            assert found[name] == [row.summary(measure).mean for row in mine]
        papers = {name: [getattr(row.paper, name) for row in mine if row.paper] for name in ("clean", "fgsm")}
        assert found.get("FGSM 0.3, paper", []) == [mean for mean, _ in papers["fgsm"]]
        assert found.get("clean, paper", []) == [mean for mean, _ in papers["clean"]]
        for container in axes.containers:  # each point at its lambda, the lines of one panel side by side
            where = container.lines[0].get_xdata()
            expected = [row for row in mine if row.paper] if "paper" in container.get_label() else mine
            at = {0.0: min((np.log10(lam) for lam in lambdas if lam), default=0) - 0.5}
            places = [at.get(row.lam, np.log10(row.lam or 1)) for row in expected]
            np.testing.assert_allclose(where, places, atol=0.1)


def test_error_bars_are_the_deviations(make: MakeRows) -> None:
    (axes,) = figures.accuracy_along(make("C", (0.0, 50.0), 3), "lambda").axes
    bars = {container.get_label(): container.lines[2][0].get_segments() for container in axes.containers}
    for name, half in ("clean", 1.0), ("FGSM 0.3", 1.0), ("worst 0.3", 0.0):  # of 0, 1, 2; of equal ones
        for (_, low), (_, high) in bars[name]:
            assert (high - low) / 2 == pytest.approx(half)
    ((_, low), (_, high)) = bars["FGSM 0.3, paper"][0]
    assert (low, high) == pytest.approx((29.92 - 14.24, 29.92 + 14.24))


@pytest.mark.slow
def test_accuracy_along_eps_has_a_panel_for_each_measure_and_a_line_for_each_lambda(
    make: MakeRows, tmp_path: Path
) -> None:
    rows = make("AC", (0.0, 10.0), 2, EPS, TABLE3)
    figure = figures.accuracy_along(rows, "eps")
    drawn(figure, tmp_path / "a.png")
    assert len(figure.axes) == 10
    for i, (measure, name) in enumerate(MEASURES.items()):
        for k, model in enumerate("AC"):
            axes = figure.axes[2 * i + k]
            assert axes.get_title().startswith(f"model {model}\n") == (i == 0)
            found = heights(axes)
            for lam in (0.0, 10.0):
                mine = [row for row in rows if (row.model, row.lam) == (model, lam)]
                assert found[f"λ = {lam:g}"] == [row.summary(measure).mean for row in mine]
                papers = (
                    [getattr(row.paper, measure)[0] for row in mine if row.paper]
                    if measure in ("clean", "fgsm")
                    else []
                )
                assert found.get(f"paper, λ = {lam:g}", []) == papers
        assert name.replace("0.3", "ε") in figure.axes[2 * i].get_ylabel()
    for axes in figure.axes[-2:]:  # the lowest panels, for all above them
        assert ticks(axes) == ["0.05", "0.1", "0.3"]
    assert "ε" in figure.axes[-1].get_xlabel()
    assert "pixel units" in figure.axes[-1].get_xlabel()


def test_what_varies_besides_makes_lines_of_its_own(make: MakeRows) -> None:
    rows = make("C", (0.0, 50.0), 1, ({}, {"penalty_target": "softmax"}))
    figure = figures.accuracy_along(rows, "lambda")
    assert len(figure.axes) == 5
    ours = {f"penalty_target = {of}" for of in ("logits", "softmax")}
    assert set(heights(figure.axes[1])) == ours | {"paper"}  # the paper does not say which of the two it is


def test_the_papers_numbers_never_have_our_length_of_training(make: MakeRows) -> None:
    """Table 4's lambda = 0 and 10 are after 100 epochs of the paper's, and stand beside 10 of ours."""
    rows = []
    for epochs, lambdas in (10, (0.0, 10.0)), (15, (0.0, 10.0, 50.0)):
        protocol = {**SECTION_4_2, "stop_rule": "none", "max_epochs": epochs}
        made = make("C", lambdas, 2, (protocol,), TABLE4)
        rows += [dataclasses.replace(row, varied={"max_epochs": epochs}) for row in made]
    figure = figures.accuracy_along(rows, "lambda")
    (papers, *more) = (c for c in figure.axes[1].containers if "paper" in c.get_label())
    assert {c.get_label() for c in (papers, *more)} == {"paper"}
    assert [list(c.lines[0].get_ydata()) for c in (papers, *more)] == [[95.52, 96.62], [97.25]]


def test_two_variants_of_table_3_share_the_papers_lines(make: MakeRows) -> None:
    variants = tuple({**eps, "penalty_target": of} for eps in EPS for of in ("logits", "softmax"))
    figure = figures.accuracy_along(make("C", (0.0, 10.0), 1, variants, TABLE3), "eps")
    papers = {c.get_label(): c.lines[0] for c in figure.axes[1].containers if "paper" in c.get_label()}
    assert set(papers) == {"paper, λ = 0", "paper, λ = 10"}
    assert {line.get_color() for line in papers.values()} == {"black"}
    assert len({line.get_marker() for line in papers.values()}) == 2


@pytest.mark.parametrize(("variants", "along"), [(({},), "lambda"), (EPS, "eps")])
def test_every_panel_has_the_same_scale_from_0_to_100(variants: tuple, along: str, make: MakeRows) -> None:
    figure = figures.accuracy_along(make("AC", (0.0, 10.0), 2, variants, TABLE3), along)
    assert {axes.get_ylim() for axes in figure.axes} == {(0.0, 100.0)}
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert not any(c.lines[0].get_clip_on() for axes in figure.axes for c in axes.containers)


def test_a_picture_says_how_many_runs_and_images_and_what_the_bars_are(make: MakeRows) -> None:
    two = make("A", (0.0, 50.0), 2)
    figure = figures.accuracy_along([*two, *make("C", (0.0,), 1), *make("C", (50.0,), 3)], "lambda")
    a, c = (axes.get_title() for axes in figure.axes)
    assert a == "model A\nn = 2 runs; 10,000 test images"
    assert "n = 1 to 3 runs" in c
    assert "Bars: ± 1 standard deviation over runs" in figure.get_suptitle()
    assert "the paper's" in figure.get_suptitle()
    assert "the paper's" not in figures.accuracy_along(make("C", (0.0,), 1), "lambda").get_suptitle()
    assert "n = 1 run;" in figures.accuracy_along(make("C", (0.0,), 1), "lambda").axes[0].get_title()


@pytest.mark.slow
def test_no_two_lines_look_alike(make: MakeRows) -> None:
    """Nor in black and white: markers tell them apart where colours come again."""
    variants = tuple({"penalty_target": of, "pgd_steps": n} for of in ("logits", "softmax") for n in range(1, 6))
    figure = figures.accuracy_along(make("C", (0.0, 50.0), 1, variants), "lambda")
    lines = [c.lines[0] for c in figure.axes[0].containers if "paper" not in c.get_label()]
    assert len(lines) == 10
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 10
    assert len({line.get_marker() for line in lines[:7]}) == 7


@pytest.mark.parametrize("along", ["lambda", "max_epochs"])
def test_a_condition_that_only_diverged_has_no_point(make: MakeRows, tmp_path: Path, along: str) -> None:
    rows = make("C", (0.0, 50.0), 2)
    lost = dataclasses.replace(rows[1], results=[], diverged=2)
    figure = figures.accuracy_along([rows[0], lost], along)
    drawn(figure, tmp_path / "a.png")
    assert ticks(figure.axes[-1]) == [{"lambda": "0", "max_epochs": "100"}[along]]
    assert "nan" not in figures.describe([rows[0], lost], along)


@pytest.mark.slow
def test_different_numbers_make_different_pictures(make: MakeRows, tmp_path: Path) -> None:
    rows = make("C", (0.0, 50.0), 2)
    changed = [
        dataclasses.replace(row, results=[dataclasses.replace(r, fgsm=70.0) for r in row.results]) for row in rows
    ]
    first, second = (
        drawn(figures.accuracy_along(r, "lambda"), tmp_path / f"{i}.png") for i, r in enumerate((rows, changed))
    )
    assert (first != second).any()


def test_the_picture_in_words(make: MakeRows) -> None:
    assert figures.describe(make("AC", (0.0, 1.0, 50.0), 2), "lambda") == (
        "Test accuracy against λ. "
        "Model A, λ 0 to 50: clean 98.5% to 98.5%; FGSM 0.3 20.5% to 45.5%; worst 0.3 3.0% to 3.0%; "
        "FGSM 0.1 20.5% to 45.5%; worst 0.1 3.0% to 3.0%. "
        "Model C, λ 0 to 50: clean 98.5% to 98.5%; FGSM 0.3 20.5% to 45.5%; worst 0.3 3.0% to 3.0%; "
        "FGSM 0.1 20.5% to 45.5%; worst 0.1 3.0% to 3.0%."
    )
    words = figures.describe(make("C", (0.0, 10.0), 1, EPS, TABLE3), "eps")
    assert "Model C, λ = 0, ε 0.05 to 0.3: clean 98.0% to 98.0%; FGSM ε 20.0% to 22.0%; worst ε" in words
    assert "Model C, λ = 10, ε 0.05 to 0.3: clean 98.0% to 98.0%; FGSM ε 25.0% to 27.0%; worst ε" in words
    assert "λ 50: clean" in figures.describe(make("C", (50.0,), 1), "lambda")  # one point


def test_an_unwritable_place_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        save(Figure(), tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == []


# -- along the epochs -------------------------------------------------------------------------------------------------


def risen(row: Row, per_epoch: float) -> Row:
    """The row, had its runs' FGSM accuracy risen by this much with each of their epochs, to 20% and the seed."""
    results = []
    for result in row.results:
        rises = [per_epoch * (epoch.number - result.epochs) for epoch in result.history]
        history = [
            dataclasses.replace(epoch, tracked=dataclasses.replace(epoch.tracked, fgsm=20.0 + result.run.seed + rise))
            for epoch, rise in zip(result.history, rises, strict=True)
        ]
        results.append(dataclasses.replace(result, history=history))
    return dataclasses.replace(row, results=results)


def test_the_epochs_have_a_line_for_each_lambda_and_a_band_between_the_runs(make: MakeRows, tmp_path: Path) -> None:
    rows = [risen(row, 0.5) for row in make("AC", (0.0, 50.0), 3)]
    figure = figures.along_epochs(rows)
    drawn(figure, tmp_path / "a.png")
    assert len(figure.axes) == 4 * 2  # clean, eps, small eps, J; two models
    fgsm = figure.axes[2]
    assert fgsm.get_ylabel() == "ε = 0.3: accuracy (%)"
    assert figure.axes[4].get_ylabel() == "ε = 0.1: accuracy (%)"
    lines = {(line.get_label(), line.get_linestyle()): line for line in fgsm.lines}
    assert set(lines) == {(label, style) for label in ("λ = 0", "λ = 50") for style in ("-", "--")}
    for label in "λ = 0", "λ = 50":
        x, y = lines[label, "-"].get_data()
        np.testing.assert_array_equal(x, range(1, 19))
        np.testing.assert_allclose(y, 21.0 + 0.5 * (np.arange(1, 19) - 18))  # the mean of seeds 0, 1, 2
    (band, *_) = fgsm.collections
    ends = band.get_paths()[0].get_extents()
    assert (ends.y0, ends.y1) == pytest.approx((20.0 - 0.5 * 17, 22.0))
    assert figure.axes[-1].get_yscale() == "log"
    assert "Bands" in figure.get_suptitle()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_lines_of_the_epochs_look_alike(name: str) -> None:
    """Table 3 has eight lines of a model, and there are seven colours. A shorter training of fixed length has none."""
    experiment = EXPERIMENTS[name]
    rows = rows_of(
        experiment, [made_up_result(run) for run in experiment.runs("overnight", choice=Choice(["C"], None, 1))]
    )
    (axes, *_) = figures.along_epochs(rows).axes
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    lines = {"table2": 4, "table3": 8, "table4": 6, "credit": 6}[name]
    assert len(looks) == len({line.get_label() for line in axes.lines}) == len(axes.lines) == lines
    assert figures.describe_epochs(rows).count("Model C") == lines


def test_trainings_by_a_stop_rule_have_lines_of_their_own(make: MakeRows) -> None:
    variants = tuple({"max_epochs": most} for most in (20, 30))
    labels = [line.get_label() for line in figures.along_epochs(make("C", (0.0,), 1, variants)).axes[0].lines]
    assert labels == ["λ = 0, max_epochs = 20", "λ = 0, max_epochs = 30"]


def test_runs_of_other_lengths_end_where_they_ended(make: MakeRows) -> None:
    """Under a stop rule: the mean is over the runs that reached the epoch."""
    (row,) = make("C", (0.0,), 2)
    short = dataclasses.replace(row.results[0], history=row.results[0].history[:5])
    row = risen(dataclasses.replace(row, results=[short, row.results[1]]), 0.0)
    x, y = figures.along_epochs([row]).axes[1].lines[0].get_data()
    np.testing.assert_array_equal(x, range(1, 19))
    np.testing.assert_allclose(y, [20.5] * 5 + [21.0] * 13)


def test_epochs_are_whole_numbers(make: MakeRows) -> None:
    """Also on the axis of a preset that trains for one epoch."""
    (row,) = make("C", (0.0,), 1)
    one = dataclasses.replace(row.results[0], history=row.results[0].history[:1])
    figure = figures.along_epochs([dataclasses.replace(row, results=[one])])
    assert all(tick == round(tick) for tick in figure.axes[-1].get_xticks())


def test_the_epochs_in_words(make: MakeRows) -> None:
    rows = [risen(row, 0.5) for row in make("C", (0.0,), 1)]
    assert figures.describe_epochs(rows) == (
        "Accuracy and the Jacobian's norm after every epoch. Model C, λ = 0: FGSM 11.5% to 20.0%."
    )

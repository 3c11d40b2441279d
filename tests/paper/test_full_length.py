"""Fuller results that the package ships: read as they were written, and shown only beside what they compare with."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_fixtures import diverged

from minidbp.paper import full_length as module
from minidbp.paper.experiments import CREDIT, EXPERIMENTS, SECTION_4_2, TABLE2, TABLE3, TABLE4, Condition, Experiment
from minidbp.paper.full_length import SHORTENED, full_length
from minidbp.paper.tables import FIGURES, as_csv, as_json, body, header, rows_of
from minidbp.sweeps.runs import Run, RunResult
from minidbp.training import Protocol
from minidbp.training.judgement import AccuracyAt

ROOT = Path(__file__).parents[2]
FOLDER = Path(module.__file__).with_suffix("")  # of the package
MadeUp = Callable[..., RunResult]
Ship = Callable[[Experiment, list[Any]], None]


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Writes results as the package's table of an experiment, in a folder of the test's own."""
    monkeypatch.setattr(module, "FOLDER", tmp_path)

    def ship(experiment: Experiment, results: list[Any]) -> None:
        (tmp_path / f"{experiment.name}.csv").write_text(as_csv(rows_of(experiment, results)), encoding="utf-8")
        module._shipped.cache_clear()  # making the rows has looked for the file

    return ship


def condition(lam: float = 50.0, **changes: Any) -> Condition:
    return Condition("C", lam, Protocol(**changes))


SHORT = {"n_train": 3200, "max_epochs": 1, "stop_rule": "none", "batch_size": 64, "n_test": 200, "n_tracked": 100}


def test_the_figures_are_those_of_the_runs(ship: Ship, made_up: MadeUp) -> None:
    results = [
        made_up(
            Run("C", 50.0, seed, Protocol()), clean=98.0 + seed, fgsm=30.0 + 3 * seed, epochs=20 + seed,
            by_eps=[AccuracyAt(eps, 30.0, 9, 8, 7, 100 * eps + seed) for eps in Protocol().attack_sizes],
        )
        for seed in range(3)
    ]  # fmt: skip
    ship(TABLE2, [*results, made_up(Run("C", 0.0, 0, Protocol()))])
    found = full_length(TABLE2, condition(**SHORT))
    assert found
    assert (found.condition, found.runs) == (condition(), 3)
    assert found.figures["clean"] == (99.0, 1.0)
    assert found.figures["fgsm"] == (33.0, 3.0)
    assert found.figures["worst"] == pytest.approx((31.0, 1.0))
    assert found.figures["worst_small"] == pytest.approx((11.0, 1.0))
    assert found.figures["epochs"] == (21.0, 1.0)
    alone = full_length(TABLE2, condition(0.0, **SHORT))
    assert alone
    assert alone.figures["clean"][0] == 98.0
    assert math.isnan(alone.figures["clean"][1])


def test_it_is_a_line_between_the_papers_and_this_runs(ship: Ship, made_up: MadeUp) -> None:
    ship(TABLE2, [made_up(Run("C", 50.0, seed, Protocol()), clean=98.5, fgsm=34.0 + seed) for seed in range(2)])
    short = [made_up(Run("C", lam, 0, Protocol(**SHORT)), clean=90.0, pgd=3.0) for lam in (0.0, 50.0)]
    rows = rows_of(TABLE2, short)
    assert [dict(zip(header(rows), line, strict=True)) for line in body(rows)[1:]] == [
        dict(zip(header(rows), line, strict=True))
        for line in (
            ("C", "50", "paper", "98.63 ± 0.11", "29.92 ± 14.24", *["–"] * 6),
            ("C", "50", "ours, full length", "98.50 ± 0.00", "34.50 ± 0.71", "2.00 ± 0.00", "34.50 ± 0.71",
             "2.00 ± 0.00", "18 ± 0", "2", "10,000"),
            ("C", "50", "this run", "90.00", "20.00", "3.00", "20.00", "3.00", "18", "1", "200"),
        )
    ]  # fmt: skip
    assert body(rows)[0][2] == "this run"  # nothing is shipped for lambda 0
    assert as_json(rows)[0]["full_length"] is None
    shipped = as_json(rows)[1]["full_length"]
    assert (shipped["runs"], shipped["n_test"], shipped["clean"]) == (2, 10_000, [98.5, 0.0])
    assert set(shipped) == {"runs", "n_test", *FIGURES}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_without_a_file_has_no_such_line(name: str, ship: Ship) -> None:
    for preset in EXPERIMENTS[name].presets.values():
        assert all(full_length(EXPERIMENTS[name], condition) is None for condition in preset)


OTHER = {
    "learning_rate": 1e-2, "beta1": 0.8, "beta2": 0.99, "adam_eps": 1e-7, "label_smoothing": 0.0, "eps": 0.1,
    "adversarial_training": True, "penalty": "summed_jacobian_l1", "penalty_target": "softmax", "reduction": "sum",
    "padding": "same", "keep": "best", "initialiser": "he_normal", "attack_label": "predicted", "clip": False,
    "validation_split": "first", "small_eps": 0.05, "training_attack": "pgd", "training_attack_steps": 5,
    "training_attack_step": 0.01,
}  # fmt: skip


def test_every_field_is_either_shortened_or_compared() -> None:
    assert {*OTHER, *SHORTENED} == {*Protocol().as_dict()}
    assert OTHER.keys().isdisjoint(SHORTENED)


@pytest.mark.parametrize("name", OTHER)
def test_a_field_that_makes_another_experiment_must_be_equal(name: str, ship: Ship, made_up: MadeUp) -> None:
    ship(TABLE2, [made_up(Run("C", 50.0, 0, Protocol()))])
    assert full_length(TABLE2, condition(**SHORT))
    assert full_length(TABLE2, condition(**SHORT, **{name: OTHER[name]})) is None


def test_model_and_lambda_must_be_equal(ship: Ship, made_up: MadeUp) -> None:
    ship(TABLE2, [made_up(Run("C", 50.0, 0, Protocol()))])
    assert full_length(TABLE2, Condition("A", 50.0, Protocol())) is None
    assert full_length(TABLE2, condition(25.0)) is None
    assert full_length(TABLE3, condition()) is None


def test_a_rule_that_the_table_varies_must_be_equal(ship: Ship, made_up: MadeUp) -> None:
    """With --vary stop_rule, results of "absolute" do not stand beside those of "signed"."""
    ship(TABLE2, [made_up(Run("C", 50.0, 0, Protocol()))])
    rows = rows_of(TABLE2, [made_up(Run("C", 50.0, 0, Protocol(stop_rule=rule))) for rule in ("absolute", "signed")])
    assert [(row.varied["stop_rule"], row.full_length is not None) for row in rows] == [
        ("absolute", True), ("signed", False),
    ]  # fmt: skip


def test_table_3_has_it_at_the_same_eps(ship: Ship, made_up: MadeUp) -> None:
    full = [Run("C", 0.0, 0, Protocol(**SECTION_4_2, eps=eps)) for eps in (0.1, 0.3)]
    ship(TABLE3, [made_up(run, fgsm=100 * run.protocol.eps) for run in full])
    short = [Run("C", 0.0, 0, Protocol(**SECTION_4_2, **SHORT, eps=eps)) for eps in (0.1, 0.2, 0.3)]
    rows = rows_of(TABLE3, [made_up(run) for run in short])
    found = [row.full_length and row.full_length.figures["fgsm"][0] for row in rows]
    assert found == [pytest.approx(10), None, pytest.approx(30)]


def test_table_4_has_it_at_the_corresponding_length(ship: Ship, made_up: MadeUp) -> None:
    runs = TABLE4.runs("paper")
    ship(TABLE4, [made_up(run, epochs=run.protocol.max_epochs) for run in runs if run.lam in (0.0, 50.0)])
    rows = rows_of(TABLE4, [made_up(run) for run in TABLE4.runs("laptop") if run.lam in (0.0, 10.0, 50.0)])
    epochs = {
        (row.lam, row.varied["max_epochs"]): row.full_length and row.full_length.figures["epochs"][0] for row in rows
    }
    assert epochs == {(0.0, 10): 100, (10.0, 10): None, (0.0, 15): 150, (10.0, 15): None, (50.0, 15): 150}


def test_credit_has_it_at_the_same_length(ship: Ship, made_up: MadeUp) -> None:
    ship(CREDIT, [made_up(run, epochs=run.protocol.max_epochs) for run in CREDIT.runs("paper")])
    rows = rows_of(CREDIT, [made_up(run) for run in CREDIT.runs("laptop")])
    assert {row.varied["max_epochs"] for row in rows if row.full_length} == {1}


def test_a_condition_that_only_diverged_has_no_numbers(ship: Ship, made_up: MadeUp) -> None:
    ship(TABLE2, [diverged(made_up(Run("C", 50.0, 0, Protocol())))])
    assert full_length(TABLE2, condition()) is None


def test_a_field_that_the_file_does_not_have_yet_has_its_default(ship: Ship, made_up: MadeUp, tmp_path: Path) -> None:
    ship(TABLE2, [made_up(Run("C", 50.0, 0, Protocol()))])
    path = tmp_path / "table2.csv"
    path.write_text(path.read_text().replace("training_attack,", "something_else,"))
    module._shipped.cache_clear()
    assert full_length(TABLE2, condition())
    assert full_length(TABLE2, condition(training_attack="pgd")) is None


# -- the files that are shipped -------------------------------------------------------------------------------------


def test_a_shipped_table_is_that_of_results() -> None:
    """Each is a copy of results/full/NAME/table.csv, and belongs to an experiment."""
    for path in FOLDER.glob("*"):
        assert path.stem in EXPERIMENTS
        assert path.read_bytes() == (ROOT / "results" / "full" / path.stem / "table.csv").read_bytes()


def test_the_full_length_results_are_all_shipped() -> None:
    for path in (ROOT / "results" / "full").glob("*/table.csv"):
        assert (FOLDER / f"{path.parent.name}.csv").exists()


def test_a_shipped_table_says_each_condition_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDER", FOLDER)
    for path in FOLDER.glob("*.csv"):
        experiment = EXPERIMENTS[path.stem]
        conditions = [full.condition for full in module._shipped(path)]
        assert conditions
        for each in conditions:
            found = full_length(experiment, each)
            assert found
            assert found.condition == each


def test_a_shipped_table_is_at_full_length() -> None:
    """All training images, and at least the 20 epochs around which the paper's trainings of Table 2 ended."""
    assert list(FOLDER.glob("*.csv"))
    for path in FOLDER.glob("*.csv"):
        for full in module._shipped(path):
            assert full.condition.protocol.n_train == Protocol().n_train
            assert full.condition.protocol.max_epochs >= 20

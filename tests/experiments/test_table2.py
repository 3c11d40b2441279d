"""Presets, plans, and the table that runs add up to."""

import dataclasses
import itertools
import math
import random
from typing import Any

import pytest

from minidbp.experiments.paper import LAMBDAS, TABLE_2
from minidbp.experiments.table2 import PRESETS, Spread, plan_runs, preset, table
from minidbp.training import Protocol


def result(model: str, lam: float, seed: int, **numbers: float) -> dict[str, Any]:
    same = {"clean": 98.0, "fgsm": 20.0, "pgd": 2.0, "epochs": 18}
    return {"model": model, "lambda": lam, "seed": seed, **same, **numbers}


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_every_preset_has_all_models_lambda_zero_and_the_penalty(name: str) -> None:
    chosen = preset(name)
    assert set(chosen.plans) == {"A", "B", "C"}
    assert 0.0 in chosen.lambdas
    assert max(chosen.lambdas) == 50
    assert set(chosen.lambdas) <= {0.0, *LAMBDAS}
    assert len(set(chosen.lambdas)) == len(chosen.lambdas)
    assert chosen.about
    for plan in chosen.plans.values():
        assert plan.protocol.penalty == "jacobian_l1"
        assert plan.protocol.eps == 0.3
        assert plan.protocol.label_smoothing == 0.1


def test_the_laptop_has_at_least_three_of_the_papers_lambdas() -> None:
    assert len(set(preset("laptop").lambdas) & set(LAMBDAS)) >= 3


def test_the_paper_preset_is_the_paper() -> None:
    chosen = preset("paper")
    assert set(chosen.lambdas) == {0.0, *LAMBDAS}
    for plan in chosen.plans.values():
        assert plan.seeds == 10
        assert plan.protocol == Protocol()


@pytest.mark.parametrize("name", ["tiny", "", "Laptop"])
def test_an_unknown_preset_is_answered_with_the_choices(name: str) -> None:
    for function in (preset, plan_runs):
        with pytest.raises(ValueError) as caught:
            function(name)
        for word in (repr(name), "smoke", "laptop", "paper"):
            assert word in str(caught.value)


@pytest.mark.parametrize(("name", "first_seed"), [("smoke", 0), ("laptop", 5)])
def test_the_plan_has_every_cell_as_often_as_it_should(name: str, first_seed: int) -> None:
    chosen, runs = preset(name), plan_runs(name, first_seed)
    found = {(run.model, run.lam, run.seed): run.protocol for run in runs}
    assert len(found) == len(runs)
    assert found == {
        (model, lam, first_seed + k): plan.protocol
        for model, plan in chosen.plans.items()
        for k in range(plan.seeds)
        for lam in chosen.lambdas
    }


def test_a_table_stopped_early_has_every_cell_as_soon_as_it_can() -> None:
    runs = plan_runs("laptop")
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    cells = len(preset("laptop").lambdas) * 3
    assert len({(run.model, run.lam) for run in runs[:cells]}) == cells


def test_changes_go_into_every_run_and_nothing_else_does() -> None:
    for changed, plain in zip(plan_runs("smoke", penalised="softmax"), plan_runs("smoke"), strict=True):
        assert changed.protocol == dataclasses.replace(plain.protocol, penalised="softmax")


def test_a_change_that_means_nothing() -> None:
    with pytest.raises(ValueError, match="penalised must be one of logits, softmax"):
        plan_runs("smoke", penalised="tanh")
    with pytest.raises(ValueError, match="seed"):
        plan_runs("smoke", -1)


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [([1.0, 3.0], 2.0, math.sqrt(2)), ([2.0, 4.0, 6.0], 4.0, 2.0), ([5.0, 5.0], 5.0, 0.0), ([18, 21], 19.5, 4.5**0.5)],
)
def test_a_spread_is_the_mean_and_the_sample_deviation(values: list[float], mean: float, deviation: float) -> None:
    assert tuple(Spread(values)) == pytest.approx((mean, deviation))


def test_one_value_has_no_deviation() -> None:
    mean, deviation = Spread([97.25])
    assert mean == 97.25
    assert math.isnan(deviation)


def test_the_table_groups_runs_by_model_and_lambda() -> None:
    results = [
        result("C", 50.0, 0, clean=98.0, fgsm=20.0, pgd=1.0, epochs=17),
        result("C", 50.0, 1, clean=97.0, fgsm=26.0, pgd=4.0, epochs=20),
        result("C", 50.0, 2, clean=99.0, fgsm=32.0, pgd=7.0, epochs=23),
        result("C", 0.0, 0, clean=98.5),
        result("A", 10.0, 0),
        result("C", 10.0, 0),
    ]
    for order in itertools.islice(itertools.permutations(results), 0, 720, 100):
        rows = table(order)
        assert [(row.model, row.lam, row.runs) for row in rows] == [
            ("A", 10.0, 1), ("C", 0.0, 1), ("C", 10.0, 1), ("C", 50.0, 3),
        ]  # fmt: skip
        last = rows[-1]
        assert tuple(last.clean) == pytest.approx((98.0, 1.0))
        assert tuple(last.fgsm) == pytest.approx((26.0, 6.0))
        assert tuple(last.pgd) == pytest.approx((4.0, 3.0))
        assert tuple(last.epochs) == pytest.approx((20.0, 3.0))


def test_the_papers_numbers_stand_beside_ours_where_it_has_any() -> None:
    results = [result(m, lam, 0) for m in "ABC" for lam in (0.0, *LAMBDAS, 7.0)]
    random.Random(0).shuffle(results)
    rows = table(results)
    assert len(rows) == 21
    for row in rows:
        assert row.paper == (None if row.lam in (0.0, 7.0) else TABLE_2[row.model, row.lam])


def test_no_results_make_no_rows() -> None:
    assert table([]) == []


def test_all_presets_can_be_planned() -> None:
    assert set(PRESETS) == {"smoke", "laptop", "paper"}
    assert len(plan_runs("paper")) == 180

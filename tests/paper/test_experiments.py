"""All experiments by name."""

import re
from typing import Any

import pytest

from minidbp.paper.experiments import EXPERIMENTS, experiment_named
from minidbp.paper.plans import readings_of
from minidbp.sweeps.runs import Run, RunError


def test_names() -> None:
    assert set(EXPERIMENTS) == {"table2", "table3", "table4", "credit"}
    for name, experiment in EXPERIMENTS.items():
        assert experiment_named(name) is experiment
        assert experiment.name == name
        assert experiment.title


@pytest.mark.parametrize("name", ["table5", "", None, 3, ["table2"]])
def test_an_unknown_name_is_answered_with_all(name: Any) -> None:
    with pytest.raises(RunError) as caught:
        experiment_named(name)
    for word in (repr(name), *EXPERIMENTS):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_all_presets_can_be_planned_named_and_described_again(name: str, preset: str) -> None:
    runs = EXPERIMENTS[name].runs(preset)
    assert len(runs) == sum(EXPERIMENTS[name].preset(preset).seeds.values())
    assert len({run.name for run in runs}) == len(set(runs)) == len(runs)
    assert [Run.of(run.identity()) for run in runs] == runs


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("vary", [["penalty_target"], ["eps=0.1,0.3"], ["max_epochs=2,3", "label_smoothing=0,0.1"]])
def test_all_experiments_can_be_varied(name: str, vary: list[str]) -> None:
    """Also along a field in which their own conditions differ: then these become one, and no run is there twice."""
    plain, runs = EXPERIMENTS[name].runs("smoke"), EXPERIMENTS[name].runs("smoke", 0, readings_of(vary))
    assert len(set(runs)) == len(runs)
    for text in vary:
        field = re.sub("=.*", "", text)
        assert len({getattr(run.protocol, field) for run in runs}) == 2
    assert {(run.model, run.lam, run.seed) for run in runs} == {(run.model, run.lam, run.seed) for run in plain}

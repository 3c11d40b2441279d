"""Presets, the runs that they plan, and what `--vary` asks for."""

import dataclasses
from typing import Any

import pytest

from minidbp.paper.plans import Condition, Experiment, Preset, changed, readings_of
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol
from minidbp.training.protocol import CHOICES

SHORT, LONG = (Protocol(stop_rule="none", max_epochs=epochs) for epochs in (1, 2))
SEEDS = {Condition("A", 0.0, SHORT): 1, Condition("C", 0.0, SHORT): 3, Condition("C", 10.0, LONG): 2}
EXPERIMENT = Experiment("e", "E", {"one": Preset("", SEEDS), "two": Preset("", {})}, lambda c: None, lambda r: [])


def test_every_condition_has_its_seeds() -> None:
    runs = EXPERIMENT.runs("one", first_seed=5)
    assert len(runs) == 6
    assert set(runs) == {Run(c.model, c.lam, 5 + k, c.protocol) for c, count in SEEDS.items() for k in range(count)}


def test_seed_by_seed_so_that_every_cell_is_there_as_soon_as_can_be() -> None:
    assert [(run.model, run.lam, run.seed) for run in EXPERIMENT.runs("one")] == [
        ("A", 0.0, 0), ("C", 0.0, 0), ("C", 10.0, 0), ("C", 0.0, 1), ("C", 10.0, 1), ("C", 0.0, 2),
    ]  # fmt: skip


def test_every_reading_gets_all_runs_and_nothing_else_changes() -> None:
    plain, runs = (
        EXPERIMENT.runs("one"),
        EXPERIMENT.runs("one", readings=[{}, {"penalty_target": "softmax", "eps": 0.1}]),
    )
    assert len(runs) == 2 * len(plain)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run for run in runs if run.protocol.penalty_target == "logits"] == plain
    for run, before in zip([run for run in runs if run.protocol.penalty_target == "softmax"], plain, strict=True):
        other = dataclasses.replace(before.protocol, penalty_target="softmax", eps=0.1)
        assert run == dataclasses.replace(before, protocol=other)


@pytest.mark.parametrize(
    "readings", [[{"max_epochs": 2}], [{"eps": 0.1}, {"eps": 0.1}], [{"max_epochs": n} for n in (2, 3)]]
)
def test_readings_that_make_conditions_equal_make_no_run_twice(readings: list[dict[str, Any]]) -> None:
    conditions = {Condition("C", 10.0, SHORT): 2, Condition("C", 10.0, LONG): 1, Condition("C", 0.0, LONG): 1}
    experiment = dataclasses.replace(EXPERIMENT, presets={"one": Preset("", conditions)})
    runs = experiment.runs("one", readings=readings)
    assert len(runs) == len(set(runs))
    for reading in readings:
        for condition, count in conditions.items():
            protocol = changed(condition.protocol, reading)
            assert {Run("C", condition.lam, k, protocol) for k in range(count)} <= set(runs)


@pytest.mark.parametrize("name", ["tiny", "", "One"])
def test_an_unknown_preset_is_answered_with_the_choices(name: str) -> None:
    for function in (EXPERIMENT.preset, EXPERIMENT.runs):
        with pytest.raises(ValueError) as caught:
            function(name)
        for word in (repr(name), "one", "two"):
            assert word in str(caught.value)


def test_a_reading_that_means_nothing() -> None:
    with pytest.raises(ValueError, match="penalty_target must be one of logits, softmax"):
        EXPERIMENT.runs("one", readings=[{"penalty_target": "tanh"}])
    with pytest.raises(ValueError, match=r"no field 'colour': choose one of learning_rate, .*pgd_restarts"):
        EXPERIMENT.runs("one", readings=[{"colour": "red"}])
    with pytest.raises(ValueError, match="seed"):
        EXPERIMENT.runs("one", -1)


# -- what --vary asks for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ([], [{}]),
        (["penalty_target=softmax"], [{"penalty_target": "softmax"}]),
        (["penalty_target=softmax,logits"], [{"penalty_target": "softmax"}, {"penalty_target": "logits"}]),
        (["eps=0.1,3e-1"], [{"eps": 0.1}, {"eps": 0.3}]),
        (["eps=1"], [{"eps": 1.0}]),
        (["batch_size=64"], [{"batch_size": 64}]),
        (["clip=true,False"], [{"clip": True}, {"clip": False}]),
        (["clip"], [{"clip": True}, {"clip": False}]),
        (
            ["eps=0.1,0.3", "penalty_target"],
            [{"eps": eps, "penalty_target": of} for eps in (0.1, 0.3) for of in ("logits", "softmax")],
        ),
    ],
)
def test_readings(vary: list[str], expected: list[dict[str, Any]]) -> None:
    found = readings_of(vary)
    assert found == expected
    assert [list(map(type, reading.values())) for reading in found] == [
        list(map(type, reading.values())) for reading in expected
    ]
    for reading in found:
        changed(Protocol(), reading)


@pytest.mark.parametrize("field", CHOICES)
def test_a_choice_of_words_needs_no_values(field: str) -> None:
    assert readings_of([field]) == [{field: word} for word in CHOICES[field]]


def test_three_fields_make_all_their_combinations() -> None:
    found = readings_of(["reduction", "clip", "batch_size=32,64,128"])
    assert len(found) == 12
    assert len({tuple(reading.items()) for reading in found}) == 12


@pytest.mark.parametrize(
    ("vary", "named"),
    [
        (["colour=red"], ["--vary colour=red", "no field 'colour'", "learning_rate", "pgd_restarts"]),
        (["colour"], ["no field 'colour'"]),
        ([""], ["no field ''"]),
        (["=3"], ["no field ''"]),
        (["Eps=0.1"], ["no field 'Eps'"]),
        (["eps"], ["--vary eps needs values", "eps=0.3"]),
        (["n_train"], ["n_train=55000"]),
        (["eps=big"], ["--vary eps=big", "'big'", "a number"]),
        (["eps="], ["''", "a number"]),
        (["eps=0.1,,0.3"], ["''", "a number"]),
        (["batch_size=1e2"], ["'1e2'", "a whole number"]),
        (["batch_size=1.5"], ["'1.5'", "a whole number"]),
        (["clip=maybe"], ["'maybe'", "true or false"]),
        (["eps=0.1", "clip", "eps=0.3"], ["eps", "twice"]),
    ],
)
def test_readings_that_cannot_be(vary: list[str], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        readings_of(vary)
    assert "\n" not in str(caught.value)
    for word in named:
        assert word in str(caught.value)

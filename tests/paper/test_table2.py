"""Table 2: its presets, and the paper's numbers beside them."""

import dataclasses

import pytest

from minidbp.paper.plans import Condition
from minidbp.paper.published import LAMBDAS, TABLE_2
from minidbp.paper.table2 import TABLE2
from minidbp.training import Protocol


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_every_preset_has_all_models_lambda_zero_and_the_penalty(name: str) -> None:
    preset = TABLE2.preset(name)
    assert preset.about
    assert all(count >= 1 for count in preset.seeds.values())
    lambdas = {c.lam for c in preset.seeds}
    assert {(c.model, c.lam) for c in preset.seeds} == {(m, lam) for m in "ABC" for lam in lambdas}
    assert {0.0, 50.0} <= lambdas <= {0.0, *LAMBDAS}
    assert len(preset.seeds) == 3 * len(lambdas)  # one protocol for each model
    for condition in preset.seeds:
        protocol = condition.protocol
        assert (protocol.penalty, protocol.eps, protocol.label_smoothing) == ("jacobian_l1", 0.3, 0.1)
        assert not protocol.adversarial_training


def test_the_laptop_has_at_least_three_of_the_papers_lambdas() -> None:
    assert len({c.lam for c in TABLE2.preset("laptop").seeds} & set(LAMBDAS)) >= 3


def test_the_paper_preset_is_the_paper_and_lambda_0() -> None:
    seeds = TABLE2.preset("paper").seeds
    assert {(c.model, c.lam) for c in seeds} == set(TABLE_2) | {(m, 0.0) for m in "ABC"}
    assert set(seeds.values()) == {10}
    assert {c.protocol for c in seeds} == {Protocol()}
    assert len(TABLE2.runs("paper")) == 180


def test_the_default_protocol_is_what_the_paper_says_and_design_section_6_chose() -> None:
    assert Protocol().as_dict() == {
        "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "adam_eps": 1e-8, "label_smoothing": 0.1, "eps": 0.3,
        "n_validation": 5000, "min_epochs": 10, "max_epochs": 100, "stop_tolerance": 1e-4,
        "adversarial_training": False, "penalty": "jacobian_l1", "penalty_target": "logits",
        "reduction": "mean", "padding": "same_first", "stop_rule": "absolute", "keep": "last",
        "batch_size": 128, "initialiser": "glorot_uniform", "attack_label": "true", "clip": True,
        "validation_split": "random",
        "n_train": 55_000, "n_test": 10_000, "n_pgd": 10_000, "pgd_steps": 40, "pgd_step": 0.01, "pgd_restarts": 1,
    }  # fmt: skip


def test_the_papers_numbers_stand_where_it_has_any() -> None:
    for model in "ABC":
        for lam in LAMBDAS:
            assert TABLE2.paper(Condition(model, lam, Protocol())) == TABLE_2[model, lam]
        for lam in (0.0, 7.0):
            assert TABLE2.paper(Condition(model, lam, Protocol())) is None
    unsaid = dataclasses.replace(Protocol(), penalty_target="softmax")  # another reading of the same table
    assert TABLE2.paper(Condition("C", 50.0, unsaid)) == TABLE_2["C", 50.0]
    assert TABLE2.paper(Condition("C", 50.0, Protocol(eps=0.1))) is None  # said, and other

"""Table 3: its presets, and the paper's numbers beside them."""

import dataclasses

import pytest

from minidbp.paper.plans import Condition
from minidbp.paper.published import TABLE_3
from minidbp.paper.table3 import TABLE3
from minidbp.training import Protocol

PAPERS = Protocol(
    adversarial_training=True, penalty="summed_jacobian_l1", stop_rule="none", max_epochs=100
)  # section 4.2


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_every_preset_trains_every_model_with_and_without_the_penalty(name: str) -> None:
    preset = TABLE3.preset(name)
    assert preset.about
    epsilons = {c.protocol.eps for c in preset.seeds}
    assert {(c.model, c.protocol.eps, c.lam) for c in preset.seeds} == {
        (m, eps, lam) for m in "ABC" for eps in epsilons for lam in (0.0, 10.0)
    }
    assert len(preset.seeds) == 6 * len(epsilons)
    for condition in preset.seeds:
        assert condition.protocol.adversarial_training
        assert condition.protocol.clip
        assert condition.protocol.penalty == "summed_jacobian_l1"
        assert condition.protocol.stop_rule == "none"


def test_laptop_and_paper_have_every_cell_of_the_papers_table() -> None:
    for name in "laptop", "paper":
        assert {(c.model, c.protocol.eps, c.lam) for c in TABLE3.preset(name).seeds} == set(TABLE_3)


def test_the_paper_preset_is_the_papers_protocol() -> None:
    seeds = TABLE3.preset("paper").seeds
    assert {dataclasses.replace(c.protocol, eps=0.3) for c in seeds} == {PAPERS}
    assert set(seeds.values()) == {10}
    assert len(TABLE3.runs("paper")) == 240


def test_training_and_attack_have_the_eps_of_their_column() -> None:
    """One field is both, so that no run is attacked with another eps than it was trained with."""
    for (model, eps, lam), reported in TABLE_3.items():
        assert TABLE3.paper(Condition(model, lam, dataclasses.replace(PAPERS, eps=eps))) == reported
    assert TABLE3.paper(Condition("A", 10.0, dataclasses.replace(PAPERS, eps=0.15))) is None
    assert TABLE3.paper(Condition("A", 50.0, PAPERS)) is None
    assert TABLE3.along == "eps"

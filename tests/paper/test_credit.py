"""Who gets the credit: every combination of lambda, label smoothing and length, so that each can be taken by itself."""

import dataclasses

import pytest

from minidbp.paper.credit import CREDIT
from minidbp.training import Protocol


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_every_preset_has_every_combination(name: str) -> None:
    preset = CREDIT.preset(name)
    assert preset.about
    found = {(c.lam, c.protocol.label_smoothing, c.protocol.max_epochs) for c in preset.seeds}
    lambdas, smoothings, lengths = (set(values) for values in zip(*found, strict=True))
    assert len(found) == len(preset.seeds) == len(lambdas) * len(smoothings) * len(lengths)
    assert {0.0, 50.0} <= lambdas
    assert smoothings == {0.0, 0.1}
    assert len(lengths) >= 2
    same = {dataclasses.replace(c.protocol, max_epochs=1, label_smoothing=0.1) for c in preset.seeds}
    assert len(same) == 1  # nothing else changes
    assert {c.model for c in preset.seeds} == {"C"}
    assert {c.protocol.stop_rule for c in preset.seeds} == {"none"}  # no rule decides the length
    assert len(set(preset.seeds.values())) == 1


def test_the_paper_preset_is_the_papers_protocol_but_for_what_it_varies() -> None:
    seeds = CREDIT.preset("paper").seeds
    assert set(seeds.values()) == {10}
    for condition in seeds:
        plain = dataclasses.replace(condition.protocol, max_epochs=100, label_smoothing=0.1, stop_rule="absolute")
        assert plain == Protocol()
    assert {11, 20} <= {c.protocol.max_epochs for c in seeds}  # where a signed rule stops, and where the paper did


def test_the_paper_reports_none_of_it() -> None:
    assert all(CREDIT.paper(condition) is None for condition in CREDIT.preset("paper").seeds)
    assert list(CREDIT.verdicts([])) == []
    assert CREDIT.along == "max_epochs"

"""Table 4: its presets at two lengths of training, and the paper's numbers beside the right one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from minidbp.paper.plans import Condition
from minidbp.paper.published import TABLE_4
from minidbp.paper.table4 import TABLE4
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol

SHORT, LONG = (
    Protocol(adversarial_training=True, penalty="summed_jacobian_l1", stop_rule="none", max_epochs=epochs)
    for epochs in (100, 150)
)


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_lambda_0_and_10_are_trained_for_both_lengths_and_the_rest_for_the_longer(name: str) -> None:
    preset = TABLE4.preset(name)
    assert preset.about
    lengths = sorted({c.protocol.max_epochs for c in preset.seeds})
    assert len(lengths) == 2
    assert {c.lam for c in preset.seeds if c.protocol.max_epochs == lengths[0]} == {0.0, 10.0}
    long = {c.lam for c in preset.seeds if c.protocol.max_epochs == lengths[1]}
    assert {0.0, 10.0, 1000.0} <= long <= set(TABLE_4)
    assert len(preset.seeds) == 2 + len(long)
    assert len({dataclasses.replace(c.protocol, max_epochs=1) for c in preset.seeds}) == 1  # else all alike
    for condition in preset.seeds:
        protocol = condition.protocol
        assert condition.model == "C"
        assert (protocol.eps, protocol.adversarial_training, protocol.stop_rule) == (0.3, True, "none")
        assert (protocol.penalty, protocol.clip) == ("summed_jacobian_l1", True)


def test_the_paper_preset_is_the_papers_protocol() -> None:
    seeds = TABLE4.preset("paper").seeds
    expected = {("C", lam, SHORT) for lam in (0.0, 10.0)} | {("C", lam, LONG) for lam in TABLE_4}
    assert {(c.model, c.lam, c.protocol) for c in seeds} == expected
    assert set(seeds.values()) == {10}
    assert {c.lam for c in TABLE4.preset("laptop").seeds} == set(TABLE_4)


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_the_papers_numbers_stand_beside_the_length_that_they_come_from(name: str) -> None:
    """Its lambda = 0 and 10 are Table 3's, after 100 epochs; the others were trained for up to 150."""
    conditions = list(TABLE4.preset(name).seeds)
    long = max(c.protocol.max_epochs for c in conditions)
    for condition in conditions:
        is_long, repeated = condition.protocol.max_epochs == long, condition.lam in (0.0, 10.0)
        expected = TABLE_4[condition.lam] if is_long != repeated else None
        assert TABLE4.paper(condition) == expected
        other = dataclasses.replace(condition, protocol=dataclasses.replace(condition.protocol, eps=0.1))
        assert TABLE4.paper(other) is None
    with_numbers = [c.lam for c in conditions if TABLE4.paper(c)]
    assert sorted(with_numbers) == sorted({c.lam for c in conditions})  # each once
    assert TABLE4.paper(Condition("C", 7.0, LONG)) is None


def test_the_verdicts_look_at_the_longer_training_alone(made_up: Callable[..., dict[str, Any]]) -> None:
    """At 150 epochs lambda 10 is better than 0 by about 2 points; the 100 epochs, worse by 50, must not come in."""
    results = [
        made_up(Run("C", lam, seed, LONG), fgsm=fgsm + seed * spread)
        for lam, fgsm, spread in ((0.0, 90.0, 0.0), (10.0, 92.0, 0.1), (1000.0, 80.0, 0.3))
        for seed in range(4)
    ]
    short = [made_up(Run("C", lam, s, SHORT), fgsm=f + s) for lam, f in ((0.0, 90.0), (10.0, 40.0)) for s in range(4)]
    found = list(TABLE4.verdicts(results))
    assert list(TABLE4.verdicts([*short, *results])) == found
    assert [verdict.finding for verdict in found] == ["holds", "holds"]

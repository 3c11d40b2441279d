"""Stop and keep rules, against histories whose ends are counted by hand."""

import numpy as np
import pytest

from minidbp.training import Protocol
from minidbp.training.rules import kept_epoch, last_epoch, stops

#          1     2     3     4      5     6     7      8
HISTORY = [90.0, 90.0, 92.0, 93.0, 92.99, 94.0, 94.0, 95.0]


@pytest.mark.parametrize(("rule", "last"), [("absolute", 7), ("signed", 5), ("none", 8)])
def test_a_training_of_fixed_length_is_read_under_each_rule(rule: str, last: int) -> None:
    """The equal epochs 1 and 2 come before min_epochs; a loss of 0.01 points is a change of 0.0001, not below it."""
    fixed = Protocol(min_epochs=3, max_epochs=8, stop_rule="none")
    assert last_epoch(HISTORY, fixed, rule) == last


@pytest.mark.parametrize("rule", ["absolute", "signed", "none"])
def test_a_reading_agrees_with_a_training_by_that_rule(rule: str) -> None:
    own = Protocol(min_epochs=3, max_epochs=8, stop_rule=rule)
    ends = next(k for k in range(1, 9) if stops(HISTORY[:k], own))
    fixed = Protocol(min_epochs=3, max_epochs=8, stop_rule="none")
    assert last_epoch(HISTORY, fixed, rule) == ends
    assert last_epoch(HISTORY[:ends], own, rule) == ends


def test_a_rule_that_never_holds_has_no_last_epoch() -> None:
    rising = np.linspace(90, 95, 20).tolist()
    assert last_epoch(rising, Protocol(stop_rule="none", max_epochs=20), "absolute") is None
    assert last_epoch(rising, Protocol(stop_rule="absolute", max_epochs=20), "absolute") == 20
    assert last_epoch(rising, Protocol(stop_rule="signed", max_epochs=30), "absolute") is None


@pytest.mark.parametrize(("own", "other"), [("absolute", "signed"), ("signed", "absolute")])
def test_a_rule_that_never_holds_ends_at_the_limit_that_a_training_by_another_rule_reached(
    own: str, other: str
) -> None:
    rising = np.linspace(90, 95, 20).tolist()
    assert stops(rising, Protocol(stop_rule=other, max_epochs=20))
    assert last_epoch(rising, Protocol(stop_rule=own, max_epochs=20), other) == 20


@pytest.mark.parametrize(("keep", "epoch"), [("last", 7), ("best", 6)])
def test_the_kept_epoch_is_the_last_or_the_first_of_the_best(keep: str, epoch: int) -> None:
    assert kept_epoch(HISTORY[:7], keep) == epoch

"""docs/protocol.md says what the code does: defaults, alternatives, the smoothed target, the means, the deviation."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from minidbp import nn
from minidbp.nn.losses import smoothed_labels
from minidbp.paper.statistics import summarise
from minidbp.robust import jacobian_l1, summed_jacobian_l1
from minidbp.training import Protocol
from minidbp.training.protocol import CHOICES

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
UNSAID = TEXT.split("## Not stated in the paper")[1].split("###")[0]
ROWS = {
    name: (default, reason) for name, default, reason in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", UNSAID, re.M)
}


@pytest.mark.parametrize("name", ROWS)
def test_a_choice_has_the_default_and_the_alternatives_of_the_code(name: str) -> None:
    default, reason = ROWS[name]
    value = getattr(Protocol(), name)
    assert default.strip("`") == {True: "on", False: "off"}.get(value, str(value))
    for alternative in set(CHOICES.get(name, ())) - {value}:
        assert f"`{alternative}`" in reason, alternative


def test_every_field_is_on_the_page() -> None:
    assert [field.name for field in fields(Protocol) if f"`{field.name}`" not in TEXT] == []


def test_the_smoothed_target_is_that_of_the_page() -> None:
    target = smoothed_labels([3], 10, Protocol().label_smoothing)[0]
    assert target[3] == pytest.approx(0.91)
    assert target[0] == pytest.approx(0.01)
    assert "| 0.91 and 0.01 |" in TEXT
    assert "0.9 and 0.0111 (0.1/9)" in TEXT


def test_the_penalties_are_means_over_7840_and_784_terms() -> None:
    model, x = nn.build_model("C", seed=0), np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    for penalty, terms in (jacobian_l1, 7840), (summed_jacobian_l1, 784):
        total, mean = (penalty(model, x, reduction=reduction).item() for reduction in ("sum", "mean"))
        assert total / mean == pytest.approx(terms, rel=1e-4)
    assert "7,840 terms" in TEXT
    assert "784 in the surrogate" in TEXT


def test_the_deviation_has_ddof_1() -> None:
    assert summarise([1.0, 2.0, 6.0]).sd == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert "| ddof 1 |" in TEXT
    assert 1 - np.sqrt(9 / 10) == pytest.approx(0.05, abs=0.002)  # "5% smaller" with ten repetitions

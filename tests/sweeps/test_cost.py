"""How much work a run is, against counting by hand."""

import dataclasses

import pytest

from minidbp.diagnosis.diagnose import column_passes
from minidbp.diagnosis.judge import JUDGE
from minidbp.nn import build_model
from minidbp.sweeps.cost import Cost, multiply_adds
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol

PLAIN = Protocol(stop_rule="none", max_epochs=3, n_train=100, n_test=50, n_pgd=20, pgd_steps=7, pgd_restarts=2)


@pytest.mark.parametrize(("model", "expected"), [("A", 8_586_496), ("B", 14_748_928), ("C", 566_528)])
def test_multiply_adds_are_those_of_the_design(model: str, expected: int) -> None:
    assert multiply_adds(build_model(model)) == expected
    assert Cost(Run(model, 0.0, 0, PLAIN), JUDGE).forward == pytest.approx(2e-9 * expected)


def passes(lam: float, **changes: object) -> float:
    """The training of one image, in forward passes."""
    cost = Cost(Run("C", lam, 0, dataclasses.replace(PLAIN, **changes)), JUDGE)
    return cost.train_image / cost.forward


@pytest.mark.parametrize(
    ("lam", "changes", "expected"),
    [
        (0.0, {}, 3),  # forward, and two adjoints
        (10.0, {}, 33),  # the same for each of ten rows of J
        (10.0, {"penalty": "summed_jacobian_l1"}, 6),  # one row
        (10.0, {"penalty": "loss_gradient_l2"}, 6),
        (0.0, {"adversarial_training": True}, 9),  # twice, and FGSM's forward pass and two adjoints
        (10.0, {"adversarial_training": True, "penalty": "summed_jacobian_l1"}, 15),
    ],
)
def test_passes_of_a_training_image(lam: float, changes: dict[str, object], expected: float) -> None:
    assert passes(lam, **changes) == pytest.approx(expected)


def test_the_exact_step_is_about_the_designs() -> None:
    """DESIGN section 5: 72.3, 124.4 and 4.7 GFLOP for a step of 128 images."""
    for model, gflop in ("A", 72.3), ("B", 124.4), ("C", 4.7):
        assert 128 * Cost(Run(model, 10.0, 0, PLAIN), JUDGE).train_image == pytest.approx(gflop, rel=0.05)


def test_a_run_is_its_epochs_and_its_judging() -> None:
    cost = Cost(Run("C", 0.0, 0, PLAIN), JUDGE)
    passes = 3 * 100 * 3 + 50 * (1 + 3) + 20 * (2 * 7 * 2 + column_passes(PLAIN))  # epochs; clean, FGSM; PGD, diagnosis
    assert cost.total == pytest.approx(passes * cost.forward)
    assert cost.epoch == pytest.approx(300 * cost.forward)


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({}, 3),
        ({"stop_rule": "absolute", "max_epochs": 100}, 20),  # as the paper reports
        ({"stop_rule": "absolute", "max_epochs": 12}, 12),
        ({"stop_rule": "signed", "max_epochs": 100, "min_epochs": 4}, 8),
    ],
)
def test_a_stop_rule_is_thought_to_end_as_the_papers(changes: dict[str, object], epochs: int) -> None:
    cost, none = (
        Cost(Run("C", 0.0, 0, dataclasses.replace(PLAIN, **c)), JUDGE)
        for c in (changes, {**changes, "stop_rule": "none", "max_epochs": epochs})
    )
    assert cost.total == pytest.approx(none.total)

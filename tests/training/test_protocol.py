"""The protocol: what the paper says, what it does not, and values that mean nothing."""

import dataclasses
import json
import math
from typing import Any

import pytest

from minidbp.training import Protocol
from minidbp.training.protocol import CHOICES, sizes_for

SAID = {  # in the paper: docs/protocol.md
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "adam_eps": 1e-8,
    "label_smoothing": 0.1,
    "eps": 0.3,
    "n_train": 55_000,
    "n_validation": 5000,
    "n_test": 10_000,
    "min_epochs": 10,
    "max_epochs": 100,
    "stop_tolerance": 1e-4,
}
UNSAID = {
    "penalty_target": "logits",
    "reduction": "mean",
    "padding": "same_first",
    "stop_rule": "absolute",
    "keep": "last",
    "batch_size": 128,
    "initialiser": "glorot_uniform",
    "attack_label": "true",
    "clip": True,
    "validation_split": "random",
}
OFFERED = {
    "penalty_target": {"logits", "softmax"},
    "reduction": {"mean", "sum"},
    "stop_rule": {"absolute", "signed"},
    "keep": {"last", "best"},
    "attack_label": {"true", "predicted", "smoothed"},
    "clip": {True, False},
    "adversarial_training": {True, False},
    "training_attack": {"fgsm", "pgd"},
    "validation_split": {"random", "first", "last"},
    "penalty": {"jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1"},
}


@pytest.mark.parametrize(("name", "default"), [*SAID.items(), *UNSAID.items()])
def test_every_choice_is_a_field_with_the_default_of_the_design(name: str, default: Any) -> None:
    assert getattr(Protocol(), name) == default


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in OFFERED.items() for v in sorted(values)])
def test_the_alternatives_are_offered(name: str, value: Any) -> None:
    assert getattr(Protocol(**{name: value}), name) == value


def test_it_is_frozen_and_can_be_compared() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Protocol().eps = 0.1  # type: ignore[misc]
    assert Protocol() == Protocol()
    assert Protocol() != Protocol(eps=0.1)


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol(eps=1 / 3, clip=False, stop_rule="none", n_train=77, learning_rate=1e-300, keep="best")],
)
def test_json_and_back(protocol: Protocol) -> None:
    text = json.dumps(protocol.as_dict())
    assert Protocol(**json.loads(text)) == protocol
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Protocol)}


def assert_refused(name: str, value: Any, *words: str, **others: Any) -> None:
    """The error names the field, the value and these words."""
    with pytest.raises(ValueError) as caught:
        Protocol(**others, **{name: value})
    for word in (name, str(value), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_word_is_answered_with_the_choices(name: str) -> None:
    assert_refused(name, "blue", *CHOICES[name])


WHOLE = [field.name for field in dataclasses.fields(Protocol) if field.type is int]
REAL = [field.name for field in dataclasses.fields(Protocol) if field.type is float]


def test_the_fields_have_the_types_that_the_tables_below_go_by() -> None:
    assert {"batch_size", "n_train", "max_epochs", "pgd_steps"} < set(WHOLE)
    assert {"learning_rate", "eps", "stop_tolerance", "pgd_step"} < set(REAL)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 2.5, math.nan, "3"])
def test_counts_are_whole_and_at_least_1(name: str, value: Any) -> None:
    assert_refused(name, value)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", [-1e-9, -1.0, math.nan, math.inf, -math.inf])
def test_numbers_are_finite_and_at_least_0(name: str, value: float) -> None:
    assert_refused(name, value)


@pytest.mark.parametrize("name", [*WHOLE, *REAL])
@pytest.mark.parametrize("value", [10**9 + 1, 10**400])
def test_numbers_are_bounded(name: str, value: int) -> None:
    """The cost of a run of 10^400 epochs was an OverflowError."""
    with pytest.raises(ValueError, match=f"^{name} must be at most 1?0*; got 10000") as caught:
        Protocol(**{name: value})
    assert len(str(caught.value)) < 100


def test_how_long_and_at_how_many_sizes() -> None:
    assert Protocol(max_epochs=10_000, judged_eps=(0.1,) * 16).max_epochs == 10_000
    assert_refused("max_epochs", 10_001, "at most 10000")
    with pytest.raises(ValueError, match="judged_eps must hold at most 16 numbers; got 17"):
        Protocol(judged_eps=(0.1,) * 17)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing", 1.5),  # no longer probabilities
        ("beta1", 1.0),  # Adam's correction divides by 1 - beta^t
        ("beta2", 1.5),
        ("clip", "no"),  # a word that is true
        ("judged_eps", 0.1),
        ("judged_eps", "0.1"),
        ("judged_eps", (0.1, 1.5)),
        ("judged_eps", (0.1, math.nan)),
    ],
)
def test_values_that_mean_nothing(name: str, value: Any) -> None:
    assert_refused(name, value)


def test_only_test_images_are_tracked() -> None:
    assert_refused("n_tracked", 51, "at most 50", n_test=50)


@pytest.mark.parametrize(
    ("changes", "sizes", "most"),
    [
        ({"n_train": 55_001}, (60_000, 10_000), 55_000),
        ({"n_validation": 10_000, "n_train": 50_001}, (60_000, 10_000), 50_000),
        ({"n_test": 10_001}, (60_000, 10_000), 10_000),
        ({"n_train": 70_001, "n_test": 9}, (75_000, 9), 70_000),
        ({"n_validation": 20, "n_train": 1}, (20, 1), 19),
    ],
)
def test_the_data_say_how_many_images_there_are(changes: dict[str, int], sizes: tuple[int, int], most: int) -> None:
    name = next(name for name, value in changes.items() if value == most + 1)
    Protocol(**{"n_test": 1, "n_tracked": 1, **changes, name: most}).check_sizes(*sizes)
    with pytest.raises(ValueError, match=rf"^{name} must be at most {most}, as the data have .*; got {most + 1}$"):
        Protocol(**{"n_tracked": 1, **changes}).check_sizes(*sizes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((60_000, 10_000), (5000, 55_000, 1000, 1000)),  # the paper's, and what `minidbp train` judges
        ((240_000, 40_000), (5000, 235_000, 1000, 1000)),
        ((540, 60), (45, 495, 60, 60)),
        ((2, 1), (1, 1, 1, 1)),
    ],
)
def test_sizes_for_data(sizes: tuple[int, int], expected: tuple[int, ...]) -> None:
    found = sizes_for(*sizes)
    assert tuple(found.values()) == expected
    Protocol(**found).check_sizes(*sizes)  # type: ignore[arg-type]


def test_one_training_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="two training images at least, one of them for validation; got 1"):
        sizes_for(1, 1)

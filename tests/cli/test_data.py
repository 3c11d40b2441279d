"""--data: train, attack, diagnose, explain and vacuity take own images; what compares with the paper refuses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.nn import build_model, save_model

pytestmark = pytest.mark.usefixtures("weak_attacks")

Command = Callable[..., Any]
NOTICE = "the data in {} are not MNIST, so they are not verified; they are called mine.npz"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of 6 x 5 pixels in 3 classes, 12 of which become test images."""
    path, rng, y = tmp_path_factory.mktemp("data") / "mine.npz", np.random.default_rng(0), np.arange(120) % 3
    np.savez(path, x=(255 * np.clip(rng.random((3, 6, 5))[y] + 0.2 * rng.random((120, 6, 5)), 0, 1)).astype("u1"), y=y)
    return path


@pytest.fixture(scope="module")
def trained(mine: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("trained")
    printed = command("train", "--data", mine, "--epochs", "1", "--out", out)
    (weights,) = out.glob("*.safetensors")
    return printed, weights


def test_train_takes_an_npz_file_and_says_what_it_is(trained: tuple[Any, Path], mine: Path) -> None:
    printed, weights = trained
    assert printed.exit_code == 0
    assert NOTICE.format(mine) in printed.stderr
    assert (
        "mine.npz: 108 training and 12 test images of 6x5 in 3 classes; 12 of its 120 images, drawn with seed 0, are "
        "the test images" in printed.stderr
    )
    assert printed.stdout.startswith("model C on mine.npz, lambda 0, seed 0: clean ")
    assert "(12 test images; 1 epoch" in printed.stdout
    result = json.loads(weights.with_suffix(".json").read_text())
    protocol = result["protocol"]
    assert (result["data"]["name"], result["data"]["n_classes"]) == ("mine.npz", 3)
    assert [protocol[name] for name in ("n_train", "n_validation", "n_test")] == [99, 9, 12]


def test_attack_takes_the_same_data(trained: tuple[Any, Path], mine: Path, command: Command, tmp_path: Path) -> None:
    result = command("attack", trained[1], "--data", mine, "--steps", "1", "--out", tmp_path)
    assert result.exit_code == 0
    assert NOTICE.format(mine) in result.stderr
    assert result.stdout.startswith("model C on mine.npz, eps 0.3, 12 random test images: clean ")
    assert json.loads((tmp_path / "attack.json").read_text())["data"]["name"] == "mine.npz"
    assert "trained on other data" not in result.stderr


def test_attack_says_that_the_weights_were_trained_on_other_data(
    trained: tuple[Any, Path], mine: Path, command: Command, tmp_path: Path
) -> None:
    arrays = dict(np.load(mine))
    np.savez(tmp_path / "other.npz", x=arrays["x"][::-1], y=arrays["y"][::-1])
    result = command("vacuity", trained[1], "--data", tmp_path / "other.npz")
    assert result.exit_code == 0
    assert f"{trained[1]} was trained on other data, mine.npz, than other.npz" in result.stderr
    assert "12 test images" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [("attack",), ("diagnose",), ("explain", "--weights"), ("vacuity",)])
def test_weights_for_other_images_are_refused(
    arguments: tuple[str, ...], mine: Path, weights: Path, command: Command, assert_refused: Callable[..., None]
) -> None:
    result = command(*arguments, weights, "--data", mine)
    assert_refused(
        result, f"{weights} is for images of 28x28 in 10 classes, and mine.npz has images of 6x5 in 3 classes"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--model", "A"), "model A needs images of at least 27x27 pixels; got 6x5"),
        (("train", "--images", "100"), "--images must be at most 99, as the data have 108 training images, 9 of them"),
        (("attack", "WEIGHTS", "--images", "13"), "--images must be at most 12, the number of test images of mine.npz"),
        (("diagnose", "WEIGHTS"), "a diagnosis needs 100 test images at least; mine.npz has 12"),
        (("vacuity", "WEIGHTS", "--images", "13"), "--images must be at most 12"),
        (("explain", "--image", "12"), "--image must be the number of a test image, 0 to 11; got 12"),
        (("explain", "--model", "A"), "model A needs images of at least 27x27 pixels; got 6x5"),
        (("table2", "--preset", "smoke"), "table2 needs MNIST, and "),
        (("table3",), "table3 needs MNIST"),
        (("table4",), "table4 needs MNIST"),
        (("credit",), "credit needs MNIST"),
        (("figure1", "--preset", "smoke"), "figure1 needs MNIST"),
        (("bench", "step"), "bench step needs MNIST"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_the_data_is_refused(
    arguments: tuple[str, ...],
    words: str,
    mine: Path,
    command: Command,
    assert_refused: Callable[..., None],
    tmp_path: Path,
) -> None:
    save_model(tmp_path / "w", build_model("C", input_shape=(6, 5, 1), n_classes=3), "C")
    assert_refused(command(*(tmp_path / "w" if a == "WEIGHTS" else a for a in arguments), "--data", mine), words)
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["train", "table2"])
def test_a_bad_file_is_refused(name: str, command: Command, assert_refused: Callable[..., None]) -> None:
    np.savez("bad.npz", x=np.full((9, 4, 4), 1.5), y=np.arange(9) % 3)
    assert_refused(command(name, "--data", "bad.npz"), "bad.npz: x holds 1.5 at (0, 0, 0, 0); floats must be finite")
    assert not Path("out").exists()


def test_doctor_names_the_data(mine: Path, command: Command) -> None:
    found = json.loads(command("doctor", "--data", mine, "--json").stdout)
    assert found["facts"]["data"] == "mine.npz not verified: 108 training and 12 test images"

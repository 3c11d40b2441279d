"""minidbp train and attack: what they print and write, and what bad input gets: one sentence, nothing half-written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from minidbp.nn import load_model, save_model
from minidbp.sweeps import execute
from minidbp.sweeps.runs import Run, find

pytestmark = pytest.mark.usefixtures("weak_attacks")

Command = Callable[..., Any]
TRAIN = ("train", "--epochs", "1", "--images", "128")
ATTACK = ("--images", "50", "--steps", "2")
PENALTIES = ("jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1")


@pytest.fixture(scope="module")
def trained(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("trained")
    return command(*TRAIN, "--model", "C", "--lambda", "2", "--seed", "3", "--out", out, "--json"), out


@pytest.mark.slow
def test_train_writes_what_it_prints(trained: tuple[Any, Path], files_in: Callable[[Path], set[str]]) -> None:
    printed, out = trained
    assert printed.exit_code == 0
    result = json.loads(printed.stdout)
    assert (result["model"], result["lambda"], result["seed"], result["epochs"]) == ("C", 2.0, 3, 1)
    assert (result["protocol"]["n_train"], result["protocol"]["stop_rule"]) == (128, "none")
    run = Run.of({key: result[key] for key in ("format", "model", "lambda", "seed", "protocol")})
    assert files_in(out) == {f"{run.name}.json", f"{run.name}.safetensors"}
    found = find(run, out)
    assert found is not None
    assert found.as_dict() == result
    for word in str(out), *files_in(out):
        assert word in printed.stderr


def test_trained_again_it_is_there(
    trained: tuple[Any, Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "execute", None)  # nothing is left to train
    printed, out = trained
    again = command(*TRAIN, "--model", "C", "--lambda", "2", "--seed", "3", "--out", out, "--json")
    assert again.exit_code == 0
    assert again.stdout == printed.stdout
    assert "1 of 1 runs are in" in again.stderr
    words = command(*TRAIN, "--model", "C", "--lambda", "2", "--seed", "3", "--out", out)
    result = json.loads(printed.stdout)
    assert (
        f"model C, lambda 2, seed 3: clean {result['clean']:.2f}%; eps 0.3: FGSM {result['fgsm']:.2f}%" in words.stdout
    )


@pytest.mark.slow
def test_settings_make_runs_of_their_own_side_by_side(command: Command, files_in: Callable[[Path], set[str]]) -> None:
    for extra in (), ("--adversarial", "0.1", "--penalty", "summed_jacobian_l1"):
        printed = command(*TRAIN, *extra, "--json")
        assert printed.exit_code == 0
    protocol = json.loads(printed.stdout)["protocol"]
    assert (protocol["adversarial_training"], protocol["eps"]) == (True, 0.1)
    assert protocol["penalty"] == "summed_jacobian_l1"
    assert len(files_in(Path("out") / "train")) == 4  # the default folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "eps", "attack"),
    [
        (("--attack", "pgd"), 0.1, "pgd"),
        (("--adversarial", "0.2"), 0.2, "fgsm"),
    ],
)
def test_the_attack_of_adversarial_training(
    options: tuple[str, ...], eps: float, attack: str, tmp_path: Path, command: Command
) -> None:
    printed = command(*TRAIN, *options, "--out", tmp_path, "--json")
    assert printed.exit_code == 0
    protocol = json.loads(printed.stdout)["protocol"]
    assert (protocol["adversarial_training"], protocol["eps"], protocol["training_attack"]) == (True, eps, attack)


@pytest.mark.slow
def test_attack_reads_what_train_wrote(
    trained: tuple[Any, Path], tmp_path: Path, command: Command, files_in: Callable[[Path], set[str]]
) -> None:
    (weights,) = trained[1].glob("*.safetensors")
    attacked = command("attack", weights, *ATTACK, "--eps", "0.2", "--out", tmp_path / "a", "--json")
    assert attacked.exit_code == 0
    found = json.loads(attacked.stdout)
    assert json.loads((tmp_path / "a" / "attack.json").read_text()) == found
    assert found["model"] == "C"
    assert found["protocol"]["eps"] == 0.2
    for key in ("clean", "fgsm", "pgd"):
        assert 0 <= found[key] <= 100
    assert found["fgsm"] <= found["clean"]
    assert matplotlib.image.imread(tmp_path / "a" / "images.png")[..., :3].std() > 0.03
    assert files_in(tmp_path / "a") == {"attack.json", "images.png"}


@pytest.mark.slow
def test_attack_prints_its_numbers(weights: Path, command: Command) -> None:
    result = command("attack", weights, *ATTACK)
    found = json.loads((Path("out") / "attack-C" / "attack.json").read_text())  # the default folder
    assert result.exit_code == 0
    for key in ("clean", "fgsm", "pgd"):
        assert f"{found[key]:.2f}%" in result.stdout


def test_a_training_that_diverges_is_exit_code_1(
    tmp_path: Path, command: Command, files_in: Callable[[Path], set[str]]
) -> None:
    arguments = (*TRAIN, "--lambda", "1e38", "--reduction", "sum", "--out", tmp_path / "t")
    for _ in range(2):  # the second time it is known
        result = command(*arguments)
        assert result.exit_code == 1
        assert result.stdout == ""
        for word in ("minidbp: ", "lambda 1e+38", "diverged in epoch 1, step"):
            assert word in result.stderr
        (name,) = files_in(tmp_path / "t")
        assert name.endswith(".json")  # that it diverged, and no weights


def test_ctrl_c_says_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "execute", interrupted)
    result = command(*TRAIN)
    assert result.exit_code == 130
    assert result.stderr.endswith(f"stopped; to go on after the last whole epoch: minidbp {' '.join(TRAIN)}\n")
    assert result.stdout == ""


@pytest.mark.slow
def test_train_prints_its_result_once(trained: tuple[Any, Path], command: Command) -> None:
    printed, out = trained
    assert not re.search(r"clean [\d.]+%", printed.stderr)  # a line of progress may name the phase
    line = (*TRAIN, "--model", "c", "--lambda", "2", "--seed", "3", "--out", out)
    words = command(*line)
    assert len(re.findall(r"clean [\d.]+%", words.output)) == 1
    assert command(*line, "--quiet").output == words.stdout


@pytest.mark.slow
def test_weights_in_float64_are_rounded(weights: Path, tmp_path: Path, command: Command) -> None:
    wide = tmp_path / "C.safetensors"
    save_model(wide, load_model(weights)[0].astype(np.float64), "C")
    note = f"{wide} holds float64 numbers, which are rounded to float32\n"
    for name, *options in ("attack", *ATTACK), ("vacuity", "--images", "20"):
        one, other = (command(name, path, *options, "--json", "--quiet") for path in (weights, wide))
        assert (one.exit_code, other.exit_code) == (0, 0)
        assert (one.stderr, other.stderr) == ("", note)
        first, second = (json.loads(result.stdout) for result in (one, other))
        assert {**first, "weights": ""} == {**second, "weights": ""}


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((*TRAIN, "--model", "D"), ("--model must be one of A, B, C", "D")),
        ((*TRAIN, "--lambda", "-1"), ("--lambda must be", "-1")),
        ((*TRAIN, "--lambda", "nan"), ("lambda", "nan")),
        ((*TRAIN, "--lambda", "inf"), ("lambda", "inf")),
        ((*TRAIN, "--seed", "-2"), ("seed", "-2")),
        ((*TRAIN, "--penalty", "l1"), ("l1", *PENALTIES)),
        ((*TRAIN, "--penalty-target", "tanh"), ("tanh", "logits", "softmax")),
        ((*TRAIN, "--reduction", "max"), ("max", "sum", "mean")),
        ((*TRAIN, "--adversarial", "-0.1"), ("--adversarial must be", "-0.1")),
        ((*TRAIN, "--adversarial", "2"), ("--adversarial must be at most 1; got 2",)),
        ((*TRAIN, "--attack", "apgd"), ("--attack must be", "apgd", "fgsm", "pgd")),
        ((*TRAIN, "--threads", "-3"), ("threads", "-3")),
        (("train", "--epochs", "0"), ("epochs", "0")),
        (("train", "--images", "0"), ("0",)),
        (("train", "--images", "60001"), ("--images must be at most", "60001", "55000")),
        (("attack", "WEIGHTS", "--eps", "-0.1"), ("--eps must be", "-0.1")),
        (("attack", "WEIGHTS", "--eps", "nan"), ("eps", "nan")),
        (("attack", "WEIGHTS", "--step", "-1"), ("--step must be", "-1")),
        (("attack", "WEIGHTS", "--step", "inf"), ("step", "inf")),
        (("attack", "WEIGHTS", "--steps", "0"), ("steps", "0")),
        (("attack", "WEIGHTS", "--restarts", "0"), ("restarts", "0")),
        (("attack", "WEIGHTS", "--images", "10001"), ("--images must be at most", "10001", "10000")),
        (("attack", "WEIGHTS", "--images", "0"), ("--images", "0")),
        (("attack", "WEIGHTS", "--attack-label", "no"), ("no", "true", "predicted", "smoothed")),
        (("attack", "WEIGHTS", "--threads", "0"), ("--threads", "0")),
        (("attack", "WEIGHTS", "--threads", "100000"), ("--threads must be at most 1024", "100000")),
        (("attack", "WEIGHTS", "WEIGHTS"), ("only one argument, weights", "C.safetensors", "run it once for each")),
        (("attack", "WEIGHTS", "--data", "nowhere"), ("--data nowhere does not exist",)),
        ((*TRAIN, "more"), ("takes no argument", "more")),
    ],
    ids=lambda value: " ".join(value[-2:]) if value[0] in ("train", "attack") else "",
)
def test_bad_values_are_refused(
    arguments: tuple[str, ...],
    named: tuple[str, ...],
    weights: Path,
    tmp_path: Path,
    command: Command,
    assert_refused: Callable[..., None],
    files_in: Callable[[Path], set[str]],
) -> None:
    filled = [weights if a == "WEIGHTS" else a for a in arguments]
    assert_refused(command(*filled, "--out", tmp_path / "out"), *named)
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("arguments", [TRAIN, ("attack", "WEIGHTS", *ATTACK)], ids=["train", "attack"])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_written(
    arguments: tuple[str, ...],
    place: str,
    weights: Path,
    tmp_path: Path,
    command: Command,
    assert_refused: Callable[..., None],
    files_in: Callable[[Path], set[str]],
) -> None:
    """A file stands in its way: tests may run as root, whom no permission stops."""
    (tmp_path / "file").write_text("mine")
    filled = [weights if a == "WEIGHTS" else a for a in arguments]
    assert_refused(command(*filled, "--out", tmp_path / place), str(tmp_path / place))
    assert files_in(tmp_path) == {"file"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "damage"),
    [
        *((TRAIN, damage) for damage in ("missing", "truncated", "flipped", "swapped")),
        (("attack", "WEIGHTS", *ATTACK), "swapped"),
    ],
)
def test_bad_data_are_refused(
    arguments: tuple[str, ...],
    damage: str,
    weights: Path,
    tmp_path: Path,
    command: Command,
    assert_refused: Callable[..., None],
    with_damage: Callable[[Path, str], tuple[Path, str]],
) -> None:
    folder, name = with_damage(tmp_path / "mnist", damage)
    filled = [weights if a == "WEIGHTS" else a for a in arguments]
    word = {"flipped": "SHA-256"}.get(damage, damage)
    assert_refused(command(*filled, "--data", folder, "--out", tmp_path / "out"), name, word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a zip", "cut", "other arrays", "npy"])
def test_bad_weights_are_refused(
    content: Any, weights: Path, tmp_path: Path, command: Command, assert_refused: Callable[..., None]
) -> None:
    path = tmp_path / "w.safetensors"
    if content == "cut":
        path.write_bytes(weights.read_bytes()[:5000])
    elif content == "other arrays":
        np.savez(path, a=np.ones(3))
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif content is not None:
        path.write_bytes(content)
    assert_refused(command("attack", path, "--out", tmp_path / "out"), str(path))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_training_prints_pure_json(
    tmp_path: Path, real_command: Command, files_in: Callable[[Path], set[str]]
) -> None:
    result = real_command(*TRAIN, "--out", tmp_path / "out", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["epochs"] == 1
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr
    assert len(files_in(tmp_path / "out")) == 2

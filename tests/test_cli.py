"""The commands: what they print and write, and what bad input gets: one sentence, exit code 2, nothing half-written."""

import csv
import gzip
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

import minidbp
from minidbp.cli import app
from minidbp.data.files import FILES
from minidbp.experiments import sweep
from minidbp.experiments.table2 import PRESETS, Plan, Preset
from minidbp.nn import build_model, save_model
from minidbp.training import DivergenceError, Protocol

ROOT = Path(minidbp.__file__).parents[1]
DATA = ROOT / "data"
COMMANDS = ("table2", "train", "attack", "doctor")
TINY = Protocol(
    stop_rule="none", max_epochs=1, n_train=64, batch_size=32, n_validation=50, n_test=40, n_pgd=10, pgd_steps=1
)  # fmt: skip
TINY_PRESET = Preset("for tests", (0.0, 50.0), {"C": Plan(1, TINY)})
TRAIN = ("train", "--epochs", "1", "--images", "128")
ATTACK = ("--images", "50", "--pgd-images", "20", "--steps", "2")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty current folder and the preset `tiny`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)


def minidbp_command(*arguments: str | Path) -> Any:
    """In this process, as it is quicker; a few tests start a real one."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def real_command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "minidbp", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def assert_refused(result: Any, *named: str) -> None:
    """Exit code 2, one sentence on stderr that has these words, nothing else."""
    exit_code = result.returncode if isinstance(result, subprocess.CompletedProcess) else result.exit_code
    assert exit_code == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("minidbp: ")]
    for word in named:
        assert word in line


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "C.npz"
    save_model(path, build_model("C", seed=1), "C")
    return path


# -- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = minidbp_command(command, "--help")
    assert result.exit_code == 0
    options = {"--json"} if command == "doctor" else {"--json", "--seed", "--out"}
    assert all(option in result.stdout for option in options)
    if command == "table2":
        assert all(preset in result.stdout for preset in ("smoke", "laptop", "paper"))


def test_the_commands_are_listed() -> None:
    result = minidbp_command("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert "table2" in minidbp_command().output  # nothing typed: the same help


# -- table2 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What `table2` printed, and its folder."""
    out = tmp_path_factory.mktemp("table2") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY_PRESET)
        return minidbp_command("table2", "--preset", "tiny", "--out", out), out


def test_table2_prints_and_writes_the_table(finished: tuple[Any, Path]) -> None:
    result, out = finished
    assert result.exit_code == 0
    for word in ("FGSM", "PGD", "clean", "paper", "29.9"):
        assert word in result.stdout
    assert {"table.csv", "table.md", "accuracy.png", "images.png"} < files_in(out)
    assert len(list((out / "runs").glob("*.json"))) == 2


def test_table2_goes_on_in_its_default_folder(finished: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path("out") / "table2-tiny"
    shutil.copytree(finished[1] / "runs", out / "runs")
    monkeypatch.setattr(sweep, "execute", None)  # nothing is left to train
    result = minidbp_command("table2", "--preset", "tiny", "--json")
    assert result.exit_code == 0
    assert files_in(out) == files_in(finished[1])
    rows = json.loads(result.stdout)
    lines = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert [(row["model"], row["lambda"]) for row in rows] == [("C", 0.0), ("C", 50.0)]
    assert [row["clean"][0] for row in rows] == [float(line["clean_mean"]) for line in lines]
    assert rows[1]["paper_fgsm"] == [29.92, 14.24]


def test_another_protocol_needs_another_folder(finished: tuple[Any, Path]) -> None:
    out = finished[1]
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    refused = minidbp_command("table2", "--preset", "tiny", "--out", out, "--penalised", "softmax")
    assert_refused(refused, "--out", str(out))
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = sweep.execute, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(sweep, "execute", interrupted)
    result = minidbp_command("table2", "--preset", "tiny", "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "1 of 2" in result.stderr
    assert "same command" in result.stderr
    assert "table.md" in files_in(tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 1


@pytest.mark.parametrize("how_many", [1, 2])
def test_a_divergence_is_exit_code_1(tmp_path: Path, how_many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = sweep.execute, []

    def diverging(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) <= how_many:
            raise DivergenceError("training diverged in epoch 3")
        return honest(*arguments)

    monkeypatch.setattr(sweep, "execute", diverging)
    result = minidbp_command("table2", "--preset", "tiny", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert len(calls) == 2
    assert "diverged in epoch 3" in result.stderr
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 2 - how_many
    for picture in ("accuracy.png", "images.png"):  # it does not claim to have written what it has not
        assert (picture in result.stderr) == (tmp_path / "out" / picture).exists() == (how_many == 1)


# -- train and attack -----------------------------------------------------------------------------------------------


def test_train_then_attack(tmp_path: Path) -> None:
    trained = minidbp_command(*TRAIN, "--model", "C", "--lambda", "2", "--seed", "3", "--out", tmp_path / "t", "--json")
    assert trained.exit_code == 0
    result = json.loads(trained.stdout)
    assert (result["model"], result["lambda"], result["seed"], result["epochs"]) == ("C", 2.0, 3, 1)
    assert result["protocol"]["n_train"] == 128
    written = files_in(tmp_path / "t")
    assert len(written) == 2
    (kept,) = (tmp_path / "t").glob("*.json")
    assert json.loads(kept.read_text()) == result
    (npz,) = (tmp_path / "t").glob("*.npz")

    attacked = minidbp_command("attack", npz, *ATTACK, "--eps", "0.2", "--out", tmp_path / "a", "--json")
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


def test_attack_prints_its_numbers(weights: Path, tmp_path: Path) -> None:
    result = minidbp_command("attack", weights, *ATTACK, "--out", tmp_path / "a")
    found = json.loads((tmp_path / "a" / "attack.json").read_text())
    assert result.exit_code == 0
    for key in ("clean", "fgsm", "pgd"):
        assert f"{found[key]:.1f}" in result.stdout


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_training_that_diverges_writes_nothing(tmp_path: Path) -> None:
    result = minidbp_command(*TRAIN, "--lambda", "1e38", "--reduction", "sum", "--out", tmp_path / "t")
    assert result.exit_code == 1
    for word in ("diverged", "epoch 1", "step", "lambda 1e+38"):
        assert word in result.stderr
    assert files_in(tmp_path / "t") == set()


# -- bad input ------------------------------------------------------------------------------------------------------

PENALTIES = ("jacobian_l1", "summed_jacobian_l1", "loss_gradient_l2", "loss_gradient_l1")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--preset", "huge"), ("huge", "smoke", "laptop", "paper")),
        (("table2", "--preset", "tiny", "--penalised", "tanh"), ("tanh", "logits", "softmax")),
        (("table2", "--preset", "tiny", "--reduction", "max"), ("max", "sum", "mean")),
        (("table2", "--preset", "tiny", "--attack-label", "no"), ("no", "true", "predicted", "smoothed")),
        (("table2", "--preset", "tiny", "--seed", "-1"), ("seed", "-1")),
        (("table2", "--preset", "tiny", "--threads", "0"), ("threads", "0")),
        ((*TRAIN, "--model", "D"), ("D", "A, B, C")),
        ((*TRAIN, "--lambda", "-1"), ("lambda", "-1")),
        ((*TRAIN, "--lambda", "nan"), ("lambda", "nan")),
        ((*TRAIN, "--lambda", "inf"), ("lambda", "inf")),
        ((*TRAIN, "--seed", "-2"), ("seed", "-2")),
        ((*TRAIN, "--penalty", "l1"), ("l1", *PENALTIES)),
        ((*TRAIN, "--penalised", "tanh"), ("tanh", "logits", "softmax")),
        ((*TRAIN, "--reduction", "max"), ("max", "sum", "mean")),
        ((*TRAIN, "--threads", "-3"), ("threads", "-3")),
        (("train", "--epochs", "0"), ("epochs", "0")),
        (("train", "--images", "0"), ("0",)),
        (("train", "--images", "60001"), ("60001", "55000")),
        (("attack", "WEIGHTS", "--eps", "-0.1"), ("eps", "-0.1")),
        (("attack", "WEIGHTS", "--eps", "nan"), ("eps", "nan")),
        (("attack", "WEIGHTS", "--step", "-1"), ("step", "-1")),
        (("attack", "WEIGHTS", "--step", "inf"), ("step", "inf")),
        (("attack", "WEIGHTS", "--steps", "0"), ("steps", "0")),
        (("attack", "WEIGHTS", "--restarts", "0"), ("restarts", "0")),
        (("attack", "WEIGHTS", "--images", "10001"), ("10001", "10000")),
        (("attack", "WEIGHTS", "--pgd-images", "0"), ("pgd", "0")),
        (("attack", "WEIGHTS", "--attack-label", "no"), ("no", "true", "predicted", "smoothed")),
        (("attack", "WEIGHTS", "--threads", "0"), ("threads", "0")),
    ],
    ids=lambda value: " ".join(value[-2:]) if value[0] in COMMANDS else "",
)
def test_bad_values_are_refused(arguments: tuple, named: tuple, weights: Path, tmp_path: Path) -> None:
    filled = [weights if a == "WEIGHTS" else a for a in arguments]
    assert_refused(minidbp_command(*filled, "--out", tmp_path / "out"), *named)
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--colour", "red"), "--colour"),
        (("train", "--lambda", "much"), "--lambda"),
        (("attack",), "weights"),
        (("tabel2",), "tabel2"),
    ],
)
def test_a_command_line_that_cannot_be_read(arguments: tuple[str, ...], named: str) -> None:
    result = minidbp_command(*arguments)
    assert result.exit_code == 2
    assert named in result.stderr.lower()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [("table2", "--preset", "tiny"), TRAIN, ("attack", "WEIGHTS", *ATTACK)])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_written(command: tuple, place: str, weights: Path, tmp_path: Path) -> None:
    """A file stands in its way: tests may run as root, whom no permission stops."""
    (tmp_path / "file").write_text("mine")
    filled = [weights if a == "WEIGHTS" else a for a in command]
    assert_refused(minidbp_command(*filled, "--out", tmp_path / place), str(tmp_path / place))
    assert files_in(tmp_path) == {"file"}


def with_damage(folder: Path, damage: str) -> tuple[Path, str]:
    """A folder of links to MNIST's files, one of them damaged; and the name of that one."""
    folder.mkdir()
    for file in FILES:
        (folder / f"{file.name}.gz").symlink_to(DATA / f"{file.name}.gz")
    images, labels = (folder / f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    original = labels.read_bytes()
    labels.unlink()
    if damage == "truncated":
        labels.write_bytes(original[:-9])
    elif damage == "flipped":
        plain = bytearray(gzip.decompress(original))
        plain[5000] ^= 1
        labels.write_bytes(gzip.compress(bytes(plain)))
    elif damage == "swapped":
        labels.symlink_to(DATA / images.name)
    return folder, labels.name


@pytest.mark.parametrize(
    ("command", "damage"),
    [
        *((TRAIN, damage) for damage in ("missing", "truncated", "flipped", "swapped")),
        (("table2", "--preset", "tiny"), "truncated"),
        (("attack", "WEIGHTS", *ATTACK), "swapped"),
    ],
)
def test_bad_data_are_refused(command: tuple, damage: str, weights: Path, tmp_path: Path) -> None:
    folder, name = with_damage(tmp_path / "mnist", damage)
    filled = [weights if a == "WEIGHTS" else a for a in command]
    word = {"flipped": "SHA-256"}.get(damage, damage)
    assert_refused(minidbp_command(*filled, "--data", folder, "--out", tmp_path / "out"), name, word)
    assert files_in(tmp_path / "out") == set()


@pytest.mark.parametrize("content", [None, b"", b"not a zip", "cut", "other arrays", "npy"])
def test_bad_weights_are_refused(content: Any, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    if content == "cut":
        path.write_bytes(weights.read_bytes()[:5000])
    elif content == "other arrays":
        np.savez(path, a=np.ones(3))
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif content is not None:
        path.write_bytes(content)
    assert_refused(minidbp_command("attack", path, "--out", tmp_path / "out"), str(path))
    assert not (tmp_path / "out").exists()


# -- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_says_that_all_is_well() -> None:
    result = minidbp_command("doctor")
    assert result.exit_code == 0
    for word in (minidbp.__version__, np.__version__, "BLAS", "60000"):
        assert word in result.stdout


@pytest.mark.parametrize("damage", ["missing", "swapped"])
def test_doctor_finds_bad_data(damage: str, tmp_path: Path) -> None:
    folder, name = with_damage(tmp_path / "mnist", damage)
    result = minidbp_command("doctor", "--data", folder)
    assert result.exit_code == 1
    assert name in result.output
    assert damage in result.output
    as_json = minidbp_command("doctor", "--data", folder, "--json")
    assert as_json.exit_code == 1
    assert name in json.loads(as_json.stdout)["problems"][0]


# -- real processes -------------------------------------------------------------------------------------------------


def test_a_real_doctor_prints_pure_json() -> None:
    result = real_command("doctor", "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert found["problems"] == []
    assert np.__version__ in found["facts"]["packages"]


def test_a_real_training_prints_pure_json(tmp_path: Path) -> None:
    result = real_command(*TRAIN, "--out", tmp_path, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["epochs"] == 1
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr
    assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--preset", "huge"), ("huge", "smoke", "laptop", "paper")),
        (("train", "--lambda", "-1"), ("lambda", "-1")),
        (("attack", "none.npz"), ("none.npz",)),
    ],
)
def test_real_refusals(arguments: tuple[str, ...], named: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused(real_command(*arguments, "--out", tmp_path / "out"), *named)
    assert files_in(tmp_path) == set()

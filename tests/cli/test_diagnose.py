"""minidbp diagnose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from minidbp.cli import app
from minidbp.nn import build_model, save_model

QUICK = ("--images", "100", "--steps", "2", "--restarts", "1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths = [tmp_path_factory.mktemp("weights") / f"C{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        save_model(path, build_model("C", seed=seed), "C")
    return paths


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(app, ["diagnose", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_two_models(weights: list[Path], tmp_path: Path) -> None:
    result = run(*weights, *QUICK, "--eps", "0.2", "--seed", "3", "--out", tmp_path / "d", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert json.loads((tmp_path / "d" / "diagnosis.json").read_text()) == found
    assert found["settings"]["eps"] == 0.2
    assert found["settings"]["images"] == 100
    assert found["settings"]["steps"] == 2
    assert found["settings"]["restarts"] == 1
    assert found["settings"]["seed"] == 3
    assert list(found["models"]) == found["transfer"]["labels"] == ["C0", "C1"]
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        "diagnosis.json", "diagnosis.md", "against_eps.png", "against_steps.png", "transfer.png"
    }  # fmt: skip


@pytest.mark.slow
def test_one_model_gets_images_of_two_substitutes(
    weights: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(weights[0], *QUICK)
    assert result.exit_code == 0
    assert "not robust" in result.stdout
    assert "images made on a plain model" in result.stdout
    assert (tmp_path / "out" / "diagnose-C0" / "diagnosis.md").exists()
    assert "written to out/diagnose-C0: diagnosis.json" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--eps", "0"), ("--eps", "got 0")),
        (("--eps", "1.5"), ("--eps", "1.5")),
        (("--eps", "nan"), ("--eps", "nan")),
        (("--images", "99"), ("--images", "100", "99")),
        (("--images", "10001"), ("10001", "10000")),
        (("--steps", "0"), ("--steps", "0")),
        (("--restarts", "0"), ("--restarts", "0")),
        (("--seed", "-1"), ("--seed", "-1")),
        (("--threads", "0"), ("--threads", "0")),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_values_are_refused(arguments: tuple, named: tuple, weights: list[Path], tmp_path: Path) -> None:
    refused(run(weights[0], *arguments, "--out", tmp_path / "out"), named, tmp_path)


def test_bad_weights_are_refused(weights: list[Path], tmp_path: Path) -> None:
    refused(run(weights[0], weights[0], "--out", tmp_path / "out"), ("C0.safetensors", "2 times"), tmp_path)
    refused(run(tmp_path / "none.safetensors", "--out", tmp_path / "out"), ("none.safetensors",), tmp_path)
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    refused(run(weights[0], tmp_path / "other.npz", "--out", tmp_path / "out"), ("other.npz", "0.1.0"), tmp_path)


def refused(result: Any, named: tuple[str, ...], tmp_path: Path) -> None:
    """Exit code 2, one sentence, and no folder."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("minidbp: ")
    for word in named:
        assert word in line
    assert not (tmp_path / "out").exists()

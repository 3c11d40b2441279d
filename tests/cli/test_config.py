"""Options from a TOML file: what it may hold, what is refused, and that the command line overrides it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import minidbp
from minidbp.cli import config, output
from minidbp.cli.config import read_config

Command = Callable[..., Any]
ROOT = Path(minidbp.__file__).parents[1]
OPTIONS = {
    "epochs": int | None, "lambda": float, "model": str, "json": bool, "out": Path | None, "vary": list[str] | None,
}  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_kind_of_value(tmp_path: Path) -> None:
    text = 'epochs = 3\nlambda = 10\nmodel = "C"\njson = true\nout = "a b"\nvary = ["eps=0.1"]  # kept\n'
    assert read_config(written(tmp_path, text), OPTIONS) == {
        "epochs": 3, "lambda": 10, "model": "C", "json": True, "out": "a b", "vary": ["eps=0.1"],
    }  # fmt: skip
    assert read_config(written(tmp_path, ""), OPTIONS) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "mine.toml has the unknown option 'epoch': choose from epochs, json, lambda, model, out, vary"),
        ('epochs = "3"', "mine.toml: epochs must be a whole number; got '3'"),
        ("epochs = true", "epochs must be a whole number; got True"),
        ("epochs = 3.0", "epochs must be a whole number; got 3.0"),
        ("lambda = []", "lambda must be a number; got []"),
        ("model = 3", "model must be a text in quotes; got 3"),
        ("json = 1", "json must be true or false; got 1"),
        ('vary = "eps=0.1"', "vary must be a list, such as vary = [...]; got 'eps=0.1'"),
        ("vary = [1]", "vary must be a text in quotes; got 1"),
        ("[train]\nepochs = 3", "has the unknown option 'train'"),
        ("epochs = ", "mine.toml is not TOML: Invalid value"),
        ("epochs = 1\nepochs = 2", "mine.toml is not TOML: Cannot overwrite"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        read_config(written(tmp_path, text), OPTIONS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, message in (tmp_path, "is a folder"), (tmp_path / "none", "cannot be read"):
        with pytest.raises(ValueError, match=message):
            read_config(path, OPTIONS)
    (tmp_path / "latin").write_bytes(b"model = '\xff'")
    with pytest.raises(ValueError, match="is not TOML"):
        read_config(tmp_path / "latin", OPTIONS)
    monkeypatch.setattr(config, "MOST_BYTES", 3)
    with pytest.raises(ValueError, match="larger than the limit"):
        read_config(tmp_path / "latin", OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eps = " + "9" * 400, "eps must be a number of at most 1e+100; got 9999"),
        ("eps = -" + "9" * 4000, "eps must be a number of at most 1e+100; got -9999"),
        ("eps = " + "9" * 5000, "is not TOML"),
        ("eps = nan", "eps must be a number of at most 1e+100; got nan"),
        ("eps = -inf", "eps must be a number of at most 1e+100; got -inf"),
        ("seed = " + "9" * 400, "seed must be a number of at most 1e+100; got 9999"),
        ("a = " + "[" * 20_000, "is not TOML"),
        ("a = " + "{b = " * 10_000, "is not TOML"),
        ("seed = '" + "x" * 60_000 + "'", "seed must be a whole number; got 'xxx"),
        ("x" * 60_000 + " = 1", "unknown option 'xxx"),
        ("seed = \x1b[2J", "is not TOML"),
        ("seed = 1\nseed = 1", "is not TOML"),
    ],
    ids=range(12),
)
def test_files_made_to_do_harm(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_config(written(tmp_path, text), {"eps": float, "seed": int})
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_command_takes_its_options_from_the_file(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those typed override it; the sweep's file and the message say what was really run, and how to go on."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("minidbp.sweeps.execute.execute", interrupted)
    text = 'preset = "smoke"\nmodels = "C"\nlambdas = "0,7"\nseed = 3\nattack-label = "predicted"\nout = "kept"\n'
    path = written(tmp_path, text)
    result = command("table2", "--config", path, "--seed", "4", "--quiet")
    assert result.exit_code == 130
    assert result.stderr == (
        f"minidbp: stopped: 0 of 2 runs are finished; to go on: minidbp table2 --config {path} --seed 4 --quiet\n"
    )
    sweep = json.loads(Path("kept/sweep.json").read_text())
    assert sweep["commands"] == [
        "minidbp table2 --preset smoke --models C --lambdas 0,7 --seed 4 --attack-label predicted"
    ]
    assert {(run["lambda"], run["seed"], run["protocol"]["attack_label"]) for run in sweep["runs"]} == {
        (0, 4, "predicted"), (7, 4, "predicted"),
    }  # fmt: skip


def test_help_shows_the_files_values_as_they_are(tmp_path: Path, command: Command) -> None:
    path = written(tmp_path, 'out = "x[/b]\\u001b[31m"\nvary = ["y[/b]\\u001b[31m"]')
    said = command("table2", "--config", path, "--help").stdout
    assert "x[/b]?[31m" in said
    assert "y[/b]?[31m" in said
    assert "\x1b[31m" not in said


@pytest.mark.parametrize("name", ["train", "table2", "table3", "table4", "credit", "figure1", "attack", "diagnose"])
def test_every_command_that_runs_something_has_it(
    name: str, tmp_path: Path, command: Command, assert_refused: Callable[..., None]
) -> None:
    path = written(tmp_path, "images = 0\nseed = -1\n" if name in ("train", "attack", "diagnose") else "seed = -1\n")
    arguments = ["none.safetensors"] if name in ("attack", "diagnose") else []
    assert_refused(command(name, *arguments, "--config", path), "must be at least")
    assert_refused(command(name, *arguments, "--config", written(tmp_path, "config = 1")), "unknown option 'config'")
    refused = command(name, *arguments, "--config", written(tmp_path, "threads = 'two'"))
    assert_refused(refused, f"{path}: threads must be a whole number; got 'two'")


def test_a_value_of_the_file_is_checked_as_one_typed(
    tmp_path: Path, command: Command, assert_refused: Callable[..., None]
) -> None:
    assert_refused(command("train", "--config", written(tmp_path, 'model = "d"')), "--model must be one of", "'d'")
    assert_refused(command("train", "--config", written(tmp_path, "images = 60001")), "--images must be at most")
    assert_refused(command("train", "--config", written(tmp_path, 'out = ""')), "--out must name a file or folder")
    assert not output.updates.quiet


def test_the_example_of_the_docs(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("minidbp.sweeps.execute.execute", interrupted)
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8"), re.S)
    result = command("table2", "--config", written(tmp_path, example))
    assert result.exit_code == 130
    sweep = json.loads(Path("out/labels/sweep.json").read_text())
    assert len(sweep["runs"]) == 3 * 3 * 2
    assert sweep["vary"] == ["attack_label"]

"""A whole table in a small preset: written, gone on with, stopped, diverged."""

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from minidbp.data import load_mnist
from minidbp.experiments import sweep
from minidbp.experiments.runs import Run, RunError
from minidbp.experiments.table2 import PRESETS, Plan, Preset, plan_runs, table
from minidbp.nn import load_model
from minidbp.training import DivergenceError, Protocol

TINY = Protocol(
    stop_rule="none", max_epochs=1, n_train=64, batch_size=32, n_validation=50, n_test=40, n_pgd=10, pgd_steps=1
)  # fmt: skip
PRESET = Preset("for tests", (0.0, 50.0), {"C": Plan(2, TINY)})
TITLE = "Table 2, preset tiny"


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", PRESET)


def tiny_runs(**changes: Any) -> list[Run]:
    return plan_runs("tiny", **changes)


def run_all(runs: list[Run], folder: Path, **rest: Any) -> tuple[sweep.Sweep, str]:
    told = io.StringIO()
    done = sweep.run_all(runs, folder, TITLE, load_mnist(), 2, Console(file=told, width=200), **rest)
    return done, told.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `table2 --preset tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", PRESET)
        folder = sweep.prepare(tmp_path_factory.mktemp("tiny") / "deep" / "out")
        done, _ = run_all(tiny_runs(), folder)
        assert done == sweep.Sweep(finished=4, failures=[], stopped=False)
        sweep.write_report(tiny_runs(), folder, TITLE, "minidbp table2", load_mnist())
    return folder


@pytest.fixture
def copy(complete: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(complete, tmp_path / "out"))


def no_training(*_: Any) -> Any:
    raise AssertionError("a run was executed")


def test_everything_is_written(complete: Path) -> None:
    runs = tiny_runs()
    expected = {"table.csv", "table.md", "accuracy.png", "images.png"}
    expected |= {f"runs/{run.name}.{end}" for run in runs for end in ("json", "npz")}
    assert set(contents(complete)) == expected
    for run in runs:
        result = json.loads((complete / "runs" / f"{run.name}.json").read_text())
        assert {k: result[k] for k in run.identity()} == run.identity()
        assert result["environment"]["python"]
        assert load_model(complete / "runs" / f"{run.name}.npz")[1] == "C"
    lines = list(csv.DictReader(io.StringIO((complete / "table.csv").read_text())))
    assert [(line["model"], float(line["lambda"]), line["runs"]) for line in lines] == [
        ("C", 0.0, "2"), ("C", 50.0, "2"),
    ]  # fmt: skip
    clean = [json.loads((complete / "runs" / f"C_lambda50_seed{s}.json").read_text())["clean"] for s in (0, 1)]
    assert float(lines[1]["clean_mean"]) == pytest.approx(np.mean(clean))
    assert float(lines[1]["clean_sd"]) == pytest.approx(np.std(clean, ddof=1))
    assert float(lines[1]["paper_fgsm_mean"]) == 29.92
    for picture in ("accuracy.png", "images.png"):
        assert matplotlib.image.imread(complete / picture)[..., :3].std() > 0.03


def test_the_markdown_names_preset_and_protocol(complete: Path) -> None:
    text = (complete / "table.md").read_text()
    assert TITLE in text
    for field in dataclasses.fields(Protocol):
        assert f"{field.name}" in text
        assert f"| {getattr(TINY, field.name)} |" in text


def test_a_second_call_trains_nothing_and_writes_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "execute", no_training)
    before = contents(copy)
    done, _ = run_all(tiny_runs(), copy)
    assert done == sweep.Sweep(4, [], False)
    sweep.write_report(tiny_runs(), copy, TITLE, "minidbp table2", load_mnist())
    assert contents(copy) == before


def test_only_what_is_missing_is_trained_and_it_comes_out_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = tiny_runs()[2]
    weights = (copy / "runs" / f"{lost.name}.npz").read_bytes()
    (copy / "runs" / f"{lost.name}.json").unlink()
    executed, honest = [], sweep.execute

    def counted(run: Run, *rest: Any) -> Any:
        executed.append(run)
        return honest(run, *rest)

    monkeypatch.setattr(sweep, "execute", counted)
    done, told = run_all(tiny_runs(), copy)
    assert executed == [lost]
    assert done.finished == 4
    assert "3 of 4" in told
    again = load_model(copy / "runs" / f"{lost.name}.npz")[0]
    (copy / "before.npz").write_bytes(weights)
    for a, b in zip(again.parameters(), load_model(copy / "before.npz")[0].parameters(), strict=True):
        assert a.data.tobytes() == b.data.tobytes()


def test_the_twins_are_those_of_the_smallest_and_the_largest_lambda(
    complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, np.ndarray]] = []

    def remembered(models: Any, *_: Any) -> Figure:
        shown.extend((label, model.parameters()[0].data) for label, model in models.items())
        return Figure()

    monkeypatch.setattr(sweep.figures, "adversarial_twins", remembered)
    shutil.copytree(complete / "runs", tmp_path / "runs")
    sweep.write_report(tiny_runs(), tmp_path, TITLE, "minidbp table2", load_mnist())
    assert len(shown) == 2
    for (label, weights), lam in zip(shown, ("0", "50"), strict=True):
        assert "C" in label
        assert label.endswith(lam)
        kept = load_model(tmp_path / "runs" / f"C_lambda{lam}_seed0.npz")[0]
        np.testing.assert_array_equal(weights, kept.parameters()[0].data)


@pytest.mark.parametrize("changes", [{"penalised": "softmax"}, {"eps": 0.2}, {"max_epochs": 2}])
def test_runs_of_another_protocol_are_not_mixed_in(
    copy: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "execute", no_training)
    before = contents(copy)
    with pytest.raises(RunError, match="--out"):
        run_all(tiny_runs(**changes), copy)
    assert contents(copy) == before


def failing(error: Callable[[], BaseException], at: int) -> Callable[..., Any]:
    """`execute`, but the run of this number raises."""
    honest, count = sweep.execute, 0

    def execute(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count - 1 == at:
            raise error()
        return honest(*arguments)

    return execute


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, runs = sweep.prepare(tmp_path / "out"), tiny_runs()
    monkeypatch.setattr(sweep, "execute", failing(KeyboardInterrupt, at=2))
    done, _ = run_all(runs, folder)
    assert (done.finished, done.failures, done.stopped) == (2, [], True)
    assert set(contents(folder)) == {f"runs/{run.name}.{end}" for run in runs[:2] for end in ("json", "npz")}
    rows = sweep.write_report(runs, folder, TITLE, "minidbp table2", load_mnist())
    assert [(row.lam, row.runs) for row in rows] == [(0.0, 1), (50.0, 1)]
    assert (folder / "images.png").exists()


def test_ctrl_c_before_the_first_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sweep.prepare(tmp_path / "out")
    monkeypatch.setattr(sweep, "execute", failing(KeyboardInterrupt, at=0))
    done, _ = run_all(tiny_runs(), folder)
    assert (done.finished, done.stopped) == (0, True)
    assert sweep.write_report(tiny_runs(), folder, TITLE, "minidbp table2", load_mnist()) == []
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("at", [0, 1])
def test_a_divergence_does_not_end_the_others(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, runs = sweep.prepare(tmp_path / "out"), tiny_runs()[:2]
    monkeypatch.setattr(sweep, "execute", failing(lambda: DivergenceError("training diverged"), at=at))
    done, told = run_all(runs, folder)
    assert (done.finished, done.stopped) == (1, False)
    (failure,) = done.failures
    assert runs[at].name in failure
    assert "training diverged" in failure
    assert f"{runs[at].name} diverged" in told
    rows = sweep.write_report(runs, folder, TITLE, "minidbp table2", load_mnist())
    assert [row.lam for row in rows] == [runs[1 - at].lam]  # the picture does without the missing one
    assert (folder / "images.png").exists()


def test_prepare_makes_the_folder_and_leaves_no_trace(tmp_path: Path) -> None:
    assert sweep.prepare(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b" / "runs").is_dir()
    assert contents(tmp_path) == {}
    sweep.prepare(tmp_path / "a" / "b")  # again


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_prepare_refuses_what_cannot_be_a_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError) as caught:
        sweep.prepare(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    assert "cannot be written" in str(caught.value)
    assert contents(tmp_path) == {"file": b"mine"}


def test_rows_as_json_are_json(complete: Path) -> None:
    rows = table(json.loads((complete / "runs" / f"C_lambda{lam}_seed0.json").read_text()) for lam in (0, 50))
    found = json.loads(json.dumps(sweep.rows_as_json(rows), allow_nan=False))
    assert [(row["model"], row["lambda"], row["runs"]) for row in found] == [("C", 0.0, 1), ("C", 50.0, 1)]
    assert found[0]["clean"] == [rows[0].clean[0], None]  # one run has no deviation
    assert found[0]["paper_clean"] is None
    assert found[1]["paper_fgsm"] == [29.92, 14.24]

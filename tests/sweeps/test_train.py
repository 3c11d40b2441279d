"""The training of a sweep: each run once, gone on with, stopped, diverged, damaged; and what is said meanwhile."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sweep_fixtures import contents, train

from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.nn import load_model
from minidbp.sweeps import execute as executing
from minidbp.sweeps import executors, monitor, sweep
from minidbp.sweeps import train as training
from minidbp.sweeps.monitor import SweepMonitor
from minidbp.sweeps.runs import Run, RunFailed, find
from minidbp.sweeps.sweep import Sweep
from minidbp.sweeps.train import Display, Ending
from minidbp.training import DivergenceError


def no_training(*_: Any) -> Any:
    raise AssertionError("a run was executed")


def test_every_run_is_there(trained: Path, tiny_sweep: Sweep) -> None:
    expected = {f"runs/{run.name}.{end}" for run in tiny_sweep.runs for end in ("json", "safetensors")}
    assert set(contents(trained)) == {"sweep.json", *expected}
    for run in tiny_sweep.runs:
        result = json.loads((trained / "runs" / f"{run.name}.json").read_text())
        assert {k: result[k] for k in run.identity()} == run.identity()
        assert result["environment"]["python"]
        assert load_model(trained / "runs" / f"{run.name}.safetensors")[1] == "C"
    assert sweep.results_in(tiny_sweep, trained) == [find(run, trained / "runs") for run in tiny_sweep.runs]


def test_a_second_call_trains_nothing(copy: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "execute", no_training)
    before = contents(copy)
    ending, told = train(tiny_sweep, copy)
    assert ending == Ending(4, [], False)
    assert "4 of 4 runs are in" in told
    assert contents(copy) == before


def test_only_what_is_missing_is_trained_and_it_comes_out_the_same(
    copy: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = tiny_sweep.runs[2]
    before = contents(copy)
    for end in "json", "safetensors":
        (copy / "runs" / f"{lost.name}.{end}").unlink()
    executed, honest = [], executing.execute

    def counted(run: Run, *rest: Any) -> Any:
        executed.append(run)
        return honest(run, *rest)

    monkeypatch.setattr(executing, "execute", counted)
    monkeypatch.setattr(monitor, "FIRST_LINE", 0.01)
    ending, told = train(tiny_sweep, copy)
    assert re.search(rf"^{tiny_sweep.title}: \d+%, 3 of 4 runs finished", told, re.M)  # progress, as for a file
    assert "\x1b" not in told
    assert executed == [lost]
    assert ending == Ending(4, [], False)
    assert "3 of 4 runs are in" in told
    assert re.search(
        r"model C, lambda 0, seed 1: clean [\d.]+%; eps 0.3: .* \(40 test images; 1 epoch, \d+ s\)\n", told
    )
    assert told.count("clean") == 1  # of what was there already nothing is told again
    after = contents(copy)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} <= {f"runs/{lost.name}.json"}  # seconds
    told_then, told_now = (json.loads(c[f"runs/{lost.name}.json"]) for c in (before, after))
    for key in "clean", "fgsm", "pgd", "per_class", "epochs":
        assert told_now[key] == told_then[key]


def failing(error: Callable[[], BaseException], at: int) -> Callable[..., Any]:
    """`execute`, but the run of this number raises."""
    honest, count = executing.execute, 0

    def execute(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count - 1 == at:
            raise error()
        return honest(*arguments)

    return execute


@pytest.mark.parametrize("at", [0, 1])
def test_a_divergence_does_not_end_the_others(
    tmp_path: Path, tiny_sweep: Sweep, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = dataclasses.replace(tiny_sweep, runs=tiny_sweep.runs[:2])
    sweep.begin(two, tmp_path)
    monkeypatch.setattr(executing, "execute", failing(lambda: DivergenceError("training diverged", 3, 7), at=at))
    ending, told = train(two, tmp_path)
    message = f"model C, lambda {(0, 50)[at]}, seed 0: diverged in epoch 3, step 7"
    assert ending == Ending(1, [message], False)
    assert message in told
    assert [bool(found.diverged) for found in sweep.results_in(two, tmp_path)] == [at == 0, at == 1]
    monkeypatch.setattr(executing, "execute", no_training)  # it would diverge again
    assert train(two, tmp_path)[0] == ending


def test_a_stopped_sweep_keeps_what_is_finished_and_the_same_call_goes_on(
    trained: Path, tmp_path: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.begin(tiny_sweep, tmp_path)
    stop: list[bool] = []
    honest, count = executing.execute, 0

    def stopping(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            stop.append(True)
        return honest(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "REFRESH", 0.01)
        patch.setattr(executing, "execute", stopping)
        ending, told = train(tiny_sweep, tmp_path, stopped=lambda: bool(stop))
    assert "stopping: each run in progress keeps its last whole epoch\n" in told
    finished = [run for run in tiny_sweep.runs if find(run, tmp_path / "runs")]
    assert ending == Ending(len(finished), [], True)
    assert len(finished) < 4
    left = {name for name in contents(tmp_path) if not name.endswith(".checkpoint.safetensors")}
    assert left == {"sweep.json", *(f"runs/{run.name}.{end}" for run in finished for end in ("json", "safetensors"))}

    assert train(tiny_sweep, tmp_path)[0] == Ending(4, [], False)
    assert set(contents(tmp_path)) == set(contents(trained))
    for run in tiny_sweep.runs:
        weights = [folder / "runs" / f"{run.name}.safetensors" for folder in (trained, tmp_path)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_stop_file_of_a_killed_sweep_is_removed_and_that_of_another_is_not(copy: Path, tiny_sweep: Sweep) -> None:
    before, run_dir = set(contents(copy)), copy / "runs"
    for name in "dead", "alive":
        (run_dir / f".stop-{name}").touch()
        (run_dir / f".stop-{name}.lock").touch()
    with FileLock(run_dir / ".stop-alive.lock"):
        train(tiny_sweep, copy)
    assert set(contents(copy)) - before == {"runs/.stop-alive", "runs/.stop-alive.lock"}


def test_the_stop_file_stays_while_a_worker_has_not_seen_it(copy: Path, tiny_sweep: Sweep) -> None:
    """Here another process trains the run; a worker behind a slow network looks the same."""
    before, run = set(contents(copy)), tiny_sweep.runs[0]
    run.file(copy / "runs", "json").unlink()
    answers = iter([False, False, True])
    with FileLock(run.file(copy / "runs", "lock")):
        ending, told = train(tiny_sweep, copy, stopped=lambda: next(answers, True))
        assert ending == Ending(3, [], True)
        assert "runs still in training, by another sweep or a worker that stops later: 1\n" in told
        assert len(list((copy / "runs").glob(".stop-*"))) == 2
    assert train(tiny_sweep, copy)[0] == Ending(4, [], False)
    assert set(contents(copy)) == before


def test_the_last_sweep_removes_the_stop_file_of_one_that_was_stopped_meanwhile(copy: Path, tiny_sweep: Sweep) -> None:
    before = set(contents(copy))
    tiny_sweep.runs[0].file(copy / "runs", "json").unlink()

    @contextlib.contextmanager
    def beside_another() -> Iterator[Executor]:
        (copy / "runs" / ".stop-other").touch()
        (copy / "runs" / ".stop-other.lock").touch()
        with executors.in_process() as executor:
            yield executor

    assert train(tiny_sweep, copy, beside_another)[0] == Ending(4, [], False)
    assert set(contents(copy)) == before


def test_a_folder_that_vanishes_ends_the_sweep_with_a_run_that_noticed(tmp_path: Path, tiny_sweep: Sweep) -> None:
    there = sweep.begin(tiny_sweep, tmp_path / "out")

    @contextlib.contextmanager
    def removing() -> Iterator[Executor]:
        shutil.rmtree(tmp_path / "out")
        with executors.in_process() as executor:
            yield executor

    with pytest.raises(RunFailed, match=r"^model C, lambda \d+, seed \d: .* does not see the folder"):
        train(there, tmp_path / "out", removing)


class DyingWorkers(Executor):
    """Workers that die at every run; `checkpoint` of them write an epoch before."""

    def __init__(self, run_dir: Path, checkpoints: list[int]) -> None:
        self.run_dir, self.checkpoints = run_dir, checkpoints

    def submit(self, function: Any, run: Run, *arguments: Any) -> Any:  # type: ignore[override]
        if self.checkpoints and (epochs := self.checkpoints.pop(0)):
            header = json.dumps({"__metadata__": {"training": json.dumps({"epochs": [0] * epochs})}}).encode()
            path = run.file(self.run_dir, "checkpoint.safetensors")
            path.write_bytes(len(header).to_bytes(8, "little") + header)
        raise BrokenProcessPool


@pytest.mark.parametrize(("checkpoints", "deaths"), [([], 3), ([1, 2, 3, 4], 7), ([0, 0, 1], 6), ([1, 1], 4)])
def test_only_deaths_without_progress_end_a_sweep(
    checkpoints: list[int], deaths: int, tiny_sweep: Sweep, tmp_path: Path
) -> None:
    made = []

    def dying() -> Executor:
        made.append(None)
        return DyingWorkers(tmp_path / "runs", checkpoints)

    sweep.begin(tiny_sweep, tmp_path)
    with pytest.raises(RunFailed, match=r"died 3 times without finishing a run or an epoch.*4 runs are not finished"):
        train(tiny_sweep, tmp_path, dying)
    assert len(made) == deaths


def test_another_error_stops_all_and_comes_out(
    tmp_path: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.begin(tiny_sweep, tmp_path)
    monkeypatch.setattr(executing, "execute", failing(lambda: OSError(28, "No space left on device"), at=1))
    with pytest.raises(RunFailed, match=r"lambda 50, seed 0: .*No space left"):
        train(tiny_sweep, tmp_path)
    assert not list((tmp_path / "runs").glob(".stop*"))
    finished = [run for run in tiny_sweep.runs if find(run, tmp_path / "runs")]
    assert tiny_sweep.runs[0] in finished
    assert tiny_sweep.runs[1] not in finished


def test_damaged_runs_do_not_stop_the_others(copy: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose result is damaged, one whose checkpoint is."""
    runs, executed = tiny_sweep.runs, []
    runs[0].file(copy / "runs", "json").write_text("{")
    for run in runs[1:3]:
        run.file(copy / "runs", "json").unlink()
    runs[1].file(copy / "runs", "checkpoint.safetensors").write_bytes(b"PK")
    honest = executing.execute

    def counted(run: Run, *rest: Any) -> Any:
        executed.append(run)
        return honest(run, *rest)

    monkeypatch.setattr(executing, "execute", counted)
    ending, _ = train(tiny_sweep, copy)
    assert (ending.finished, ending.diverged, ending.stopped, ending.unreadable) == (2, [], False, True)
    assert executed == runs[1:3]
    for message, run, file in zip(ending.failed, runs, ("json", "checkpoint.safetensors"), strict=False):
        assert message.startswith(f"model C, lambda {run.lam:g}, seed 0: ")
        assert str(run.file(copy / "runs", file)) in message
        assert "move it away" in message


def test_a_run_that_ends_at_any_moment_is_announced(
    made_up: Callable[..., Any], tiny_sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_sweep.runs[0]
    looks = iter([None, made_up(run)])  # it ends between the first look at the folder and the second
    monkeypatch.setattr("minidbp.sweeps.monitor.find", lambda run, folder: next(looks))
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    display = Display(console, SweepMonitor([run], tmp_path, JUDGE), "a title", announce=True)
    with display.shown():
        display.renew()
    assert made_up(run).in_words("model C, lambda 0, seed 0") in console.file.getvalue()

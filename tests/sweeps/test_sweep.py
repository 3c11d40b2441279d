"""Many runs in one folder: each trained once, gone on with, stopped, diverged; and whose folder it is."""

import dataclasses
import io
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.live import Live

from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.files.digest import write_with_digest
from minidbp.nn import load_model
from minidbp.paper.experiments import EXPERIMENTS, TABLE2, Condition, protocol_variants
from minidbp.sweeps import execute as executing
from minidbp.sweeps import executors, monitor, sweep
from minidbp.sweeps.monitor import SweepMonitor
from minidbp.sweeps.runs import FORMAT, DivergedRun, Divergence, Run, RunError, RunFailed, RunResult, find, keep
from minidbp.sweeps.sweep import Ending, Sweep
from minidbp.training import DivergenceError, Protocol
from minidbp.training.environment import environment
from minidbp.training.protocol import CHOICES


def train(there: Sweep, folder: Path, make_executor: Any = executors.in_process, **options: Any) -> tuple[Ending, str]:
    told = io.StringIO()
    console = Console(file=told, width=200)
    ending = sweep.train_all(
        there.runs, folder / "runs", make_executor, JUDGE, title=there.title, data=None, threads=2, console=console,
        **options,
    )  # fmt: skip
    return ending, told.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def no_training(*_: Any) -> Any:
    raise AssertionError("a run was executed")


# -- training -------------------------------------------------------------------------------------------------------


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
        patch.setattr(sweep, "REFRESH", 0.01)
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


# -- whose folder it is ---------------------------------------------------------------------------------------------


def test_a_sweep_comes_back_from_its_folder(tmp_path: Path) -> None:
    for name, experiment in EXPERIMENTS.items():
        runs = experiment.runs("smoke", 3, protocol_variants(["penalty_target", "eps=0.1,0.2"]))
        written = Sweep(name, "title", [f"minidbp {name}"], runs, ["penalty_target", "eps"])
        sweep.begin(written, tmp_path / name)
        assert (tmp_path / name / "runs").is_dir()
        read = sweep.load(tmp_path / name)
        assert read.experiment == name
        assert (read.title, read.commands, read.vary) == ("title", [f"minidbp {name}"], ["penalty_target", "eps"])
        assert list(read.runs) == runs


def test_a_sweep_begins_again_in_its_own_folder(copy: Path, tiny_sweep: Sweep) -> None:
    before = contents(copy)
    sweep.begin(tiny_sweep, copy)
    assert contents(copy) == before


def tiny_runs(tiny_sweep: Sweep, seeds: int = 2, *variants: dict[str, Any], first_seed: int = 0) -> list[Run]:
    """Those of `tiny_sweep`, with other seeds or another protocol."""
    preset = {Condition("C", lam, tiny_sweep.runs[0].protocol): seeds for lam in (0.0, 50.0)}
    return dataclasses.replace(TABLE2, presets={"tiny": preset}).runs("tiny", first_seed, variants or [{}])


@pytest.mark.parametrize("change", ["protocol", "more protocols", "another experiment", "another preset"])
def test_the_folder_of_another_sweep_is_refused(copy: Path, tiny_sweep: Sweep, change: str) -> None:
    other = {
        "protocol": {"runs": tiny_runs(tiny_sweep, 2, {"penalty_target": "softmax"})},
        "more protocols": {"runs": tiny_runs(tiny_sweep, 2, {}, {"penalty_target": "softmax"})},
        "another experiment": {"experiment": "credit"},
        "another preset": {"title": "Table 2, preset small"},
    }[change]
    before = contents(copy)
    with pytest.raises(RunError) as caught:
        sweep.begin(dataclasses.replace(tiny_sweep, **other), copy)
    for word in str(copy), "another sweep", "`minidbp table2 --preset tiny`", "give another --out":
        assert word in str(caught.value)
    assert contents(copy) == before


def extend(folder: Path, tiny_sweep: Sweep, runs: list[Run], command: str, preset: list[Run]) -> Sweep:
    """What `begin` returns, which is what the folder then lists."""
    there = sweep.begin(dataclasses.replace(tiny_sweep, commands=[command], runs=runs), folder, preset)
    assert sweep.load(folder) == there
    return there


def test_more_seeds_extend_a_sweep_and_finished_runs_are_kept(copy: Path, tiny_sweep: Sweep) -> None:
    before = contents(copy / "runs")
    runs = tiny_runs(tiny_sweep, 3)
    there = extend(copy, tiny_sweep, runs, "minidbp c --seeds 3", [])
    assert (there.commands, there.runs) == (["minidbp c --seeds 3"], runs)  # this one command repeats the whole
    assert contents(copy / "runs") == before
    assert len(sweep.results_in(there, copy)) == 4


def test_lambdas_models_and_seeds_extend_a_sweep_seed_by_seed(copy: Path, tiny_sweep: Sweep) -> None:
    more = [dataclasses.replace(run, lam=10.0) for run in tiny_runs(tiny_sweep, 1)[:1]]
    there = extend(copy, tiny_sweep, more, "minidbp c --lambdas 10", [])
    assert there.commands == [
        "minidbp table2 --preset tiny",
        "minidbp c --lambdas 10",
    ]  # together they repeat it
    assert [(run.seed, run.lam) for run in there.runs] == [(0, 0), (0, 50), (0, 10), (1, 0), (1, 50)]

    other = [dataclasses.replace(run, model="A", seed=1) for run in tiny_runs(tiny_sweep, 1)]
    with pytest.raises(RunError, match="another sweep"):  # nothing says that A and C are of one preset
        sweep.begin(dataclasses.replace(tiny_sweep, runs=other), copy)
    there = extend(copy, tiny_sweep, other, "minidbp c --models A", tiny_sweep.runs)
    assert [(run.seed, run.model, run.lam) for run in there.runs] == [
        (0, "C", 0), (0, "C", 50), (0, "C", 10), (1, "C", 0), (1, "C", 50), (1, "A", 0), (1, "A", 50),
    ]  # fmt: skip
    assert there.commands == ["minidbp table2 --preset tiny", "minidbp c --lambdas 10", "minidbp c --models A"]

    runs = [dataclasses.replace(run, lam=lam, model=m) for m in "AC" for lam in (0.0, 10.0, 50.0) for run in other]
    runs = [dataclasses.replace(run, seed=seed) for seed in (0, 1) for run in dict.fromkeys(runs)]
    assert extend(copy, tiny_sweep, runs, "minidbp c --seeds 2", []).commands == ["minidbp c --seeds 2"]


@pytest.mark.parametrize("choose", [lambda runs: runs[:-1], lambda runs: runs[::-1], lambda runs: runs[2:]])
def test_a_smaller_choice_changes_nothing(copy: Path, tiny_sweep: Sweep, choose: Callable[..., Any]) -> None:
    before = contents(copy)
    assert extend(copy, tiny_sweep, choose(tiny_sweep.runs), "minidbp c --seeds 1", []) == tiny_sweep
    assert contents(copy) == before


def test_sweeps_that_extend_one_folder_at_once_lose_nothing(tmp_path: Path, tiny_sweep: Sweep) -> None:
    def extend(seed: int) -> None:
        runs = tiny_runs(tiny_sweep, 1, first_seed=seed)
        sweep.begin(dataclasses.replace(tiny_sweep, commands=[f"minidbp c --seed {seed}"], runs=runs), tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(extend, range(24)))
    there = sweep.load(tmp_path)
    assert there.runs == tiny_runs(tiny_sweep, 24)
    assert sorted(there.commands) == sorted(f"minidbp c --seed {seed}" for seed in range(24))


def test_a_sweep_goes_on_while_another_extends_its_folder(
    tmp_path: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trains its own runs, once, and both together all."""
    executed, honest = [], executing.execute
    longer = dataclasses.replace(tiny_sweep, runs=tiny_runs(tiny_sweep, 3))

    def extending(run: Run, *rest: Any) -> Any:
        if not executed:
            sweep.begin(longer, tmp_path)
        executed.append(run)
        return honest(run, *rest)

    monkeypatch.setattr(executing, "execute", extending)
    sweep.begin(tiny_sweep, tmp_path)
    assert train(tiny_sweep, tmp_path)[0] == Ending(4, [], False)
    assert train(longer, tmp_path)[0] == Ending(6, [], False)
    assert executed == longer.runs
    assert len(sweep.results_in(sweep.load(tmp_path), tmp_path)) == 6


def test_a_folder_of_runs_of_before_is_refused(
    tmp_path: Path, tiny_sweep: Sweep, made_up: Callable[..., RunResult]
) -> None:
    """Version 1 wrote runs/C_lambda0_seed0.json and no sweep.json."""
    (tmp_path / "runs").mkdir()
    result = made_up(tiny_sweep.runs[0])
    (tmp_path / "runs" / "C_lambda0_seed0.json").write_text(json.dumps(result.as_dict()))
    before = contents(tmp_path)
    with pytest.raises(RunError) as caught:
        sweep.begin(tiny_sweep, tmp_path)
    for word in str(tmp_path), "another version", "give another --out, or move them away":
        assert word in str(caught.value)
    assert contents(tmp_path) == before


def rewritten(folder: Path, **changes: Any) -> None:
    """sweep.json with other values and the digest that belongs to them; ... for none at all."""
    path = folder / "sweep.json"
    found = {**json.loads(path.read_text()), "sha256": ..., **changes}
    write_with_digest(path, {key: value for key, value in found.items() if value is not ...})


@pytest.mark.parametrize("format_", [1, FORMAT + 1, None, "2", ...])
def test_a_sweep_of_another_format_is_refused(copy: Path, tiny_sweep: Sweep, format_: Any) -> None:
    rewritten(copy, format=format_)
    for function in (sweep.load, lambda folder: sweep.begin(tiny_sweep, folder)):
        with pytest.raises(RunError) as caught:
            function(copy)
        wrong = None if format_ is ... else format_
        for word in "sweep.json", f"format {wrong!r}", f"format {FORMAT}", "give another --out, or use that version":
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"experiment": 9}, ["experiment"]),
        ({"experiment": ...}, ["experiment"]),
        ({"title": 3}, ["title"]),
        ({"title": ...}, ["title"]),
        ({"commands": None}, ["commands"]),
        ({"commands": "minidbp table2"}, ["commands"]),
        ({"vary": "eps"}, ["vary"]),
        ({"vary": ["colour"]}, ["'colour'"]),
        ({"title": "Table 2\n1 of 1 runs finished"}, ["`title`", "one line"]),
        ({"commands": ["rm -r a"]}, ["`commands`", "'rm -r a'"]),
        ({"commands": ["minidbp table2; rm -r a"]}, ["`commands`", "quoted for a shell"]),
        ({"commands": ["minidbp table2 'a"]}, ["`commands`", "quoted for a shell"]),
        ({"how": "--data $(rm -r a)"}, ["`how`", "quoted for a shell"]),
        ({"vary": [["eps"]]}, ["vary[0]"]),
        ({"vary": [{}]}, ["vary[0]"]),
        ({"runs": {}}, ["`runs` should be a list"]),
        ({"runs": ...}, ["`runs` should be a list"]),
        ({"runs": [{"model": "C"}]}, ["a run of format None"]),
        ({"runs": ["C_lambda0_seed0"]}, ["description of a run"]),
    ],
)  # fmt: skip
def test_what_is_not_a_sweep_is_refused(tmp_path: Path, changes: dict[str, Any], named: list[str]) -> None:
    sweep.begin(Sweep("credit", "t", ["minidbp c"], EXPERIMENTS["credit"].runs("smoke")), tmp_path / "other")
    rewritten(tmp_path / "other", **changes)
    with pytest.raises(RunError) as caught:
        sweep.load(tmp_path / "other")
    assert "\n" not in str(caught.value)
    for word in named:
        assert word in str(caught.value)


def test_more_runs_than_a_sweep_may_have(tmp_path: Path) -> None:
    runs = [Run("C", 0.0, seed, Protocol()) for seed in range(sweep.MOST_RUNS + 1)]
    with pytest.raises(RunError) as caught:
        sweep.begin(Sweep("table2", "t", ["minidbp table2"], runs), tmp_path / "out")
    assert str(caught.value) == (
        f"a sweep has at most 2000 runs, and {tmp_path / 'out'} would list 2001: choose fewer with --models, "
        "--lambdas, --seeds or --vary, or give another --out"
    )
    sweep.begin(Sweep("table2", "t", ["minidbp table2"], runs[:-1]), tmp_path / "out")
    with pytest.raises(RunError, match="would list 2001: choose fewer"):  # the folder has 2,000
        sweep.begin(Sweep("table2", "t", ["minidbp table2"], runs[-1:]), tmp_path / "out")


def test_the_largest_sweep_comes_back_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sweep.json of 60 MB took 1.9 GB.  No run takes more letters than these.

    A tenth of the runs that a sweep may have; all of them with MINIDBP_TRIALS=10000, for docs/files.md.
    """
    part = int(os.environ.get("MINIDBP_TRIALS", "1000")) / 10_000
    n_runs, most = round(part * sweep.MOST_RUNS), round(part * sweep.MOST_SWEEP)
    monkeypatch.setattr(sweep, "MOST_SWEEP", most)
    small = 1.2345678901234567e-100
    numbers = {field.name: small for field in dataclasses.fields(Protocol) if field.type is float}
    counts = {field.name: 10**9 for field in dataclasses.fields(Protocol) if field.type is int}
    words = {name: max(choices, key=len) for name, choices in CHOICES.items()}
    protocol = Protocol(**{**numbers, **counts, "max_epochs": 10_000, **words}, judged_eps=(small,) * 16)
    runs = [Run("C", small, 2**63 - 1 - k, protocol) for k in range(n_runs)]
    largest = Sweep("table2", "t", ["minidbp table2"], runs)
    sweep.begin(largest, tmp_path)
    tracemalloc.start()
    assert sweep.load(tmp_path) == largest
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    lists = b'{"a": [' + b"{}," * ((most - 20) // 3) + b"1]}"  # what takes most memory for its bytes
    (tmp_path / "sweep.json").write_bytes(lists)
    with pytest.raises(RunError, match="format None"):
        sweep.load(tmp_path)
    worst = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\nsweep.json of {n_runs} runs: {peak / 1e6:.0f} MB; the worst of its size: {worst / 1e6:.0f} MB")
    assert peak < part * 50e6
    assert worst < part * 200e6


def test_a_sweep_that_was_changed_is_refused(copy: Path) -> None:
    path = copy / "sweep.json"
    text = path.read_text()
    for changed, what in (
        (text.replace('"seed": 1', '"seed": 3', 1), "is damaged: its content does not have the SHA-256"),
        (text.replace('"sha256"', '"sha255"'), "has no sha256"),
    ):
        path.write_text(changed)
        with pytest.raises(RunError, match=rf"sweep\.json {what}.*: give another --out, or use that version"):
            sweep.load(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(RunError, match=r"sweep\.json"):
        sweep.load(tmp_path)


def test_a_folder_without_a_sweep(tmp_path: Path) -> None:
    for folder, what in (tmp_path, "holds no sweep"), (tmp_path / "none", "none does not exist"):
        with pytest.raises(RunError, match=f"{what}: give the --out folder of minidbp table2"):
            sweep.load(folder)
    assert list(tmp_path.iterdir()) == []


def test_results_of_a_sweep_half_done(copy: Path, tiny_sweep: Sweep) -> None:
    first, second, *rest = tiny_sweep.runs
    for run in rest:
        (copy / "runs" / f"{run.name}.json").unlink()
    lost = DivergedRun(run=second, diverged=Divergence(1, 1, "m"), environment=environment())
    keep(lost, copy / "runs")
    assert sweep.results_in(tiny_sweep, copy) == [find(first, copy / "runs"), lost]


# -- the output folder ----------------------------------------------------------------------------------------------


def test_prepare_makes_the_folder_and_leaves_no_trace(tmp_path: Path) -> None:
    assert sweep.prepare(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
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


def test_a_run_that_ends_at_any_moment_is_announced(
    made_up: Callable[..., Any], tiny_sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_sweep.runs[0]
    looks = iter([None, made_up(run)])  # it ends between the first look at the folder and the second
    monkeypatch.setattr("minidbp.sweeps.monitor.find", lambda run, folder: next(looks))
    monitor = SweepMonitor([run], tmp_path, JUDGE)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for _ in range(2):
            sweep._show(live, console, monitor, "a title", announce=True)
    assert made_up(run).in_words(monitor.labels[run]) in console.file.getvalue()

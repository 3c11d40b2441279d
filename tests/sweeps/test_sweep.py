"""Many runs in one folder: whose folder it is, how it is extended, and what is refused."""

import dataclasses
import json
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sweep_fixtures import contents, train

from minidbp.files.digest import write_with_digest
from minidbp.paper.experiments import EXPERIMENTS, TABLE2, Condition, protocol_variants
from minidbp.sweeps import execute as executing
from minidbp.sweeps import sweep
from minidbp.sweeps.runs import FORMAT, DivergedRun, Divergence, Run, RunError, RunResult, find, keep
from minidbp.sweeps.sweep import Sweep
from minidbp.sweeps.train import Ending
from minidbp.training import Protocol
from minidbp.training.environment import environment
from minidbp.training.protocol import CHOICES

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


def test_whoever_waits_for_a_folder_says_so(tmp_path: Path, tiny_sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder may be suspended, as by Ctrl-Z."""
    monkeypatch.setattr(sweep, "TOLD_AFTER", 0.1)
    monkeypatch.setattr(sweep.Console, "say", lambda _, text: (said.append(text), held.release()))
    said: list[str] = []
    held = FileLock(tmp_path / ".lock", thread_local=False)
    with held:
        sweep.begin(tiny_sweep, tmp_path)
    assert said == [f"waiting for another process that writes to {tmp_path}: it holds {tmp_path / '.lock'}"]
    assert sorted(contents(tmp_path)) == ["sweep.json"]


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


def test_a_run_that_is_listed_twice_is_refused(copy: Path, tiny_sweep: Sweep) -> None:
    rewritten(copy, runs=[run.identity() for run in (*tiny_sweep.runs, tiny_sweep.runs[0])])
    with pytest.raises(RunError, match=r"sweep\.json lists a run twice"):
        sweep.load(copy)


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

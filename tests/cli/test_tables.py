"""minidbp table2, table3, table4, credit, status and report: what they print, write, refuse, and how they go on."""

import csv
import dataclasses
import io
import json
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from minidbp.paper.experiments import EXPERIMENTS, Condition
from minidbp.paper.report import FILES
from minidbp.sweeps import execute
from minidbp.sweeps.monitor import Stopped
from minidbp.sweeps.runs import Outcome, Run, find
from minidbp.sweeps.sweep import load
from minidbp.training import DivergenceError, Protocol

Command = Callable[..., Any]
FilesIn = Callable[[Path], set[str]]
TINY = Protocol(
    stop_rule="none", max_epochs=1, n_train=64, batch_size=32, n_validation=50, n_test=40, n_tracked=10, pgd_steps=1,
    judged_eps=(0.1, 0.3), apgd_steps=1, apgd_restarts=1, square_queries=1, reference_steps=1,
)  # fmt: skip
SWEEPS = ("table2", "table3", "table4", "credit")


def add_tiny(patch: pytest.MonkeyPatch) -> None:
    """A preset `tiny` for every experiment: model C, lambda 0 and 50, one seed."""
    tiny = {Condition("C", lam, TINY): 1 for lam in (0.0, 50.0)}
    for name in SWEEPS:
        experiment = EXPERIMENTS[name]
        patch.setitem(EXPERIMENTS, name, dataclasses.replace(experiment, presets={**experiment.presets, "tiny": tiny}))


@pytest.fixture(autouse=True)
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny(monkeypatch)


@pytest.fixture(scope="module")
def finished(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What `table2` printed, and its folder.  Not to be changed: see `copy`."""
    out = tmp_path_factory.mktemp("table2") / "out"
    with pytest.MonkeyPatch.context() as patch:
        add_tiny(patch)
        return command("table2", "--preset", "tiny", "--out", out), out


@pytest.fixture
def copy(finished: tuple[Any, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[1], tmp_path / "out"))


def results(out: Path) -> list[Outcome | None]:
    return [find(run, out / "runs") for run in load(out).runs]


# -- a sweep --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_prints_and_writes_the_table(finished: tuple[Any, Path], files_in: FilesIn) -> None:
    result, out = finished
    assert result.exit_code == 0
    for word in ("Table 2, preset tiny", "FGSM 0.3", "worst 0.3", "FGSM 0.1", "worst 0.1", "clean", "paper", "29.9"):
        assert word in result.stdout
    names = {f"runs/{run.name}.{end}" for run in load(out).runs for end in ("json", "safetensors")}
    assert files_in(out) == {*FILES, "sweep.json", *names}
    assert len(names) == 4
    for word in str(out), *FILES:
        assert word in result.stderr
    assert "model C, lambda 50, seed 0: clean" in result.stderr


@pytest.mark.slow
def test_a_sweep_goes_on_in_its_default_folder(
    finished: tuple[Any, Path], command: Command, files_in: FilesIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path("out") / "table2-tiny"
    shutil.copytree(finished[1] / "runs", out / "runs")
    shutil.copy(finished[1] / "sweep.json", out)
    monkeypatch.setattr(execute, "execute", None)  # nothing is left to train
    result = command("table2", "--preset", "tiny", "--json")
    assert result.exit_code == 0
    assert "2 of 2 runs are in" in result.stderr
    assert files_in(out) == files_in(finished[1])
    rows = json.loads(result.stdout)
    lines = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert [(row["model"], row["lambda"]) for row in rows] == [("C", 0.0), ("C", 50.0)]
    assert [row["clean"][0] for row in rows] == [float(line["clean_mean"]) for line in lines]
    assert rows[1]["paper_fgsm"] == [29.92, 14.24]


@pytest.mark.parametrize(
    "extra",
    [("--penalty-target", "softmax"), ("--vary", "eps=0.1,0.2"), ("--preset", "smoke"), ()],
    ids=lambda extra: " ".join(extra) or "table4",
)
def test_another_sweep_needs_another_folder(
    copy: Path, extra: tuple[str, ...], command: Command, assert_refused: Callable[..., None], files_in: FilesIn
) -> None:
    before = {name: (copy / name).read_bytes() for name in files_in(copy)}
    name = "table2" if extra else "table4"
    preset = () if "--preset" in extra or not extra else ("--preset", "tiny")
    refused = command(name, *preset, *(extra or ("--preset", "smoke")), "--out", copy)
    assert_refused(refused, "--out", str(copy), "another sweep", "minidbp table2 --preset tiny")
    assert {name: (copy / name).read_bytes() for name in files_in(copy)} == before


@pytest.mark.slow
def test_a_sweep_is_extended_by_the_same_command(
    copy: Path, command: Command, files_in: FilesIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, honest = [], execute.execute

    def counted(run: Run, *rest: Any) -> Any:
        trained.append((run.lam, run.seed))
        return honest(run, *rest)

    monkeypatch.setattr(execute, "execute", counted)
    finished = {name: (copy / name).read_bytes() for name in files_in(copy) if name.startswith("runs/")}
    result = command("table2", "--preset", "tiny", "--lambdas", "7", "--seeds", "2", "--out", copy, "--json")
    assert result.exit_code == 0
    assert "lambda 0, which every table needs, is added" in result.stderr
    assert trained == [(7, 0), (0, 1), (7, 1)]
    assert [(row["lambda"], row["runs"]) for row in json.loads(result.stdout)] == [(0, 2), (7, 2), (50, 1)]
    assert {name: (copy / name).read_bytes() for name in finished} == finished
    text = (copy / "table.md").read_text(encoding="utf-8")
    both = ["minidbp table2 --preset tiny", "minidbp table2 --preset tiny --lambdas 0,7 --seeds 2"]
    assert f"Made by `{both[0]}` and `{both[1]}`: of its 5 runs, 5 are finished" in text

    result = command("table2", "--preset", "tiny", "--models", "C", "--lambdas", "0", "--out", copy, "--json")
    assert result.exit_code == 0
    assert "lists 4 other runs of this sweep" in result.stderr
    assert [(row["lambda"], row["runs"]) for row in json.loads(result.stdout)] == [(0, 2), (7, 2), (50, 1)]
    assert len(trained) == 3
    assert load(copy).commands == both

    for path in (copy / "runs").glob("C_lambda7_*.json"):
        path.unlink()
    result = command("status", copy)
    assert "3 of 5 runs finished" in " ".join(result.stdout.split())
    for line in both:
        assert f"stopped: to go on, {line} --out {copy}" in " ".join(result.stdout.split())
    assert [(row["lambda"], row["runs"]) for row in json.loads(command("report", copy, "--json").stdout)] == [
        (0, 2), (50, 1),
    ]  # fmt: skip


def test_runs_of_before_are_refused(
    tmp_path: Path, command: Command, assert_refused: Callable[..., None], files_in: FilesIn
) -> None:
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "C_lambda0_seed0.json").write_text("{}")
    refused = command("table2", "--preset", "tiny", "--out", tmp_path / "out")
    assert_refused(refused, "another version", "give another --out, or move them away")
    assert files_in(tmp_path / "out") == {"runs/C_lambda0_seed0.json"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table2", "table3"])
def test_what_the_paper_leaves_unsaid_can_be_varied(name: str, command: Command, tmp_path: Path) -> None:
    line = (
        name,
        "--preset",
        "tiny",
        "--reduction",
        "sum",
        "--vary",
        "penalty_target",
        "--vary",
        "eps=0.1",
        "--seed",
        "4",
    )
    result = command(*line, "--out", tmp_path / "a b", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [(row["lambda"], row["penalty_target"]) for row in rows] == [
        (lam, of) for of in ("logits", "softmax") for lam in (0.0, 50.0)
    ]
    there = load(tmp_path / "a b")
    assert there.vary == ["penalty_target", "eps"]
    assert {(run.seed, run.protocol.reduction, run.protocol.eps) for run in there.runs} == {(4, "sum", 0.1)}
    assert there.commands == [
        f"minidbp {name} --preset tiny --seed 4 --reduction sum --vary penalty_target --vary eps=0.1"
    ]
    text = (tmp_path / "a b" / "table.md").read_text(encoding="utf-8")
    assert "These runs decide none of the paper's claims" in text  # of one seed
    assert ("## Distance to the paper's table" in text) == (name == "table3")  # the paper has no Table 2 at eps 0.1


@pytest.mark.slow
@pytest.mark.parametrize("which", [1, 2])
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    which: int, finished: tuple[Any, Path], command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest, calls = execute.execute, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == which:
            signal.raise_signal(signal.SIGINT)
            raise Stopped
        return honest(*arguments)

    line = ("table2", "--preset", "tiny", "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(execute, "execute", interrupted)
        result = command(*line)
    assert result.exit_code == 130
    again = f"minidbp table2 --preset tiny --out {tmp_path / 'out'}"
    assert f"stopped: {which - 1} of 2 runs are finished; to go on: {again}\n" in result.stderr
    assert "Traceback" not in result.stderr
    for name in FILES:  # it does not claim to have written what it has not
        assert (name in result.stderr) == (tmp_path / "out" / name).exists() == (which == 2)
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == which - 1

    assert command(*line).exit_code == 0
    for run in load(finished[1]).runs:  # the same bits as if nothing had stopped it
        weights = [folder / "runs" / f"{run.name}.safetensors" for folder in (finished[1], tmp_path / "out")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how_many", [1, 2])
def test_a_divergence_is_exit_code_1(
    how_many: int, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = execute.execute, []

    def diverging(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) <= how_many:
            raise DivergenceError("training diverged", 3, 7)
        return honest(*arguments)

    monkeypatch.setattr(execute, "execute", diverging)
    for _ in range(2):  # the second time nothing is trained
        result = command("table2", "--preset", "tiny", "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert len(calls) == 2
        assert "minidbp: model C, lambda 0, seed 0: diverged in epoch 3, step 7" in result.stderr
        for name in FILES:
            assert (name in result.stderr) == (tmp_path / "out" / name).exists() == (how_many == 1)
    assert [found is not None and found.diverged is not None for found in results(tmp_path / "out")] == [
        True, how_many == 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--preset", "huge"), ("huge", "smoke", "laptop", "overnight", "paper")),
        (("--penalty", "l1"), ("--penalty must be", "l1", "jacobian_l1", "summed_jacobian_l1")),
        (("--penalty-target", "tanh"), ("--penalty-target must be", "tanh", "logits", "softmax")),
        (("--reduction", "max"), ("max", "sum", "mean")),
        (("--attack-label", "no"), ("--attack-label must be", "no", "true", "predicted", "smoothed")),
        (("--seed", "-1"), ("seed", "-1")),
        (("--threads", "0"), ("threads", "0")),
        (("--workers", "0"), ("--workers must be at least 1", "0")),
        (("--workers", "-2"), ("--workers must be at least 1", "-2")),
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), ("--workers", "--scheduler", "one of them")),
        (("--vary", "colour=red"), ("colour", "learning_rate")),
        (("--vary", "eps"), ("eps needs values", "eps=0.3")),
        (("--vary", "eps=0.1,big"), ("'big'", "a number")),
        (("--vary", "eps=0.1,-1"), ("eps", "-1")),
        (("--vary", "penalty_target=tanh"), ("tanh", "logits", "softmax")),
        (("--vary", "eps=0.1", "--vary", "eps=0.2"), ("eps", "twice")),
        (("--vary", "n_train=60001"), ("n_train", "60001")),
        (("--vary", "training_attack"), ("training_attack has no effect", "--vary adversarial_training=true too")),
        (("--vary", "training_attack_steps=5"), ("no effect", "adversarial_training=true --vary training_attack=pgd")),
        (("--workers", "100000"), ("--workers must be at most 1024", "100000")),
        (("--out", ""), ("--out must name a file or folder; got ''",)),
        (("--config", "none.toml"), ("none.toml cannot be read",)),
        (("--models", "A"), ("--preset tiny has no model 'A'", "choose from C")),
        (("--models", "C,C"), ("--models", "C twice")),
        (("--lambdas", "0,x"), ("--lambdas 0,x", "'x'", "a number")),
        (("--lambdas", "0,-1"), ("lambda", "at least 0", "-1")),
        (("--seeds", "0"), ("--seeds must be at least 1", "0")),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.parametrize("name", ["table2", "credit"])
def test_bad_values_are_refused(
    name: str,
    arguments: tuple[str, ...],
    named: tuple[str, ...],
    tmp_path: Path,
    command: Command,
    assert_refused: Callable[..., None],
) -> None:
    preset = () if "--preset" in arguments else ("--preset", "tiny")
    assert_refused(command(name, *preset, "--out", tmp_path / "out", *arguments), *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_written(
    place: str, tmp_path: Path, command: Command, assert_refused: Callable[..., None], files_in: FilesIn
) -> None:
    """A file stands in its way: tests may run as root, whom no permission stops."""
    (tmp_path / "file").write_text("mine")
    refused = command("table2", "--preset", "tiny", "--out", tmp_path / place)
    assert_refused(refused, str(tmp_path / place))
    assert files_in(tmp_path) == {"file"}


def test_bad_data_are_refused(
    tmp_path: Path,
    command: Command,
    assert_refused: Callable[..., None],
    with_damage: Callable[[Path, str], tuple[Path, str]],
) -> None:
    folder, name = with_damage(tmp_path / "mnist", "truncated")
    refused = command("table2", "--preset", "tiny", "--data", folder, "--out", tmp_path / "out")
    assert_refused(refused, name, "truncated")
    assert not (tmp_path / "out").exists()


def test_a_sweep_whose_runs_were_deleted_begins_again(
    copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "runs")
    trained = []

    def interrupted(run: Run, *_: Any) -> Any:
        trained.append(run.lam)
        signal.raise_signal(signal.SIGINT)
        raise Stopped

    monkeypatch.setattr(execute, "execute", interrupted)
    result = command("table2", "--preset", "tiny", "--out", copy, "--quiet")
    assert (result.exit_code, trained[0]) == (130, 0.0)


# -- status and report ----------------------------------------------------------------------------------------------


def half_done(out: Path) -> Run:
    """Take away the second run of a folder, and its reports."""
    _, run = load(out).runs
    for path in out.glob("*.*"):
        if path.name != "sweep.json":
            path.unlink()
    for end in "json", "safetensors":
        (out / "runs" / f"{run.name}.{end}").unlink()
    return run


def test_status_of_a_finished_sweep(finished: tuple[Any, Path], command: Command) -> None:
    result = command("status", finished[1])
    assert result.exit_code == 0
    assert "Table 2, preset tiny" in result.stdout
    assert "to go on" not in result.stdout
    assert "100%" in result.stdout
    assert "2 of 2 runs finished" in " ".join(result.stdout.split())
    state = json.loads(command("status", finished[1], "--json").stdout)
    assert state == {
        "total": 2, "finished": 2, "diverged": 0, "running": [], "stopped": [], "share": pytest.approx(1.0),
        "seconds_left": None,
        "damaged": [],
    }  # fmt: skip


def test_status_of_a_sweep_under_way(copy: Path, command: Command, files_in: FilesIn) -> None:
    run = half_done(copy)
    found = {"done": 5.0, "total": 10.0, "speed": 1.0, "what": "epoch 1, step 1/2", "time": 0.0}
    (copy / "runs" / f"{run.name}.progress.json").write_text(json.dumps(found))
    with FileLock(run.file(copy / "runs", "lock")):
        before = files_in(copy)
        result = command("status", copy)
        assert result.exit_code == 0
        assert "1 of 2 runs finished" in " ".join(result.stdout.split())
        assert "model C, lambda 50, seed 0: 50%, epoch 1" in result.stdout
        assert "to go on" not in result.stdout
        state = json.loads(command("status", copy, "--json").stdout)
        assert (state["finished"], state["running"][0]["share"], state["running"][0]["speed"]) == (1, 0.5, 1.0)
        assert 0 < state["share"] < 1
    result = command("status", copy)  # the process was killed
    assert "model C, lambda 50, seed 0: 0%, stopped in its first epoch" in result.stdout
    assert result.stdout.endswith(f"stopped: to go on, minidbp table2 --preset tiny --out {copy}\n")
    assert files_in(copy) == before - {f"runs/{run.name}.lock"}


def test_a_command_to_copy_is_quoted(copy: Path, command: Command, tmp_path: Path) -> None:
    half_done(copy)
    folder = copy.rename(tmp_path / "it's [b] a $(folder)")
    line = command("status", folder).stdout.splitlines()[-1]
    words = shlex.split(line.removeprefix("stopped: to go on, "))
    assert words == ["minidbp", "table2", "--preset", "tiny", "--out", str(folder)]
    (folder / ".lock").mkdir()  # so that no report can be written
    said = command("report", folder).stderr.splitlines()[-1]
    assert shlex.split(said.split("`")[1]) == ["minidbp", "report", str(folder)]


@pytest.mark.slow
def test_report_of_what_is_there(copy: Path, command: Command, files_in: FilesIn) -> None:
    half_done(copy)
    result = command("report", copy)
    assert result.exit_code == 0
    assert "Table 2, preset tiny" in result.stdout
    assert set(FILES) <= files_in(copy)
    assert "of its 2 runs, 1 are finished" in (copy / "table.md").read_text(encoding="utf-8")
    (row,) = json.loads(command("report", copy, "--json").stdout)
    assert (row["lambda"], row["runs"]) == (0.0, 1)


@pytest.mark.slow
def test_report_is_that_of_the_sweep(copy: Path, finished: tuple[Any, Path], command: Command) -> None:
    for name in FILES:
        (copy / name).unlink()
    assert command("report", copy).exit_code == 0
    for name in FILES:
        assert (copy / name).read_bytes() == (finished[1] / name).read_bytes()


@pytest.mark.slow
def test_report_of_nothing(copy: Path, command: Command, files_in: FilesIn) -> None:
    half_done(copy)
    for path in (copy / "runs").iterdir():
        path.unlink()
    result = command("report", copy)
    assert result.exit_code == 1
    assert result.stderr.endswith(f"minidbp: {copy} has no finished run yet\n")
    assert files_in(copy) == {"sweep.json"}


def test_a_damaged_result_is_told(copy: Path, command: Command, assert_refused: Callable[..., None]) -> None:
    path = copy / "runs" / f"{load(copy).runs[0].name}.json"
    path.write_text("{}")
    assert_refused(command("report", copy), str(path), "move it away")
    result = command("status", copy)
    assert result.exit_code == 1
    assert "1 of 2 runs finished" in " ".join(result.stdout.split())
    assert "to go on" not in result.stdout
    assert "move it away" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["status", "report"])
def test_what_is_no_sweep_is_refused(
    name: str, tmp_path: Path, copy: Path, command: Command, assert_refused: Callable[..., None]
) -> None:
    assert_refused(command(name, tmp_path), str(tmp_path), "holds no sweep", "--out folder")
    assert_refused(command(name, tmp_path / "none"), f"{tmp_path / 'none'} does not exist", "--out folder")
    (copy / "sweep.json").write_text('{"format": 1}')
    assert_refused(command(name, copy), "format 1", "format 4")

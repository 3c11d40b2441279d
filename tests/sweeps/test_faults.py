"""What may happen to a sweep: kills, full disks, damaged files, a NaN.  Nothing is lost, and one sentence says what."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bursts
import pytest
import tiny_sweep
from filelock import FileLock
from killing import torment
from tiny_sweep import PRESETS, assert_same, files_in, finish, passing, table2
from typer.testing import CliRunner

import minidbp
from minidbp.cli import app
from minidbp.data import Dataset
from minidbp.diagnosis.judge import JUDGE
from minidbp.files.digest import write_with_digest
from minidbp.paper.experiments import TABLE2
from minidbp.sweeps.execute import execute
from minidbp.sweeps.monitor import Stopped
from minidbp.sweeps.sweep import load
from minidbp.training import TrainingState, load_checkpoint, workers

pytestmark = pytest.mark.slow
ROOT = Path(minidbp.__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def presets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, preset in PRESETS.items():
            patch.setitem(TABLE2.presets, name, preset)  # type: ignore[arg-type]
        yield


def in_this_process(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sweep(out: Path, preset: str = "tiny") -> Any:
    return in_this_process("table2", "--preset", preset, "--threads", "1", "--out", out)


def assert_failed(result: Any, code: int, *named: str | Path) -> None:
    """This exit code, and one sentence at the end of stderr that has these words."""
    assert result.exit_code == code, result.stderr
    *_, line = result.stderr.splitlines()
    assert line.startswith("minidbp: ")
    for word in named:
        assert str(word) in line


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, presets: None) -> Path:
    """The folder of the preset `tiny`, trained undisturbed."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert sweep(out).exit_code == 0
    return out


@pytest.fixture
def finished(alone: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(alone, tmp_path / "out")


# -- kills ----------------------------------------------------------------------------------------------------------


def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Four here; `python tests/shared/killing.py 50` for more, see docs/faults.md."""
    counts = torment(4, 1, tmp_path)
    assert counts["kills"] == 4
    assert counts["sweeps"] >= 1


def test_bursts_of_ctrl_c_at_random_moments(tmp_path: Path) -> None:
    """Five here; `python tests/shared/bursts.py 50` for more, see docs/faults.md."""
    counts, _ = bursts.torment(5, 1, tmp_path, ("sweep",))
    assert counts["bursts"] == 5


# -- full disks -----------------------------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """In bytes; a write beyond that fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written(mnist: Dataset, alone: Path, tmp_path: Path) -> None:
    """The one before stays and loads, and with room again the same command comes to the same bits."""
    out = shutil.copytree(alone, tmp_path / "out")
    run = load(out).runs[0]
    checkpoint = out / "runs" / f"{run.name}.checkpoint.safetensors"
    for end in ".json", ".safetensors":
        (out / "runs" / (run.name + end)).unlink()

    def stop_in_the_second_epoch(work: float, what: str) -> None:
        if what.startswith("epoch 2"):
            raise Stopped

    with workers(1) as pool, pytest.raises(Stopped):
        execute(run, mnist, pool, JUDGE, stop_in_the_second_epoch, checkpoint)
    before = checkpoint.read_bytes()
    with no_file_larger_than(1 << 20):
        result = sweep(out)
    assert_failed(result, 1, "model C, lambda 0, seed 0", "cannot write the checkpoint", checkpoint, "File too large")
    assert f"to go on: minidbp table2 --preset tiny --threads 1 --out {out}" in result.stderr
    assert checkpoint.read_bytes() == before
    assert passing(files_in(out)) == {f"runs/{checkpoint.name}"}
    state = TrainingState(run.build(), run.lam, run.protocol, run.generator(2))
    load_checkpoint(checkpoint, state, run.identity())
    assert len(state.history) == 1

    assert sweep(out).exit_code == 0
    assert_same(out, alone)


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_whatever_cannot_be_written(size: int, alone: Path, tmp_path: Path) -> None:
    """0: sweep.json; 3,000,000: a checkpoint, though weights could be."""
    out = tmp_path / "out"
    with no_file_larger_than(size):
        result = sweep(out)
    assert_failed(result, 1, out, "File too large")
    assert passing(files_in(out)) == set()
    assert sweep(out).exit_code == 0
    assert_same(out, alone)


def test_a_report_that_cannot_be_written(finished: Path, alone: Path) -> None:
    for name in "table.csv", "table.md", "images.png":
        (finished / name).unlink()
    with no_file_larger_than(10_000):
        assert_failed(in_this_process("report", finished), 1, "File too large", f"minidbp report {finished}")
    assert not (finished / "images.png").exists()
    assert passing(files_in(finished)) == set()
    assert in_this_process("report", finished).exit_code == 0
    assert_same(finished, alone)


# -- a NaN ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_run_that_diverges(tmp_path: Path) -> None:
    """It is marked, the others go on, the report names it, and it is not trained again."""
    out = tmp_path / "out"
    result = sweep(out, "diverging")
    where = "diverged in epoch 1, step 1"
    assert_failed(result, 1, f"model C, lambda 1e+38, seed 0: {where}", f"model C, lambda 1e+38, seed 1: {where}")
    found = {path: json.loads(path.read_text()) for path in (out / "runs").glob("*.json")}
    bad = {path: run for path, run in found.items() if run["lambda"] == 1e38}
    assert len(found) == 4
    assert len(bad) == 2
    for path, run in found.items():
        assert path.with_suffix(".safetensors").exists() == (path not in bad)
        assert run["diverged"] == (None if path not in bad else run["diverged"])
    for run in bad.values():
        assert (run["diverged"]["epoch"], run["diverged"]["step"]) == (1, 1)
        assert f"seed {run['seed']}: training diverged in epoch 1, step 1" in (out / "table.md").read_text()
    assert "2 diverged" in (out / "table.md").read_text()
    assert passing(files_in(out)) == set()

    times = {path: path.stat().st_mtime_ns for path in found}
    again = sweep(out, "diverging")
    assert_failed(again, 1, where)
    assert {path: path.stat().st_mtime_ns for path in found} == times


# -- damaged files --------------------------------------------------------------------------------------------------


def test_a_damaged_result(finished: Path, alone: Path) -> None:
    path = sorted((finished / "runs").glob("*.json"))[0]
    path.write_bytes(path.read_bytes()[:100])
    for code, result in (1, sweep(finished)), (2, in_this_process("report", finished)):
        assert_failed(result, code, path, "is not JSON", "move it away, and the run is trained again")
    path.unlink()
    assert sweep(finished).exit_code == 0
    assert_same(finished, alone)


def test_a_damaged_checkpoint(finished: Path, alone: Path) -> None:
    result = sorted((finished / "runs").glob("*.json"))[0]
    checkpoint = result.with_suffix(".checkpoint.safetensors")
    result.unlink()
    checkpoint.write_bytes(b"PK\x03\x04 and so on")
    assert_failed(sweep(finished), 1, "model C, lambda 0, seed 0", checkpoint, "move it away")
    checkpoint.unlink()
    assert sweep(finished).exit_code == 0
    assert_same(finished, alone)


def test_damaged_weights(finished: Path, alone: Path) -> None:
    path = sorted((finished / "runs").glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:5000])
    for arguments in ("table2", "--preset", "tiny", "--threads", "1", "--out", finished), ("report", finished):
        assert_failed(in_this_process(*arguments), 1, path, f"{path.stem}.json away, and the run is trained again")
    path.with_suffix(".json").unlink()
    assert sweep(finished).exit_code == 0
    assert_same(finished, alone)


def change_format(found: dict[str, Any]) -> None:
    found["format"] = 1


def add_a_field(found: dict[str, Any]) -> None:
    found["runs"][0]["protocol"]["momentum"] = 0.9


def drop_a_field(found: dict[str, Any]) -> None:
    del found["runs"][0]["protocol"]["clip"]


@pytest.mark.parametrize("change", [change_format, add_a_field, drop_a_field])
def test_a_folder_of_another_version(change: Any, finished: Path) -> None:
    path = finished / "sweep.json"
    found = json.loads(path.read_text())
    change(found)
    del found["sha256"]
    write_with_digest(path, found)
    before = files_in(finished)
    for arguments in ("table2", "--preset", "tiny", "--out", finished), ("report", finished), ("status", finished):
        assert_failed(in_this_process(*arguments), 2, path, "another version's", "give another --out")
    assert files_in(finished) == before


def test_runs_without_a_sweep(finished: Path) -> None:
    """What minidbp left before there was a sweep.json."""
    (finished / "sweep.json").unlink()
    assert_failed(sweep(finished), 2, finished, "another version", "give another --out, or move them away")


# -- another user ---------------------------------------------------------------------------------------------------


def test_the_locks_of_another_user(finished: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a run does not stop the others; the system refuses the locks that `foreign` names."""
    lost = sorted((finished / "runs").glob("*.json"))[:2]
    for path in lost:
        path.unlink()
    foreign, honest = [lost[0].with_suffix(".lock")], FileLock.acquire

    def refused(lock: FileLock, *arguments: Any, **options: Any) -> Any:
        if Path(lock.lock_file) in foreign:
            raise PermissionError(13, "Permission denied", lock.lock_file)
        return honest(lock, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", refused)
    assert_failed(sweep(finished), 1, foreign[0], "cannot be locked (Permission denied)", "another user")
    assert [path.exists() for path in lost] == [False, True]
    foreign[:] = [finished / ".lock"]
    assert_failed(sweep(finished), 2, foreign[0], "cannot be locked (Permission denied)", "another user")
    foreign.clear()
    assert sweep(finished).exit_code == 0
    assert_same(finished, alone)


# -- where nothing can be written but --out -------------------------------------------------------------------------


def test_a_read_only_package_and_no_home(alone: Path, tmp_path: Path) -> None:
    """Root may write anywhere, so it first gives up its privileges."""
    package = tmp_path / "package"
    shutil.copytree(ROOT / "minidbp", package / "minidbp", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "data").symlink_to(ROOT / "data")
    shutil.copy(tiny_sweep.__file__, package)
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir() and not path.is_symlink())]:
        folder.chmod(0o555)
    humble = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    probe = f"open({str(package / 'minidbp' / 'probe')!r}, 'w')"
    if "PermissionError" not in finish([*humble, sys.executable, "-c", probe]).stderr:
        pytest.skip("permissions do not bind this user")
    line = [word.replace(str(Path(tiny_sweep.__file__).parent), str(package)) for word in table2(tmp_path / "out")]
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "PYTHONPATH")}
    before = files_in(package)
    done = finish([*humble, *line], env={**environment, "XDG_CACHE_HOME": str(package)}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_in(package) == before
    assert_same(tmp_path / "out", alone)

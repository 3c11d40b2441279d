"""Places to train in: each gives the bits of one run after the other in this process, whatever is killed meanwhile."""

import json
import os
import signal
import subprocess
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import psutil
import pytest
import threadpoolctl
from tiny_sweep import PATIENCE, files_in, finish, passing, started, table2, until

from minidbp.experiments import executors


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the preset `long`, trained in one process, undisturbed."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    assert finish(table2(folder, preset="long")).returncode == 0
    return folder


def results_in(folder: Path) -> dict[str, Any]:
    """All runs' JSON without what is told of the machine and its clock."""
    found = {path.name: json.loads(path.read_text()) for path in (folder / "runs").glob("*.json")}
    for result in found.values():
        for key in "seconds", "environment", "threads":
            del result[key]
        for epoch in result["history"]:
            del epoch["seconds"]
    return found


def assert_same(folder: Path, alone: Path) -> None:
    """Nothing left over, and every number the same to the bit."""
    assert files_in(folder) == files_in(alone)
    assert passing(files_in(folder)) == set()
    assert (folder / "table.csv").read_bytes() == (alone / "table.csv").read_bytes()
    assert results_in(folder) == results_in(alone)
    for weights in (alone / "runs").glob("*.npz"):
        assert (folder / "runs" / weights.name).read_bytes() == weights.read_bytes()


def under_way(folder: Path, count: int = 1) -> list[Path]:
    """The checkpoints that there are, if at least `count` runs are in the middle of their training."""
    found = list((folder / "runs").glob("*.checkpoint.npz"))
    return found if len(found) >= count else []


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The spawned ones that train, not multiprocessing's own helper."""
    return [child for child in descendants(process) if any("spawn_main" in word for word in child.cmdline())]


# -- processes on this machine --------------------------------------------------------------------------------------


def test_each_process_has_its_thread_count_from_the_start() -> None:
    before = dict(os.environ)
    with executors.processes(1, 1) as pool:
        assert isinstance(pool, Executor)
        for name in executors.THREAD_VARIABLES:
            assert pool.submit(os.getenv, name).result() == "1"
        libraries = pool.submit(threadpoolctl.threadpool_info).result()
        assert pool.submit(os.getpid).result() != os.getpid()
    assert libraries
    assert {library["num_threads"] for library in libraries} == {1}  # so NumPy read it when it was loaded
    assert dict(os.environ) == before


def test_processes_give_the_same_bits(alone: Path, tmp_path: Path) -> None:
    assert finish(table2(tmp_path / "out", "--workers", "2", preset="long")).returncode == 0
    assert_same(tmp_path / "out", alone)


def test_a_killed_worker_is_replaced_and_its_run_goes_on(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(table2(out, "--workers", "2", preset="long")) as sweep:
        until(lambda: under_way(out), sweep)
        workers_of(sweep)[0].kill()
        _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert_same(out, alone)


def test_workers_end_with_their_parent(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(table2(out, "--workers", "2", preset="long")) as sweep:
        until(lambda: under_way(out, 2), sweep)
        family = descendants(sweep)
        assert len(family) >= 2
        sweep.kill()
        _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert finish(table2(out, "--workers", "2", preset="long")).returncode == 0
    assert_same(out, alone)


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["in this process", "two processes"])
@pytest.mark.parametrize("when", ["starting", "training"])
def test_ctrl_c(workers: tuple[str, ...], when: str, alone: Path, tmp_path: Path) -> None:
    """As a terminal sends it, to the command and to all that it started."""
    out = tmp_path / "out"
    with started(table2(out, *workers, preset="long"), start_new_session=True) as sweep:
        if when == "training":
            until(lambda: under_way(out), sweep)
        elif workers:
            until(lambda: workers_of(sweep), sweep)
        else:
            until((out / "sweep.json").exists, sweep)
        os.killpg(sweep.pid, signal.SIGINT)
        _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "Traceback" not in errors
    assert "stopped" in errors
    assert {Path(name).suffixes[-1] for name in passing(files_in(out))} <= {".npz", ".lock"}  # checkpoints, at most
    if when == "training":
        assert "the same command goes on" in errors
        assert under_way(out)
        assert finish(table2(out, *workers, preset="long")).returncode == 0
        assert_same(out, alone)

"""Places to train in: each gives the bits of one run after the other in this process, whatever is killed meanwhile."""

import os
import shlex
import signal
from concurrent.futures import Executor
from pathlib import Path

import psutil
import pytest
import threadpoolctl
from tiny_sweep import (
    PATIENCE,
    assert_same,
    command,
    descendants,
    files_in,
    finish,
    passing,
    started,
    table2,
    until,
    workers_of,
)

from minidbp.sweeps import executors

pytestmark = pytest.mark.slow
TWO = ("--workers", "2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the preset `long`, trained in one process, undisturbed."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    assert finish(table2(folder, preset="long")).returncode == 0
    return folder


def under_way(folder: Path, count: int = 1) -> list[Path]:
    """The checkpoints that there are, if at least `count` runs are in the middle of their training."""
    found = list((folder / "runs").glob("*.checkpoint.safetensors"))
    return found if len(found) >= count else []


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


def test_a_killed_worker_is_replaced_and_its_run_goes_on(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(table2(out, "--workers", "2", preset="long")) as sweep:
        until(lambda: under_way(out), sweep)
        workers_of(sweep)[0].kill()
        _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    assert_same(out, alone)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(table2(out, "--workers", "2", preset="long")) as sweep:
        until(lambda: under_way(out, 2), sweep)
        family = descendants(sweep)
        assert len(family) >= 2
        sweep.kill()
        _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_two_sweeps_on_one_folder_share_the_work(alone: Path, tmp_path: Path) -> None:
    """Each run is begun by one of them only: a run begun adds a line to a file."""
    out, log = tmp_path / "out", tmp_path / "trained"
    environment = {**os.environ, "TRAINED": str(log)}
    with (
        started(table2(out, preset="long"), env=environment) as one,
        started(table2(out, "--workers", "1", preset="long"), env=environment) as other,
    ):
        errors = [sweep.communicate(timeout=PATIENCE)[1] for sweep in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), errors
    assert sorted(log.read_text().split()) == sorted(path.stem for path in (alone / "runs").glob("*.json"))
    assert_same(out, alone)


# -- SIGTERM --------------------------------------------------------------------------------------------------------


def test_sigterm_says_how_to_go_on_and_one_process_finishes_what_two_began(alone: Path, tmp_path: Path) -> None:
    """As batch systems send it, to the command and all it started; test_faults.py has bursts of signals."""
    out = tmp_path / "out"
    line = table2(out, *TWO, preset="long")
    with started(line, start_new_session=True) as sweep:
        until(lambda: under_way(out), sweep)
        os.killpg(sweep.pid, signal.SIGTERM)
        _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 143
    assert "Traceback" not in errors
    assert f"to go on: {shlex.join(line[1:])}\n" in errors
    assert {Path(name).suffixes[-2] for name in passing(files_in(out))} == {".checkpoint"}
    status = finish(command("status", out)).stdout
    how = shlex.join(["--threads", "1", *TWO, "--out", str(out)])
    assert f"stopped: to go on, {line[1]} table2 --preset long {how}\n" in status
    assert "stopped after epoch" in status
    assert finish(table2(out, preset="long")).returncode == 0
    assert_same(out, alone)

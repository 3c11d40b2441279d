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


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "when", "number", "code"),
    [
        ((), "starting", signal.SIGINT, 130),
        (TWO, "starting", signal.SIGINT, 130),
        ((), "training", signal.SIGINT, 130),
        (TWO, "training", signal.SIGINT, 130),
        (TWO, "training", signal.SIGTERM, 143),
    ],
)
def test_ctrl_c(
    workers: tuple[str, ...], when: str, number: signal.Signals, code: int, alone: Path, tmp_path: Path
) -> None:
    """As terminals and batch systems send it, to the command and all it started; one can finish what two began."""
    out = tmp_path / "out"
    line = table2(out, *workers, preset="long")
    with started(line, start_new_session=True) as sweep:
        if when == "training":
            until(lambda: under_way(out), sweep)
        elif workers:
            until(lambda: workers_of(sweep), sweep)
        else:
            until((out / "sweep.json").exists, sweep)
        os.killpg(sweep.pid, number)
        _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == code
    assert "Traceback" not in errors
    assert "stopped" in errors
    left = {Path(name).suffixes[-1] for name in passing(files_in(out))}
    killed = {".json"} if workers and number == signal.SIGTERM else set()  # SIGTERM kills the workers
    assert left <= {".safetensors", ".lock"} | killed  # checkpoints, at most
    if when == "training":
        assert f"to go on: {shlex.join(line[1:])}\n" in errors
        assert under_way(out)
        status = finish(command("status", out)).stdout
        how = shlex.join(["--threads", "1", *workers, "--out", str(out)])
        assert f"stopped: to go on, {line[1]} table2 --preset long {how}\n" in status
        assert "stopped after epoch" in status
    if when == "training" and workers:
        assert finish(table2(out, preset="long")).returncode == 0
        assert_same(out, alone)

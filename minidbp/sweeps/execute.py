"""A run from its first step, or from its last checkpoint, to its outcome in a folder."""

import contextlib
import functools
import platform
import threading
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

from filelock import FileLock, Timeout

from minidbp.data import Dataset, load_data
from minidbp.files.atomic import remove_leftovers
from minidbp.nn import Sequential
from minidbp.sweeps.monitor import Cost, Heartbeat, Stop, Stopped
from minidbp.sweeps.runs import DamagedRun, DivergedRun, Divergence, Run, RunError, RunResult, Seconds, find, keep
from minidbp.training import DivergenceError, Epoch, Tracked, Workers, load_checkpoint, save_checkpoint, train, workers
from minidbp.training.checkpoint import CheckpointError
from minidbp.training.environment import environment
from minidbp.training.judgement import Judge, Report

# A process trains one run at a time: the number of BLAS threads, which `workers` sets to 1, belongs to the process.
_one_run = threading.Lock()

TEST_OF_A_LOCK = 0.1  # seconds: `minidbp status` holds a lock for an instant to test it


def data_in(path: Path | None) -> Dataset:
    """`load_data`, which keeps the data of the last path: a worker trains many runs on the same images."""
    return _loaded(path, Path.cwd())


@functools.lru_cache(maxsize=1)
def _loaded(path: Path | None, here: Path) -> Dataset:
    """`here`: what a relative path begins with."""
    return load_data(path)


def perform(run: Run, run_dir: Path, judge: Judge, data: Path | None, threads: int | None, stop: Stop) -> str:
    """Train and judge `run` and keep the outcome in `run_dir`, unless that is done or another process does it.

    The run resumes from its checkpoint, and saves one after every epoch.  It stops once the file `stop` exists.

    Returns:
        "finished", "diverged", "stopped", or "busy" if another process trains the run.

    Raises:
        DamagedRun: The run's result or checkpoint is damaged, or its lock is another user's.
        RunError: `run_dir` does not exist here, or this process trains another run.
        CheckpointError, OSError: A file cannot be written.
    """
    if stop.exists():
        return "stopped"
    if not run_dir.is_dir():
        raise RunError(f"{platform.node()} does not see the folder {run_dir}: all workers need it under the same path")
    lock_file = run.file(run_dir, "lock")
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=TEST_OF_A_LOCK)
    except Timeout:
        return "busy"
    except PermissionError as error:
        raise DamagedRun(
            f"{lock_file} cannot be locked ({error.strerror}), because another user trains this run or did; remove it "
            "if nobody does"
        ) from None
    with contextlib.ExitStack() as at_end:  # each is done, even if another fails
        at_end.callback(lock.release)
        at_end.callback(lock_file.unlink, missing_ok=True)  # whoever waits for it then notices that, and makes another
        heartbeat = Heartbeat(run, run_dir, stop, judge)
        at_end.callback(heartbeat.remove)
        try:
            _remove_leftovers(run, run_dir)
            outcome = find(run, run_dir) or _train_and_keep(run, run_dir, judge, data, threads, heartbeat)
            clear(run, run_dir)
            return "diverged" if outcome.diverged else "finished"
        except Stopped:
            return "stopped"


def _train_and_keep(
    run: Run, run_dir: Path, judge: Judge, data: Path | None, threads: int | None, report: Report
) -> RunResult | DivergedRun:
    if not _one_run.acquire(blocking=False):
        advice = "start Dask workers with --nthreads 1, and several of them (--nworkers)"
        raise RunError(f"a process on {platform.node()} trains another run already: {advice}")
    try:
        with workers(threads) as pool:
            checkpoint = run.file(run_dir, "checkpoint.safetensors")
            result, model = execute(run, data_in(data), pool, judge, report, checkpoint)
        keep(result, run_dir, model)
        return result
    except DivergenceError as error:
        where = Divergence(error.epoch or 0, error.step or 0, str(error))
        diverged = DivergedRun(run=run, diverged=where, environment=environment())
        keep(diverged, run_dir)
        return diverged
    finally:
        _one_run.release()


def clear(run: Run, run_dir: Path) -> None:
    """Remove the files that only an unfinished run needs.

    A process that was killed just before leaves them behind.
    """
    for ending in "checkpoint.safetensors", "progress.json", "lock":  # the lock last: others then find the run finished
        run.file(run_dir, ending).unlink(missing_ok=True)


def tidy(runs: Iterable[Run], run_dir: Path) -> None:
    """Remove what killed processes left of unfinished runs, besides checkpoints, unless another process trains them."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # the folder is gone, as the sweep's own error says
        names = [path.name for path in run_dir.iterdir() if path.name.endswith((".lock", ".part", ".progress.json"))]
    for run in runs:
        if any(name.startswith(f"{run.name}.") for name in names):
            lock = FileLock(run.file(run_dir, "lock"), blocking=False)
            with contextlib.suppress(Timeout, OSError), lock:
                run.file(run_dir, "progress.json").unlink(missing_ok=True)
                _remove_leftovers(run, run_dir)
                run.file(run_dir, "lock").unlink(missing_ok=True)


def _remove_leftovers(run: Run, run_dir: Path) -> None:
    """Remove what killed processes left half-written; to be called with the run's lock held."""
    for ending in "json", "safetensors", "checkpoint.safetensors", "progress.json":
        remove_leftovers(run.file(run_dir, ending))


def execute(
    run: Run, dataset: Dataset, pool: Workers, judge: Judge, report: Report, checkpoint: Path | None = None
) -> tuple[RunResult, Sequential]:
    """Train and judge a run: its result and its model.

    Args:
        report: Called with the GFLOP done since the last call and the current phase.
        checkpoint: A file to resume from, if it exists, and to write after every epoch.

    Raises:
        DivergenceError: A loss or a gradient is not finite.
        RunError: The data are not the run's own; DamagedRun if its checkpoint cannot be read.
    """
    run.check(dataset)
    cost, state = Cost(run, judge), run.start()
    if checkpoint and checkpoint.exists():
        try:
            load_checkpoint(checkpoint, state, run.identity())
        except CheckpointError as error:
            raise DamagedRun(str(error)) from None
    history = state.history
    report(len(history) * cost.epoch, "beginning")

    def on_step(epoch: int, step: int, steps: int) -> None:
        last = f", validation {history[-1].validation_accuracy:.2f}%" if history else ""
        report(run.protocol.n_train * cost.train_image / steps, f"epoch {epoch}, step {step}/{steps}{last}")

    def on_epoch(epoch: Epoch) -> None:
        if checkpoint:
            save_checkpoint(checkpoint, state, run.identity())

    def on_passes(passes: float, what: str) -> None:
        report(cost.forward * passes, what)

    def track(model: Sequential) -> Tracked:
        return judge.track(model, dataset, run.protocol, run.seed, pool, on_passes)

    train(state, run.split(dataset), pool, on_step, on_epoch, track)
    started = perf_counter()
    try:
        judgement = judge.judge(state.model, dataset, run.protocol, run.seed, pool, on_passes)
    except DivergenceError as error:  # caused by the last step, which no later step could notice
        epochs = len(history)
        raise error.at(f"at its end, after epoch {epochs}", run.lam, epochs, state.adam.t // epochs) from None
    result = RunResult(
        **vars(judgement),
        run=run,
        epochs=len(history),
        history=history,
        seconds=Seconds(sum(epoch.seconds for epoch in history), perf_counter() - started),
        threads=pool.threads,
        environment=environment(),
    )
    return result, state.model

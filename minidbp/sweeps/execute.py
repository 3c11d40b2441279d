"""A run from its first step, or from its last checkpoint, to its result in a folder."""

import dataclasses
import functools
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from filelock import FileLock, Timeout

from minidbp.data import Mnist, load_mnist
from minidbp.files.atomic import remove_leftovers
from minidbp.nn import Sequential
from minidbp.sweeps.cost import Cost
from minidbp.sweeps.monitor import Beacon, Stopped
from minidbp.sweeps.runs import Run, RunError, find, keep, keep_result
from minidbp.training import (
    DivergenceError,
    Epoch,
    Workers,
    load_checkpoint,
    save_checkpoint,
    train,
    workers,
)
from minidbp.training.environment import environment
from minidbp.training.judgement import Judge, Report

# A process trains one run at a time: BLAS's number of threads, which `workers` holds at 1, is the process's own.
_one_run = threading.Lock()

mnist_in = functools.lru_cache(maxsize=1)(load_mnist)  # a worker trains many runs on the same images


def perform(run: Run, home: Path, judge: Judge, data: Path | None, threads: int | None, stop: Path) -> str:
    """Train and judge `run`, unless that was done or is being done, and keep what comes out in the folder `home`.

    data: MNIST's folder, or None.  It goes on from a checkpoint, and saves one after every epoch.  Once the file
    `stop` exists it ends.  Returns "finished", "diverged", "stopped", or "busy" where another process is at it.

    Raises RunError if `home` is not there or this process trains another run, CheckpointError for a damaged checkpoint,
    OSError if nothing can be written.
    """
    if stop.exists():
        return "stopped"
    if not home.is_dir():
        raise RunError(f"{platform.node()} does not see the folder {home}: all workers need it under the same path")
    lock = FileLock(home / f"{run.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return "busy"
    checkpoint, beacon = home / f"{run.name}.checkpoint.npz", Beacon(run, home, stop, judge)
    try:
        found = find(run, home)
        if found is None:
            for end in "json", "npz", "checkpoint.npz", "progress.json":
                remove_leftovers(home / f"{run.name}.{end}")
            with _alone_in_this_process(), workers(threads) as team:
                try:
                    result, model = execute(run, mnist_in(data), team, judge, beacon, checkpoint)
                    keep(result, model, run, home)
                except DivergenceError as error:
                    result = diverged(run, error)
                    keep_result(result, run, home)
            found = result
        clear(run, home)
        return "diverged" if found["diverged"] else "finished"
    except Stopped:
        return "stopped"
    finally:
        beacon.remove()
        lock.release()


@contextmanager
def _alone_in_this_process() -> Iterator[None]:
    if not _one_run.acquire(blocking=False):
        raise RunError(
            f"a process on {platform.node()} trains another run already: start Dask workers with --nthreads 1, and "
            "several of them (--nworkers)"
        )
    try:
        yield
    finally:
        _one_run.release()


def clear(run: Run, home: Path) -> None:
    """Remove what a finished run needed on its way.  Nobody else does if its process was killed just before."""
    for end in "checkpoint.npz", "progress.json", "lock":  # the lock last: others then find the run finished
        (home / f"{run.name}.{end}").unlink(missing_ok=True)


def execute(
    run: Run,
    mnist: Mnist,
    workers: Workers,
    judge: Judge,
    report: Report = lambda work, what: None,
    checkpoint: Path | None = None,
) -> tuple[dict[str, Any], Sequential]:
    """Train and judge: the result as it goes to JSON, and the model.

    The result has the run's identity, `epochs` (how many), `clean`, `fgsm` and `pgd` (test accuracy in percent),
    `per_class` (the same for each of the ten classes), `diagnosis` (see `diagnose_columns`), `history` (what each epoch
    did), `seconds`, `environment`, and `diverged`, which is None.

    checkpoint: gone on from if it is there, and written after every epoch.
    Raises DivergenceError.
    """
    cost = Cost(run, judge)
    state = run.start()
    if checkpoint and checkpoint.exists():
        load_checkpoint(checkpoint, state, run.identity())
    report(len(state.history) * cost.epoch, "beginning")

    def on_step(epoch: int, step: int, steps: int) -> None:
        last = f", validation {state.history[-1].validation_accuracy:.2f}%" if state.history else ""
        report(cost.epoch / steps, f"epoch {epoch}, step {step}/{steps}{last}")

    def on_epoch(epoch: Epoch) -> None:
        if checkpoint:
            save_checkpoint(checkpoint, state, run.identity())

    train(state, run.split(mnist), workers, on_step, on_epoch)
    started, model = perf_counter(), state.model
    try:
        judgement = judge.judge(
            model, mnist, run.protocol, run.seed, workers, lambda passes, what: report(cost.forward * passes, what)
        )
    except DivergenceError as error:  # the last step led there, and no further one saw it
        epochs = len(state.history)
        raise DivergenceError(
            f"training diverged at its end, after epoch {epochs}, at lambda {run.lam:g}: {error}; a smaller learning "
            "rate or lambda may help",
            epochs,
            state.adam.t // epochs,
        ) from None
    return {
        **run.identity(),
        "diverged": None,
        "epochs": len(state.history),
        **dataclasses.asdict(judgement),
        "history": [dataclasses.asdict(epoch) for epoch in state.history],
        "seconds": {"training": sum(e.seconds for e in state.history), "judging": perf_counter() - started},
        "threads": workers.threads,
        "environment": environment(),
    }, model


def diverged(run: Run, error: DivergenceError) -> dict[str, Any]:
    """The result of a run that became NaN or infinite: it would again, so it is done."""
    where = {"epoch": error.epoch, "step": error.step, "message": str(error)}
    return {**run.identity(), "diverged": where, "environment": environment()}

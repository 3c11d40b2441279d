"""Trains the runs of a sweep: offers them to an executor, shows the progress, and stops them when it is asked to."""

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from rich.live import Live

from minidbp.files.console import Console
from minidbp.sweeps.dask import DaskExecutor
from minidbp.sweeps.execute import clear, perform, tidy
from minidbp.sweeps.monitor import SweepMonitor, as_line, is_live, plain_lines, view
from minidbp.sweeps.runs import DamagedRun, Run, RunFailed, labels, reason
from minidbp.training.judgement import Judge

REFRESH = 0.5  # seconds between two looks at the folder
TOLD_AFTER = 3.0  # seconds that a sweep waits before a line says for what
PATIENCE = 3.0  # seconds in which a stopped sweep waits for its runs; worker processes that still run are then killed
BROKEN_AT_MOST = 3  # times in a row that worker processes may die without any progress


@dataclass(frozen=True)
class Ending:
    """How a sweep ended: how many runs are finished, messages of diverged and of failed ones, whether it was stopped.

    unreadable: whether the result of some run is damaged.
    """

    finished: int
    diverged: list[str]
    stopped: bool
    failed: list[str] = field(default_factory=list)
    unreadable: bool = False


class Display:
    """Shows how far a sweep is: a live view on a terminal, plain lines elsewhere, and a line for each run that ends.

    Attributes:
        waits_for: What the sweep waits for, empty if for nothing.
    """

    def __init__(self, console: Console, monitor: SweepMonitor, title: str, announce: bool) -> None:
        self.console, self.monitor, self.title, self.announce = console, monitor, title, announce
        self.waits_for = ""
        self._due = math.inf  # when a line must say it
        self._announced = set(monitor.outcomes)
        self._state = monitor.state()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the state as `renew` last found it, on a file or a pipe from time to time."""
        with plain_lines(self.console, lambda _: as_line(self._state, self.title, self.waits_for)), self._live:
            yield

    def renew(self, executor: Executor | None = None) -> None:
        """Look at the folder, and at what `executor` waits for.  Announce the runs that have ended meanwhile."""
        self._state = self.monitor.state()
        for run, outcome in self.monitor.outcomes.items() if self.announce else ():
            if run not in self._announced:
                self._announced.add(run)
                line, style = outcome.in_words(self.monitor.labels[run]), "red" if outcome.diverged else ""
                self.console.say(line, style)
        training = bool(self._state.running)
        self._waiting(executor.waits_for(training) if isinstance(executor, DaskExecutor) else "")
        if is_live(self.console):
            self._live.update(view(self._state, self.title, self.waits_for), refresh=True)

    def _waiting(self, waits_for: str) -> None:
        """Note what the sweep waits for.  Where no live view shows it, a line says it once, if it lasts."""
        now = time.monotonic()
        if waits_for != self.waits_for:
            self.waits_for, self._due = waits_for, now + TOLD_AFTER
        if waits_for and now >= self._due and not is_live(self.console):
            self._due = math.inf
            self.console.say(f"waiting for {waits_for}")


def train_all(
    runs: Sequence[Run],
    run_dir: Path,
    make_executor: Callable[[], AbstractContextManager[Executor]],
    judge: Judge,
    *,
    title: str,
    data: Path | None,
    threads: int | None,
    console: Console,
    announce: bool = True,
    stopped: Callable[[], bool] = lambda: False,
) -> Ending:
    """Train the runs that `run_dir` does not have yet, each with these threads, and show the progress.

    The others go on when a run diverges, or when its result or checkpoint is damaged.  Any other error of a run stops
    all of them, with RunFailed; so do worker processes that die again and again.

    Args:
        announce: Print the result of each run when it has ended.
        stopped: Asked again and again; once it is true, all runs stop, and unfinished ones keep their last checkpoint.
    """
    monitor = SweepMonitor(runs, run_dir, judge)
    monitor.read_outcomes()  # runs that ended earlier are not announced
    if there := len(monitor.outcomes):
        console.say(f"{there} of {len(runs)} runs are in {run_dir} already")
    failed, display = dict(monitor.damaged), Display(console, monitor, title, announce)
    deaths = Deaths(display)

    def to_do() -> list[Run]:
        return [] if stopped() else [run for run in monitor.missing() if run not in failed]

    with _stop_file(monitor) as stop, display.shown():
        arguments = run_dir, judge, data, threads, stop
        try:
            while to_do():
                with deaths.survived(), make_executor() as executor:
                    while offered := to_do():
                        failed |= _train_each(offered, executor, arguments, display, stopped)
                        if to_do() == offered:
                            time.sleep(REFRESH)  # another sweep trains all of them
                display.renew()
            if stopped() and (others := sum(map(monitor.is_locked, monitor.missing()))):
                console.say(f"runs still in training, by another sweep or a worker that stops later: {others}")
        finally:
            tidy(monitor.missing(), run_dir)
    return _ending(monitor, failed, stopped())


class Deaths:
    """Counts the deaths of worker processes between which no run and no epoch was finished."""

    def __init__(self, display: Display) -> None:
        self.display, self.count = display, 0

    @contextmanager
    def survived(self) -> Iterator[None]:
        """End the block if a worker dies; its run resumes from its checkpoint.  Raises RunFailed at too many deaths."""
        before = self._progress()
        try:
            yield
        except BrokenProcessPool:
            self.display.renew()
            self.count = self.count + 1 if self._progress() == before else 0
            if self.count == BROKEN_AT_MOST:
                raise RunFailed(
                    f"worker processes died {self.count} times without finishing a run or an epoch, perhaps for "
                    f"lack of memory; {len(self.display.monitor.missing())} runs are not finished"
                ) from None

    def _progress(self) -> list[tuple[str, int]]:
        """The unfinished runs and how many whole epochs of each are kept."""
        monitor = self.display.monitor
        return [(run.name, run.kept_epochs(monitor.run_dir)) for run in monitor.missing()]


@contextmanager
def _stop_file(monitor: SweepMonitor) -> Iterator[Path]:
    """The file that stops the runs of this sweep once it exists.

    It stays if a run is still in training: a Dask worker on a slow network sees it some seconds later.  The sweep holds
    a lock beside it.  So another sweep knows that this one has ended, and removes what it left.
    """
    _remove_stop_files(monitor)
    stop = monitor.run_dir / f".stop-{uuid.uuid4().hex}"
    try:
        with FileLock(stop.with_suffix(".lock")):
            yield stop
    finally:
        in_training = any(map(monitor.is_locked, monitor.missing()))
        if not (stop.exists() and in_training):
            _remove_stop_file(stop)
        if not in_training:
            _remove_stop_files(monitor)  # of a sweep that was stopped while this one trained a run


def _remove_stop_files(monitor: SweepMonitor) -> None:
    for other in list(monitor.run_dir.glob(".stop-*")):
        _remove_stop_file(other.with_suffix(""))


def _remove_stop_file(stop: Path) -> None:
    """Remove a stop file and its lock, unless a sweep holds it."""
    lock = stop.with_suffix(".lock")
    with contextlib.suppress(Timeout, OSError), FileLock(lock, blocking=False):
        stop.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _train_each(
    runs: Sequence[Run],
    executor: Executor,
    arguments: tuple[Path, Judge, Path | None, int | None, Path],
    display: Display,
    stopped: Callable[[], bool],
) -> dict[Run, str]:
    """Offer every run once, and wait for all, or until the sweep is stopped; the messages of runs that are damaged."""
    offered: dict[Future[str], Run] = {}
    failed = {}
    with _stopping(offered, arguments[-1], stopped, display.console):
        for run in runs:
            offered[executor.submit(perform, run, *arguments)] = run
        waiting = set(offered)
        while waiting and not stopped():
            done, waiting = wait(waiting, timeout=REFRESH, return_when=FIRST_COMPLETED)
            for future in done:
                run = offered[future]
                try:
                    future.result()
                except DamagedRun as error:
                    failed[run] = f"{labels(runs)[run]}: {error}"
                except (OSError, ValueError, MemoryError) as error:
                    raise RunFailed(f"{labels(runs)[run]}: {reason(error)}") from error
            display.renew(executor)
    return failed


@contextmanager
def _stopping(
    offered: Collection[Future[str]], stop: Path, stopped: Callable[[], bool], console: Console
) -> Iterator[None]:
    """After an error in the block, or if the sweep was stopped, let the stop file end the runs, and wait for them."""
    try:
        yield
    except BrokenProcessPool:
        raise  # all its processes have ended
    except BaseException:
        _end_runs(offered, stop)
        raise
    if stopped():
        with contextlib.suppress(OSError):  # nobody reads the pipe any more
            console.say("stopping: each run in progress keeps its last whole epoch")
        _end_runs(offered, stop)


def _end_runs(offered: Collection[Future[str]], stop: Path) -> None:
    with contextlib.suppress(OSError):  # a full disk
        stop.touch()
    wait(offered, timeout=PATIENCE)


def _ending(monitor: SweepMonitor, failed: dict[Run, str], stopped: bool) -> Ending:
    monitor.read_outcomes()
    for run in monitor.outcomes:
        clear(run, monitor.run_dir)
    ended = [(label, outcome) for run, label in monitor.labels.items() if (outcome := monitor.outcomes.get(run))]
    diverged = [outcome.in_words(label) for label, outcome in ended if outcome.diverged]
    bad = {**failed, **monitor.damaged}
    return Ending(len(ended) - len(diverged), diverged, stopped, list(bad.values()), bool(monitor.damaged))

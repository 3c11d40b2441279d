"""A sweep: many runs in one folder, trained wherever there are workers, each once.

DIR/sweep.json lists the runs; DIR/runs/ has their files (see `runs.py`).  Sweeps, workers and watchers share nothing
but that folder: each of them trains the next run that is neither finished nor locked.
"""

import contextlib
import math
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from filelock import FileLock, Timeout
from rich.live import Live

from minidbp.files.atomic import remove_leftovers
from minidbp.files.console import Console
from minidbp.files.digest import without_digest, write_with_digest
from minidbp.files.reading import from_json, read_json
from minidbp.sweeps.dask import DaskExecutor
from minidbp.sweeps.execute import clear, perform, tidy
from minidbp.sweeps.monitor import State, SweepMonitor, as_line, is_live, plain_lines, view
from minidbp.sweeps.runs import FORMAT, DamagedRun, Outcome, Run, RunError, RunFailed, find, labels
from minidbp.training import Protocol
from minidbp.training.checkpoint import checkpoint_epochs
from minidbp.training.judgement import Judge

MOST_RUNS = 2000  # of a sweep
MOST_SWEEP = 2048 * MOST_RUNS + (1 << 16)  # bytes of sweep.json; a run has 1,300
REFRESH = 0.5  # seconds between two looks at the folder
TOLD_AFTER = 3.0  # seconds that a sweep waits before a line says for what
PATIENCE = 3.0  # seconds in which a stopped sweep waits for its runs; worker processes that still run are then killed
BROKEN_AT_MOST = 3  # times in a row that worker processes may die without any progress


@dataclass(frozen=True)
class Sweep:
    """The experiment's name, the title and commands for its report, and its runs in order.

    commands: one that repeats the whole sweep, or several that together do: sweeps can be extended (see `begin`).
    how: further options of the last command, which change no result, such as "--workers 2".
    vary: the fields of the protocol that the user asked to vary, besides those that differ within the experiment.
    """

    experiment: str
    title: str
    commands: list[str]
    runs: list[Run] = field(default_factory=list)
    vary: list[str] = field(default_factory=list)
    how: str = ""

    def __post_init__(self) -> None:
        if unknown := set(self.vary) - {field.name for field in fields(Protocol)}:
            raise ValueError(f"the protocol has no field {min(unknown)!r} to vary")
        if not self.title.isprintable():
            raise ValueError(f"`title` should be one line of printable characters, got {self.title!r:.40}")
        for command in self.commands:  # which a user may copy into a shell
            if not (command.startswith("minidbp ") and _is_quoted(command)):
                raise ValueError(f"`commands` should be commands of minidbp, quoted for a shell, got {command!r:.40}")
        if not _is_quoted(self.how):
            raise ValueError(f"`how` should be options quoted for a shell, got {self.how!r:.40}")

    @property
    def quoted_commands(self) -> str:
        """The commands for a sentence."""
        return " and ".join(f"`{command}`" for command in self.commands)

    def to_go_on(self, folder: Path) -> list[str]:
        """The commands that train what is left of the sweep in `folder`."""
        rest = " ".join(filter(None, [self.how, shlex.join(["--out", str(folder)])]))
        return [f"{command} {rest}" for command in self.commands]


def _is_quoted(words: str) -> bool:
    """Whether a shell takes every word as it stands."""
    try:
        return shlex.join(shlex.split(words)) == words
    except ValueError:  # a quotation mark is missing
        return False


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


def prepare(folder: Path) -> Path:
    """Make the output folder.  Raises RunError if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"--out {folder} cannot be written to: {error.strerror or error}") from None
    return folder


@contextmanager
def folder_lock(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Let one process at a time write the folder's files of these names, without what killed processes left of them.

    Raises RunError if the lock is another user's.
    """
    path = folder / ".lock"
    lock = FileLock(path)
    try:
        lock.acquire()
    except PermissionError as error:
        raise RunError(
            f"{path} cannot be locked ({error.strerror}), because another user writes there or did; remove it if "
            "nobody does"
        ) from None
    try:
        for name in names:
            remove_leftovers(folder / name)
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def begin(sweep: Sweep, folder: Path, preset: Sequence[Run] = ()) -> Sweep:
    """Give the folder to this sweep; if it holds a part of the same sweep, extend that part.

    Finished runs are kept, and runs that only the folder lists stay listed.

    Args:
        preset: Runs of every model and protocol that the folder may list besides those of `sweep`.

    Returns:
        The sweep that the folder now lists.

    Raises:
        RunError: The folder holds another experiment, preset or protocol, or files of another version.
    """
    run_dir = prepare(folder) / "runs"
    with folder_lock(folder, ["sweep.json"]):
        if (folder / "sweep.json").exists():
            present = load(folder)
            _check_extensible(present, sweep, preset, folder)
            sweep = _united(present, sweep)
        elif run_dir.exists() and any(run_dir.glob("*.json")):
            raise RunError(f"{folder} holds runs of another version of minidbp: give another --out, or move them away")
        if len(sweep.runs) > MOST_RUNS:
            raise RunError(
                f"a sweep has at most {MOST_RUNS} runs, and {folder} would list {len(sweep.runs)}: choose fewer with "
                "--models, --lambdas, --seeds or --vary, or give another --out"
            )
        values = {"format": FORMAT, **asdict(sweep), "runs": [run.identity() for run in sweep.runs]}
        try:
            run_dir.mkdir(exist_ok=True)
            write_with_digest(folder / "sweep.json", values)
        except OSError as error:
            raise RunFailed(_message(error)) from None
    return sweep


def _check_extensible(present: Sweep, sweep: Sweep, preset: Sequence[Run], folder: Path) -> None:
    """Raise RunError unless both sweeps train every model of `present` under the same protocols."""
    there, wanted = _protocols(present.runs), _protocols([*sweep.runs, *preset])
    same = (present.experiment, present.title) == (sweep.experiment, sweep.title)
    if not same or any(wanted.get(model) != protocols for model, protocols in there.items()):
        raise RunError(
            f"{folder} holds the runs of another sweep, {present.quoted_commands}: give another --out, because one "
            "table never mixes experiments, presets or protocols"
        )


def _protocols(runs: Sequence[Run]) -> dict[str, set[Protocol]]:
    """The protocols of each model."""
    found: dict[str, set[Protocol]] = {}
    for run in runs:
        found.setdefault(run.model, set()).add(run.protocol)
    return found


def _united(present: Sweep, sweep: Sweep) -> Sweep:
    """The runs of both, seed by seed, and commands that repeat them all."""
    new = set(sweep.runs)
    if new <= set(present.runs):
        return replace(present, how=sweep.how)
    kept = [] if new >= set(present.runs) else present.commands
    runs = sorted(dict.fromkeys([*present.runs, *sweep.runs]), key=lambda run: run.seed)
    return replace(present, commands=[*kept, *sweep.commands], runs=runs, how=sweep.how)


def load(folder: Path) -> Sweep:
    """The sweep of a folder.  Raises RunError if the folder holds none, or one of another version."""
    path, other_version = folder / "sweep.json", "give another --out, or use that version"
    if not path.exists():
        what = "holds no sweep" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
        raise RunError(f"{folder} {what}: give the --out folder of minidbp table2, table3, table4 or credit")
    values = read_json(path, RunError, MOST_SWEEP)
    if (version := values.get("format")) != FORMAT:
        raise RunError(
            f"{path} is of format {version!r:.40}, another version's; this is format {FORMAT}: {other_version}"
        )
    try:
        values = without_digest(values, str(path), RunError)
    except RunError as error:
        raise RunError(f"{error}: {other_version}") from None
    identities = values.get("runs")
    if not isinstance(identities, list):
        raise RunError(f"{path}: `runs` should be a list")
    rest = {name: value for name, value in values.items() if name != "format"}
    sweep = from_json(Sweep, {**rest, "runs": []}, str(path), RunError)
    try:
        return replace(sweep, runs=[Run.of(identity) for identity in identities])
    except RunError as error:
        raise RunError(f"{path} is another version's ({error}): {other_version}") from None


def results_in(sweep: Sweep, folder: Path) -> list[Outcome]:
    """The outcomes of all runs that have ended, diverged ones too, in the order of the runs."""
    return [outcome for run in sweep.runs if (outcome := find(run, folder / "runs"))]


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
    monitor, deaths = SweepMonitor(runs, run_dir, judge), 0
    monitor.read_outcomes()  # runs that ended earlier are not announced
    if there := len(monitor.outcomes):
        console.say(f"{there} of {len(runs)} runs are in {run_dir} already")
    failed = dict(monitor.damaged)
    state, news = monitor.state(), Waiting(console)

    def show(executor: Executor | None = None) -> None:
        nonlocal state
        state = _show(live, console, monitor, title, announce, news.of(executor, state))

    def to_do() -> list[Run]:
        return [] if stopped() else [run for run in monitor.missing() if run not in failed]

    with (
        _stop_file(monitor) as stop,
        plain_lines(console, lambda _: as_line(state, title, news.waits_for)),
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        arguments = run_dir, judge, data, threads, stop
        try:
            while to_do():
                before = _progress(monitor)
                try:
                    with make_executor() as executor:
                        while offered := to_do():
                            failed |= _train_each(offered, executor, arguments, show, stopped, console)
                            if to_do() == offered:
                                time.sleep(REFRESH)  # another sweep trains all of them
                except BrokenProcessPool:  # a worker was killed; its run resumes from its checkpoint
                    show()
                    deaths = deaths + 1 if _progress(monitor) == before else 0
                    if deaths == BROKEN_AT_MOST:
                        raise RunFailed(
                            f"worker processes died {deaths} times without finishing a run or an epoch, perhaps for "
                            f"lack of memory; {len(monitor.missing())} runs are not finished"
                        ) from None
            show()
            if stopped() and (others := sum(map(monitor.is_locked, monitor.missing()))):
                console.say(f"runs still in training, by another sweep or a worker that stops later: {others}")
        finally:
            tidy(monitor.missing(), run_dir)
    return _ending(monitor, failed, stopped())


def _progress(monitor: SweepMonitor) -> list[tuple[str, int]]:
    """The unfinished runs and how many whole epochs of each are kept."""
    return [
        (run.name, checkpoint_epochs(run.file(monitor.run_dir, "checkpoint.safetensors"))) for run in monitor.missing()
    ]


@contextmanager
def _stop_file(monitor: SweepMonitor) -> Iterator[Path]:
    """The file that stops the runs of this sweep once it exists.

    It stays if a run is still in training: a Dask worker on a slow network sees it some seconds later.  The sweep holds
    a lock beside it.  So a later sweep knows that this one has ended, and removes what it left.
    """
    for other in list(monitor.run_dir.glob(".stop-*")):
        _remove_stop_file(other.with_suffix(""))
    stop = monitor.run_dir / f".stop-{uuid.uuid4().hex}"
    try:
        with FileLock(stop.with_suffix(".lock")):
            yield stop
    finally:
        if not (stop.exists() and any(map(monitor.is_locked, monitor.missing()))):
            _remove_stop_file(stop)


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
    show: Callable[[Executor], None],
    stopped: Callable[[], bool],
    console: Console,
) -> dict[Run, str]:
    """Offer every run once, and wait for all, or until the sweep is stopped; the messages of runs that are damaged."""
    offered: dict[Future[str], Run] = {}
    failed = {}
    with _stopping(offered, arguments[-1], stopped, console):
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
                    raise RunFailed(f"{labels(runs)[run]}: {_message(error)}") from error
            show(executor)
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


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used: {error.strerror}"
    return str(error)


class Waiting:
    """What a sweep waits for.  Where no live view shows that, a line says it once, if it lasts."""

    def __init__(self, console: Console) -> None:
        self.console, self.waits_for = console, ""
        self._due = math.inf  # when the line must come

    def of(self, executor: Executor | None, state: State) -> str:
        """What the sweep waits for now, empty if for nothing."""
        waits_for = executor.waits_for(training=bool(state.running)) if isinstance(executor, DaskExecutor) else ""
        now = time.monotonic()
        if waits_for != self.waits_for:
            self.waits_for, self._due = waits_for, now + TOLD_AFTER
        if waits_for and now >= self._due and not is_live(self.console):
            self._due = math.inf
            self.console.say(f"waiting for {waits_for}")
        return waits_for


def _show(
    live: Live, console: Console, monitor: SweepMonitor, title: str, announce: bool, waits_for: str = ""
) -> State:
    """Print a line for each run that has ended since the last call, and renew the live view."""
    known = set(monitor.outcomes)
    state = monitor.state()  # the one look at the folder: no run can end unannounced between two
    for run, outcome in monitor.outcomes.items() if announce else ():
        if run not in known:
            line, style = outcome.in_words(monitor.labels[run]), "red" if outcome.diverged else ""
            console.say(line, style)
    if is_live(console):
        live.update(view(state, title, waits_for), refresh=True)
    return state


def _ending(monitor: SweepMonitor, failed: dict[Run, str], stopped: bool) -> Ending:
    monitor.read_outcomes()
    for run in monitor.outcomes:
        clear(run, monitor.run_dir)
    ended = [(label, outcome) for run, label in monitor.labels.items() if (outcome := monitor.outcomes.get(run))]
    diverged = [outcome.in_words(label) for label, outcome in ended if outcome.diverged]
    bad = {**failed, **monitor.damaged}
    return Ending(len(ended) - len(diverged), diverged, stopped, list(bad.values()), bool(monitor.damaged))

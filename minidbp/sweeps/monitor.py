"""How far a sweep is: what its folder says of each run, for the live view and `minidbp status`, on any machine."""

import contextlib
import functools
import json
import math
import threading
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minidbp.autodiff import Tensor, no_grad
from minidbp.files.atomic import write_text
from minidbp.files.console import Console
from minidbp.files.reading import Amount, Duration, from_json, printable, read_json
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, build_model
from minidbp.sweeps.runs import DamagedRun, Outcome, Run, RunError, find, labels
from minidbp.training import track_passes
from minidbp.training.judgement import Judge

INTERVAL = 1.0  # seconds between two heartbeats
QUIET = 120.0  # seconds without a heartbeat: its machine may be gone
MOST_PROGRESS = 4096  # bytes of NAME.progress.json; ours have 200
LONGEST = 1e9  # seconds, 30 years: a sweep that would take longer says no time
FIRST_LINE, LINE_EVERY = 2.0, 60.0  # seconds until the first plain line of progress, and between two later ones
MOST_NAMED = 4  # running runs in a plain line


class Cost:
    """The work of a run in GFLOP: passes through the model times its multiply-adds."""

    def __init__(self, run: Run, judge: Judge) -> None:
        p, n_classes = run.protocol, run.data.n_classes
        self.forward = 2e-9 * multiply_adds(run.model, p.padding, run.data.image_shape, n_classes)
        rows = 0 if run.lam == 0 else n_classes if p.penalty == "jacobian_l1" else 1
        self.train_image = (3 + 3 * rows) * self.forward  # forward and two adjoints; the same for each row of J
        if p.adversarial_training:
            steps = p.training_attack_steps if p.training_attack == "pgd" else 1
            self.train_image = 2 * self.train_image + 3 * steps * self.forward
        epochs = p.max_epochs if p.stop_rule == "none" else min(p.max_epochs, 2 * p.min_epochs)  # the paper's 20
        self.epoch = p.n_train * self.train_image + p.n_tracked * track_passes(p, n_classes) * self.forward
        self.total = epochs * self.epoch + judge.passes(p, n_classes) * self.forward


@functools.cache
def multiply_adds(
    name: str, padding: str, input_shape: tuple[int, ...] = IMAGE_SHAPE, n_classes: int = N_CLASSES
) -> int:
    """Multiply-adds of one forward pass of one image through model `name`."""
    total, y = 0, Tensor(np.zeros((1, *input_shape), np.float32))
    with no_grad():
        for layer in build_model(name, padding=padding, input_shape=input_shape, n_classes=n_classes).layers:
            y = layer(y)
            if layer.parameters():
                weights = layer.parameters()[0]
                total += weights.size * (y.size // weights.shape[-1])  # each weight once for each output position
    return total


class Stopped(Exception):
    """The run's sweep was asked to stop."""


class Stop(typing.Protocol):
    """A file that stops runs once it exists, or what answers in its place."""

    def exists(self) -> bool:
        """Whether the run must stop."""


@dataclass(frozen=True)
class Progress:
    """NAME.progress.json: GFLOP done and in all, GFLOP/s, the current phase, and when this was written."""

    done: Amount
    total: Amount
    speed: Amount
    what: str
    time: Duration


class Heartbeat:
    """Writes NAME.progress.json.  Call it with the GFLOP done since the last call and the current phase.

    The first call says what an earlier process did; that does not count for the speed.  Once the file `stop` exists,
    the next call raises Stopped.
    """

    def __init__(self, run: Run, run_dir: Path, stop: Stop, judge: Judge) -> None:
        self.path, self.stop = run.file(run_dir, "progress.json"), stop
        self.total, self.done = Cost(run, judge).total, 0.0
        self.first: tuple[float, float] | None = None  # when the first call came, and what was done then
        self.written = -math.inf  # this time and that of `first` are no dates: a clock may be set back
        self._lock = threading.Lock()  # the threads that judge images share this heartbeat

    def __call__(self, work: float, what: str) -> None:
        if self.stop.exists():
            raise Stopped
        with self._lock:
            self.done += work
            now = time.monotonic()
            self.first = self.first or (now, self.done)
            if now - self.written >= INTERVAL:
                self.written = now
                speed = (self.done - self.first[1]) / max(1e-9, now - self.first[0])
                progress = Progress(self.done, self.total, speed, what, time.time())
                write_text(self.path, json.dumps(asdict(progress)) + "\n")

    def remove(self) -> None:
        """Remove the progress file; the run has ended."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Running:
    """A run in training: its share done (0 to 1), GFLOP/s, the current phase, seconds since the last heartbeat."""

    label: str
    share: float
    speed: float
    what: str
    silence: float


@dataclass(frozen=True)
class Interrupted:
    """A run that no process trains: its whole epochs in its checkpoint, and their share of the run's work, 0 to 1."""

    label: str
    epochs: int
    share: float


@dataclass(frozen=True)
class State:
    """How far a sweep is: how many runs in all, finished and diverged; running and stopped ones; the share of all work.

    A run that was never begun is neither running nor stopped.  `damaged`: why the results of runs cannot be read.
    """

    total: int
    finished: int
    diverged: int
    running: list[Running]
    stopped: list[Interrupted]
    share: float
    seconds_left: float | None  # None if nothing runs, or not yet long enough to tell
    damaged: list[str] = field(default_factory=list)


class SweepMonitor:
    """Reads the state of these runs from the folder with their files; call `state` as often as needed."""

    def __init__(self, runs: Sequence[Run], run_dir: Path, judge: Judge) -> None:
        self.run_dir, self.judge = run_dir, judge
        self.labels = labels(runs)
        self.outcomes: dict[Run, Outcome] = {}
        self.damaged: dict[Run, str] = {}  # why the run's result cannot be read
        self._heard: dict[Run, tuple[Progress, float]] = {}  # the last heartbeat, and when it was news to this process

    @functools.cached_property
    def costs(self) -> dict[Run, float]:
        """GFLOP of each run."""
        return {run: Cost(run, self.judge).total for run in self.labels}

    def missing(self) -> list[Run]:
        """The runs that had not ended when the folder was last read, in order."""
        return [run for run in self.labels if run not in self.outcomes and run not in self.damaged]

    def read_outcomes(self) -> None:
        """Read the outcomes of runs that ended since the last call from the folder."""
        for run in self.missing():
            try:
                if outcome := find(run, self.run_dir):
                    self.outcomes[run] = outcome
            except DamagedRun as error:
                self.damaged[run] = f"{self.labels[run]}: {error}"

    def state(self) -> State:
        """The state now."""
        self.read_outcomes()
        total, done = sum(self.costs.values()), sum(self.costs[run] for run in self.outcomes)
        running, stopped = [], []
        for run in self.missing():
            progress, locked = self._running(run), self.is_locked(run)
            if progress and locked:
                running.append(progress)
                done += progress.share * self.costs[run]
            elif epochs := run.kept_epochs(self.run_dir):
                share = min(1.0, epochs * Cost(run, self.judge).epoch / self.costs[run])
                if locked:  # a process reads the data and the checkpoint, before its first heartbeat
                    running.append(Running(self.labels[run], share, 0.0, "beginning", 0.0))
                else:
                    stopped.append(Interrupted(self.labels[run], epochs, share))
                done += share * self.costs[run]
            elif progress:
                stopped.append(Interrupted(self.labels[run], 0, 0.0))
        speed = sum(r.speed for r in running if r.silence < QUIET)
        diverged = sum(outcome.diverged is not None for outcome in self.outcomes.values())
        return State(
            total=len(self.costs),
            finished=len(self.outcomes) - diverged,
            diverged=diverged,
            running=running,
            stopped=stopped,
            share=done / total if total else 1.0,
            seconds_left=(total - done) / speed if speed * LONGEST > total - done else None,
            damaged=list(self.damaged.values()),
        )

    def _running(self, run: Run) -> Running | None:
        path = run.file(self.run_dir, "progress.json")
        try:
            progress = from_json(Progress, read_json(path, RunError, MOST_PROGRESS), str(path), RunError)
            share = min(1.0, progress.done / progress.total)  # a stop rule may allow more epochs than were expected
        except (RunError, ZeroDivisionError):
            return None  # not in training, or just ended
        silence = self._silence(run, progress)
        return Running(self.labels[run], share, progress.speed, progress.what, silence)

    def _silence(self, run: Run, progress: Progress) -> float:
        """Seconds since the last heartbeat.  Only the first that is seen is dated by the clock of its machine."""
        last, heard = self._heard.get(run, (None, 0.0))
        now = time.monotonic()
        if progress != last:
            age = max(0.0, time.time() - progress.time) if last is None else 0.0
            heard = now - age
            self._heard[run] = progress, heard
        return now - heard

    def is_locked(self, run: Run) -> bool:
        """Whether a process holds the run's lock.  The test holds it for an instant; a sweep then tries again."""
        path = run.file(self.run_dir, "lock")
        if not path.exists():
            return False
        try:
            with FileLock(path, blocking=False):
                with contextlib.suppress(OSError):  # on Windows, or in the folder of another user
                    path.unlink()  # a killed process left it, or this test has just made it
                return False
        except Timeout:
            return True
        except OSError:  # the folder is another user's: its heartbeat must do
            return self._running(run) is not None


def view(state: State, title: str, waits_for: str = "") -> RenderableType:
    """The state for a terminal: a bar for the whole sweep, and a line for each running, stopped or damaged run."""
    counts = _counts(state)
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(1.0, state.share, width=24), f"{100 * state.share:.0f}%", counts, left(state.seconds_left))
    lines: list[RenderableType] = [_line(title, "bold"), head]
    for run in state.running:
        quiet = f" (no news for {run.silence:.0f} s)" if run.silence >= QUIET else ""
        text = f"  {run.label}: {100 * run.share:.0f}%, {run.what}{quiet}"
        lines.append(_line(text, "yellow" if quiet else "dim"))
    for ended in state.stopped:
        epochs = f"after epoch {ended.epochs}" if ended.epochs else "in its first epoch"
        text = f"  {ended.label}: {100 * ended.share:.0f}%, stopped {epochs}"
        lines.append(_line(text, "yellow"))
    lines += [_line(f"  {message}", "red") for message in state.damaged]
    if waits_for:
        lines.append(_line(f"  waiting for {waits_for}", "yellow"))
    return Group(*lines)


def _line(text: str, style: str = "") -> Text:
    """Part of a live view: one line, whatever the text holds."""
    return Text(printable(text), style=style)


def as_line(state: State, title: str, waits_for: str = "") -> str:
    """The state in one line, for a file or a pipe."""
    parts = [f"{100 * state.share:.0f}%", *([_counts(state)] if state.total > 1 else []), left(state.seconds_left)]
    named = [f"{run.label}: {run.what}" for run in state.running[:MOST_NAMED]]
    if more := len(state.running) - len(named):
        named.append(f"and {more} others")
    if waits_for:
        named.append(f"waiting for {waits_for}")
    return "; ".join([f"{title}: {', '.join(filter(None, parts))}", *named])


def _counts(state: State) -> str:
    counts = f"{state.finished} of {state.total} runs finished"
    return f"{counts}, {state.diverged} diverged" if state.diverged else counts


def is_live(console: Console) -> bool:
    """Whether the console can show a line that changes."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def plain_lines(console: Console, line: Callable[[float], str]) -> Iterator[None]:
    """Print progress to a file or a pipe: line(seconds so far) after 2, 4, 8, ... seconds, then once a minute.

    A thread prints, so that a line comes on time however long a step takes.  On a terminal, which shows the progress by
    other means, nothing is printed.
    """
    if is_live(console) or console.quiet:
        yield
        return
    ended, started = threading.Event(), time.monotonic()

    def print_lines() -> None:
        due = FIRST_LINE
        with contextlib.suppress(OSError, ValueError):  # nobody reads the pipe any more
            while not ended.wait(max(0.0, started + due - time.monotonic())):
                console.say(line(due))
                due += min(due, LINE_EVERY)

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def busy(console: Console, title: str) -> Iterator[None]:
    """Show that something is done whose length is not known."""
    with plain_lines(console, lambda seconds: f"{title}: {seconds:.0f} s so far"), console.status(_line(title)):
        yield


def left(seconds: float | None) -> str:
    """'3 min left', or nothing if the time is not known."""
    if seconds is None:
        return ""
    for size, unit in (86_400, "days"), (3600, "h"), (60, "min"):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} left"
    return f"{seconds:.0f} s left"

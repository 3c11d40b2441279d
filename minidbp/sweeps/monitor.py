"""How far a sweep is: what its folder says of each run, for the live view and `minidbp status`, on any machine."""

import functools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minidbp.autodiff import Tensor, no_grad
from minidbp.files.atomic import write_text
from minidbp.files.reading import from_json, read_json
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, build_model
from minidbp.sweeps.runs import Outcome, Run, RunError, find, labels
from minidbp.training import track_passes
from minidbp.training.judgement import Judge

INTERVAL = 1.0  # seconds between two heartbeats
QUIET = 120.0  # seconds without a heartbeat: the process may be gone


class Cost:
    """The work of a run in GFLOP: passes through the model times its multiply-adds."""

    def __init__(self, run: Run, judge: Judge) -> None:
        p = run.protocol
        self.forward = 2e-9 * multiply_adds(run.model, p.padding)
        rows = 0 if run.lam == 0 else N_CLASSES if p.penalty == "jacobian_l1" else 1
        self.train_image = (3 + 3 * rows) * self.forward  # forward and two adjoints; the same for each row of J
        if p.adversarial_training:
            steps = p.training_attack_steps if p.training_attack == "pgd" else 1
            self.train_image = 2 * self.train_image + 3 * steps * self.forward
        epochs = p.max_epochs if p.stop_rule == "none" else min(p.max_epochs, 2 * p.min_epochs)  # the paper's 20
        self.epoch = p.n_train * self.train_image + p.n_tracked * track_passes(p) * self.forward
        self.total = epochs * self.epoch + judge.passes(p) * self.forward


@functools.cache
def multiply_adds(name: str, padding: str) -> int:
    """Multiply-adds of one forward pass of one image through model `name`."""
    total, y = 0, Tensor(np.zeros((1, *IMAGE_SHAPE), np.float32))
    with no_grad():
        for layer in build_model(name, padding=padding).layers:
            y = layer(y)
            if layer.parameters():
                weights = layer.parameters()[0]
                total += weights.size * (y.size // weights.shape[-1])  # each weight once for each output position
    return total


class Stopped(Exception):
    """The run's sweep was asked to stop."""


@dataclass(frozen=True)
class Progress:
    """NAME.progress.json: GFLOP done and in all, GFLOP/s, the current phase, and when this was written."""

    done: float
    total: float
    speed: float
    what: str
    time: float


class Heartbeat:
    """Writes NAME.progress.json.  Call it with the GFLOP done since the last call and the current phase.

    The first call says what an earlier process did; that does not count for the speed.  Once the file `stop` exists,
    the next call raises Stopped.
    """

    def __init__(self, run: Run, run_dir: Path, stop: Path, judge: Judge) -> None:
        self.path, self.stop = run.file(run_dir, "progress.json"), stop
        self.total, self.done = Cost(run, judge).total, 0.0
        self.first: tuple[float, float] | None = None  # when the first call came, and what was done then
        self.written = 0.0
        self._lock = threading.Lock()  # the threads that judge images share this heartbeat

    def __call__(self, work: float, what: str) -> None:
        if self.stop.exists():
            raise Stopped
        with self._lock:
            self.done += work
            now = time.time()
            self.first = self.first or (now, self.done)
            if now - self.written >= INTERVAL:
                self.written = now
                speed = (self.done - self.first[1]) / max(1e-9, now - self.first[0])
                progress = Progress(self.done, self.total, speed, what, now)
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
class State:
    """How far a sweep is: how many runs in all, finished and diverged; the running ones; the share of all work."""

    total: int
    finished: int
    diverged: int
    running: list[Running]
    share: float
    seconds_left: float | None  # None if nothing runs, or not yet long enough to tell


class SweepMonitor:
    """Reads the state of these runs from the folder with their files; call `state` as often as needed."""

    def __init__(self, runs: Sequence[Run], run_dir: Path, judge: Judge) -> None:
        self.run_dir, self.judge = run_dir, judge
        self.labels = labels(runs)
        self.outcomes: dict[Run, Outcome] = {}

    @functools.cached_property
    def costs(self) -> dict[Run, float]:
        """GFLOP of each run."""
        return {run: Cost(run, self.judge).total for run in self.labels}

    def missing(self) -> list[Run]:
        """The runs that had not ended when the folder was last read, in order."""
        return [run for run in self.labels if run not in self.outcomes]

    def read_outcomes(self) -> None:
        """Read the outcomes of runs that ended since the last call from the folder."""
        self.outcomes |= {run: outcome for run in self.missing() if (outcome := find(run, self.run_dir))}

    def state(self) -> State:
        """The state now."""
        self.read_outcomes()
        total, done = sum(self.costs.values()), sum(self.costs[run] for run in self.outcomes)
        running = []
        for run in self.missing():
            if seen := self._running(run):
                running.append(seen)
                done += seen.share * self.costs[run]
        speed = sum(r.speed for r in running if r.silence < QUIET)
        diverged = sum(outcome.diverged is not None for outcome in self.outcomes.values())
        return State(
            total=len(self.costs),
            finished=len(self.outcomes) - diverged,
            diverged=diverged,
            running=running,
            share=done / total if total else 1.0,
            seconds_left=(total - done) / speed if speed > 0 else None,
        )

    def _running(self, run: Run) -> Running | None:
        path = run.file(self.run_dir, "progress.json")
        try:
            progress = from_json(Progress, read_json(path, RunError), str(path), RunError)
            share = min(1.0, progress.done / progress.total)  # a stop rule may allow more epochs than were expected
        except (RunError, ZeroDivisionError):
            return None  # not in training, or just ended
        return Running(self.labels[run], share, progress.speed, progress.what, max(0.0, time.time() - progress.time))


def view(state: State, title: str) -> RenderableType:
    """The state for a terminal: a bar for the whole sweep, and a line for each running run."""
    counts = f"{state.finished} of {state.total} runs finished"
    if state.diverged:
        counts += f", {state.diverged} diverged"
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(1.0, state.share, width=24), f"{100 * state.share:.0f}%", counts, left(state.seconds_left))
    lines: list[RenderableType] = [Text(title, style="bold"), head]
    for run in state.running:
        quiet = f" (no news for {run.silence:.0f} s)" if run.silence >= QUIET else ""
        text = f"  {run.label}: {100 * run.share:.0f}%, {run.what}{quiet}"
        lines.append(Text(text, style="yellow" if quiet else "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def left(seconds: float | None) -> str:
    """'3 min left', or nothing if the time is not known."""
    if seconds is None:
        return ""
    for size, unit in (86_400, "days"), (3600, "h"), (60, "min"):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} left"
    return f"{seconds:.0f} s left"

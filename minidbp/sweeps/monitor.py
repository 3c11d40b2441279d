"""How far a sweep is, as its folder tells: for the live view, for `minidbp status`, on this machine or another."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minidbp.files.atomic import write_text
from minidbp.files.reading import read_json
from minidbp.sweeps.cost import Cost
from minidbp.sweeps.runs import Run, RunError, find, labels
from minidbp.training.judgement import Judge

INTERVAL = 1.0  # seconds between two signs of life
QUIET = 120.0  # seconds without one: the process may be gone


class Stopped(Exception):
    """The sweep that this run belongs to was asked to stop."""


class Beacon:
    """Says in NAME.progress.json how far a run is; call it with the GFLOP done since the last call, and what goes on.

    The first call tells of what an earlier process did: it does not count for speed.  Raises Stopped at the next call
    once the file `stop` exists.
    """

    def __init__(self, run: Run, home: Path, stop: Path, judge: Judge) -> None:
        self.path, self.stop = home / f"{run.name}.progress.json", stop
        self.total, self.done = Cost(run, judge).total, 0.0
        self.first: tuple[float, float] | None = None  # when, and how much was done
        self.written = 0.0
        self._lock = threading.Lock()  # the threads that judge images share it

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
                found = {"done": self.done, "total": self.total, "speed": speed, "what": what, "time": now}
                write_text(self.path, json.dumps(found) + "\n")

    def remove(self) -> None:
        """The run ended."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Running:
    """A run that is being trained: its share done (0 to 1), GFLOP/s, what goes on, seconds since it was heard of."""

    label: str
    share: float
    speed: float
    what: str
    silence: float


@dataclass(frozen=True)
class State:
    """How far a sweep is: how many runs, finished and diverged among them, those under way, the share of all work."""

    total: int
    finished: int
    diverged: int
    running: list[Running]
    share: float
    seconds_left: float | None  # None where nobody works, or not yet long enough to tell


class Watch:
    """Reads the state of these runs from the folder that holds their files, again and again."""

    def __init__(self, runs: Sequence[Run], home: Path, judge: Judge) -> None:
        self.home = home
        self.labels = labels(runs)
        self.costs = {run: Cost(run, judge).total for run in runs}
        self.results: dict[Run, bool] = {}  # run: whether it diverged

    def state(self) -> State:
        """As it is now."""
        for run in self.costs:
            if run not in self.results and (result := find(run, self.home)):
                self.results[run] = result["diverged"] is not None
        running, done = [], sum(self.costs[run] for run in self.results)
        for run in self.costs:
            if run not in self.results and (found := self._read(run)):
                running.append(found)
                done += found.share * self.costs[run]
        total = sum(self.costs.values())
        speed = sum(r.speed for r in running if r.silence < QUIET)
        return State(
            len(self.costs),
            len(self.results) - sum(self.results.values()),
            sum(self.results.values()),
            running,
            done / total if total else 1.0,
            (total - done) / speed if speed > 0 else None,
        )

    def _read(self, run: Run) -> Running | None:
        try:
            found = read_json(self.home / f"{run.name}.progress.json", RunError)
            share = min(1.0, found["done"] / found["total"])  # a stop rule may let more epochs pass than were expected
            silence = max(0.0, time.time() - found["time"])
            return Running(self.labels[run], share, float(found["speed"]), str(found["what"]), silence)
        except (ValueError, KeyError, TypeError, ZeroDivisionError):
            return None  # not under way, or just ended


def view(state: State, title: str) -> RenderableType:
    """The state for a terminal: a bar for all, and a line for each run under way."""
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
    """'3 min left', or nothing where that is not known."""
    if seconds is None:
        return ""
    for size, unit in (86_400, "days"), (3600, "h"), (60, "min"):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} left"
    return f"{seconds:.0f} s left"

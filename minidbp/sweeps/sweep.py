"""A sweep: the runs of an experiment in one folder, trained wherever there are workers, each once.

DIR/sweep.json says which runs; DIR/runs/ has their files (see `runs.py`).  That folder is all that sweeps, workers and
watchers share: whoever finds a run that is neither finished nor locked trains it.
"""

import contextlib
import dataclasses
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.live import Live

from minidbp import kernels
from minidbp.files.atomic import remove_leftovers, write_text
from minidbp.files.reading import read_json
from minidbp.sweeps.execute import clear, perform
from minidbp.sweeps.monitor import Watch, view
from minidbp.sweeps.runs import FORMAT, Run, RunError, RunFailed, find, labels
from minidbp.training import Protocol
from minidbp.training.judgement import Judge

MOST_SWEEP = 1 << 26  # bytes of a sweep.json
REFRESH = 0.5  # seconds between two looks at the folder
PATIENCE = 30.0  # seconds in which runs, on whatever machine, should see that they are to stop
BROKEN_AT_MOST = 3  # times in a row that worker processes may die without finishing a run


@dataclass(frozen=True)
class Sweep:
    """What a folder holds: the experiment's name, the title and command for its report, and its runs in order.

    vary: the fields of the protocol that were asked to vary, besides those in which the experiment's conditions differ.
    """

    experiment: str
    title: str
    command: str
    runs: Sequence[Run]
    vary: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """For sweep.json."""
        return {
            "format": FORMAT,
            "experiment": self.experiment,
            "title": self.title,
            "command": self.command,
            "vary": list(self.vary),
            "runs": [run.identity() for run in self.runs],
        }


@dataclass(frozen=True)
class Ending:
    """How a sweep ended: runs finished (now or before), messages of those that diverged, whether Ctrl-C stopped it."""

    finished: int
    diverged: list[str]
    stopped: bool


def prepare(folder: Path) -> Path:
    """Make the output folder and see that it can be written to.  Raises RunError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"--out {folder} cannot be written to: {error.strerror or error}") from None
    return folder


@contextmanager
def alone(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Let one process at a time write the folder's files of these names; what killed ones left of them is removed."""
    lock = FileLock(folder / ".lock")
    with lock:
        try:
            for name in names:
                remove_leftovers(folder / name)
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)


def begin(sweep: Sweep, folder: Path) -> None:
    """Give the folder to this sweep.  Raises RunError if it has another one, or what another version made."""
    home = prepare(folder) / "runs"
    with alone(folder, ["sweep.json"]):
        _begin(sweep, folder, home)


def _begin(sweep: Sweep, folder: Path, home: Path) -> None:
    if (folder / "sweep.json").exists():
        there = load(folder)
        if list(there.runs) != list(sweep.runs):
            raise RunError(f"{folder} holds the runs of another sweep, `{there.command}`: give another --out")
        return
    if home.exists() and any(home.glob("*.json")):
        raise RunError(f"{folder} holds runs of another version of minidbp: give another --out, or move them away")
    try:
        home.mkdir(exist_ok=True)
        write_text(folder / "sweep.json", json.dumps(sweep.as_dict(), indent=1) + "\n")
    except OSError as error:
        raise RunFailed(_said(error)) from None


def load(folder: Path) -> Sweep:
    """The sweep of a folder.  Raises RunError if it has none, or one of another version."""
    path = folder / "sweep.json"
    if not path.exists():
        raise RunError(f"{folder} holds no sweep: give the --out folder of minidbp table2, table3, table4 or credit")
    found = read_json(path, RunError, MOST_SWEEP)
    if found.get("format") != FORMAT:
        raise RunError(
            f"{path} is of format {found.get('format')!r}, another version's; this is format {FORMAT}: "
            "give another --out, or use that version"
        )
    kinds = {"experiment": str, "title": str, "command": str, "vary": list, "runs": list}
    names = [field.name for field in dataclasses.fields(Protocol)]
    kept = all(type(found.get(key)) is kind for key, kind in kinds.items())
    if not kept or any(field not in names for field in found["vary"]):
        raise RunError(f"{path} should hold an experiment, a title, a command, the fields that vary and a list of runs")
    try:
        runs = [Run.of(identity) for identity in found["runs"]]
    except RunError as error:
        raise RunError(f"{path} is another version's ({error}): give another --out, or use that version") from None
    return Sweep(found["experiment"], found["title"], found["command"], runs, found["vary"])


def results_in(sweep: Sweep, folder: Path) -> list[dict[str, Any]]:
    """The results that are there, of runs that diverged too, in the order of the runs."""
    return [result for run in sweep.runs if (result := find(run, folder / "runs"))]


def train_all(
    runs: Sequence[Run],
    home: Path,
    title: str,
    place: Callable[[], AbstractContextManager[Executor]],
    judge: Judge,
    data: Path | None,
    threads: int | None,
    console: Console,
) -> Ending:
    """Train the runs that the folder `home` does not have yet, with the executor that `place` makes; show how far.

    A run that diverges is told of and the others go on.  Ctrl-C stops all runs of this sweep; those that were under
    way keep their last checkpoint.  Any other error of a run stops them too, and is raised as RunFailed.
    """
    missing = [run for run in runs if find(run, home) is None]
    if len(missing) < len(runs):
        console.print(f"{len(runs) - len(missing)} of {len(runs)} runs are in {home} already", highlight=False)
    if not missing:
        return _ending(runs, home, stopped=False)
    with console.status("compiling kernels, once"):
        kernels.warm_up()  # here, so that workers on this machine find them in the cache
    stop = home / f".stop-{uuid.uuid4().hex}"
    watch, broken = Watch(runs, home, judge), 0
    watch.state()  # what is finished already is not told of again
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while missing:
                before = len(missing)
                try:
                    with place() as pool:
                        while missing:
                            _round(missing, pool, (home, judge, data, threads, stop), lambda: _show(live, watch, title))
                            offered, missing = missing, [run for run in missing if find(run, home) is None]
                            if len(missing) == len(offered):
                                time.sleep(REFRESH)  # another sweep has them all
                except BrokenProcessPool:  # a worker was killed; its run goes on from its checkpoint
                    missing = [run for run in missing if find(run, home) is None]
                    broken = broken + 1 if len(missing) == before else 0
                    if broken == BROKEN_AT_MOST:
                        raise RunFailed(
                            f"worker processes died {broken} times without finishing a run; is there enough memory? "
                            f"{len(missing)} runs are not finished"
                        ) from None
        except KeyboardInterrupt:
            return _ending(runs, home, stopped=True)
        finally:
            stop.unlink(missing_ok=True)
    return _ending(runs, home, stopped=False)


def _round(missing: Sequence[Run], pool: Executor, arguments: tuple, show: Callable[[], None]) -> None:
    """Offer every missing run to the pool once; wait for all, and see that they end if one fails or Ctrl-C comes."""
    *_, stop = arguments
    offered: dict[Future[str], Run] = {}
    try:
        for run in missing:
            offered[pool.submit(perform, run, *arguments)] = run
        left = set(offered)
        while left:
            done, left = wait(left, timeout=REFRESH, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    future.result()
                except (OSError, ValueError) as error:
                    which = labels(missing)[offered[future]]
                    raise RunFailed(f"{which}: {_said(error)}; the same command goes on from what is done") from error
            show()
    except BrokenProcessPool:
        raise  # all its processes have ended
    except BaseException:
        with contextlib.suppress(OSError):  # a disk that is full
            stop.touch()
        wait(offered, timeout=PATIENCE)
        for future in offered:
            future.cancel()
        raise


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used: {error.strerror}"
    return str(error)


def _show(live: Live, watch: Watch, title: str) -> None:
    """Bring the live view up to date, and print a line for each run that has ended since."""
    known = set(watch.results)
    state = watch.state()
    for run in watch.results:
        if run not in known and (result := find(run, watch.home)):
            style = "red" if result["diverged"] else ""
            live.console.print(summary(result, watch.labels[run]), highlight=False, soft_wrap=True, style=style)
    if live.console.is_terminal:
        live.update(view(state, title), refresh=True)


def _ending(runs: Sequence[Run], home: Path, stopped: bool) -> Ending:
    results = {run: result for run in runs if (result := find(run, home))}
    for run in results:
        clear(run, home)
    names = labels(runs)
    messages = [summary(result, names[run]) for run, result in results.items() if result["diverged"]]
    return Ending(len(results) - len(messages), messages, stopped)


def summary(result: dict[str, Any], who: str) -> str:
    """A finished run in one line."""
    if result["diverged"]:
        return f"{who}: diverged in epoch {result['diverged']['epoch']}, step {result['diverged']['step']}"
    seconds, epochs = sum(result["seconds"].values()), result["epochs"]
    return (
        f"{who}: clean {result['clean']:.2f}%, FGSM {result['fgsm']:.2f}%, PGD {result['pgd']:.2f}% "
        f"({epochs} epoch{'s' * (epochs != 1)}, {seconds:.0f} s)"
    )

"""A sweep: many runs in one folder, trained wherever there are workers, each once.

DIR/sweep.json lists the runs; DIR/runs/ has their files (see `runs.py`).  Sweeps, workers and watchers share nothing
but that folder: each of them trains the next run that is neither finished nor locked.
"""

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from filelock import FileLock, Timeout

from minidbp.files.atomic import remove_leftovers
from minidbp.files.console import Console
from minidbp.files.digest import without_digest, write_with_digest
from minidbp.files.reading import from_json, read_json
from minidbp.sweeps.runs import FORMAT, Outcome, Run, RunError, RunFailed, find, reason
from minidbp.training import Protocol

MOST_RUNS = 2000  # of a sweep
MOST_SWEEP = 2048 * MOST_RUNS + (1 << 16)  # bytes of sweep.json; a run has 1,300
TOLD_AFTER = 3.0  # seconds that a command waits for the folder before a line says so


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

    If another process holds the lock for some seconds, a line says so.  Raises RunError if the lock is another user's.
    """
    path = folder / ".lock"
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=TOLD_AFTER)
        except Timeout:  # its holder may be suspended
            Console(stderr=True).say(f"waiting for another process that writes to {folder}: it holds {path}")
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
            raise RunFailed(reason(error)) from None
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
        runs = [Run.of(identity) for identity in identities]
    except RunError as error:
        raise RunError(f"{path} is another version's ({error}): {other_version}") from None
    if len(set(runs)) < len(runs):
        raise RunError(f"{path} lists a run twice: {other_version}")
    return replace(sweep, runs=runs)


def results_in(sweep: Sweep, folder: Path) -> list[Outcome]:
    """The outcomes of all runs that have ended, diverged ones too, in the order of the runs."""
    return [outcome for run in sweep.runs if (outcome := find(run, folder / "runs"))]

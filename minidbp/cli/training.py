"""What the commands that train runs share: how they are stopped, and how they say what is left to do."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidbp.cli import memory, output
from minidbp.cli.invocation import current, signals_noted
from minidbp.diagnosis.judge import JUDGE
from minidbp.sweeps.runs import Run, RunFailed

if TYPE_CHECKING:
    from minidbp.sweeps.train import Ending


def train_runs(
    runs: Sequence[Run],
    run_dir: Path,
    make_executor: Callable[[], AbstractContextManager[Executor]],
    stop_message: Callable[[int], str],
    **options: Any,
) -> "Ending":
    """`train_all` with compiled kernels, whose runs Ctrl-C and other signals stop.

    stop_message: what a stopped command says in the end, from the number of finished runs.
    """
    from minidbp.sweeps.train import train_all

    current().how_to_go_on = lambda: stop_message(_finished(runs, run_dir))
    if any(not run.file(run_dir, "json").exists() for run in runs):
        output.compile_kernels()  # the workers on this machine then find them in the cache
    with _resumable(), signals_noted() as stopped:
        return train_all(runs, run_dir, make_executor, JUDGE, stopped=stopped, console=output.updates, **options)


def _finished(runs: Sequence[Run], run_dir: Path) -> int:
    """How many of the runs have a result and weights; this reads no file, and so it takes no time."""
    return sum(all(run.file(run_dir, end).exists() for end in ("json", "safetensors")) for run in runs)


@contextmanager
def _resumable() -> Iterator[None]:
    """Add to a failure of runs how to go on."""
    try:
        yield
    except RunFailed as error:
        advice = f": {memory.advice()}" if memory.is_for_lack_of_memory(error.__cause__) else ""
        raise RunFailed(f"{error}{advice}; to go on: {current().words}") from error

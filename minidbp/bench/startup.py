"""How long a user waits before the first result, each time measured in a process of its own."""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from minidbp.bench.machine import Advance, ignore, seconds_of

PROGRAM = "import time; {setup}; started = time.perf_counter()\n{timed}\nprint(time.perf_counter() - started)"
# The images are noise, so that reading MNIST is not timed.
FIRST_STEP = """
import numpy as np
from minidbp.nn import build_model
from minidbp.training import Protocol, TrainingState, training_step, workers
x = np.random.default_rng(0).random((128, 28, 28, 1), np.float32)
state = TrainingState(build_model("C"), 10.0, Protocol(), np.random.default_rng(0))
with workers() as pool:
    training_step(state, x, np.arange(128) % 10, pool)
"""
COMPILE = "kernels.warm_up()"
N_MEASUREMENTS = 4


@dataclass(frozen=True)
class StartupTimes:
    """Seconds of `import minidbp`, of `minidbp --help`, up to the end of a first training step, and of compiling.

    The first step is one of model C with compiled kernels on disk; its time includes the imports.
    """

    import_s: float
    help_s: float
    first_step_s: float
    compile_s: float


def time_startup(repeats: int, advance: Advance = ignore) -> StartupTimes:
    """Measure each time as the median of `repeats` processes, but compiling, which is long, once.

    advance() is called after each of the N_MEASUREMENTS.
    """
    _seconds(FIRST_STEP)  # compiles the kernels and Python's own files, if need be
    medians = []
    for measure in lambda: _seconds("import minidbp"), _help_seconds, lambda: _seconds(FIRST_STEP):
        medians.append(statistics.median(measure() for _ in range(repeats)))
        advance()
    with tempfile.TemporaryDirectory() as empty:
        compiling = _seconds(COMPILE, "from minidbp import kernels", NUMBA_CACHE_DIR=empty)
    advance()
    importing, help_, first_step = medians
    return StartupTimes(importing, help_, first_step, compiling)


def _seconds(timed: str, setup: str = "pass", **variables: str) -> float:
    """The seconds that a new Python takes for `timed`, after `setup`."""
    return float(_run(["-c", PROGRAM.format(setup=setup, timed=timed)], variables))


def _help_seconds() -> float:
    return seconds_of(lambda: _run(["-m", "minidbp", "--help"], {}), 1)[0]


def _run(arguments: list[str], variables: dict[str, str]) -> str:
    """The output of a new Python.  Raises ChildProcessError, with the last line of its errors, if it fails."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    if result.returncode:
        raise ChildProcessError(f"a timed process failed: {(result.stderr.splitlines() or ['no message'])[-1]}")
    return result.stdout

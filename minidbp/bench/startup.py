"""How long a user waits before the first result, each in a process of its own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from minidbp.bench.setting import Done, nothing

IMPORT = """
import time
started = time.perf_counter()
import minidbp
print(time.perf_counter() - started)
"""

# The images are noise: reading MNIST is not what is timed.
FIRST_STEP = """
import time
started = time.perf_counter()
import numpy as np
from minidbp.nn import build_model
from minidbp.training import Protocol, TrainingState, training_step, workers
x = np.random.default_rng(0).random((128, 28, 28, 1), np.float32)
state = TrainingState(build_model("C"), 10.0, Protocol(), np.random.default_rng(0))
with workers() as pool:
    training_step(state, x, np.arange(128) % 10, pool)
print(time.perf_counter() - started)
"""

COMPILE = """
import time
import minidbp.kernels
started = time.perf_counter()
minidbp.kernels.warm_up()
print(time.perf_counter() - started)
"""

MEASUREMENTS = 4


def time_startup(repeats: int, done: Done = nothing) -> dict[str, float]:
    """Seconds, the median of `repeats` processes each; done() is called after each of the four measurements.

    import_s: `import minidbp`; help_s: `minidbp --help`, from typing it to its end; first_step_s: from the first
    import to the end of a first training step of model C with compiled kernels on disk; compile_s: compiling every
    kernel (once, as it is repeatable and long).
    """
    _inside(FIRST_STEP)  # the kernels are on disk, and Python's own compiled files too
    found = {}
    for name, measure in {
        "import_s": lambda: _inside(IMPORT),
        "help_s": _help,
        "first_step_s": lambda: _inside(FIRST_STEP),
    }.items():
        found[name] = statistics.median(measure() for _ in range(repeats))
        done()
    with tempfile.TemporaryDirectory() as empty:
        found["compile_s"] = _inside(COMPILE, NUMBA_CACHE_DIR=empty)
    done()
    return found


def _inside(program: str, **variables: str) -> float:
    """The seconds that a program prints."""
    return float(_run(["-c", program], variables))


def _help() -> float:
    started = time.perf_counter()
    _run(["-m", "minidbp", "--help"], {})
    return time.perf_counter() - started


def _run(arguments: list[str], variables: dict[str, str]) -> str:
    """What a Python of its own prints.  Raises ChildProcessError, with its last words, if it fails."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    if done.returncode:
        raise ChildProcessError(f"a process of its own failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    return done.stdout

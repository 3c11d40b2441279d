"""What a command says when there is not enough memory, and how it refuses a limit that it cannot keep."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from minidbp.cli.invocation import current
from minidbp.sweeps.runs import RunFailed

LEAST = 400 << 20  # bytes of address space to start a command; with less, SciPy's BLAS waits for ever as it is loaded
LEAST_FOR_KERNELS = 1 << 30  # with less, LLVM or a BLAS ends the process
WAYS = {
    "--images": "fewer --images",
    "--batch": "a smaller --batch",
    "--workers": "fewer --workers",
    "--threads": "--threads 1",
    "--models": "--models C",
    "--model": "--model C",
}
SIGNS = ("failed to map segment", "Cannot allocate memory", "can't start new thread")  # of libraries and threads


class LimitError(MemoryError):
    """The limit of this process is too low for the command to begin."""


def check_limit(least: int = LEAST) -> None:
    """Raise LimitError if the limit of this process (`ulimit -v`) is less than `least` bytes."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < least:
        raise LimitError(
            f"the limit of this process (ulimit -v) is {limit >> 20} MB, below the {least >> 20} MB that it needs"
        )


@contextmanager
def as_memory_error() -> Iterator[None]:
    """Raise MemoryError in place of an error that lack of memory caused: a library or thread that does not start."""
    try:
        yield
    except (MemoryError, RunFailed):  # of a failed run, cli/training.py says more
        raise
    except Exception as error:
        if not is_for_lack_of_memory(error):
            raise
        raise MemoryError from error


def is_for_lack_of_memory(error: BaseException | None) -> bool:
    """Whether this error, or one that it came from, says so."""
    while error is not None:
        is_enomem = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if isinstance(error, MemoryError) or is_enomem or any(sign in str(error) for sign in SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False


def message(error: MemoryError) -> str:
    """One sentence: what could not be allocated, if NumPy says it, and what to make smaller."""
    if isinstance(error, LimitError):
        return f"there is not enough memory: {error}"
    detail = "" if type(error) is MemoryError else f" ({error})"  # the engine's advice is for Python
    return f"there is not enough memory{detail}: {advice()}"


def advice() -> str:
    """What to make smaller in the command that runs."""
    ways = [way for option, way in WAYS.items() if option in current().options]
    if not ways:
        return "close other programs, or raise the limit if there is one (ulimit -v)"
    *others, last = ways
    return f"give {', '.join(others)} or {last}" if others else f"give {last}"

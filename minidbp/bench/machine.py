"""What this machine can do at best, and how much of it other processes use during a measurement."""

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from minidbp.training import available_cores
from minidbp.training.environment import blas

STAT = Path("/proc/stat")
MAX_OTHERS_SHARE = 0.1  # times measured while others use a larger share of all cores should not be compared
Advance = Callable[[], object]  # called after each unit of work, for a progress bar


def ignore() -> None:
    """The default `advance`: shows no progress."""


def seconds_of(work: Callable[[], object], repeats: int, advance: Advance = ignore) -> list[float]:
    """Call `work` some times and return the seconds of each call; advance() is called after each."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
        advance()
    return seconds


def memory_bytes() -> int | None:
    """Bytes of this machine's main memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def check_gemm_size(n: int) -> None:
    """Raise ValueError if two float32 (n, n) arrays need more than half of this machine's memory."""
    memory = memory_bytes()
    if memory and (most := math.isqrt(memory // 2 // 8)) < n:
        raise ValueError(f"--size must be at most {most}, or two matrices need more than half of the memory; got {n}")


def gemm_gflops_per_s(threads: int, n: int = 2048, repeats: int = 7) -> float:
    """GFLOP/s of np.matmul of two float32 (n, n) arrays with BLAS on `threads` threads, the best of `repeats`.

    BLAS never gets more threads than there are cores.
    """
    a = np.random.default_rng(0).random((n, n), np.float32)
    out = np.empty_like(a)
    with threadpool_limits(limits=min(threads, available_cores()), user_api="blas"):
        np.matmul(a, a, out=out)  # starts BLAS' threads and touches the memory of `out`
        return 2e-9 * n**3 / min(seconds_of(lambda: np.matmul(a, a, out=out), repeats))


def copy_gb_per_s(megabytes: int = 256, repeats: int = 5) -> float:
    """GB/s, read and written, of copying an array larger than any cache on one thread; the best of `repeats`."""
    a = np.ones(megabytes << 18, np.float32)
    out = np.ones_like(a)
    return 2e-9 * a.nbytes / min(seconds_of(lambda: np.copyto(out, a), repeats))


def blas_name() -> str:
    """NumPy's BLAS library, its version and the kernel that it chose, such as "openblas 0.3.31 SkylakeX"."""
    return " ".join(f"{b.library} {b.version} {b.kernel}" for b in blas()[:1]) or "unknown"


def peak_rss_mb() -> float | None:
    """The largest memory that this process has used so far, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts bytes, Linux kilobytes


class Contention:
    """Measures from its creation on which share of the machine other processes use."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def share(self) -> float | None:
        """The share of all cores' time that other processes used, 0 to 1; None on systems other than Linux."""
        busy, elapsed = _busy_seconds(), time.perf_counter() - self._started
        if busy is None or self._busy is None or not elapsed:
            return None
        others = (busy - self._busy) - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / (elapsed * (os.cpu_count() or 1))))


def contention_warning(share: float | None) -> str | None:
    """A sentence that warns of a share above MAX_OTHERS_SHARE; None for a smaller or unknown share."""
    if share is None or share <= MAX_OTHERS_SHARE:
        return None
    return f"other processes used {100 * share:.0f}% of this machine during the measurement: repeat it when it is idle"


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_seconds() -> float | None:
    """Seconds of all cores in which something ran since the machine booted; None where /proc/stat is missing."""
    try:
        numbers = [int(n) for n in STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = numbers
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

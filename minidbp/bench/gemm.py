"""The rate of a large float32 matrix product: the most that dense arithmetic can reach here."""

import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from minidbp.training import available_cores
from minidbp.training.environment import blas


def gemm_gflops_per_s(threads: int, n: int = 2048, repeats: int = 7) -> float:
    """GFLOP/s of np.matmul of two float32 (n, n) arrays with BLAS on this many threads, the best of `repeats`.

    No more threads are used than there are cores.
    """
    a = np.random.default_rng(0).random((n, n), np.float32)
    out = np.empty_like(a)
    seconds = []
    with threadpool_limits(limits=min(threads, available_cores()), user_api="blas"):
        np.matmul(a, a, out=out)  # BLAS starts its threads, and the pages of `out` come into being
        for _ in range(repeats):
            started = time.perf_counter()
            np.matmul(a, a, out=out)
            seconds.append(time.perf_counter() - started)
    return 2e-9 * n**3 / min(seconds)


def copy_gb_per_s(megabytes: int = 256, repeats: int = 5) -> float:
    """GB/s, read and written, of copying an array that no cache holds, on one thread; the best of `repeats`."""
    a = np.ones(megabytes << 18, np.float32)
    out = np.ones_like(a)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        np.copyto(out, a)
        seconds.append(time.perf_counter() - started)
    return 2e-9 * a.nbytes / min(seconds)


def rates(threads: int, n: int = 2048) -> dict[str, Any]:
    """The BLAS kernel and its rate on one thread and on `threads`."""
    counts = sorted({1, threads})
    return {"blas": blas_name(), "n": n, "gflops_per_s": {str(t): gemm_gflops_per_s(t, n) for t in counts}}


def blas_name() -> str:
    """NumPy's BLAS library, its version and the kernel that it chose, such as "openblas 0.3.31 SkylakeX"."""
    return " ".join(str(found) for b in blas()[:1] for found in (b["library"], b["version"], b["kernel"])) or "unknown"

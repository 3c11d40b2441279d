"""The rate of a large float32 matrix product: the most that dense arithmetic can reach here."""

import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from minidbp.experiments.environment import blas


def gemm_gflops_per_s(threads: int, n: int = 2048, repeats: int = 7) -> float:
    """GFLOP/s of np.matmul of two float32 (n, n) arrays with BLAS on this many threads, median of `repeats`."""
    a = np.random.default_rng(0).random((n, n), np.float32)
    out = np.empty_like(a)
    seconds = []
    with threadpool_limits(limits=threads, user_api="blas"):
        np.matmul(a, a, out=out)  # BLAS starts its threads, and the pages of `out` come into being
        for _ in range(repeats):
            started = time.perf_counter()
            np.matmul(a, a, out=out)
            seconds.append(time.perf_counter() - started)
    return 2e-9 * n**3 / statistics.median(seconds)


def blas_name() -> str:
    """The BLAS library, its version and the kernel that it chose, such as "openblas 0.3.31 SkylakeX"."""
    return ", ".join(f"{b['library']} {b['version']} {b['kernel']}" for b in blas()) or "unknown"

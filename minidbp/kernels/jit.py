"""Numba, compiled when a kernel is first called.

Importing Numba takes longer than importing everything else here, and compiling takes longer still, so neither
happens before a kernel is needed.  Machine code is cached on disk where a cache folder can be written.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

# Every flag of LLVM's fast math but the two that assume there is no NaN and no inf: `isnan` must stay true.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

_compiling = threading.Lock()
_compiled: list[Any] = []  # Numba's dispatchers, for cache_folders


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function` with Numba at its first call; it runs without the GIL and writes into arrays that it is given.

    Threads are the caller's business: a kernel itself is serial, so its sums have one order and its bits are the
    same on any number of cores.
    """
    compiled: Callable[..., None] | None = None

    @functools.wraps(function)
    def call(*args: Any) -> None:
        nonlocal compiled
        if compiled is None:
            with _compiling:
                if compiled is None:
                    compiled = _compile(function)
                    _compiled.append(compiled)
        compiled(*args)

    return call


def _compile(function: Callable[..., None]) -> Callable[..., None]:
    import numba

    # NumPy's rules for 1/0 and 0/0; Numba's own, Python's, would raise and keep a loop that divides from SIMD
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder where the cache could be written: compile anew in every process
        return numba.njit(**options)(function)


def cache_folders() -> set[str]:
    """Where the machine code of the kernels compiled so far is cached; empty if no folder could be written."""
    return {folder for kernel in _compiled if (folder := kernel.stats.cache_path)}


def contiguous(array: np.ndarray) -> np.ndarray:
    """`array` as C-contiguous and read-only, copied only if it was not contiguous.

    Numba compiles a kernel once for each combination of layouts and write flags: one form for every input keeps
    that to one compilation per dtype.
    """
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array

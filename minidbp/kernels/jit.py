"""Numba, which compiles a kernel when it is first called.

Importing Numba takes longer than importing everything else here, and compiling takes longer still, so neither happens
before a kernel is needed.  Machine code is cached on disk where a cache folder can be written.
"""

import functools
import hashlib
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Every flag of LLVM's fast math but the two that assume there is no NaN and no inf: `isnan` must stay true.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# Whether the processor has 32 registers of 64 bytes for vectors.  NumPy is asked, because importing Numba takes long.
AVX512 = bool(np._core._multiarray_umath.__cpu_features__.get("AVX512F"))  # type: ignore[attr-defined]

_compiling = threading.RLock()
_compiled: list[Any] = []  # Numba's dispatchers, for cache_folders


class Kernel:
    """A function that Numba compiles when it is first called, or when another kernel that calls it is compiled.

    It runs without the GIL and writes into arrays that it is given.  It is serial: its sums have one order, and its
    bits are the same on any number of cores.  Threads are the caller's business.
    """

    def __init__(self, function: Callable[..., Any], translate: Callable[[Callable[..., Any], set[str]], Any]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._translate, self._result = function, translate, None
        self.files: set[str] = {function.__code__.co_filename}.union(*(p.files for p in _parts(function).values()))

    def __call__(self, *args: Any) -> Any:
        return (self._result or self.compiled())(*args)

    def compiled(self) -> Any:
        """Numba's form of the function."""
        with _compiling:
            if self._result is None:
                self._result = self._translate(self._function, self.files)
        return self._result


def kernel(function: Callable[..., Any]) -> Kernel:
    """Make a Kernel of a function written in Numba's Python."""
    return Kernel(function, _compile)


def intrinsic(function: Callable[..., Any]) -> Kernel:
    """Make a Kernel of a function that emits LLVM code (numba.extending.intrinsic), for other kernels to call."""

    def translate(function: Callable[..., Any], files: set[str]) -> Any:
        from numba.extending import intrinsic

        return intrinsic(function)

    return Kernel(function, translate)


def _parts(function: Callable[..., Any]) -> dict[str, Kernel]:
    """The kernels that a function calls, by the names it calls them."""
    scope = function.__globals__
    return {n: scope[n] for n in function.__code__.co_names if isinstance(scope.get(n), Kernel)}


def _compile(function: Callable[..., Any], files: set[str]) -> Any:
    import numba

    # Numba knows only its own functions, so it gets those in place of the kernels that this one calls.
    scope = {**function.__globals__, **{name: part.compiled() for name, part in _parts(function).items()}}
    linked = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__)
    # Numba's cache looks only at the date of the function's own file, so the name says which files it was made from.
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(files)) + bytes([AVX512])).hexdigest()
    linked.__qualname__ = f"{function.__qualname__}-{digest[:16]}"
    # With NumPy's rules for 1/0 and 0/0.  Python's, Numba's default, would raise and keep a dividing loop from SIMD.
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(linked)
    except RuntimeError:  # no folder where the cache could be written: compile anew in every process
        compiled = numba.njit(**options)(linked)
    _compiled.append(compiled)
    return compiled


def cache_folders() -> set[str]:
    """Where the machine code of the kernels compiled so far is cached; empty if no folder could be written."""
    return {folder for kernel in _compiled if (folder := kernel.stats.cache_path)}


def contiguous(array: np.ndarray) -> np.ndarray:
    """`array` as C-contiguous and read-only, copied only if it was not contiguous.

    Numba compiles a kernel once for each combination of layouts and write flags.  One form for every input keeps that
    to one compilation per dtype.
    """
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array

"""Numba, which compiles a kernel when it is first called.

Importing Numba takes longer than importing everything else here, and compiling takes longer still, so neither happens
before a kernel is needed.  Machine code is cached on disk where a cache folder can be written.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

# Every flag of LLVM's fast math but the two that assume there is no NaN and no inf: `isnan` must stay true.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# Whether the processor has 32 registers of 64 bytes for vectors.  NumPy is asked, because importing Numba takes long.
AVX512 = bool(np._core._multiarray_umath.__cpu_features__.get("AVX512F"))  # type: ignore[attr-defined]

SHA256_BYTES = 32

_compiling = threading.RLock()
_compiled: list[Any] = []  # Numba's dispatchers, for cache_folders
_held_for_fork: list[Any] = []  # locks, while the process forks


def _before_fork() -> None:
    """Wait until no thread compiles."""
    _compiling.acquire()  # first: afterwards no thread imports Numba for a kernel
    _held_for_fork.append(_compiling)
    if module := sys.modules.get("numba.core.compiler_lock"):
        module.global_compiler_lock.acquire()
        _held_for_fork.append(module.global_compiler_lock)


def _after_fork() -> None:
    while _held_for_fork:
        _held_for_fork.pop().release()


# A child of a fork has one thread. A lock that another thread held would be held for ever there.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


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
    if not compiling():
        _say_once("NUMBA_DISABLE_JIT turns the compiler off, so training is some 30 times slower")
        return linked
    # Numba's cache looks only at the date of the function's own file, so the name says which files it was made from.
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(files)) + bytes([AVX512])).hexdigest()
    linked.__qualname__ = f"{function.__qualname__}-{digest[:16]}"
    # With NumPy's rules for 1/0 and 0/0.  Python's, Numba's default, would raise and keep a dividing loop from SIMD.
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(linked)
        compiled._cache._cache_file = _CheckedFiles(Path(compiled.stats.cache_path), linked.__qualname__)
    except RuntimeError:  # no folder where the cache could be written: compile anew in every process
        compiled = numba.njit(**options)(linked)
    _compiled.append(compiled)
    return compiled


class _CheckedFiles:
    """The cached machine code of one kernel: a file for each signature.  It stands in for Numba's IndexDataCacheFile.

    A file is the SHA-256 of a pickle, and the pickle.  Numba loads its own files unchecked, and a changed bit of
    machine code can end the process.  Nothing is unpickled here before its checksum is found right.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def load(self, key: Any) -> Any:
        """What was saved for this key, or None: the kernel is then compiled."""
        try:
            stored = self._path(key).read_bytes()
        except OSError:  # usually there is no such file yet
            return None
        checksum, content = stored[:SHA256_BYTES], stored[SHA256_BYTES:]
        if hashlib.sha256(content).digest() != checksum:
            _say_once(f"kernels cached in {str(self._folder)!r} are damaged, so they are compiled again")
            return None
        return pickle.loads(content)

    def save(self, key: Any, data: Any) -> None:
        """Write the file of this key, whole or not at all: several processes may compile the same kernel at once."""
        from numba.core.serialize import dumps

        content, path = dumps(data), self._path(key)
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        try:
            part.write_bytes(hashlib.sha256(content).digest() + content)
            part.replace(path)
        except OSError as error:  # a full disk, for one: the kernel is compiled all the same
            with contextlib.suppress(OSError):
                part.unlink()
            _say_once(
                f"kernels cannot be cached in {str(self._folder)!r} ({error.strerror}), so every process compiles them"
            )

    def _path(self, key: Any) -> Path:
        """The file for a key of Numba's: the signature, the processor and the bytecode."""
        import numba

        digest = hashlib.sha256(repr((numba.__version__, key)).encode()).hexdigest()
        return self._folder / f"{self._name}.{sys.implementation.cache_tag}.{digest[:16]}.kernel"


@functools.cache
def _say_once(message: str) -> None:
    print(f"minidbp: {message}", file=sys.stderr)


def compiling() -> bool:
    """False if NUMBA_DISABLE_JIT is set: kernels are then slow functions of Python."""
    import numba

    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined, unused-ignore]


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

import errno
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from minidbp.kernels import jit
from minidbp.kernels.jit import contiguous, kernel


def double(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = 2 * x[i]


def test_compiled_at_the_first_call_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Callable[..., None]] = []
    monkeypatch.setattr(jit, "_compile", lambda function, files: compiled.append(function) or function)
    monkeypatch.setattr(jit, "_compiled", [])  # doctor asks every kernel in it where it is cached
    call = kernel(double)
    assert compiled == []
    with ThreadPoolExecutor(4) as pool:
        outs = [np.zeros(3) for _ in range(20)]
        list(pool.map(lambda out: call(np.arange(3.0), out), outs))
    assert compiled == [double]
    assert all((out == [0, 2, 4]).all() for out in outs)


def test_without_a_cache_folder_a_kernel_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    njit, asked = numba.njit, []

    def no_cache(*function: Any, **options: Any) -> Any:
        if "nogil" in options:  # Numba calls njit itself, as it is imported bit by bit
            asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available for file 'test_jit.py'")
        return njit(*function, **options)

    monkeypatch.setattr(numba, "njit", no_cache)
    out = np.zeros(3)
    kernel(double)(np.arange(3.0), out)
    assert out.tolist() == [0, 2, 4]
    assert asked == [True, False]


def call(x: np.ndarray) -> Any:
    """Compile `double` for this argument, or load it, and check what it gives; the result counts cache hits."""
    made, out = kernel(double), np.zeros_like(x)
    made(x, out)
    np.testing.assert_array_equal(out, 2 * x)
    return made.compiled().stats


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_compiled", [])
    jit._say_once.cache_clear()
    return tmp_path


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "shorter than its checksum": lambda raw: raw[:10],
    "truncated": lambda raw: raw[:-1],
    "random": lambda raw: np.random.default_rng(0).bytes(len(raw)),
    "one bit": lambda raw: raw[:-1000] + bytes([raw[-1000] ^ 1]) + raw[-999:],
    "one bit of the checksum": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
}


def test_a_damaged_cache_is_compiled_again_and_said_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(np.arange(3.0))
    (path,) = files_in(cache)
    whole = path.read_bytes()
    for damage in DAMAGE.values():
        path.write_bytes(damage(whole))
        assert not call(np.arange(3.0)).cache_hits
        assert call(np.arange(3.0)).cache_hits
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"minidbp: kernels cached in {str(path.parent)!r} are damaged, so they are compiled again"
    assert files_in(cache) == [path]


def test_every_signature_has_a_file_of_its_own(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dtype in np.float64, np.float32:
        assert not call(np.arange(3, dtype=dtype)).cache_hits
        assert call(np.arange(3, dtype=dtype)).cache_hits
    assert len(files_in(cache)) == 2
    assert capsys.readouterr().err == ""


def test_a_full_cache_disk_is_named(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_bytes(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    call(np.arange(3.0))
    call(np.arange(3.0))
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be cached" in line
    assert str(cache) in line
    assert "No space left on device" in line
    assert files_in(cache) == []


def test_without_the_compiler_everything_works_and_says_that_it_is_slow() -> None:
    code = "from minidbp.bench.doctor import examine; found = examine(); print(found.facts['kernels'], found.warnings)"
    variables = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    assert result.returncode == 0, result.stderr
    assert "not compiled" in result.stdout
    (line,) = result.stderr.splitlines()
    assert "NUMBA_DISABLE_JIT" in line
    assert "slower" in line


def test_fast_math_still_knows_nan_and_inf() -> None:
    assert not {"nnan", "ninf", "fast"} & jit.FAST_MATH


@pytest.mark.parametrize(
    "array", [np.ones((2, 3)), np.ones((2, 3)).T, np.ones(8)[::2], np.ones(()), np.broadcast_to(1.0, (2, 2))]
)
def test_contiguous_is_one_form_for_every_array(array: np.ndarray) -> None:
    before = array.flags.writeable
    form = contiguous(array)
    assert form.flags.c_contiguous
    assert not form.flags.writeable
    assert array.flags.writeable == before
    np.testing.assert_array_equal(form.reshape(array.shape), array)
    if array.flags.c_contiguous:
        assert np.shares_memory(form, array)


FORK = """
import multiprocessing, os, sys, threading
import numpy as np
from minidbp.kernels import jit

{double}

def in_child():
    out = np.zeros(3)
    jit.kernel(double)(np.arange(3.0), out)
    os._exit(0 if out.tolist() == [0, 2, 4] else 1)

def hold(lock, held):
    with lock:
        held.set()
        threading.Event().wait(0.3)  # the fork comes meanwhile

numba_lock = __import__("numba.core.compiler_lock").core.compiler_lock.global_compiler_lock
for lock in jit._compiling, numba_lock:
    for how in "os", "multiprocessing":
        held = threading.Event()
        thread = threading.Thread(target=hold, args=(lock, held))
        thread.start()
        held.wait()
        if how == "os":
            if not (child := os.fork()):
                in_child()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        else:
            child = multiprocessing.get_context("fork").Process(target=in_child)
            child.start()
            child.join()
            print(child.exitcode)
        thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_a_thread_compiles_does_not_hang_the_child(tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(FORK.format(double=inspect.getsource(double)))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", script]  # Python 3.12 warns of forks with threads
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["0"] * 4, result.stderr

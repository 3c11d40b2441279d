from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

"""Arrays from the pool: aligned, apart from each other as long as anything refers to them, and used again after."""

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest

from minidbp.kernels.fast import buffers
from minidbp.kernels.fast.buffers import CACHE_LINE, SMALL, empty
from minidbp.kernels.jit import contiguous


@pytest.fixture(autouse=True)
def no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_free", {})
    monkeypatch.setattr(buffers, "_returned", [0])


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(0,), (), (3, 0, 2), (10,), (1000, 3), (7, 11, 13, 17), (1 << 20,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_, np.complex128])
def test_shape_dtype_and_alignment(shape: tuple[int, ...], dtype: type) -> None:
    array = empty(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address(array) % CACHE_LINE == 0 or array.nbytes < SMALL
    array[...] = 1


def test_memory_comes_back() -> None:
    array = empty((100, 100), np.float32)
    first = address(array)
    assert buffers.pooled_bytes() == 0
    del array
    assert buffers.pooled_bytes() >= 40_000
    again = empty((10_000,), np.float32)  # another shape of the same size
    assert address(again) == first
    assert buffers.pooled_bytes() == 0


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slice": lambda a: a[1:],
    "slice of a slice": lambda a: a[1:][2:],
    "reshape": lambda a: a.reshape(-1),
    "transpose of a reshape": lambda a: a.reshape(10, -1).T,
    "view": lambda a: a.view(),
    "another dtype": lambda a: a.view(np.uint8),
    "contiguous": lambda a: contiguous(a.reshape(5, -1)),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "new axis": lambda a: a[None],
    "real part": lambda a: a.real,
    "as an array": lambda a: np.asarray(a),
    "strided": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, axis=0),
}


@pytest.mark.parametrize("view", VIEWS)
def test_not_as_long_as_a_view_is_left(view: str) -> None:
    array = empty((100, 100), np.float32)
    left = VIEWS[view](array)
    del array
    gc.collect()
    assert buffers.pooled_bytes() == 0
    del left
    gc.collect()
    assert buffers.pooled_bytes() >= 40_000


@pytest.mark.parametrize("sizes", [[10_000] * 8, [10_000 * k for k in range(1, 9)], [1_000_000]])
def test_the_pool_holds_no_more_than_its_limit(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all sizes together, and however large one array is."""
    monkeypatch.setattr(buffers, "POOL_BYTES", 200_000)
    for _ in range(3):
        arrays = [empty((size,), np.float32) for size in sizes]
        del arrays
        assert buffers.pooled_bytes() <= 200_000
    for size in sizes:  # one alive at a time
        empty((size,), np.float32)
        assert buffers.pooled_bytes() <= 200_000


def test_two_threads_never_share() -> None:
    failures: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            mine = [empty((2000 + 100 * i,), np.float64) for i in range(4)]
            for array in mine:
                array[:] = number
            failures.extend(number for array in mine if not (array == number).all())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

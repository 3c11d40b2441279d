"""Threads: the order of results, errors, and BLAS held to one thread meanwhile."""

import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
import threadpoolctl
from own_models import Foreign, OwnLayer

import minidbp as mdb
from minidbp import nn
from minidbp.training import available_cores, workers
from minidbp.training.workers import footprint, shards


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    with workers(threads) as pool:
        assert pool.threads == threads
        assert pool.map(lambda i: i * i, range(50)) == [i * i for i in range(50)]
        assert pool.map(str, []) == []


def test_the_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)  # each waits for the other two
    with workers(3) as pool:
        pool.map(lambda _: meeting.wait(), range(3))
    assert not meeting.broken


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_comes_out(threads: int) -> None:
    def fail(item: int) -> int:
        raise KeyError(item)

    with workers(threads) as pool, pytest.raises(KeyError):
        pool.map(fail, [1, 2, 3])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("before", [1, 2])
def test_blas_has_one_thread_inside_and_its_own_number_after(threads: int, before: int) -> None:
    with threadpoolctl.threadpool_limits(before, user_api="blas"):
        assert set(blas_threads()) == {before}
        with workers(threads) as pool:
            assert set(blas_threads()) == {1}
            for seen in pool.map(lambda _: blas_threads(), range(4)):
                assert set(seen) == {1}
        assert set(blas_threads()) == {before}
        with pytest.raises(RuntimeError, match="planned"), workers(threads):
            raise RuntimeError("planned")
        assert set(blas_threads()) == {before}


@pytest.mark.parametrize("threads", [0, -1])
def test_less_than_one_thread(threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be at least 1; got {threads}"), workers(threads):
        raise AssertionError("the context was entered")


def test_without_a_number_there_is_a_thread_for_each_core() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    with workers() as pool:
        assert pool.threads == available_cores()


@pytest.mark.parametrize(
    ("start", "stop", "size", "expected"),
    [(0, 7, 3, [(0, 3), (3, 6), (6, 7)]), (2, 6, 2, [(2, 4), (4, 6)]), (0, 3, 9, [(0, 3)]), (4, 4, 2, [])],
)
def test_shards_cover_a_range_once(start: int, stop: int, size: int, expected: list[tuple[int, int]]) -> None:
    assert [(s.start, s.stop) for s in shards(start, stop, size)] == expected


# -- how large a shard may be -----------------------------------------------------------------------------------------

IMAGE = np.zeros((28, 28, 1), np.float32)


@pytest.mark.parametrize(("name", "largest"), [("A", 14 * 14 * 64), ("B", 28 * 28 * 128), ("C", 28 * 28)])
def test_the_footprint_of_the_papers_models(name: str, largest: int) -> None:
    """Shards, and so the order of all sums, must stay as they are."""
    measured = footprint(nn.build_model(name), IMAGE)
    assert (measured.largest, measured.classes) == (4 * largest, 10)


def test_the_footprint_of_any_model_is_that_of_its_operations() -> None:
    def wide(x: mdb.Tensor) -> mdb.Tensor:
        return (x.reshape(len(x.data), -1) @ np.ones((784, 5000), np.float32))[:, :3]

    with mdb.trace() as steps:
        measured = footprint(wide, IMAGE)
    assert (measured.largest, measured.classes) == (20_000, 3)
    assert len(steps) == 0  # the user's trace does not see it
    assert footprint(wide, IMAGE) is measured
    for model in OwnLayer(classes=7), Foreign(classes=7), OwnLayer(classes=7).head.__call__:
        image = np.zeros(16, np.float32) if callable(getattr(model, "__func__", None)) else IMAGE
        assert footprint(model, image).classes == 7


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda x: None, TypeError, r"; got NoneType$"),
        (lambda x: x.data.reshape(1, -1), TypeError, r"; got ndarray$"),
        (lambda x: x, ValueError, r"; for one image of shape \(28, 28, 1\) it gave the shape \(1, 28, 28, 1\)$"),
        (
            lambda x: x.reshape(28, 28),
            ValueError,
            r"; for one image of shape \(28, 28, 1\) it gave the shape \(28, 28\)$",
        ),
    ],
)
def test_what_is_no_model(model: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=r"^a model must map images \(N, \.\.\.\) to logits, a Tensor \(N, c\)" + message):
        footprint(model, IMAGE)

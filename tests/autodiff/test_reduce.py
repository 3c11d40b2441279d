"""Values, edges and errors of sum and broadcasting.  Derivatives: test_gradcheck.py."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidbp as mdb
from minidbp.autodiff import Tensor, broadcast_to, vjp
from minidbp.autodiff import sum as sum_

A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, 2, (0, 2), (-1, 0), (), np.int64(1)])
def test_sum_is_numpys(axis: Any, keepdims: bool) -> None:
    np.testing.assert_array_equal(sum_(A, axis, keepdims).data, A.sum(axis, keepdims=keepdims))
    np.testing.assert_array_equal(Tensor(A).sum(axis, keepdims=keepdims).data, A.sum(axis, keepdims=keepdims))


@pytest.mark.parametrize(
    ("shape", "axis", "result"), [((0, 3), 0, (3,)), ((0, 3), 1, (0,)), ((0,), None, ()), ((2, 0, 3), (0, 1), (3,))]
)
def test_sums_over_nothing_are_zero(shape: tuple[int, ...], axis: Any, result: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = x.sum(axis)
    np.testing.assert_array_equal(y.data, np.zeros(result))
    assert mdb.grad(y, x, np.ones((4, *result)))[0].shape == (4, *shape)


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (0, 5)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "logsumexp"])
def test_an_axis_that_is_not_there(name: str, axis: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: axis .* does not fit a tensor of shape \(2, 3, 4\)"):
        getattr(mdb, name)(A, axis)


def test_broadcast_to_copies_nothing() -> None:
    x = Tensor(np.ones((3, 1)))
    assert np.shares_memory(broadcast_to(x, (2, 3, 4)).data, x.data)
    assert broadcast_to(x, (3, 1)) is x


@pytest.mark.parametrize("shape", [(2, 4), (3,), ()])
def test_what_does_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"broadcast_to: a tensor of shape \(2, 3\) does not broadcast to \("):
        broadcast_to(np.ones((2, 3)), shape)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.lists(st.integers(1, 2), max_size=2))
def test_the_adjoint_of_broadcasting_sums(shapes: hnp.BroadcastableShapes, lead: list[int]) -> None:
    a, b = (np.ones(shape) for shape in shapes.input_shapes)
    g = np.random.default_rng(0).integers(-9, 9, (*lead, *shapes.result_shape)).astype(np.float64)
    for i, got in enumerate(vjp(lambda a, b: a + b, [a, b], g)[1]):
        shape = shapes.input_shapes[i]
        # by hand: bring the shape to full length with ones, then sum over all axes where it is 1
        full = (1,) * (len(shapes.result_shape) - len(shape)) + shape
        axes = tuple(len(lead) + k for k, n in enumerate(full) if n == 1)
        np.testing.assert_array_equal(got.data, g.sum(axes).reshape((*lead, *shape)))

"""Values, edges and errors of the shape operations.  Derivatives: test_gradcheck.py."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidbp as mdb
from minidbp.autodiff import Tensor, move_axis, reshape, transpose, vjp

A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (Tensor(A).reshape(6, 4), A.reshape(6, 4)),
        (Tensor(A).reshape((4, -1)), A.reshape(4, 6)),
        (Tensor(A).reshape([24]), A.reshape(24)),
        (reshape(A, np.int64(24)), A.reshape(24)),
        (Tensor(np.ones((1, 1))).reshape(), np.ones(())),
        (Tensor(np.ones((0, 3))).reshape(3, 0), np.ones((3, 0))),
        (Tensor(A).T, A.T),
        (Tensor(A).transpose(1, 0, 2), A.transpose(1, 0, 2)),
        (transpose(A, (-1, 0, 1)), A.transpose(2, 0, 1)),
        (move_axis(A, 0, -1), np.moveaxis(A, 0, -1)),
        (move_axis(A, -1, 1), np.moveaxis(A, -1, 1)),
    ],
)
def test_values_are_numpys(got: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(got.data, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reshape(A, 5, 5), r"reshape: a tensor of shape \(2, 3, 4\) cannot become \(5, 5\)"),
        (lambda: reshape(A, (-1, -1)), r"reshape: .* cannot become \(-1, -1\)"),
        (lambda: reshape(A, "ab"), "reshape: .* cannot become"),
        (lambda: transpose(A, 0, 1), r"transpose: axes \(0, 1\) are not a permutation of .* \(2, 3, 4\)"),
        (lambda: transpose(A, (0, 0, 1)), "transpose: axes"),
        (lambda: transpose(A, (0, 1, 3)), "transpose: axes"),
    ],
)
def test_what_does_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@given(st.data())
def test_indexing_is_numpys(data: st.DataObject) -> None:
    x = data.draw(hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=4), elements=st.integers(0, 99)))
    basic = hnp.basic_indices(x.shape, allow_newaxis=True)
    index = data.draw(st.one_of(basic, hnp.integer_array_indices(x.shape), st.just(x > 50)))
    y = Tensor(x, requires_grad=True)[index]
    np.testing.assert_array_equal(y.data, x[index])
    # the adjoint: <y, g> = <x, put(g)>, also behind two leading axes
    rng = np.random.default_rng(0)
    g = rng.integers(-9, 9, (3, 2, *y.shape)).astype(np.float64)
    _, back = vjp(lambda t: t[index], x, g)
    assert back.shape == (3, 2, *x.shape)
    for k in np.ndindex(3, 2):
        assert np.vdot(y.data, g[k]) == np.vdot(x, back.data[k])


@pytest.mark.parametrize(
    "index", [[], ([], 0), True, (Ellipsis, 0), (0, None), (slice(None), [True, False, True]), np.int8(1), (0, [1], 0)]
)
def test_rarer_indices_are_numpys(index: Any) -> None:
    np.testing.assert_array_equal(Tensor(A)[index].data, A[tuple(index) if isinstance(index, tuple) else index])


def test_an_element_picked_twice_receives_both_cotangents() -> None:
    x = Tensor(np.zeros(3), requires_grad=True)
    assert mdb.grad(x[[0, 2, 0]], x, np.array([1.0, 10.0, 100.0]))[0].data.tolist() == [101, 0, 10]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (2, "out of bounds"),
        ((0, 0, 0, 0), r"getitem: 4 indices are too many for a tensor of shape \(2, 3, 4\)"),
        (np.ones((2, 3, 4, 1), bool), "4 indices are too many"),
        (1.0, "getitem: an index must be .* got 1.0"),
        ([0.5], "getitem: an index must be"),
        ("a", "getitem: an index must be"),
        (Tensor([0.0]), "getitem: an index must be"),
        ((Ellipsis, Ellipsis), "one Ellipsis"),
    ],
)
def test_wrong_indices(index: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        Tensor(A)[index]


def test_iteration_stops() -> None:
    assert [row.data.tolist() for row in Tensor(A[:, 0, :2])] == A[:, 0, :2].tolist()
    with pytest.raises(TypeError, match="has no length"):
        list(Tensor(1.0))

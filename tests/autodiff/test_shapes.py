"""Values and errors of the sums, and of what acts on axes and indices.  Derivatives: test_derivatives.py."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidbp as mdb
from minidbp.autodiff import (
    Tensor,
    broadcast_to,
    concatenate,
    expand_dims,
    moveaxis,
    reshape,
    squeeze,
    stack,
    transpose,
    vjp,
)
from minidbp.autodiff import sum as sum_

CUBE = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, 2, (0, 2), (-1, 0), (), np.int64(1)])
def test_sum_is_numpys(axis: Any, keepdims: bool) -> None:
    np.testing.assert_array_equal(sum_(CUBE, axis, keepdims).data, CUBE.sum(axis, keepdims=keepdims))
    np.testing.assert_array_equal(Tensor(CUBE).sum(axis, keepdims=keepdims).data, CUBE.sum(axis, keepdims=keepdims))


@pytest.mark.parametrize(
    ("shape", "axis", "result"), [((0, 3), 0, (3,)), ((0, 3), 1, (0,)), ((0,), None, ()), ((2, 0, 3), (0, 1), (3,))]
)
def test_sums_over_nothing_are_zero(shape: tuple[int, ...], axis: Any, result: tuple[int, ...]) -> None:
    x = Tensor(np.ones(shape), requires_grad=True)
    y = x.sum(axis)
    np.testing.assert_array_equal(y.data, np.zeros(result))
    assert mdb.grad(y, x, np.ones((4, *result)))[0].shape == (4, *shape)


def test_broadcast_to_copies_nothing() -> None:
    x = Tensor(np.ones((3, 1)))
    assert np.shares_memory(broadcast_to(x, (2, 3, 4)).data, x.data)


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


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (Tensor(CUBE).reshape(6, 4), CUBE.reshape(6, 4)),
        (Tensor(CUBE).reshape((4, -1)), CUBE.reshape(4, 6)),
        (Tensor(CUBE).reshape([24]), CUBE.reshape(24)),
        (reshape(CUBE, np.int64(24)), CUBE.reshape(24)),
        (Tensor(np.ones((1, 1))).reshape(), np.ones(())),
        (Tensor(np.ones((0, 3))).reshape(3, 0), np.ones((3, 0))),
        (Tensor(CUBE).T, CUBE.T),
        (Tensor(CUBE).transpose(1, 0, 2), CUBE.transpose(1, 0, 2)),
        (transpose(CUBE, (-1, 0, 1)), CUBE.transpose(2, 0, 1)),
        (moveaxis(CUBE, 0, -1), np.moveaxis(CUBE, 0, -1)),
        (moveaxis(CUBE, -1, 1), np.moveaxis(CUBE, -1, 1)),
        (moveaxis(CUBE, (0, 1), (-1, 0)), np.moveaxis(CUBE, (0, 1), (-1, 0))),
        (moveaxis(CUBE, [2, 0], [0, 1]), np.moveaxis(CUBE, [2, 0], [0, 1])),
        (expand_dims(CUBE, [0, 1]), np.expand_dims(CUBE, (0, 1))),
        (expand_dims(CUBE, 1), np.expand_dims(CUBE, 1)),
        (expand_dims(CUBE, -1), np.expand_dims(CUBE, -1)),
        (expand_dims(CUBE, (3, 0)), np.expand_dims(CUBE, (3, 0))),
        (squeeze(CUBE[:1, :, :1]), np.squeeze(CUBE[:1, :, :1])),
        (Tensor(CUBE[:1, :, :1]).squeeze(-1), np.squeeze(CUBE[:1, :, :1], -1)),
        (squeeze(CUBE[:1, :, :1], (0, -1)), np.squeeze(CUBE[:1, :, :1], (0, -1))),
        (squeeze(CUBE), CUBE),
        (concatenate([CUBE, Tensor(CUBE[1:])]), np.concatenate([CUBE, CUBE[1:]])),
        (concatenate((CUBE, CUBE[:, :0], CUBE[:, 1:]), -2), np.concatenate((CUBE, CUBE[:, 1:]), 1)),
        (concatenate([CUBE, 5.0, [1, 2]], axis=None), np.concatenate([CUBE, 5.0, [1, 2]], axis=None)),
        (concatenate(Tensor(CUBE)), np.concatenate(CUBE)),
        (stack([CUBE, Tensor(-CUBE)]), np.stack([CUBE, -CUBE])),
        (stack([CUBE, CUBE + 1], 1), np.stack([CUBE, CUBE + 1], 1)),
        (stack((t for t in (CUBE, CUBE)), -1), np.stack([CUBE, CUBE], -1)),
        (stack([1.0, Tensor(2.0)]), np.stack([1.0, 2.0])),
    ],
)
def test_values_are_numpys(got: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(got.data, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reshape(CUBE, 5, 5), r"reshape: a tensor of shape \(2, 3, 4\) cannot become \(5, 5\)"),
        (lambda: reshape(CUBE, (-1, -1)), r"reshape: .* cannot become \(-1, -1\)"),
        (lambda: reshape(CUBE, "ab"), "reshape: .* cannot become"),
        (lambda: transpose(CUBE, 0, 1), r"transpose: axes \(0, 1\) are not a permutation of .* \(2, 3, 4\)"),
        (lambda: transpose(CUBE, (0, 0, 1)), "transpose: axes"),
        (lambda: transpose(CUBE, (0, 1, 3)), "transpose: axes"),
        (lambda: moveaxis(CUBE, 3, 0), r"moveaxis: axis 3 does not fit a tensor of shape \(2, 3, 4\)"),
        (lambda: moveaxis(CUBE, 0, -4), "moveaxis: axis -4 does not fit"),
        (lambda: moveaxis(CUBE, (0, 0), (0, 1)), r"moveaxis: axis \(0, 0\) does not fit"),
        (lambda: moveaxis(CUBE, (0, 1), 0), r"moveaxis: source \(0, 1\) and destination 0 must be equally many axes"),
        (lambda: expand_dims(CUBE, 4), r"expand_dims: axis 4 does not fit a tensor of shape \(2, 3, 4\)"),
        (lambda: expand_dims(CUBE, (0, 0)), r"expand_dims: axis \(0, 0\) does not fit"),
        (lambda: squeeze(CUBE, 3), "squeeze: axis 3 does not fit"),
        (lambda: squeeze(CUBE, 1), r"squeeze: axis 1 of a tensor of shape \(2, 3, 4\) does not have size 1"),
        (lambda: concatenate([]), "concatenate: there must be at least one tensor"),
        (lambda: concatenate([1.0, 2.0]), r"concatenate: axis 0 does not fit a tensor of shape \(\)"),
        (lambda: concatenate([CUBE, CUBE], 3), "concatenate: axis 3 does not fit"),
        (lambda: concatenate([CUBE, CUBE[0]]), r"concatenate: shapes \(2, 3, 4\) and \(3, 4\) do not fit .* axis 0"),
        (lambda: concatenate([CUBE, CUBE[1:]], 1), r"\(2, 3, 4\) and \(1, 3, 4\) do not fit together along axis 1"),
        (lambda: stack([]), "stack: there must be at least one tensor"),
        (lambda: stack([CUBE, CUBE[0]]), r"stack: all shapes must be the same; got \(2, 3, 4\) and \(3, 4\)"),
        (lambda: stack([CUBE], 4), "stack: axis 4 does not fit"),
    ],
)
def test_what_does_not_fit(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("axis", [1.5, "a", (0, 0.5), [None]])
@pytest.mark.parametrize("f", [sum_, squeeze, expand_dims, lambda x, axis: moveaxis(x, axis, 0)])
def test_what_is_no_axis(f: Any, axis: Any) -> None:
    with pytest.raises(TypeError, match=": an axis must be a whole number; got "):
        f(CUBE, axis)


@pytest.mark.parametrize("f", [concatenate, stack])
def test_what_cannot_be_joined(f: Any) -> None:
    with pytest.raises(TypeError, match=f"{f.__name__}: the axis must be a whole number; got Tensor"):
        f(CUBE, Tensor(CUBE))  # the parentheses around both were forgotten
    with pytest.raises(TypeError, match=f"{f.__name__}: the first argument must be a list of tensors; got float"):
        f(1.0)
    with pytest.raises(TypeError, match=f"{f.__name__}: operands must have one dtype; got float64 and float32"):
        f([Tensor(CUBE), Tensor(CUBE.astype("float32"))])
    assert f([Tensor(CUBE.astype("float32")), CUBE]).dtype == np.float32  # a constant takes the Tensor's


def test_each_joined_tensor_receives_its_part() -> None:
    x, y = Tensor(np.ones((2, 1)), requires_grad=True), Tensor(np.ones((2, 2)), requires_grad=True)
    g = np.arange(30.0).reshape(5, 2, 3)  # five cotangents at once
    for_x, for_y = mdb.grad(concatenate([x, y], 1), [x, y], g)
    np.testing.assert_array_equal(for_x.data, g[..., :1])
    np.testing.assert_array_equal(for_y.data, g[..., 1:])


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
    np.testing.assert_array_equal(Tensor(CUBE)[index].data, CUBE[tuple(index) if isinstance(index, tuple) else index])


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
        Tensor(CUBE)[index]


def test_iteration_stops() -> None:
    assert [row.data.tolist() for row in Tensor(CUBE[:, 0, :2])] == CUBE[:, 0, :2].tolist()
    with pytest.raises(TypeError, match="has no length"):
        list(Tensor(1.0))


@st.composite
def mixed_indices(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and an index of any mixture of numbers, slices, None, an Ellipsis, integer and Boolean arrays."""
    shape = draw(st.lists(st.integers(2, 3), min_size=0, max_size=4).map(tuple))
    array_shapes = st.sampled_from([(2,), (2,), (2,), (2, 1), ()])
    parts: list[Any] = []
    axis = 0
    end = draw(st.sampled_from([len(shape), len(shape), max(0, len(shape) - 1)]))  # the last axis may be left out
    while axis < end:
        n = shape[axis]
        kind = draw(st.sampled_from(["number", "slice", "slice", "integers", "integers", "list", "list", "Booleans"]))
        if kind == "Booleans":
            taken = draw(st.integers(1, min(2, len(shape) - axis)))
            parts.append(draw(hnp.arrays(bool, shape[axis : axis + taken])))
            axis += taken
            continue
        if kind == "number":
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            parts.append(draw(st.slices(n)))
        else:
            array = draw(hnp.arrays(np.int64, array_shapes, elements=st.integers(-n, n - 1)))
            parts.append(array.tolist() if kind == "list" and array.ndim else array)
        axis += 1
    extras = st.lists(st.sampled_from([None, True, False, np.True_]), max_size=2)
    for part in [*draw(st.sampled_from([[...], [...], []])), *draw(extras)]:
        parts.insert(draw(st.integers(0, len(parts))), part)
    return shape, tuple(parts)


ZERO_AXES = [
    ((2, 2, 2), (slice(None), [0, 1], ..., [0, 1])),
    ((2, 2, 2), ([0, 1], ..., [0, 1])),
    ((2, 2, 2), (slice(None), 0, ..., [0, 1])),
    ((2, 2, 2), (slice(None), [0, 1], ..., 1)),
    ((2, 2, 2), (slice(None), [0, 1], None, ..., [0, 1])),
    ((2, 2, 2), (slice(None), [0, 1], ..., None, [0, 1])),
    ((2, 2), (..., [0, 1], [0, 1])),
    ((2, 2), ([0, 1], [0, 1], ...)),
    ((2, 2), (..., np.array([[True, False], [True, True]]))),
    ((2, 2, 2), (None, [0, 1], ..., slice(1), [0, 1])),
    ((), (...,)),
    ((2, 2), (slice(None), 0, ...)),
]


@pytest.mark.parametrize(("shape", "index"), ZERO_AXES)
def test_an_ellipsis_of_no_axes_is_numpys(shape: tuple[int, ...], index: tuple[Any, ...]) -> None:
    check_indexing(shape, index)


@given(mixed_indices())
@settings(max_examples=400)
def test_every_mixture_of_indices_is_numpys(problem: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, index = problem
    try:
        np.zeros(shape)[index]
    except IndexError:
        with pytest.raises(IndexError):
            Tensor(np.zeros(shape))[index]
        return
    check_indexing(shape, index)


def check_indexing(shape: tuple[int, ...], index: tuple[Any, ...]) -> None:
    """Value and three derivatives of `<g, x[index]^3>`, with leading axes, against the flat positions of elements."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal(shape), requires_grad=True)
    positions = np.arange(x.size).reshape(shape)[index]

    def pick(array: np.ndarray) -> np.ndarray:
        """array[index] behind array's leading axes."""
        return array.reshape((*array.shape[: array.ndim - x.ndim], -1))[..., positions]

    def put(array: np.ndarray) -> np.ndarray:
        """The adjoint of `pick`."""
        lead = array.shape[: array.ndim - positions.ndim]
        result = np.zeros((*lead, x.size))
        np.add.at(result, (..., positions), array)
        return result.reshape((*lead, *shape))

    y = x[index]
    np.testing.assert_array_equal(y.data, x.data[index])
    assert y.shape == x.data[index].shape
    g, u, v = rng.standard_normal((2, *y.shape)), rng.standard_normal((2, *shape)), rng.standard_normal(shape)
    (first,) = mdb.grad(y**3, x, g, create_graph=True)
    np.testing.assert_allclose(first.data, put(3 * y.data**2 * g), rtol=1e-12, atol=1e-14)
    (second,) = mdb.grad((first * u).sum(), x, create_graph=True)
    weights = (g * pick(u)).sum(0)
    np.testing.assert_allclose(second.data, put(6 * y.data * weights), rtol=1e-12, atol=1e-14)
    (third,) = mdb.grad((second * v).sum(), x)
    np.testing.assert_allclose(third.data, put(6 * pick(v) * weights), rtol=1e-12, atol=1e-14)

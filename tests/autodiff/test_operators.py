"""Comparisons, formats and the other things that Python does with a number or an array."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor
from minidbp.autodiff.tensor import recorded_pattern

COMPARISONS = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}
A = np.array([[1.0, 2.0, np.nan], [-0.0, np.inf, 0.1]])
OTHERS = {
    "float": 2.0,
    "int": 0,
    "bool": True,
    "np.float32": np.float32(0.1),
    "array": np.array([[1.0, 3.0, np.nan], [0.0, np.inf, 0.1]]),
    "row": np.array([0, 2, 5]),
    "0-d array": np.array(0.1),
    "list": [1.0, 2.0, 3.0],
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_comparisons_are_numpys(compare: Callable[[Any, Any], Any], other: Any, dtype: type) -> None:
    for array in A.astype(dtype), A[0].astype(dtype), A[0, 0].astype(dtype):
        x = Tensor(array, requires_grad=True)
        expected, mirrored = compare(np.asarray(array), other), compare(other, np.asarray(array))
        pairs = [(compare(x, other), expected), (compare(other, x), mirrored)]
        if isinstance(other, np.ndarray):
            pairs += [(compare(x, Tensor(other)), expected), (compare(Tensor(other), x), mirrored)]
        for result, wanted in pairs:
            assert type(result) is type(wanted)
            assert result.dtype == bool
            np.testing.assert_array_equal(result, wanted)


def test_the_accuracy_of_a_prediction() -> None:
    prediction, labels = Tensor([3.0, 1.0, 2.0, 0.0], requires_grad=True), np.array([3, 1, 0, 0])
    assert np.mean(prediction == labels) == np.mean(labels == prediction) == 0.75
    assert np.mean(prediction != labels) == 0.25


def test_what_is_no_number() -> None:
    x = Tensor([1.0, 2.0])
    for other in None, "a", {}:
        assert (x == other).tolist() == [False, False]
        assert (x != other).tolist() == [True, True]
    assert bool(Tensor(1.0) != None)  # noqa: E711
    for compare in operator.lt, operator.ge:
        with pytest.raises(TypeError):
            compare(x, "a")
    with pytest.raises(ValueError, match=r"\(2,\) \(3,\)"):
        _ = x == np.ones(3)


def test_tensors_are_keys() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert {x: 1, y: 2} == {x: 1, y: 2}
    assert len({x, y, x}) == 2
    assert hash(x) == hash(x)


def test_membership_is_numpys() -> None:
    x = Tensor([[1.0, 2.0], [3.0, np.nan]], requires_grad=True)
    assert 3.0 in x
    assert 3 in x
    assert 4.0 not in x
    assert np.nan not in x
    assert None not in x
    assert [1.0, 2.0] in x
    assert x[0, 0] in x
    assert 2.0 in Tensor(2.0)


def test_iteration_is_over_the_first_axis() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    assert mdb.grad((first * second).sum(), x)[0].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert [row.tolist() for row in reversed(x)] == [[3.0, 4.0], [1.0, 2.0]]
    with pytest.raises(TypeError, match=r"shape \(\) has no length"):
        iter(Tensor(1.0))


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_is_part_of_the_pattern(name: str) -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    with recorded_pattern() as pattern:
        mask = COMPARISONS[name](x, 2.0)
        expected = mask.copy()
        mask[:] = False  # the pattern has its own copy
        assert bool(x.sum()) is True
    assert [kind for kind, _ in pattern] == [name, "not_equal"]
    np.testing.assert_array_equal(pattern[0][1], expected)


def test_the_check_sees_a_comparison() -> None:
    """At the kink itself, a branch or a mask makes the check say so."""

    def branch(x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x * 3

    def mask(x: Tensor) -> Tensor:
        return x * np.where(x > 0, 2.0, 3.0)

    for f in branch, mask:
        assert mdb.gradcheck(f, np.array([0.5, 1.0]))
        assert mdb.gradcheck(f, np.array([-0.5, -1.0]))
    with pytest.raises(mdb.NotDifferentiableError, match="greater"):
        mdb.gradcheck(mask, np.array([0.0, 1.0]))


def test_a_complex_step_compares_real_parts() -> None:
    def f(x: Tensor) -> Tensor:
        return (x * x * np.where(x > 0.5, 2.0, 3.0)).sum()

    np.testing.assert_allclose(mdb.complex_step_hvp(f, np.array([1.0, 0.1]), np.ones(2)), [4.0, 6.0])


def test_plus_abs_and_copy_are_operations() -> None:
    x = Tensor([-1.0, 2.0], requires_grad=True)
    assert abs(x).tolist() == [1.0, 2.0]
    assert mdb.grad(abs(x).sum(), x)[0].tolist() == [-1.0, 1.0]
    for same in +x, x.copy():
        assert same is not x
        assert same.tolist() == [-1.0, 2.0]
        assert mdb.grad((same * same).sum(), x)[0].tolist() == [-2.0, 4.0]
    with pytest.raises(ValueError, match="only a leaf"):
        x.copy().data = np.zeros(2)


def test_tolist() -> None:
    assert Tensor([[1.0, 2.0]], requires_grad=True).tolist() == [[1.0, 2.0]]
    assert type(Tensor(2.5).tolist()) is float


def test_a_tensor_of_one_value_can_be_formatted() -> None:
    loss = Tensor([1.0, 2.0], requires_grad=True).sum()
    assert f"{loss:.3f} {Tensor([[2.5]]):>6.1e}" == "3.000 2.5e+00"
    assert f"{loss}" == str(loss) == "Tensor(3., float64, made by sum)"
    assert f"{Tensor([1.0, 2.0])}" == "Tensor([1., 2.], float64)"
    with pytest.raises(TypeError, match=r"'.3f' needs a tensor of one value; this one has shape \(2,\)"):
        f"{Tensor([1.0, 2.0]):.3f}"
    with pytest.raises(ValueError, match="format"):
        f"{loss:nonsense}"

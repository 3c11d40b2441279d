import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor, as_tensor, locally_constant, masked, vjp

# --- what a Tensor holds ---


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.ones(2, np.float32), np.float32),
        (np.ones(2), np.float64),
        (np.ones(2, np.int32), np.float64),
        (np.ones(2, np.uint8), np.float64),
        (np.array([True]), np.float64),
        (3, np.float64),
        (2.5, np.float64),
        (True, np.float64),
        (np.float32(1), np.float32),
        ([[1, 2], [3, 4]], np.float64),
        (Tensor(np.ones(2, np.float32)), np.float32),
    ],
)
def test_dtype(value: Any, dtype: type) -> None:
    t = Tensor(value)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.data, np.asarray(value))


@pytest.mark.parametrize("value", [1j, "3", None, np.ones(2, np.float16), np.ones(2, np.longdouble), np.array([{}])])
def test_what_is_not_a_real_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="Tensor holds float32 or float64; got "):
        Tensor(value)
    if value is not None and np.asarray(value).dtype.kind != "f":  # as an operand, any float takes the other's dtype
        with pytest.raises(TypeError, match="Tensor holds float32 or float64; got "):
            Tensor(1.0) + value


def test_attributes() -> None:
    t = Tensor(np.ones((2, 3)), requires_grad=True, name="W1")
    assert (t.shape, t.ndim, t.size, len(t), t.name, t.grad) == ((2, 3), 2, 6, 2, "W1", None)
    assert t.numpy() is t.data
    assert np.asarray(t).tolist() == t.data.tolist()
    assert np.asarray(t, np.float32).dtype == np.float32
    assert float(Tensor([2.5])) == Tensor([[2.5]]).item() == 2.5
    assert bool(Tensor(1.0))
    assert not Tensor(0.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Tensor([1.0, 2.0]).item(), ValueError, r"item\(\) needs a tensor of one value; .* shape \(2,\)"),
        (lambda: float(Tensor([])), ValueError, r"shape \(0,\)"),
        (lambda: len(Tensor(1.0)), TypeError, r"shape \(\) has no length"),
        (lambda: bool(Tensor([1.0, 2.0])), ValueError, "ambiguous"),
    ],
)
def test_what_a_tensor_refuses(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_repr_says_what_it_is() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    assert repr(x) == "Tensor([1., 2.], float64, requires_grad=True, name='x')"
    assert repr(x * 2) == "Tensor([2., 4.], float64, made by multiply)"
    assert repr(Tensor(np.float32(1))) == "Tensor(1., float32)"


# --- nobody changes what a graph needs ---


def test_the_users_array_may_change_afterwards() -> None:
    array, factor, mask = np.ones(3), np.full(3, 2.0), np.array([True, False, True])
    index = np.array([0, 1])
    x = Tensor(array, requires_grad=True)
    y = masked(x * factor, mask)[index]
    array[:], factor[:], mask[:], index[:] = 7, 7, False, 2
    assert x.data.tolist() == [1, 1, 1]
    assert mdb.grad(y.sum(), x)[0].data.tolist() == [2, 0, 0]


def test_data_is_read_only(op: Any) -> None:
    inputs = [Tensor(x, requires_grad=True) for x in op.inputs]
    y = op.f(*inputs)
    gradients = mdb.grad(y, inputs, np.ones(y.shape))
    for t in (*inputs, y, y.detach(), *gradients):
        assert not t.data.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            t.data[...] = 0


def test_a_leaf_can_be_given_new_data() -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    shared, new = x.detach(), np.zeros(2)
    x.data = new
    new[:] = 5
    assert x.data.tolist() == [0, 0]
    assert shared.data.tolist() == [1, 1]
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"'x' must be float64 of shape \(2,\); got float64 of shape \(3,\)"),
        (np.ones(2, np.float32), "got float32"),
        (1.0, r"shape \(\)"),
    ],
)
def test_new_data_must_fit(array: Any, message: str) -> None:
    x = Tensor(np.ones(2), name="x")
    with pytest.raises(ValueError, match=message):
        x.data = array


def test_a_result_cannot_be_given_new_data() -> None:
    y = Tensor(np.ones(2), requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"only a leaf can be given new data; .* was made by multiply"):
        y.data = np.ones(2)


def test_a_result_cannot_be_cut_out_of_the_graph() -> None:
    """The derivative was (2.7, 14.8, 60.3): it lacked the paths through y."""
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mdb.exp(x) * x
    loss = (y * x).sum()
    for value in False, 0, None:
        with pytest.raises(ValueError, match=r"requires_grad of .* cannot be changed, because multiply made it: use"):
            y.requires_grad = value  # type: ignore[assignment]
    y.requires_grad = True
    np.testing.assert_allclose(mdb.grad(loss, x)[0].data, np.exp(x.data) * x.data * (x.data + 2), rtol=1e-14)


def test_a_leaf_can_be_switched() -> None:
    x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    for leaf in x, x.detach(), Tensor([1.0]) * 2:  # nothing is recorded of constants: their product is a leaf too
        leaf.requires_grad = np.bool_(True)  # type: ignore[assignment]
        assert leaf.requires_grad is True
        assert mdb.grad((leaf * leaf).sum(), leaf)[0].tolist() == (2 * leaf).tolist()
    loss = (x * w).sum()
    w.requires_grad = False
    assert mdb.grad(loss, x)[0].tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match=r"input 0 .* does not require a gradient"):
        mdb.grad(loss, w)
    assert not (w * 2).requires_grad


def test_locally_constant_is_read_only_and_an_array() -> None:
    for value in np.ones(2), np.float64(1) > 0, np.sign(np.float64(3)):
        assert not locally_constant(value).flags.writeable
        assert isinstance(locally_constant(value), np.ndarray)


def test_detach_is_a_constant() -> None:
    x = Tensor(np.ones(2), requires_grad=True, name="x")
    assert not x.detach().requires_grad
    assert np.shares_memory(x.detach().data, x.data)
    assert mdb.grad((x * x.detach()).sum(), x)[0].data.tolist() == [1, 1]


def test_as_tensor_hands_a_tensor_on() -> None:
    x = Tensor(1.0)
    assert as_tensor(x) is x
    assert as_tensor(x, np.dtype(np.float32)) is x
    assert as_tensor(1, np.dtype(np.float32)).dtype == np.float32


def test_nothing_is_remembered_without_need() -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    assert (Tensor(np.ones(2)) * 2)._node is None
    with mdb.no_grad():
        assert (x * 2)._node is None
        assert not (x * 2).requires_grad


# --- dtypes ---


def test_float32_stays_float32(op: Any) -> None:
    inputs = [Tensor(x.astype(np.float32), requires_grad=True) for x in op.inputs]
    exact = [Tensor(x.data.astype(np.float64), requires_grad=True) for x in inputs]
    v = np.random.default_rng(0).standard_normal(op.f(*inputs).shape)
    y, gradients = vjp(op.f, inputs, v, create_graph=True)
    y64, gradients64 = vjp(op.f, exact, v)
    # inputs are at most 3 and sums short: 1e-5 of the largest value is some 80 roundings
    for got, expected in zip((y, *gradients), (y64, *gradients64), strict=True):
        assert got.dtype == np.float32
        scale = max(1.0, np.abs(expected.data).max(initial=0))
        np.testing.assert_allclose(got.data, expected.data, rtol=0, atol=1e-5 * scale)
    again = [g for g in gradients if g.requires_grad]
    assert all(g.dtype == np.float32 for g in mdb.vjp(lambda *xs: sum_all(op.f(*xs)), inputs, 1.0)[1] + tuple(again))


def sum_all(y: Tensor) -> Tensor:
    return (y * y).sum()


F32 = Tensor(np.array([1.0, 2.0, 3.0], np.float32), requires_grad=True)
CONSTANTS = {
    "float": 2.0,
    "int": 2,
    "np.float64": np.float64(2),
    "float64 array": np.full(3, 2.0),
    "int array": np.full(3, 2),
    "0-d array": np.array(2.0),
    "list": [2.0, 2.0, 2.0],
}


@pytest.mark.parametrize("constant", CONSTANTS.values(), ids=CONSTANTS)
@pytest.mark.parametrize(
    ("f", "value"),
    [
        (lambda x, c: x + c, [3, 4, 5]),
        (lambda x, c: c + x, [3, 4, 5]),
        (lambda x, c: x - c, [-1, 0, 1]),
        (lambda x, c: c - x, [1, 0, -1]),
        (lambda x, c: x * c, [2, 4, 6]),
        (lambda x, c: c * x, [2, 4, 6]),
        (lambda x, c: x / c, [0.5, 1, 1.5]),
        (lambda x, c: c / x, [2, 1, 2 / 3]),
        (lambda x, c: x**c, [1, 4, 9]),
        (lambda x, c: c**x, [2, 4, 8]),
        (mdb.maximum, [2, 2, 3]),
        (lambda x, c: mdb.maximum(c, x), [2, 2, 3]),
    ],
)
def test_a_constant_takes_the_tensors_dtype(f: Callable[..., Tensor], value: list[float], constant: Any) -> None:
    y = f(F32, constant)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, value, rtol=1e-6)
    assert mdb.grad(y.sum(), F32)[0].dtype == np.float32


F64 = Tensor(np.ones(3))
IMAGE, FILTER = np.ones((1, 3, 3, 1)), Tensor(np.ones((2, 2, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: F32 + F64, "add"),
        (lambda: F64 - F32, "subtract"),
        (lambda: F32 * F64, "multiply"),
        (lambda: F64 / F32, "divide"),
        (lambda: F32**F64, "power"),
        (lambda: mdb.maximum(F32, F64), "maximum"),
        (lambda: F32 @ F64, "matmul"),
        (lambda: mdb.conv2d(Tensor(IMAGE), FILTER), "conv2d"),
        (lambda: mdb.conv2d(IMAGE, FILTER, Tensor([1.0])), "conv2d"),
        (lambda: mdb.conv2d_transpose(Tensor(IMAGE), FILTER, (4, 4)), "conv2d_transpose"),
        (lambda: mdb.conv2d_weight_grad(Tensor(IMAGE), FILTER, (2, 2)), "conv2d_weight_grad"),
    ],
)
def test_two_tensors_of_different_dtype(call: Callable[[], Tensor], name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: operands must have one dtype; got float\d\d and float\d\d"):
        call()


# --- values that are not finite ---


def test_nan_in_gives_nan_out(op: Any) -> None:
    for i in range(len(op.inputs)):
        inputs = [np.full(x.shape, np.nan) if i == k else x for k, x in enumerate(op.inputs)]
        y = op.f(*map(Tensor, inputs))
        assert np.isnan(y.data).all() == (not op.hides_nan)


@pytest.mark.parametrize(
    "call",
    [lambda a: np.stack([a, a]), lambda a: np.concatenate([a, a]), np.sum, np.mean, np.exp, lambda a: np.maximum(a, 0)],
)
def test_numpy_does_not_drop_a_derivative_without_a_word(call: Any) -> None:
    a = mdb.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError):
        call(a)
    with pytest.raises(TypeError, match="a list of Tensors is not a Tensor"):
        a * [a[0], a[1]]


def test_numpy_may_look_on_purpose() -> None:
    a = mdb.Tensor([1.0, 2.0], requires_grad=True)
    assert np.asarray(a * 2).tolist() == [2.0, 4.0]
    np.testing.assert_allclose(a * 2, [2.0, 4.0])


def test_a_view_of_a_frozen_array_does_not_reach_in() -> None:
    x = np.ones(3)
    view = x[:]
    x.flags.writeable = False
    t = mdb.Tensor(x)
    view[0] = 5.0
    assert t.data.tolist() == [1.0, 1.0, 1.0]


@mdb.operation
def two_rules(x: Tensor) -> Any:
    """`x`, with a rule too many."""
    return x.data, lambda g, out: g, lambda g, out: g


@mdb.operation
def no_rule(x: Tensor) -> Any:
    """`x`, without a rule."""
    return x.data


@mdb.operation
def whole_number(x: Tensor) -> Any:
    """`1`, as an integer."""
    return np.array([1]), lambda g, out: g


@mdb.operation
def scaled(x: Tensor, y: Tensor, factor: float = 1.0, *, power: int = 1) -> Any:
    """`factor * (x * y)`, to a power."""
    value = factor * (x.data * y.data) ** power
    return value, lambda g, out: g * factor * y, lambda g, out: g * factor * x


def test_an_operation_checks_what_it_is_given() -> None:
    a = mdb.Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"two_rules needs a rule for each of its 1 operands .* got 2 rules"):
        two_rules(a)
    with pytest.raises(ValueError, match=r"no_rule needs a rule for each of its 1 operands .* got 0 rules"):
        no_rule(a)
    with pytest.raises(ValueError, match="value of float32 or float64; got 1 rules and int64"):
        whole_number(a)
    with pytest.raises(TypeError, match="scaled takes x, y, factor, power; got 1 arguments"):
        scaled(a)
    with pytest.raises(TypeError, match="scaled takes x, y, factor, power; got 5 arguments"):
        scaled(a, a, 2.0, 1, 3)


def test_operands_and_static_arguments() -> None:
    """Operands by position or name, numbers among them; what is static is remembered by name and never a Tensor."""
    a = mdb.Tensor([3.0], requires_grad=True)
    for y in scaled(a, 2, 5.0), scaled(a, y=2, factor=5.0), scaled(x=a, y=2, factor=5.0):
        assert y.data.tolist() == [30.0]
        assert y._node is not None
        assert (y._node.name, y._node.static) == ("scaled", {"factor": 5.0})
        assert [x.data.tolist() for x in y._node.inputs] == [[3.0], 2.0]
        assert y._node.function(*y._node.inputs, **y._node.static).data.tolist() == [30.0]
        assert mdb.grad(y, a)[0].data.tolist() == [10.0]


@mdb.operation
def product_of(first: Tensor, *rest: Tensor, scale: float = 1.0) -> Any:
    """`scale * product(first, rest)`."""
    xs = [first, *rest]
    value = scale * np.prod([x.data for x in xs], axis=0)

    def rule_of(i: int) -> Any:
        return lambda g, out: functools.reduce(operator.mul, xs[:i] + xs[i + 1 :], g * scale)

    return value, *map(rule_of, range(len(xs)))


@mdb.operation
def forgets_a_rule(*xs: Tensor) -> Any:
    """`sum(xs)`, with a rule for the first operand only."""
    return np.sum([x.data for x in xs], axis=0), lambda g, out: g


@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_operation_of_any_number_of_operands(n: int) -> None:
    xs = [np.array([2.0, 3.0]) + i for i in range(n)]
    assert mdb.check_derivatives(lambda *ts: product_of(*ts, scale=0.5), xs, order=3)
    y = product_of(*map(mdb.Tensor, xs))
    np.testing.assert_array_equal(y.data, np.prod(xs, axis=0))
    x = mdb.Tensor(xs[0].astype(np.float32), requires_grad=True)
    y = product_of(x, *xs[1:], scale=2.0)  # constants take the Tensor's dtype
    assert y.dtype == np.float32
    assert y._node is not None
    assert y._node.static == {"scale": 2.0}
    assert len(y._node.inputs) == n


def test_what_an_operation_of_any_number_of_operands_refuses() -> None:
    a = mdb.Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"forgets_a_rule needs a rule for each of its 2 operands .* got 1 rules"):
        forgets_a_rule(a, a)
    with pytest.raises(TypeError, match="product_of: scale is a static argument and cannot be a Tensor"):
        product_of(a, a, scale=a)
    with pytest.raises(TypeError, match="'first'"):
        product_of()
    with pytest.raises(TypeError, match="other"):
        product_of(a, other=2)


def test_a_list_of_tensors_is_refused_at_any_depth() -> None:
    a = mdb.Tensor([1.0, 2.0], requires_grad=True)
    for value in [a, a], [[a], [a]], [[1.0, a[0]]], (a,):
        with pytest.raises(TypeError, match="a list of Tensors is not a Tensor"):
            mdb.Tensor(value)
        with pytest.raises(TypeError, match="a list of Tensors is not a Tensor"):
            a * value


def test_a_read_only_view_of_an_array_that_changes() -> None:
    """An operand is copied, whoever may still write to it."""
    values = np.ones(2)
    view = values.view()
    view.flags.writeable = False
    x = mdb.Tensor([3.0, 4.0], requires_grad=True)
    y = x * view
    values[:] = 5.0
    assert mdb.grad(y.sum(), x)[0].data.tolist() == [1.0, 1.0]


@mdb.operation
def weighted(x: Tensor, weights: Any = None) -> Any:
    """`weights * x`, for an array of weights."""
    return x.data * weights, lambda g, out: g * weights


def test_a_static_argument_is_no_tensor_and_does_not_change() -> None:
    x = mdb.Tensor([1.0, 1.0], requires_grad=True)
    with pytest.raises(TypeError, match="weighted: weights is a static argument and cannot be a Tensor"):
        weighted(x, mdb.Tensor([1.0, 2.0], requires_grad=True))
    weights = np.array([1.0, 2.0])
    y = weighted(x, weights)
    weights[:] = 100.0
    assert mdb.grad(y.sum(), x)[0].data.tolist() == [1.0, 2.0]


def test_an_argument_given_twice() -> None:
    with pytest.raises(TypeError, match="sum got axis twice"):
        mdb.sum(mdb.Tensor(np.ones((2, 3))), 0, axis=1)


@mdb.operation
def faulty(x: Tensor, w: Tensor, fault: str = "") -> Any:
    """`w x`, with a rule for w that fails."""

    def rule(g: Tensor, out: Tensor) -> Any:
        if fault == "numpy":
            return Tensor(np.zeros((2, 3)) + np.zeros(4))
        if fault == "engine":
            return (g * x).reshape(7)
        if fault == "shape":
            return (g * x).sum()
        if fault == "dtype":
            return (g * x).astype("float32")
        return (g * x).data

    return w.data * x.data, lambda g, out: g * w, rule


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("numpy", ValueError, "operands could not be broadcast together"),
        ("engine", ValueError, r"reshape: a tensor of shape \(4, 2, 3\) cannot become \(7,\)"),
    ],
)
def test_an_error_inside_a_rule_names_the_operation(fault: str, error: type[Exception], message: str) -> None:
    x, w = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(error, match=message) as caught:
        mdb.grad(faulty(x, w, fault), (x, w), np.ones((4, 2, 3)))
    assert caught.value.__notes__ == [
        "This was raised in the rule of faulty for its operand w of shape (2, 3), for a cotangent of shape (4, 2, 3): "
        "leading axes (4,) and the output's shape (2, 3)."
    ]


def test_an_error_names_one_of_many_operands() -> None:
    @mdb.operation
    def add_up(*xs: Tensor) -> Any:
        """`sum of xs`."""
        return sum(x.data for x in xs), *(lambda g, out: g.nothing for _ in xs)

    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(AttributeError) as caught:
        mdb.grad(add_up([2.0], x), x)
    assert "the rule of add_up for its operand xs[1] of shape (1,)" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", r"the rule of faulty for its operand w must return float64 of shape \(4, 2, 3\), leading axes \(4,\) "
        r"and the input's shape \(2, 3\), for a cotangent of shape \(4, 2, 3\); it returned float64 of shape \(\)$"),
        ("dtype", r"the rule of faulty for its operand w must return float64 .* it returned float32 of .*\(4, 2, 3\)$"),
        ("array", "the rule of faulty for its operand w returned ndarray; a rule must return a Tensor"),
    ],
)  # fmt: skip
def test_a_wrong_result_of_a_rule_names_what_was_wanted(fault: str, message: str) -> None:
    x, w = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises((ValueError, TypeError), match=message):
        mdb.grad(faulty(x, w, fault), (x, w), np.ones((4, 2, 3)))


def test_why_an_output_does_not_require_a_gradient() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    weights = np.array([3.0, 4.0])
    with mdb.no_grad():
        unrecorded = x * 2
    linear = mdb.grad((x * weights).sum(), x, create_graph=True)[0]
    forgotten = mdb.grad((x * x).sum(), x)[0]
    for y in unrecorded, forgotten, forgotten.sum(), Tensor([1.0, 2.0]) * forgotten + 1:
        with pytest.raises(ValueError, match=r"it was computed under no_grad, or by grad without create_graph=True$"):
            mdb.grad(y.sum(), x)
    for y in linear, linear.sum(), mdb.grad((x * weights).sum(), x)[0], Tensor([1.0, 2.0]), x.detach() * 2:
        with pytest.raises(
            ValueError, match=r"constant: nothing .* as in the gradient of a linear function, or it was d"
        ):
            mdb.grad(y.sum(), x)
    with pytest.raises(ValueError, match=r"backward: .* it was computed under no_grad"):
        unrecorded.backward()
    assert mdb.grad((unrecorded * x).sum(), x)[0].tolist() == [2.0, 4.0]


def test_unused_inputs_are_allowed_but_not_a_forgotten_graph() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert mdb.grad(Tensor(3.0) * 2, x, allow_unused=True)[0].tolist() == [0.0, 0.0]
    with mdb.no_grad():
        y = (x * x).sum()
    with pytest.raises(ValueError, match="it was computed under no_grad"):
        mdb.grad(y, x, allow_unused=True)


@mdb.operation
def huge(x: Tensor) -> Any:
    """`8 PiB`."""
    return np.empty(1 << 50)


def test_an_operation_without_memory_names_its_operands() -> None:
    with pytest.raises(
        MemoryError,
        match=r"^huge: there is not enough memory for operands of shape \(50000, 3\): take fewer samples at a time$",
    ):
        huge(np.zeros((50000, 3)))

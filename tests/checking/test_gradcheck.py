"""gradcheck and gradgradcheck catch wrong derivatives and pass right ones; the likely cause is named."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor, operation, sum, transpose, vjp
from minidbp.autodiff.tensor import from_array
from minidbp.checking import GradcheckError, UndecidedError

X, Y = np.array([[0.7, -1.2], [1.9, 0.4]]), np.array([[1.1, 0.6], [1.6, 0.8]])


def one_rule(
    name: str, forward: Callable[[np.ndarray], np.ndarray], rule: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """An operation of one operand x with the given rule(g, x)."""

    def declared(x: Tensor) -> Any:
        return forward(x.data), lambda g, out: rule(g, x)

    declared.__name__ = name
    return operation(declared)


@operation
def bad_add(x: Tensor, b: Tensor) -> Any:
    """`x + b` for x (2, 2) and b (2,), whose rule for b returns one row of the cotangent instead of the sum of all."""
    return x.data + b.data, lambda g, out: g, lambda g, out: g[..., 0, :]


@operation
def bad_matmul(x: Tensor, y: Tensor) -> Any:
    """`x @ y`, whose rule for x should be g @ y.T."""
    return x.data @ y.data, lambda g, out: g @ y, lambda g, out: transpose(x) @ g


@operation
def bad_stride(x: Tensor, w: Tensor) -> Any:
    """A conv2d of stride 2 whose rule for x takes its padding from the other side."""
    right = mdb.conv2d(x, w, stride=2, padding=((1, 0), (1, 0)))
    return (
        right.data,
        lambda g, out: mdb.conv2d_transpose(
            g.reshape(-1, *out.shape[1:]), w, x.shape[1:3], 2, ((0, 1), (0, 1))
        ).reshape(g.shape[:-4] + x.shape),
        lambda g, out: vjp(lambda w: mdb.conv2d(x, w, stride=2, padding=((1, 0), (1, 0))), w, g, True)[1],
    )


IMAGE, FILTER = np.arange(16.0).reshape(1, 4, 4, 1) ** 1.5, np.array([3.0, -1.0, 2.0, 5.0]).reshape(2, 2, 1, 1)

FAULTS = {
    "a wrong factor": (one_rule("bad_exp", np.exp, lambda g, x: g * mdb.exp(x) * 1.0001), [X], "input 0"),
    "a wrong sign": (one_rule("bad_negative", np.negative, lambda g, x: g), [X], "input 0"),
    "a transposed matrix": (bad_matmul, [X, Y], "input 0"),
    "a dropped sum": (bad_add, [X, Y[0]], "input 1"),
    "a dropped cotangent": (one_rule("bad_square", np.square, lambda g, x: 2 * x + 0 * g), [X], "input 0"),
    "a shifted padding": (bad_stride, [IMAGE, FILTER], "input 0"),
    "a silent zero": (one_rule("bad_log", np.log, lambda g, x: 0 * g * x), [Y], "input 0"),
    "a missing dependence": (lambda x: x * x.detach(), [X], "input 0"),
    "a NaN": (one_rule("bad_nan", np.sin, lambda g, x: g * np.nan), [X], "input 0"),
    "softmax with a cotangent of ones in mind": (  # the rows of softmax's Jacobian sum to 0
        one_rule("bad_softmax", lambda x: mdb.softmax(Tensor(x)).data, lambda g, x: 2 * g * mdb.softmax(x)
                 - 2 * mdb.softmax(x) * (g * mdb.softmax(x)).sum(-1, keepdims=True)), [X], "input 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("f", "inputs", "where"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_derivative_is_caught(f: Callable[..., Tensor], inputs: list[np.ndarray], where: str) -> None:
    with pytest.raises(GradcheckError, match=f"in {where}"):
        mdb.gradcheck(f, inputs)


@operation
def captured_square(x: Tensor) -> Any:
    """x^2 whose rule saved x raw: to a second derivative it is a constant."""
    raw = from_array(x.data.copy())
    return x.data**2, lambda g, out: 2 * g * raw


@operation
def captured_product(x: Tensor, y: Tensor) -> Any:
    """x y whose rule for x saved y raw: the mixed second derivative is dropped."""
    raw = from_array(y.data.copy())
    return x.data * y.data, lambda g, out: g * raw, lambda g, out: g * x


@operation
def raw_in_cotangent(x: Tensor) -> Any:
    """3x whose rule leaves the graph: the derivative of v^T J in v is lost."""
    return 3 * x.data, lambda g, out: 3 * g.detach()


@pytest.mark.parametrize(
    ("f", "inputs", "where"),
    [
        (captured_square, [X], "second derivative .* in input 0"),
        (captured_product, [X, Y], "second derivative .* in input 1"),
        (raw_in_cotangent, [X], "second derivative .* in input 1"),
    ],
)
def test_a_wrong_second_derivative_is_caught(f: Callable[..., Tensor], inputs: list[np.ndarray], where: str) -> None:
    with pytest.raises(GradcheckError, match=where):
        mdb.gradgradcheck(f, inputs)


@pytest.mark.parametrize(("f", "inputs"), [(captured_square, [X]), (captured_product, [X, Y]), (raw_in_cotangent, [X])])
def test_the_first_order_of_these_is_right(f: Callable[..., Tensor], inputs: list[np.ndarray]) -> None:
    assert mdb.gradcheck(f, inputs)


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (lambda g, x: g.T if g.ndim > 2 else g, r"\(3, 2, 2\)"),
        (lambda g, x: sum(g, 0) if g.ndim > 2 else g, r"\(2, 3\)"),
        (lambda g, x: g.reshape(-1)[:6].reshape(2, 3), r"\(2, 3\)"),
    ],
)
def test_a_rule_that_drops_leading_axes_is_named(rule: Callable[..., Tensor], shape: str) -> None:
    f = one_rule("no_leading_axes", np.negative, rule)
    with pytest.raises(
        ValueError, match=rf"the rule of no_leading_axes .* float64 of shape \(2, 2, 3\), .* of shape {shape}"
    ):
        mdb.gradcheck(f, np.ones((2, 3)))


def test_a_rule_that_treats_leading_axes_differently_is_caught() -> None:
    f = one_rule("uneven", np.negative, lambda g, x: -g if g.ndim > x.ndim else -2 * g)
    with pytest.raises(GradcheckError, match=r"another answer for one cotangent"):
        mdb.gradcheck(f, X)


def test_a_rule_that_changes_the_dtype_is_named() -> None:
    with pytest.raises(ValueError, match=r"the rule of narrow .* must return float64 .* it returned float32"):
        mdb.gradcheck(one_rule("narrow", np.negative, lambda g, x: (-g).astype("float32")), X)


def test_the_error_says_input_index_and_both_values() -> None:
    @operation
    def f(x: Tensor, y: Tensor) -> Any:  # 3x + y, but the last element's derivative in y is doubled
        return 3 * x.data + y.data, lambda g, out: 3 * g, lambda g, out: g * np.array([[1.0, 1.0], [1.0, 2.0]])

    with pytest.raises(GradcheckError) as caught:
        mdb.gradcheck(f, [X, Y])
    message = str(caught.value)
    assert "the first derivative of f is wrong: output 0 at (1, 1), in input 1 at (1, 1), is " in message
    both = r"is (\S+) by differences \(error at most \S+\) but (\S+) by its rule"
    by_differences, by_rule = re.search(both, message).groups()  # type: ignore[union-attr]
    assert float(by_differences) == pytest.approx(1.0, rel=1e-9)
    assert float(by_rule) == 2.0
    assert (caught.value.order, caught.value.operations, caught.value.input) == (1, ["f"], 1)


def test_the_error_is_an_assertion() -> None:
    assert issubclass(GradcheckError, AssertionError)


@pytest.mark.parametrize("check", [mdb.gradcheck, mdb.gradgradcheck])
def test_float32_is_refused(check: Callable[..., bool]) -> None:
    with pytest.raises(TypeError, match=r"needs float64.*input 1 is float32"):
        check(lambda x, y: x * y, [X, Y.astype(np.float32)])


def test_small_derivatives_are_not_waved_through() -> None:
    """HIPS' scalar_close accepts any difference below 1e-6; here what counts is the size of the derivative."""
    f = one_rule("small", lambda x: 1e-7 * np.sin(x), lambda g, x: g * 0.99e-7 * from_array(np.cos(x.data)))
    with pytest.raises(GradcheckError):
        mdb.gradcheck(f, X)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_message(seed: int) -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(GradcheckError) as caught:
            mdb.gradgradcheck(captured_square, X, seed=seed)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_list_an_array_and_tensors_are_taken() -> None:
    assert mdb.gradcheck(lambda x, y: x * y, [Tensor(X), Y])
    assert mdb.gradcheck(mdb.exp, X)
    assert mdb.gradcheck(lambda x, y: x + y, (2.0, X))


def test_no_elements_pass() -> None:
    assert mdb.gradgradcheck(lambda x, y: x * y, [np.zeros((0, 2)), np.ones(2)])
    assert mdb.gradgradcheck(lambda x: x.sum(0), np.zeros((0, 2)))


def scribble(array: np.ndarray) -> None:
    """What nobody should do: an in-place change behind the read-only flag."""
    array.flags.writeable = True
    array += 1.0
    array.flags.writeable = False


def test_a_rule_that_changes_its_input_is_caught() -> None:
    def rule(g: Tensor, x: Tensor) -> Tensor:
        scribble(x.data)
        return -g

    with pytest.raises(GradcheckError, match="input 0 was changed by the computation"):
        mdb.gradcheck(one_rule("scribbler", np.negative, rule), X)


def test_a_rule_that_changes_its_cotangent_is_caught() -> None:
    def rule(g: Tensor, x: Tensor) -> Tensor:
        result = -g
        scribble(g.data)
        return result

    with pytest.raises(GradcheckError, match="a rule changed the cotangent that was passed to it"):
        mdb.gradcheck(one_rule("scribbler", np.negative, rule), X)


def test_large_functions_are_checked_along_directions() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((300, 200)), rng.standard_normal((1, 300))
    assert mdb.check_derivatives(lambda w: mdb.exp(mdb.relu(x @ w) * 0.1), w, order=2)

    @operation
    def bad(w: Tensor) -> Any:  # one element of 60,000 is wrong by its own size
        wrong = np.ones(w.shape)
        wrong[17, 23] = 2.0
        return w.data**2, lambda g, out: 2 * g * w * wrong

    with pytest.raises(GradcheckError, match=r"in the element of input 0 at \(17, 23\)"):
        mdb.gradcheck(lambda w: bad(w).sum(), w)


def test_the_dtype_must_stay() -> None:
    with pytest.raises(TypeError, match="float64 went in, float32 came out"):
        mdb.gradcheck(lambda x: x.astype("float32"), X)


@pytest.mark.parametrize("order", [0, -1])
def test_an_order_below_1_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match=f"the order must be at least 1; got {order}"):
        mdb.check_derivatives(mdb.exp, X, order)


@pytest.mark.parametrize(
    "x",
    [X.T, np.asfortranarray(X), np.broadcast_to(X[0], (3, 2)), X[::-1, ::-1], np.broadcast_to(0.7, (2, 2))],
)
def test_inputs_need_not_be_contiguous(x: np.ndarray) -> None:
    assert mdb.check_derivatives(lambda t: mdb.exp(t) * t, x, order=2)


@pytest.mark.parametrize(
    ("f", "x"), [(mdb.log, [1e-3]), (lambda t: t**0.5, [5e-4, 1.0]), (mdb.log, [1e-4] * 3), (lambda t: 1 / t, [1e-3])]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_edge_of_a_domain_is_no_error(f: Callable[..., Tensor], x: list[float]) -> None:
    assert mdb.gradcheck(f, np.array(x))


def test_a_rule_must_return_a_tensor() -> None:
    with pytest.raises(
        TypeError, match="the rule of raw for its operand x returned ndarray; a rule must return a Tensor"
    ):
        mdb.gradcheck(one_rule("raw", np.negative, lambda g, x: -g.data), X)


def test_a_function_that_uses_the_leaf_itself_is_refused() -> None:
    """It ignores its argument, so that differences are 0 whatever the rules say."""
    bad_square = one_rule("bad_square", np.square, lambda g, x: 3 * g * x)
    w, x = Tensor([1.0, 2.0], requires_grad=True), Tensor(X)
    with pytest.raises(ValueError, match="uses input 1 directly"):
        mdb.check_derivatives(lambda a, b: bad_square(w).sum() * a.sum(), [x, w])
    assert mdb.check_derivatives(lambda a: (w * a).sum(), X)  # another parameter may be used


OSCILLATING: list[tuple[Callable[..., Tensor], Any]] = [
    (mdb.norm, np.array([1e-5, 2e-5, -1e-5])),
    (lambda t: mdb.sin(t / 1e-5), np.array([1.0])),
    (lambda t: mdb.norm(t**3), np.array([0.09694504, -0.00094359])),
    *[(mdb.sin, x) for x in (1e4, 7e4, 1e5, 1e9)],
    (lambda t: mdb.sin(t * 1e8), np.array([3e-8, -1e-8])),
]


@pytest.mark.parametrize(("f", "x"), OSCILLATING)
def test_functions_that_vary_within_the_first_step(f: Callable[..., Tensor], x: Any) -> None:
    assert mdb.check_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), [(mdb.cos, 1e13), (lambda t: mdb.sin(t**3), 3e5)])
def test_functions_that_are_all_rounding_cannot_be_judged(f: Callable[..., Tensor], x: float) -> None:
    with pytest.raises(UndecidedError, match="cannot be judged"):
        mdb.gradcheck(f, x)

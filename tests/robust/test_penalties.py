"""The penalties against HIPS autograd, finite differences, and the formulas of the paper written out in NumPy."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidbp as mdb
from minidbp import kernels, nn
from minidbp.autodiff import jacobian_of
from minidbp.robust import Objective, jacobian_l1, loss_gradient_penalty, summed_jacobian_l1
from minidbp.training import workers

Padding = str | int | tuple


class Conv(NamedTuple):
    filters: int
    kernel: int
    stride: int
    padding: Padding


class Spec(NamedTuple):
    """A small net: convolutions, then fully connected layers, ReLU between all of them."""

    n: int
    image: tuple[int, int, int]
    convs: list[Conv]
    hidden: list[int]
    classes: int
    seed: int


SPECS = st.builds(
    Spec,
    n=st.integers(1, 3),
    image=st.tuples(st.integers(3, 6), st.integers(3, 6), st.integers(1, 2)),
    convs=st.lists(
        st.builds(
            Conv,
            filters=st.integers(1, 3),
            kernel=st.integers(1, 3),
            stride=st.integers(1, 2),
            padding=st.sampled_from(["valid", "same", 1, (0, 1), ((1, 0), (0, 2))]),
        ),
        max_size=2,
    ),
    hidden=st.lists(st.integers(2, 6), max_size=2),
    classes=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)


# -- the oracle: the same nets in HIPS autograd, convolution by slices, nothing of ours ------------------------------


def pads(size: int, axis: int, conv: Conv) -> tuple[int, int]:
    """How many zeros go before and behind an axis of an image."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":  # TensorFlow's: ceil(size / stride) outputs, the odd zero behind
        total = max(0, (-(-size // conv.stride) - 1) * conv.stride + conv.kernel - size)
        return total // 2, total - total // 2
    if isinstance(conv.padding, int):
        return conv.padding, conv.padding
    pad = conv.padding[axis]
    return (pad, pad) if isinstance(pad, int) else pad


def output_size(size: int, axis: int, conv: Conv) -> int:
    return (size + sum(pads(size, axis, conv)) - conv.kernel) // conv.stride + 1


def hips_conv(x: Any, w: Any, b: Any, conv: Conv) -> Any:
    up, left = pads(x.shape[1], 0, conv), pads(x.shape[2], 1, conv)
    rows, cols = output_size(x.shape[1], 0, conv), output_size(x.shape[2], 1, conv)
    padded = anp.pad(x, ((0, 0), up, left, (0, 0)), "constant")
    y, s = b, conv.stride
    for i in range(conv.kernel):
        for j in range(conv.kernel):
            pixels = padded[:, i : i + s * (rows - 1) + 1 : s, j : j + s * (cols - 1) + 1 : s, :]
            y = y + anp.einsum("nhwi,io->nhwo", pixels, w[i, j])
    return y


def hips_logits(spec: Spec, values: list[Any], x: Any) -> Any:
    weights = iter(values)
    for conv in spec.convs:
        y = hips_conv(x, next(weights), next(weights), conv)
        x = anp.where(y > 0, y, 0.0)
    x = anp.reshape(x, (x.shape[0], -1))
    for _ in spec.hidden:
        y = anp.dot(x, next(weights)) + next(weights)
        x = anp.where(y > 0, y, 0.0)
    return anp.dot(x, next(weights)) + next(weights)


def hips_log_softmax(z: Any) -> Any:
    return z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True))


def hips_losses(spec: Spec, values: list[Any], x: Any, y: np.ndarray, smoothing: float) -> Any:
    targets = (1 - smoothing) * np.eye(spec.classes)[y] + smoothing / spec.classes
    return -anp.sum(targets * hips_log_softmax(hips_logits(spec, values, x)), axis=1)


def hips_jacobian(spec: Spec, of: str, values: list[Any], x: Any) -> list[Any]:
    """dF_i / dx for each class i: samples are independent, so the sum over them has each one's gradient."""

    def output(i: int, x: Any) -> Any:
        z = hips_logits(spec, values, x)
        return anp.sum((z if of == "logits" else anp.exp(hips_log_softmax(z)))[:, i])

    return [autograd.grad(partial(output, i))(x) for i in range(spec.classes)]


# -- the penalties, ours and theirs ---------------------------------------------------------------------------------


class Case(NamedTuple):
    """One reading of one penalty: as a function, as words for Objective, and by HIPS."""

    name: str
    ours: Callable[..., mdb.Tensor]  # of model, x, y
    words: dict[str, Any]
    hips: Callable[..., Any]  # of spec, values, x, y
    smoothing: float = 0.1  # of the cross-entropy beside it


def jacobian_case(of: str, reduction: str) -> Case:
    def hips(spec: Spec, values: list[Any], x: Any, y: np.ndarray) -> Any:
        total = sum(anp.sum(anp.abs(J)) for J in hips_jacobian(spec, of, values, x)) / len(x)
        return total if reduction == "sum" else total / (spec.classes * np.prod(spec.image))

    return Case(
        f"jacobian_l1 of {of}, {reduction}",
        lambda model, x, y: jacobian_l1(model, x, of, reduction),
        {"penalty": "jacobian_l1", "of": of, "reduction": reduction},
        hips,
    )


def summed_case(of: str, reduction: str) -> Case:
    def hips(spec: Spec, values: list[Any], x: Any, y: np.ndarray) -> Any:
        total = anp.sum(anp.abs(sum(hips_jacobian(spec, of, values, x)))) / len(x)
        return total if reduction == "sum" else total / np.prod(spec.image)

    return Case(
        f"summed_jacobian_l1 of {of}, {reduction}",
        lambda model, x, y: summed_jacobian_l1(model, x, of, reduction),
        {"penalty": "summed_jacobian_l1", "of": of, "reduction": reduction},
        hips,
    )


def loss_case(norm: int, smoothing: float) -> Case:
    def hips(spec: Spec, values: list[Any], x: Any, y: np.ndarray) -> Any:
        g = autograd.grad(lambda x: anp.sum(hips_losses(spec, values, x, y, smoothing)))(x)
        return anp.sum(g**2 if norm == 2 else anp.abs(g)) / len(x)

    return Case(
        f"loss_gradient_l{norm}, smoothing {smoothing}",
        lambda model, x, y: loss_gradient_penalty(model, x, y, norm, smoothing),
        {"penalty": f"loss_gradient_l{norm}"},
        hips,
        smoothing,
    )


CASES = [
    *(jacobian_case(of, reduction) for of in ("logits", "softmax") for reduction in ("sum", "mean")),
    *(summed_case("logits", reduction) for reduction in ("sum", "mean")),
    *(loss_case(norm, smoothing) for norm in (2, 1) for smoothing in (0.0, 0.1)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


class Net(NamedTuple):
    model: nn.Sequential
    x: np.ndarray
    y: np.ndarray


def build(spec: Spec) -> tuple[Spec, Net]:
    """The net, its images and labels.  A convolution that is larger than its image is made to fit by "same"."""
    rng = np.random.default_rng(spec.seed)
    height, width, channels = spec.image
    layers: list[nn.layers.Layer] = []
    convs = []
    for conv in spec.convs:
        if min(output_size(height, 0, conv), output_size(width, 1, conv)) < 1:
            conv = conv._replace(padding="same")
        convs.append(conv)
        layers += [
            nn.Conv2d(channels, conv.filters, conv.kernel, rng, conv.stride, conv.padding, dtype="float64"),
            nn.ReLU(),
        ]
        height, width, channels = output_size(height, 0, conv), output_size(width, 1, conv), conv.filters
    layers.append(nn.Flatten())
    size = height * width * channels
    for units in [*spec.hidden, spec.classes]:
        layers += [nn.Linear(size, units, rng, "float64"), nn.ReLU()]
        size = units
    model = nn.Sequential(layers[:-1])
    for parameter in model.parameters():  # biases too, so that no unit stands at its kink
        # Logits of about 1: where softmax is sure to 1e-12, 1 - p has four digits left, in any autodiff.
        fan_in = np.prod(parameter.shape[:-1])
        parameter.data = rng.normal(0, 1.2 / np.sqrt(fan_in), parameter.shape)
    x, y = rng.uniform(0, 1, (spec.n, *spec.image)), rng.integers(0, spec.classes, spec.n)
    return spec._replace(convs=convs), Net(model, x, y)


NET = build(Spec(3, (6, 5, 1), [Conv(3, 3, 2, "same"), Conv(2, 2, 1, "valid")], [5], 4, seed=1))[1]


def assert_equal_gradients(ours: tuple[mdb.Tensor, ...], theirs: list[np.ndarray]) -> None:
    """To 1e-10 of each parameter's own gradient; below 1e-14 of the largest one there is only rounding."""
    floor = 1e-14 * max(np.linalg.norm(g) for g in theirs)
    for gradient, expected in zip(ours, theirs, strict=True):
        assert np.linalg.norm(gradient.data - expected) <= 1e-10 * np.linalg.norm(expected) + floor


@each_case
@settings(max_examples=40)
@given(spec=SPECS, lam=st.floats(0.01, 50))
@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # HIPS, on biases behind the last mask
def test_value_and_gradient_agree_with_hips(case: Case, spec: Spec, lam: float) -> None:
    spec, (model, x, y) = build(spec)
    parameters = model.parameters()
    values = [np.array(p.data) for p in parameters]

    value, gradient = autograd.value_and_grad(lambda v: case.hips(spec, v, x, y))(values)
    penalty = case.ours(model, x, y)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(value, rel=1e-10)
    assert_equal_gradients(mdb.grad(penalty, parameters), gradient)

    plain, plain_gradient = autograd.value_and_grad(lambda v: anp.mean(hips_losses(spec, v, x, y, case.smoothing)))(
        values
    )
    loss = Objective(lam, label_smoothing=case.smoothing, **case.words)(model, x, y)
    assert loss.cross_entropy.item() == pytest.approx(plain, rel=1e-10)
    assert loss.total.item() == pytest.approx(plain + lam * value, rel=1e-10)
    assert_equal_gradients(
        mdb.grad(loss.total, parameters), [a + lam * b for a, b in zip(plain_gradient, gradient, strict=True)]
    )


def relu_masks(model: nn.Sequential, x: np.ndarray) -> list[np.ndarray]:
    masks, y = [], mdb.Tensor(x)
    for layer in model.layers:
        if isinstance(layer, nn.ReLU):
            masks.append(y.data > 0)
        y = layer(y)
    return masks


def pattern(net: Net) -> list[np.ndarray]:
    """Every mask, and the sign of everything that a penalty takes the absolute value of."""
    model, x, y = net
    of_logits = mdb.jacobian(model, x).data
    of_softmax = mdb.jacobian(lambda t: mdb.softmax(model(t)), x).data
    leaf = mdb.Tensor(x, requires_grad=True)
    of_loss = [mdb.grad(nn.cross_entropy(model(leaf), y, s), leaf)[0].data for s in (0.0, 0.1)]
    return relu_masks(model, x) + [np.sign(a) for a in (of_logits, of_softmax, of_logits.sum(1), *of_loss)]


@each_case
def test_gradient_agrees_with_finite_differences(case: Case) -> None:
    model, x, y = NET
    parameters, h, rng = model.parameters(), 1e-6, np.random.default_rng(3)
    values = [p.data for p in parameters]
    gradient = [g.data for g in mdb.grad(case.ours(model, x, y), parameters)]
    here = pattern(NET)

    def moved(direction: list[np.ndarray], distance: float) -> tuple[float, bool]:
        for p, v, d in zip(parameters, values, direction, strict=True):
            p.data = v + distance * d
        try:
            same = all(np.array_equal(a, b) for a, b in zip(here, pattern(NET), strict=True))
            return case.ours(model, x, y).item(), same
        finally:
            for p, v in zip(parameters, values, strict=True):
                p.data = v

    accepted = 0
    for _ in range(12):
        direction = [rng.standard_normal(v.shape) for v in values]
        (up, stable_up), (down, stable_down) = moved(direction, h), moved(direction, -h)
        if not (stable_up and stable_down):  # a kink lies between: the difference means nothing
            continue
        accepted += 1
        slope = sum(np.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
        scale = np.sqrt(sum(np.vdot(g, g) * np.vdot(d, d) for g, d in zip(gradient, direction, strict=True)))
        assert abs((up - down) / (2 * h) - slope) <= 1e-6 * scale
    assert accepted >= 3


def test_jacobian_l1_is_the_formula_of_the_design() -> None:
    """The reverse pass V, J = V_1 W_1, S = sign(J), the tangent pass T of S; dW_l = sum of V_l and T_(l-1)."""
    model, x, _ = build(Spec(4, (3, 4, 1), [], [7, 5], 3, seed=2))[1]
    weights, biases = ([p.data for p in model.parameters()[k::2]] for k in (0, 1))
    n, c = 4, 3
    h, masks = x.reshape(n, -1), []
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        z = h @ w + b
        masks.append((z > 0)[:, None, :])
        h = np.maximum(z, 0)
    V = [np.broadcast_to(np.eye(c), (n, c, c))]  # of the logits; then of each layer below, in front
    for w, mask in zip(weights[:0:-1], masks[::-1], strict=True):
        V.insert(0, (V[0] @ w.T) * mask)
    J = V[0] @ weights[0].T
    T = [np.sign(J) / n]
    for w, mask in zip(weights[:-1], masks, strict=True):
        T.append((T[-1] @ w) * mask)
    expected = [np.einsum("nij,nik->jk", t, v) for t, v in zip(T, V, strict=True)]

    np.testing.assert_allclose(mdb.jacobian(model, x).data.reshape(n, c, -1), J, rtol=1e-10, atol=1e-14)
    penalty = jacobian_l1(model, x)
    assert penalty.item() == pytest.approx(np.abs(J).sum() / n, rel=1e-10)
    gradients = mdb.grad(penalty, model.parameters())
    for gradient, formula in zip(gradients[::2], expected, strict=True):
        assert np.linalg.norm(gradient.data - formula) <= 1e-10 * np.linalg.norm(formula)
    for bias in gradients[1::2]:  # J of a ReLU net does not move with a bias, but where a mask changes
        assert not bias.data.any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_surrogate_of_softmax_is_zero(reduction: str) -> None:
    """The outputs of softmax add up to 1: their summed Jacobian is 0 for every network, and so is its gradient."""
    model, x, _ = NET
    penalty = summed_jacobian_l1(model, x, "softmax", reduction)
    scale = jacobian_l1(model, x, "softmax", reduction).item()
    assert scale > 1e-3
    assert penalty.item() < 1e-14 * scale * x[0].size
    assert max(np.abs(g.data).max() for g in mdb.grad(penalty, model.parameters())) < 1e-13


def test_the_surrogate_of_logits_vanishes_without_changing_a_prediction() -> None:
    """Subtracting the class mean from the last layer leaves softmax as it is, and makes the surrogate 0."""
    model, x, _ = build(Spec(3, (4, 4, 1), [Conv(2, 3, 1, "same")], [6], 3, seed=6))[1]
    before, said = summed_jacobian_l1(model, x).item(), mdb.softmax(model(x)).data
    w, b = model.parameters()[-2:]
    w.data, b.data = w.data - w.data.mean(1, keepdims=True), b.data - b.data.mean()
    np.testing.assert_allclose(mdb.softmax(model(x)).data, said, rtol=1e-12)
    assert before > 0.1
    assert summed_jacobian_l1(model, x).item() < 1e-13 * before


@each_case
def test_a_batch_has_the_mean_of_its_samples(case: Case) -> None:
    model, x, y = NET
    parameters = model.parameters()
    whole = case.ours(model, x, y)
    single = [case.ours(model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    assert len({round(s.item(), 9) for s in single}) == len(x)  # they do differ
    assert whole.item() == pytest.approx(np.mean([s.item() for s in single]), rel=1e-12)
    gradients = zip(*(mdb.grad(s, parameters) for s in single), strict=True)
    assert_equal_gradients(mdb.grad(whole, parameters), [np.mean([g.data for g in gs], axis=0) for gs in gradients])


@each_case
def test_no_grad_gives_the_value_alone(case: Case) -> None:
    model, x, y = NET
    expected = case.ours(model, x, y)
    with mdb.no_grad():
        value = case.ours(model, x, y)
    assert value.item() == expected.item()
    assert expected.requires_grad
    assert not value.requires_grad


@each_case
@pytest.mark.parametrize("kind", [np.asarray, mdb.Tensor, partial(mdb.Tensor, requires_grad=True)])
def test_images_of_any_kind_are_taken_and_left_alone(case: Case, kind: Callable[..., Any]) -> None:
    model, x, y = NET
    images = kind(x)
    before = isinstance(images, mdb.Tensor) and images.requires_grad
    assert case.ours(model, images, y).item() == case.ours(model, x.copy(), y).item()
    assert (isinstance(images, mdb.Tensor) and images.requires_grad) == before


@each_case
def test_the_gradient_in_the_images_is_there_too(case: Case) -> None:
    """Images that require a gradient stay part of the graph: the input is one more parameter."""
    model, x, y = NET
    leaf = mdb.Tensor(x, requires_grad=True)
    curved = "softmax" in case.name or "loss" in case.name  # of logits, J is constant in x between kinks
    if not curved:
        with pytest.raises(ValueError, match="do not depend"):
            mdb.grad(case.ours(model, leaf, y), leaf)
        return
    (g,) = mdb.grad(case.ours(model, leaf, y), leaf)
    direction, h = np.random.default_rng(1).standard_normal(x.shape), 1e-6
    up, down = (case.ours(model, x + s * h * direction, y).item() for s in (1, -1))
    assert np.vdot(g.data, direction) == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_any_function_of_a_tensor_can_be_penalised() -> None:
    """f_i(x) = sum_j a_ij x_j^2 has J_ij = 2 a_ij x_j: no model, no parameters of ours, images of any shape."""
    rng = np.random.default_rng(0)
    a, x, y = mdb.Tensor(rng.normal(size=(3, 5)), requires_grad=True), rng.uniform(size=(4, 5)), np.array([0, 1, 2, 0])

    def f(t: mdb.Tensor) -> mdb.Tensor:
        return (t * t) @ a.T

    J = 2 * a.data * x[:, None, :]
    penalty = jacobian_l1(f, x)
    assert penalty.item() == pytest.approx(np.abs(J).sum() / 4, rel=1e-12)
    np.testing.assert_allclose(mdb.grad(penalty, a)[0].data, np.sign(a.data) * 2 * x.mean(0), rtol=1e-12)
    assert summed_jacobian_l1(f, x).item() == pytest.approx(np.abs(J.sum(1)).sum() / 4, rel=1e-12)
    p = np.exp((x * x) @ a.data.T)
    p /= p.sum(1, keepdims=True)
    g = np.einsum("ni,nij->nj", p - np.eye(3)[y], J)
    assert loss_gradient_penalty(f, x, y).item() == pytest.approx((g * g).sum() / 4, rel=1e-12)
    assert loss_gradient_penalty(f, x, y, norm=1).item() == pytest.approx(np.abs(g).sum() / 4, rel=1e-12)


@each_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_stays(case: Case, dtype: type) -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential([nn.Linear(6, 5, rng, dtype), nn.ReLU(), nn.Linear(5, 3, rng, dtype)])
    penalty = case.ours(model, rng.uniform(0, 1, (2, 6)).astype(dtype), np.array([0, 2]))
    assert penalty.dtype == dtype
    assert {g.dtype for g in mdb.grad(penalty, model.parameters())} == {np.dtype(dtype)}


@pytest.mark.parametrize("penalty", [jacobian_l1, summed_jacobian_l1])
@pytest.mark.parametrize(
    ("words", "choices"), [({"of": "probabilities"}, ("logits", "softmax")), ({"reduction": "median"}, ("sum", "mean"))]
)
def test_an_unknown_word_is_answered_with_the_choices(penalty: Any, words: dict, choices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        penalty(NET.model, NET.x, **words)
    for word in (*choices, *words.values()):
        assert word in str(caught.value)


@pytest.mark.parametrize("norm", [0, 3, "2", np.inf])
def test_an_unknown_norm(norm: Any) -> None:
    with pytest.raises(ValueError, match=r"norm must be 1 or 2"):
        loss_gradient_penalty(NET.model, NET.x, NET.y, norm=norm)


@pytest.mark.parametrize(
    ("y", "error"),
    [([0, 1], ValueError), ([0, 1, 4], ValueError), ([0, 1, -1], ValueError), ([0.0, 1.0, 2.0], TypeError)],
)
def test_labels_are_checked(y: list, error: type[Exception]) -> None:
    with pytest.raises(error, match="label"):
        loss_gradient_penalty(NET.model, NET.x, np.array(y))


def test_the_jacobian_of_model_a_is_one_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten rows of 128 images go through each convolution's adjoint together, once, and no weight is touched."""
    calls: dict[str, list[tuple[int, ...]]] = {}

    def counted(name: str) -> Callable[..., np.ndarray]:
        function = getattr(kernels, name)

        def wrapper(first: np.ndarray, *rest: Any) -> np.ndarray:
            calls.setdefault(name, []).append(first.shape[:-3])
            return function(first, *rest)

        return wrapper

    for name in ("conv2d", "conv2d_transpose", "conv2d_weight_grad"):
        monkeypatch.setattr(kernels, name, counted(name))
    x = np.random.default_rng(0).uniform(0, 1, (128, 28, 28, 1)).astype(np.float32)
    model = nn.build_model("A")
    images = mdb.Tensor(x, requires_grad=True)
    with workers(1):  # BLAS on one thread: on a busy machine two take many times as long
        J = jacobian_of(model(images), images)
    assert J.shape == (128, 10, 28, 28, 1)
    assert calls == {"conv2d": [(128,)] * 3, "conv2d_transpose": [(10, 128)] * 3}

    calls.clear()
    jacobian_l1(model, x[:2])  # in training, nothing checks that the samples are independent
    assert calls == {"conv2d": [(2,)] * 3, "conv2d_transpose": [(10, 2)] * 3}

    leaf = mdb.Tensor(x[:3], requires_grad=True)
    for i in (0, 7):  # and they are the rows
        (row,) = mdb.grad(model(leaf)[:, i].sum(), leaf)
        np.testing.assert_allclose(J.data[:3, i], row.data, rtol=1e-4, atol=1e-6)

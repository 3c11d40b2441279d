from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp.data import Dataset
from minidbp.nn import Conv2d, Linear, build_model
from minidbp.nn.models import count_parameters

# the weights' shapes as Table 1 gives them; biases are as wide as the last axis
WEIGHTS = {
    "A": [(8, 8, 1, 64), (6, 6, 64, 128), (5, 5, 128, 128), (128, 10)],
    "B": [(3, 3, 1, 128), (3, 3, 128, 64), (10816, 128), (128, 10)],
    "C": [(784, 512), (512, 256), (256, 128), (128, 10)],
}


@pytest.mark.parametrize(("name", "count"), [("A", 710_218), ("B", 1_460_938), ("C", 567_434)])
def test_parameters_are_the_papers(name: str, count: int) -> None:
    parameters = build_model(name).parameters()
    assert sum(p.size for p in parameters) == count
    assert [p.shape for p in parameters[::2]] == WEIGHTS[name]
    assert [p.shape for p in parameters[1::2]] == [shape[-1:] for shape in WEIGHTS[name]]
    assert [p.name for p in parameters] == ["W1", "b1", "W2", "b2", "W3", "b3", "W4", "b4"]
    assert {p.dtype for p in parameters} == {np.dtype(np.float32)}
    assert all(p.requires_grad for p in parameters)


@pytest.mark.parametrize(("name", "padding"), [(n, p) for n in "ABC" for p in ("same_first", "same")])
def test_images_in_logits_out(name: str, padding: str, mnist: Dataset) -> None:
    model = build_model(name, padding=padding)
    with mdb.no_grad():
        logits = model(mnist.x_test[:2])
        assert model(mnist.x_test[:0]).shape == (0, 10)
    assert (logits.shape, logits.dtype) == ((2, 10), np.float32)
    assert np.isfinite(logits.data).all()
    assert (logits.data < 0).any()  # there is no ReLU behind the last layer


@pytest.mark.parametrize("name", "ABC")
def test_samples_do_not_depend_on_each_other(name: str, mnist: Dataset) -> None:
    model = build_model(name, dtype="float64")
    x = mnist.x_test[:3].astype(np.float64)
    alone = [model(x[n : n + 1]).data[0] for n in range(3)]
    np.testing.assert_allclose(model(x).data, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", "ABC")
def test_the_seed_decides(name: str) -> None:
    first, again, other = (build_model(name, seed=s).parameters() for s in (3, np.random.default_rng(3), 4))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert (a.data != c.data).any() == (a.ndim > 1)


def test_both_dtypes_start_from_the_same_weights() -> None:
    for a, b in zip(build_model("C").parameters(), build_model("C", dtype="float64").parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data.astype(np.float32))


def test_initialisers() -> None:
    # Glorot's bound for W1 (784, 512) is sqrt(6 / 1296); he_normal is not bounded
    bound = np.sqrt(6 / 1296)
    glorot, he = (build_model("C", initialiser=i).parameters()[0].data for i in ("glorot_uniform", "he_normal"))
    assert 0.999 * bound < np.abs(glorot).max() <= bound * (1 + 1e-7)  # float32 may round up
    assert np.abs(he).max() > 1.5 * bound


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "D"}, ValueError, "unknown model 'D': choose one of A, B, C"),
        ({"name": "a"}, ValueError, "unknown model 'a': choose one of A, B, C"),
        (
            {"name": "C", "initialiser": "zeros"},
            ValueError,
            "unknown initialiser 'zeros': choose one of glorot_uniform, he_normal",
        ),
        ({"name": "C", "padding": "full"}, ValueError, "unknown padding 'full': choose one of same_first, same"),
        ({"name": "C", "dtype": "int32"}, TypeError, "a model's dtype is float32 or float64; got int32"),
        ({"name": "C", "dtype": np.float16}, TypeError, "a model's dtype is float32 or float64; got float16"),
    ],
)
def test_unknown_names(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        build_model(**options)
    assert str(caught.value) == message


# -- other images, other classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "padding"),
    [
        ("A", (27, 30, 3), "same_first"),
        ("A", (2, 3, 1), "same"),
        ("B", (3, 5, 3), "same_first"),
        ("C", (1, 7, 1), "same"),
    ],
)
def test_other_sizes_and_numbers_of_classes(name: str, shape: tuple[int, ...], padding: str) -> None:
    model = build_model(name, padding=padding, input_shape=shape, n_classes=4)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 4)
    assert sum(p.size for p in model.parameters()) == count_parameters(name, padding, shape, 4)
    assert model.input_shape == shape


def test_the_papers_models_are_the_default_to_the_bit() -> None:
    for name in "ABC":
        given = build_model(name, seed=5, input_shape=(28, 28, 1), n_classes=10)
        for p, q in zip(given.parameters(), build_model(name, seed=5).parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("A", {"input_shape": (26, 40, 1)},
         "model A needs images of at least 27x27 pixels; got 26x40, which fit model B or C"),
        ("B", {"input_shape": (2, 2, 1)},
         "model B needs images of at least 3x3 pixels; got 2x2, which fit model C"),
        ("C", {"input_shape": (28, 28)}, r"input_shape must be (H, W, C), each at least 1; got (28, 28)"),
        ("C", {"input_shape": (28, 0, 1)}, r"input_shape must be (H, W, C), each at least 1; got (28, 0, 1)"),
        ("C", {"n_classes": 1}, "n_classes must be at least 2; got 1"),
        ("C", {"input_shape": (1000, 1000, 3)},
         "for images of 1000x1000x3 in 10 classes, model C would have 1,536,166,026 parameters, more than 134,217,728: "
         "make the images smaller"),
    ],
)  # fmt: skip
def test_images_that_a_model_cannot_take(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build_model(name, **options)
    assert str(caught.value) == message


def test_strides_and_padding_are_table_1s() -> None:
    convs = [layer for layer in build_model("A").layers if isinstance(layer, Conv2d)]
    assert [(c.stride, c.padding) for c in convs] == [(2, "same"), (2, "valid"), (1, "valid")]
    convs = [layer for layer in build_model("B").layers if isinstance(layer, Conv2d)]
    assert [(c.stride, c.padding) for c in convs] == [(1, "same"), (2, "valid")]
    assert isinstance(build_model("B").layers[-1], Linear)


@pytest.mark.parametrize("name", "ABC")
def test_the_wrong_images_are_named(name: str) -> None:
    for shape in (2, 28, 28, 3), (2, 784), (28, 28, 1), (2, 14, 56, 1):
        with pytest.raises(ValueError, match=r"takes images of shape \(N, 28, 28, 1\); got \("):
            build_model(name)(np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="takes float32 images; got float64"):
        build_model(name)(np.ones((2, 28, 28, 1)))

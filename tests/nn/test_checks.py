from typing import Any

import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.nn.checks import validate_images, validate_labels

IMAGE = np.full((2, 3, 3, 1), 0.5)


def with_pixel(value: float, dtype: type = np.float64) -> np.ndarray:
    x: np.ndarray = IMAGE.astype(dtype)
    x[1, 2, 0, 0] = value
    return x


def test_mnist_passes(mnist: Dataset) -> None:
    validate_images(mnist.x_test)
    validate_labels(mnist.y_test, 10, n_images=10_000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.0, 1e-300])
def test_images_within_the_range_pass(value: float, dtype: type) -> None:
    validate_images(with_pixel(value, dtype))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1.5, "1.5"), (-0.25, "-0.25"), (254, "254.0")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pixel_out_of_range_is_shown_with_its_place(value: float, shown: str, dtype: type) -> None:
    with pytest.raises(ValueError) as caught:
        validate_images(with_pixel(value, dtype))
    assert str(caught.value) == f"images must be finite and lie within [0, 1]; got {shown} at index (1, 2, 0, 0)"


@pytest.mark.parametrize("value", [np.nextafter(1.0, 2.0), -5e-324])
def test_the_range_has_no_tolerance(value: float) -> None:
    with pytest.raises(ValueError, match="within"):
        validate_images(with_pixel(value))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            IMAGE.astype(np.uint8),
            r"^images must be float32 or float64 within \[0, 1\]; got uint8: "
            r"divide bytes by 255, as in x\.astype\('float32'\) / 255$",
        ),
        (IMAGE.astype(np.float16), "got float16"),
        (IMAGE.astype(bool), "got bool"),
        (IMAGE.astype(complex), "got complex128"),
        (IMAGE.astype(object), "got object"),
    ],
)
def test_images_of_another_type(x: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        validate_images(x)


def test_a_number_is_not_images() -> None:
    with pytest.raises(ValueError, match="got a single number"):
        validate_images(np.array(0.5))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_dtype_pass(dtype: type) -> None:
    validate_labels(np.array([0, 9, 5], dtype), 10, 3)


@pytest.mark.parametrize("wrong", [12, 10, -1])
def test_a_label_out_of_range_is_shown_with_its_place(wrong: int) -> None:
    with pytest.raises(ValueError) as caught:
        validate_labels(np.array([1, 2, 3, wrong, 99]), 10)
    assert str(caught.value) == f"labels must lie in 0..9; got {wrong} at index 3"


def test_a_list_of_labels_becomes_an_array() -> None:
    assert validate_labels([3, 0], 10).tolist() == [3, 0]


def test_no_images_and_no_labels_pass() -> None:
    validate_images(np.zeros((0, 28, 28, 1)))
    assert validate_labels([], 10, n_images=0).shape == (0,)


def test_labels_must_be_as_many_as_images() -> None:
    with pytest.raises(ValueError, match="one label per image; got 3 labels for 4 images"):
        validate_labels(np.array([1, 2, 3]), 10, 4)


@pytest.mark.parametrize("y", [np.eye(10, dtype=int), np.array(3)])
def test_labels_must_be_1d(y: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels must be 1-D"):
        validate_labels(y, 10)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([1.0, 2.0]), "labels must be integers; got float64"),
        (np.array([True, False]), "labels must be integers; got bool"),
    ],
)
def test_labels_of_another_type(y: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        validate_labels(y, 10)

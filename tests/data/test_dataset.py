"""Images and labels of one's own: what is taken, and the one sentence for what is not."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from minidbp.data import MNIST, DataError, DataIdentity, Dataset

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 4, 5), np.uint8), np.arange(12) % 3


def test_uint8_images_are_divided_by_255_and_get_their_channel() -> None:
    data = Dataset.from_arrays(X, Y, X[:4], Y[:4], name="mine.npz")
    np.testing.assert_array_equal(data.x_train, (X[..., None] / np.float32(255)).astype(np.float32))
    assert (data.x_test.shape, data.x_test.dtype, data.y_test.dtype) == ((4, 4, 5, 1), np.float32, np.int64)
    assert (data.name, data.n_classes, data.image_shape, data.verified) == ("mine.npz", 3, (4, 5, 1), False)
    assert str(data) == "mine.npz: 12 training and 4 test images of 4x5 in 3 classes"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_floats_from_0_to_1_stay(dtype: str) -> None:
    x = RNG.random((6, 4, 4, 3)).astype(dtype)
    x[0, 0, 0], x[1, 1, 1] = 0, 1
    data = Dataset.from_arrays(x, Y[:6], x, Y[:6])
    np.testing.assert_array_equal(data.x_train, x.astype(np.float32))
    assert data.image_shape == (4, 4, 3)


def test_the_arrays_are_copies_and_read_only() -> None:
    x, y = RNG.random((12, 4, 4, 1), np.float32), Y.copy()
    data = Dataset.from_arrays(x, y, x, y)
    x[:], y[:] = 0, 0
    assert data.x_train.max() > 0
    assert data.y_train.max() == 2
    for name in "x_train", "y_train", "x_test", "y_test":
        with pytest.raises(ValueError, match="read-only"):
            getattr(data, name)[0] = 0


def test_without_test_images_a_tenth_is_drawn_by_a_seed() -> None:
    x = np.arange(40, dtype=np.uint8).repeat(16).reshape(40, 4, 4)
    data, again = (Dataset.from_arrays(x, np.arange(40) % 2) for _ in range(2))
    train, test = (np.rint(255 * part[:, 0, 0, 0]).astype(int) for part in (data.x_train, data.x_test))
    assert (len(train), len(test)) == (36, 4)
    assert sorted([*train, *test]) == list(range(40))
    np.testing.assert_array_equal(data.y_test, test % 2)
    assert test.tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(data.x_test, again.x_test)
    assert data.note == "4 of its 40 images, drawn with seed 0, are the test images"
    assert str(data).endswith(data.note)


def test_four_images_are_enough() -> None:
    data = Dataset.from_arrays(X[:4], [0, 1, 0, 1])
    assert (len(data.x_train), len(data.x_test)) == (3, 1)


def with_value(value: float) -> np.ndarray:
    x = np.full((12, 4, 5), 0.5)
    x[3, 2, 1] = value
    return x


ONE_CLASS = np.zeros(12, int)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too few axes": ({"x": X[:, 0]}, r"x has the shape \(12, 5\); \(N, H, W\) or \(N, H, W, C\) is right"),
    "too many axes": ({"x": X[..., None, None]}, r"x has the shape \(12, 4, 5, 1, 1\)"),
    "no images": ({"x": X[:0], "y": Y[:0]}, r"x has the shape \(0, 4, 5\)"),
    "channels first": ({"x": X[:, None]}, r"x has the shape \(12, 1, 4, 5\), so 5 channels; the last axis must be 1"),
    "too large": ({"x": with_value(1.5)}, r"x holds 1\.5 at \(3, 2, 1, 0\); floats must be finite and lie in 0 to 1"),
    "too small": ({"x": with_value(-1)}, r"x holds -1\.0 at"),
    "NaN": ({"x_test": with_value(np.nan), "y_test": Y}, r"x_test holds nan at \(3, 2, 1, 0\)"),
    "infinite": ({"x": with_value(np.inf)}, "x holds inf at"),
    "bytes of 0 and 1": ({"x": np.sign(X).astype(np.uint8)}, "x holds uint8 of 0 and 1 only; 255 is white, so"),
    "integers": ({"x": X.astype(int)}, "x holds int64; uint8 from 0 to 255, or floats from 0 to 1, are right"),
    "texts": ({"x": np.full((12, 4, 5), "a")}, "x holds <U1; uint8"),
    "objects": ({"x": np.full((12, 4, 5), None)}, "x holds object; uint8"),
    "float labels": ({"y": Y / 1}, "y holds float64; labels must be integers"),
    "column of labels": ({"y": Y[:, None]}, r"y has the shape \(12, 1\); \(N,\) is right"),
    "one-hot labels": ({"y": np.eye(3, dtype=int)[Y]}, r"y has the shape \(12, 3\)"),
    "a label less": ({"y": Y[1:]}, "x holds 12 images, and y 11 labels: each image needs one label"),
    "a test label less": ({"x_test": X, "y_test": Y[1:]}, "x_test holds 12 images, and y_test 11 labels"),
    "from 1": ({"y": Y + 1}, "y holds labels up to 3, but not 0: number the classes 0, 1, 2, ..."),
    "a gap": ({"y": np.where(Y == 1, 5, Y)}, "y holds labels up to 5, but not 1"),
    "a huge label": ({"y": np.where(Y == 1, 2**62, Y)}, f"y holds labels up to {2**62}, but not 1"),
    "beyond int64": ({"y": np.full(12, 2**64 - 1, np.uint64)}, f"y holds the label {2**64 - 1}; labels must be 0, 1"),
    "negative": ({"y": np.where(Y == 1, -1, Y)}, "y holds the label -1; labels must be 0, 1, 2, ..."),
    "one class": ({"y": ONE_CLASS}, "y holds the label 0 alone: there must be two classes at least"),
    "a new test class": ({"x_test": X, "y_test": Y + 1}, "y_test holds the label 3, and y only 0 to 2"),
    "other test images": ({"x_test": X[:, 1:], "y_test": Y}, "x_test has images of 3x5, and x of 4x5"),
    "no y_test": ({"x_test": X}, "x_test is there and y_test is not: the two belong together"),
    "no x_test": ({"y_test": Y}, "y_test is there and x_test is not"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}") as caught:
        Dataset.from_arrays(**{"x": X, "y": Y, **changes})
    assert str(caught.value).isprintable()


# -- which data they are ----------------------------------------------------------------------------------------------


def test_the_digest_tells_other_numbers_shapes_and_labels_apart() -> None:
    images = [X, X.reshape(12, 5, 4), np.where(np.arange(12)[:, None, None] == 5, 255 - X, X)]
    found = [Dataset.from_arrays(x, Y, x, Y).digest for x in images]
    found.append(Dataset.from_arrays(X, (Y + 1) % 3, X, (Y + 1) % 3).digest)
    assert len(set(found)) == 4
    assert (
        Dataset.from_arrays(X[..., None], Y, X, Y.astype(np.uint8)).digest == found[0]
    )  # the same data, read otherwise


def test_the_identity_is_what_a_run_needs() -> None:
    data = Dataset.from_arrays(X, Y, name="mine")
    assert data.identity == DataIdentity("mine", data.digest, (4, 5, 1), 3)
    for wrong in {"image_shape": (4, 5)}, {"image_shape": (4, 0, 1)}, {"n_classes": 1}:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataclasses.replace(data.identity, **wrong)  # type: ignore[arg-type]


def test_mnist_has_its_digest_and_is_recognised_by_it(mnist: Dataset) -> None:
    assert mnist.identity == MNIST
    found = Dataset.from_arrays(mnist.x_train[..., 0], mnist.y_train, mnist.x_test, mnist.y_test, name="a copy")
    assert (found.name, found.digest, found.verified) == ("MNIST", MNIST.digest, True)


def test_classes_are_digits_in_mnist_alone(mnist: Dataset) -> None:
    assert (mnist.class_name(7), Dataset.from_arrays(X, Y).class_name(2)) == ("7", "class 2")


def test_a_guess_is_right_more_often_where_one_class_is_large(mnist: Dataset) -> None:
    assert mnist.chance == 10.0
    assert Dataset.from_arrays(X, Y, X, Y).chance == pytest.approx(100 / 3)
    y = np.array([0] * 10 + [1, 2])
    assert Dataset.from_arrays(X, y, X, y).chance == pytest.approx(100 * 10 / 12)


def test_errors_name_the_value() -> None:
    with pytest.raises(DataError, match=re.escape("x holds 16.0 at (0, 0, 0, 0)")):  # scikit-learn's digits
        Dataset.from_arrays(np.full((5, 8, 8), 16.0), np.arange(5))


def test_a_class_that_only_the_drawn_test_images_have() -> None:
    """Each class has one image, so the tenth that is drawn takes a whole class."""
    with pytest.raises(DataError, match=r"y holds the label \d so rarely .*: give x_test and y_test"):
        Dataset.from_arrays(np.zeros((10, 4, 4)), np.arange(10))

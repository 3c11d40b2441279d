"""A data set: images and labels to train and to test on, its name, and the digest that tells it from others."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidbp.data.files import DataError
from minidbp.data.split import split_train_validation
from minidbp.files.reading import printable

TEST_SHARE = 10  # one image in so many becomes a test image where a file names none
SPLIT_SEED = 0  # draws them
ARRAYS = ("x", "y", "x_test", "y_test")
CHANNELS = (1, 3)  # grey or RGB
UNBALANCED = 1.5  # a class is large if it has so many times the images of an average one


@dataclass(frozen=True)
class DataIdentity:
    """What tells a data set from others, and what a model must know of it.

    Attributes:
        name: "MNIST", or that of the file or folder.
        digest: SHA-256 of the four arrays of the Dataset.
        image_shape: (H, W, C).
    """

    name: str
    digest: str
    image_shape: tuple[int, ...]
    n_classes: int

    def class_name(self, label: int) -> str:
        """What a class is called: "7" for a digit of MNIST, "class 7" for other data."""
        return f"{label}" if self == MNIST else f"class {label}"

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise ValueError(f"name must be one line of printable characters; got {self.name!r:.40}")
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape must be three whole numbers of at least 1; got {self.image_shape!s:.80}")
        if self.n_classes < 2:
            raise ValueError(f"n_classes must be at least 2; got {self.n_classes}")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON gives them back: a tuple is a list."""
        return {**asdict(self), "image_shape": list(self.image_shape)}


MNIST_DIGEST = "2f04848d51aac28a09ab0ffaed7414a75e345ae2ca65fd3b96f0d8ab0e0cadbe"
MNIST = DataIdentity("MNIST", MNIST_DIGEST, (28, 28, 1), 10)


@dataclass(frozen=True, eq=False)  # == of arrays is an array, so a generated __eq__ would raise
class Dataset:
    """Images and labels; all arrays are read-only.

    Attributes:
        x_train, x_test: (N, H, W, C) float32 in [0, 1], NHWC, C = 1 (grey) or 3 (RGB). 0 is black.
        y_train, y_test: (N,) int64, the classes 0 to n_classes - 1.
        name: "MNIST", or the name of the file or folder.
        digest: SHA-256 of the four arrays.
        verified: whether they are MNIST's, by their digest.
        note: how they were read, if that is worth a sentence.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    name: str
    n_classes: int
    digest: str
    verified: bool
    note: str = ""

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        x_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        name: str = "the data",
    ) -> "Dataset":
        """A data set of your own arrays, checked.

        Args:
            x, x_test: images (N, H, W), or (N, H, W, C) with C = 1 or 3: uint8, which is divided by 255, or floats in
                [0, 1].
            y, y_test: labels (N,), integers from 0; every class must occur in y.
            x_test, y_test: None if there are none. Then a tenth of the images, drawn with seed 0, is set aside.
            name: what messages, files and pages call the data.

        Raises:
            DataError: One sentence, which names the array and the value that is wrong.
        """
        if (x_test is None) != (y_test is None):
            there, absent = ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
            raise DataError(f"{there} is there and {absent} is not: the two belong together")
        return cls.checked([x, y] if x_test is None or y_test is None else [x, y, x_test, y_test], ARRAYS, name)

    @classmethod
    def checked(cls, arrays: Sequence[ArrayLike], names: Sequence[str], name: str) -> "Dataset":
        """`from_arrays` of x, y and perhaps x_test, y_test, which errors call by `names`."""
        name = printable(name)
        x_name, y_name, x_test_name, y_test_name = names
        x, y = _pair(arrays[0], arrays[1], x_name, y_name)
        n_classes, note = _count_classes(y, y_name), ""
        if len(arrays) == 2:
            n_test = max(1, len(x) // TEST_SHARE)
            parts = split_train_validation(x, y, n_test, rng=np.random.default_rng(SPLIT_SEED))
            x, y, x_test, y_test = parts.x_train, parts.y_train, parts.x_validation, parts.y_validation
            if absent := set(range(n_classes)) - set(y.tolist()):
                raise DataError(
                    f"{y_name} holds the label {min(absent)} so rarely that the test images, a tenth drawn with seed "
                    f"{SPLIT_SEED}, have all of them: give x_test and y_test"
                )
            note = f"{n_test} of its {n_test + len(x)} images, drawn with seed {SPLIT_SEED}, are the test images"
        else:
            x_test, y_test = _pair(arrays[2], arrays[3], x_test_name, y_test_name)
            if x_test.shape[1:] != x.shape[1:]:
                sizes = (
                    f"{x_test_name} has images of {in_words(x_test.shape[1:])}, and {x_name} of {in_words(x.shape[1:])}"
                )
                raise DataError(f"{sizes}: they must be equally large")
            if y_test.max() >= n_classes:
                classes = f"0 to {n_classes - 1}"
                raise DataError(f"{y_test_name} holds the label {y_test.max()}, and {y_name} only {classes}")
        for array in x, y, x_test, y_test:
            array.flags.writeable = False
        digest = digest_of((x, y, x_test, y_test))
        verified = digest == MNIST.digest
        if verified:
            name = MNIST.name
        elif name == MNIST.name:  # a folder may be called so, whatever it holds
            name += " (not verified)"
        return cls(x, y, x_test, y_test, name, n_classes, digest, verified, note)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.x_train.shape[1:]

    @property
    def identity(self) -> DataIdentity:
        """What tells these data from others."""
        return DataIdentity(self.name, self.digest, self.image_shape, self.n_classes)

    def class_name(self, label: int) -> str:
        """`DataIdentity.class_name`."""
        return self.identity.class_name(label)

    @property
    def chance(self) -> float:
        """The accuracy of a guess, in percent: 100 / n_classes, or the share of the largest class if that is large."""
        share = np.bincount(self.y_train, minlength=self.n_classes).max() / len(self.y_train)
        return float(100 * share if share > UNBALANCED / self.n_classes else 100 / self.n_classes)

    def __str__(self) -> str:
        sizes = f"{len(self.x_train)} training and {len(self.x_test)} test images of {in_words(self.image_shape)}"
        return f"{self.name}: {sizes} in {self.n_classes} classes" + (f"; {self.note}" if self.note else "")


def in_words(image_shape: tuple[int, ...]) -> str:
    """(32, 32, 3) as 32x32x3, and (28, 28, 1) as 28x28."""
    height, width, channels = image_shape
    return f"{height}x{width}" + (f"x{channels}" if channels > 1 else "")


def digest_of(arrays: tuple[NDArray[Any], ...]) -> str:
    """SHA-256 of the arrays' dtypes, shapes and elements in C order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _images(x: ArrayLike, name: str) -> NDArray[np.float32]:
    """Images (N, H, W, C) as float32 in [0, 1].  Raises DataError."""
    x = np.asarray(x)
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(f"{name} has the shape {x.shape}; (N, H, W) or (N, H, W, C) is right, and no axis is empty")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.shape[3] not in CHANNELS:
        raise DataError(
            f"{name} has the shape {x.shape}, so {x.shape[3]} channels; the last axis must be 1 (grey) or 3 (RGB) long"
        )
    if x.dtype == np.uint8:
        if x.max() == 1:  # divided by 255, they would be almost black
            raise DataError(f"{name} holds uint8 of 0 and 1 only; 255 is white, so multiply them by 255")
        return np.divide(x, np.float32(255), dtype=np.float32)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{name} holds {x.dtype}; uint8 from 0 to 255, or floats from 0 to 1, are right")
    right = (x >= 0) & (x <= 1)  # False for NaN too
    if not right.all():
        index = np.unravel_index(np.argmin(right), x.shape)
        raise DataError(f"{name} holds {x[index]} at {tuple(map(int, index))}; floats must be finite and lie in 0 to 1")
    return x.astype(np.float32)


def _labels(y: ArrayLike, name: str) -> NDArray[np.int64]:
    """Labels (N,) of at least 0 as int64.  Raises DataError."""
    y = np.asarray(y)
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{name} holds {y.dtype}; labels must be integers")
    if y.ndim != 1 or not y.size:
        raise DataError(f"{name} has the shape {y.shape}; (N,) is right, one label for each image")
    if wrong := [value for value in (y.min(), y.max()) if not 0 <= value <= np.iinfo(np.int64).max]:
        raise DataError(f"{name} holds the label {wrong[0]}; labels must be 0, 1, 2, ...")
    return y.astype(np.int64)


def _pair(x: ArrayLike, y: ArrayLike, x_name: str, y_name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images and labels, checked.  Raises DataError."""
    images, labels = _images(x, x_name), _labels(y, y_name)
    if len(images) != len(labels):
        counts = f"{x_name} holds {len(images)} images, and {y_name} {len(labels)} labels"
        raise DataError(f"{counts}: each image needs one label")
    return images, labels


def _count_classes(y: NDArray[np.int64], name: str) -> int:
    """The number of classes c of labels that hold every class 0 to c - 1.  Raises DataError."""
    classes = np.unique(y)
    absent = np.flatnonzero(classes != np.arange(len(classes)))
    if absent.size:
        raise DataError(
            f"{name} holds labels up to {classes[-1]}, but not {absent[0]}: number the classes 0, 1, 2, ..."
        )
    if len(classes) < 2:
        raise DataError(f"{name} holds the label 0 alone: there must be two classes at least")
    return len(classes)

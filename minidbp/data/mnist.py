"""MNIST as four arrays, found, verified and scaled."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidbp.data import download
from minidbp.data.errors import DataError
from minidbp.data.files import (
    FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    MnistFile,
    find,
    read_verified,
)
from minidbp.data.idx import parse_idx


@dataclass(frozen=True, eq=False)  # == of arrays is an array, so a generated __eq__ would raise
class Mnist:
    """MNIST, all arrays read-only.

    x_train (60000, 28, 28, 1) and x_test (10000, 28, 28, 1): float32 in [0, 1], NHWC, 0 the black background.
    y_train (60000,) and y_test (10000,): int64, the digits 0 to 9.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def load_mnist(folder: Path | str | None = None) -> Mnist:
    """Load MNIST from `folder`, which has each of the four IDX files gzipped (.gz, preferred) or not.

    Without a folder, that is the project's data/ beside the package; where there is none, as in an installed
    copy, it is the user's cache folder, into which the files are downloaded once. The SHA-256 of the
    uncompressed bytes is verified on every load, wherever they come from.

    Raises DataError, one sentence with the file's path, if a file is missing, unreadable, truncated, changed
    or swapped with another, or cannot be downloaded.

    Source: Y. LeCun and C. Cortes, http://yann.lecun.com/exdb/mnist/ , CC BY-SA 3.0.
    """
    if folder is not None:
        home = Path(folder)
        remedy = "put the original there (`git checkout data/` restores the one in the project's data/)"
    elif _holds_mnist(home := _folder_beside_the_code()):
        remedy = "`git checkout data/` restores it"
    else:
        home = download.cache_folder()
        remedy = "delete this cached copy, and the next load downloads it again"
        download.fetch_missing(home)
    return Mnist(
        x_train=_images(home, TRAIN_IMAGES, remedy),
        y_train=_labels(home, TRAIN_LABELS, remedy),
        x_test=_images(home, TEST_IMAGES, remedy),
        y_test=_labels(home, TEST_LABELS, remedy),
    )


def _folder_beside_the_code() -> Path:
    return Path(__file__).parents[2] / "data"


def _holds_mnist(folder: Path) -> bool:
    # One sign of ours is enough: a clone that has lost a file must say so, not quietly download another copy.
    # A folder called data without any, such as another project's in site-packages, is not ours.
    return os.path.lexists(folder / "SHA256SUMS") or any(find(folder, file) for file in FILES)


def _images(folder: Path, file: MnistFile, remedy: str) -> NDArray[np.float32]:
    pixels = parse_idx(_read(folder, file, remedy), n_axes=3)[..., np.newaxis]
    x = np.divide(pixels, np.float32(255), dtype=np.float32)
    x.flags.writeable = False
    return x


def _labels(folder: Path, file: MnistFile, remedy: str) -> NDArray[np.int64]:
    y = parse_idx(_read(folder, file, remedy), n_axes=1).astype(np.int64)
    y.flags.writeable = False
    return y


def _read(folder: Path, file: MnistFile, remedy: str) -> bytes:
    path = find(folder, file)
    if path is None:
        raise DataError(f"{file.name}.gz is missing from the folder {folder}; {remedy}")
    return read_verified(path, file, remedy)

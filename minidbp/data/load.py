"""Data from a path that the user gives: a folder of four IDX files, or an .npz file."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from minidbp.data.dataset import ARRAYS, Dataset
from minidbp.data.files import FILES, MOST_OWN, DataError, decoded, parse_idx, present
from minidbp.data.mnist import from_verified, load_mnist
from minidbp.data.npz import read_npz
from minidbp.files.reading import printable

DAMAGED_MNIST = 3  # with this many of MNIST's files intact, a folder is a damaged MNIST, not another data set


def load_data(path: Path | str | None = None) -> Dataset:
    """MNIST, or other images and labels.

    Args:
        path: A folder with four IDX files of MNIST's names, such as Fashion-MNIST or KMNIST, each gzipped (.gz) or not.
            Or an .npz file that `numpy.savez` wrote, with the arrays x, y and perhaps x_test, y_test:
            `Dataset.from_arrays` says what they may hold. By default, `load_mnist()`.

    Only MNIST is verified. A folder of which three files hold MNIST's bytes is MNIST too, and its fourth is damaged.

    Raises:
        DataError: One sentence with the path of what is missing, damaged or wrong.
    """
    if path is None:
        return load_mnist()
    path = Path(path)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give a folder with four IDX files, or an .npz file")
    arrays = read_npz(path, ARRAYS[:2], ARRAYS[2:])
    try:
        return Dataset.from_arrays(**arrays, name=_name(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _from_folder(folder: Path) -> Dataset:
    paths = [present(folder, file) for file in FILES]
    raws = [decoded(path, MOST_OWN) for path in paths]
    digests = [hashlib.sha256(raw).hexdigest() for raw in raws]
    originals = [file.sha256 for file in FILES]
    intact = sum(digest == original for digest, original in zip(digests, originals, strict=True))
    swapped = any(digest in originals and digest != file.sha256 for digest, file in zip(digests, FILES, strict=True))
    if intact == len(FILES):
        return from_verified(raws)
    if swapped or intact >= DAMAGED_MNIST:
        return load_mnist(folder)  # which raises the error
    arrays = [parse_idx(raw, len(file.shape), str(path)) for file, path, raw in zip(FILES, paths, raws, strict=True)]
    try:
        data = Dataset.checked(arrays, [file.name for file in FILES], _name(folder))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    return replace(data, note=f"{intact} of its 4 files hold MNIST's bytes") if intact else data


def _name(path: Path) -> str:
    """The last part of a path, also of `.`, but not that of a link's target; what cannot be printed becomes `?`."""
    return printable(os.path.basename(os.path.abspath(path)) or str(path))

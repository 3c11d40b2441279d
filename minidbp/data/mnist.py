"""MNIST: found or downloaded, verified and scaled."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidbp.data.dataset import MNIST, Dataset
from minidbp.data.files import FILES, DataError, MnistFile, find, parse_idx, present, read_verified

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
BESIDE_THE_CODE = Path(__file__).parents[2] / "data"


def load_mnist(folder: Path | str | None = None) -> Dataset:
    """Load MNIST from a folder with the four IDX files, each gzipped (.gz, preferred) or not.

    x_train (60000, 28, 28, 1) and x_test (10000, 28, 28, 1) are float32 in [0, 1], 0 the black background.  y_train
    (60000,) and y_test (10000,) are the digits.  The SHA-256 of the uncompressed bytes is verified on every load.

    Args:
        folder: By default the project's data/ beside the package. Where there is none, as in an installed copy, it is
            the user's cache folder, into which the files are downloaded once.

    Raises:
        DataError: A file is missing, unreadable, truncated, changed or swapped with another, or cannot be downloaded.
            The message is one sentence with the file's path.

    Source: Y. LeCun and C. Cortes, http://yann.lecun.com/exdb/mnist/ , CC BY-SA 3.0.
    """
    if folder is not None:
        home = Path(folder)
        if not home.exists():
            raise DataError(f"the folder {home} does not exist; give one with MNIST's four files")
        remedy = "put the original there (`git checkout data/` restores the one in the project's data/)"
    # One file of ours is enough: a clone that has lost a file must say so, and not quietly download another copy.  A
    # folder called data without any, such as another project's in site-packages, is not ours.
    elif os.path.lexists(BESIDE_THE_CODE / "SHA256SUMS") or any(find(BESIDE_THE_CODE, file) for file in FILES):
        home, remedy = BESIDE_THE_CODE, "`git checkout data/` restores it"
    else:
        import pooch  # type: ignore[import-untyped, unused-ignore]  # here: whoever has data/ does not wait for it

        home = Path(pooch.os_cache("minidbp"))
        remedy = "delete this cached copy, and the next load downloads it again"
        for file in FILES:
            if find(home, file) is None:
                _download(file, home)
    try:
        return from_verified([read_verified(present(home, file), file) for file in FILES])
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error.__cause__


def from_verified(raws: Sequence[bytes]) -> Dataset:
    """MNIST from the verified bytes of its FILES, in their order."""
    x_train, y_train, x_test, y_test = (
        _array(parse_idx(raw, len(file.shape))) for raw, file in zip(raws, FILES, strict=True)
    )
    return Dataset(x_train, y_train, x_test, y_test, MNIST.name, MNIST.n_classes, MNIST.digest, verified=True)


def _array(raw: NDArray[np.uint8]) -> NDArray[Any]:
    images = raw.ndim == 3
    array = np.divide(raw[..., np.newaxis], np.float32(255), dtype=np.float32) if images else raw.astype(np.int64)
    array.flags.writeable = False
    return array


def _download(file: MnistFile, cache: Path) -> None:
    """Download a file into `cache`; it is verified before it appears there, and nothing half-written stays behind.

    Raises:
        DataError: The folder cannot be made, or no mirror has the right bytes.
    """
    import pooch  # type: ignore[import-untyped, unused-ignore]

    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"MNIST cannot be downloaded because the cache folder {cache} cannot be made ({error.strerror}); "
            "make it writable, or give the folder that holds MNIST (--data on the command line)"
        ) from error
    name = f"{file.name}.gz"
    failures = []
    for mirror in MIRRORS:
        try:
            # The temporary folder is inside the cache, so that the replacement stays within one file system.  Each
            # mirror gets a new one, because pooch downloads nothing where a file of that name is already.
            with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as temporary:
                # No known_hash: gzip files of the same bytes differ, and only the decoded bytes count.
                path = Path(pooch.retrieve(mirror + name, known_hash=None, fname=name, path=temporary))
                read_verified(path, file)
                path.replace(cache / name)  # atomic
            return
        except DataError as error:
            failures.append(f"{mirror} ({error}; the download was discarded)")
        except (OSError, ValueError) as error:  # every error of requests is one of these
            # The messages of requests have many nested lines, so the error's class must do.  The system's are short.
            failures.append(f"{mirror} ({getattr(error, 'strerror', None) or type(error).__name__})")
    raise DataError(
        f"{name} could not be downloaded into {cache}, neither from {' nor from '.join(failures)}; "
        "check the network, or give the folder that holds MNIST (--data on the command line)"
    )

"""Fetch MNIST's files into a cache folder, for a copy of minidbp that has no data/ beside it."""

import tempfile
from pathlib import Path

from minidbp.data.errors import DataError
from minidbp.data.files import FILES, MnistFile, find, read_verified

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def cache_folder() -> Path:
    """The user's cache folder for minidbp, where the system keeps such folders; it need not exist yet."""
    # Imported in functions only, so that whoever has data/ does not wait for it.
    import pooch  # type: ignore[import-untyped, unused-ignore]

    return Path(pooch.os_cache("minidbp"))


def fetch_missing(cache: Path) -> None:
    """Download those of the four files that are not in `cache`, each verified before it appears there.

    Raises DataError if `cache` cannot be written or no mirror has the right bytes; nothing half-written stays
    behind.
    """
    for file in FILES:
        if find(cache, file) is None:
            _fetch(file, cache)


def _fetch(file: MnistFile, cache: Path) -> None:
    import pooch  # type: ignore[import-untyped, unused-ignore]

    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"MNIST cannot be downloaded because the cache folder {cache} cannot be made ({error.strerror}); "
            "make it writable, or give load_mnist a folder that holds MNIST"
        ) from error
    name = f"{file.name}.gz"
    failures = []
    for mirror in MIRRORS:
        try:
            # Inside the cache, so that the replacement stays within one file system; anew for each mirror,
            # because pooch downloads nothing where a file of that name lies already.
            with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as temporary:
                # No known_hash: gzip files of the same bytes differ, and only the decoded bytes count.
                path = Path(pooch.retrieve(mirror + name, known_hash=None, fname=name, path=temporary))
                read_verified(path, file, "the download was discarded")
                path.replace(cache / name)  # atomic
            return
        except DataError as error:
            failures.append(f"{mirror} ({error})")
        except (OSError, ValueError) as error:  # every error of requests is one of these
            # Theirs run to many nested lines: the kind says enough. The system's own are short.
            failures.append(f"{mirror} ({getattr(error, 'strerror', None) or type(error).__name__})")
    raise DataError(
        f"{name} could not be downloaded into {cache}, neither from {' nor from '.join(failures)}; "
        "check the network, or give load_mnist a folder that holds MNIST"
    )

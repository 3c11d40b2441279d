import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch  # type: ignore[import-untyped, unused-ignore]
import pytest

from minidbp.data import DataError, Dataset, load_mnist
from minidbp.data.files import FILES, MnistFile
from minidbp.data.mnist import MIRRORS


def test_shapes_and_dtypes(mnist: Dataset) -> None:
    assert (mnist.x_train.shape, mnist.x_train.dtype) == ((60_000, 28, 28, 1), np.dtype(np.float32))
    assert (mnist.y_train.shape, mnist.y_train.dtype) == ((60_000,), np.dtype(np.int64))
    assert (mnist.x_test.shape, mnist.x_test.dtype) == ((10_000, 28, 28, 1), np.dtype(np.float32))
    assert (mnist.y_test.shape, mnist.y_test.dtype) == ((10_000,), np.dtype(np.int64))


def test_pixels_fill_the_range_from_0_to_1(mnist: Dataset) -> None:
    for x in (mnist.x_train, mnist.x_test):
        assert (x.min(), x.max()) == (0, 1)


def test_the_mean_of_the_training_images(mnist: Dataset) -> None:
    assert round(255 * float(mnist.x_train.mean(dtype=np.float64)), 4) == 33.3184


def test_pixels_are_whole_numbers_of_255ths(mnist: Dataset) -> None:
    pixels = np.rint(255 * mnist.x_test)
    np.testing.assert_array_equal(pixels.astype(np.float32) / np.float32(255), mnist.x_test)


def test_label_counts(mnist: Dataset) -> None:
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.y_train).tolist() == train
    assert np.bincount(mnist.y_test).tolist() == test


def test_arrays_and_fields_are_read_only(mnist: Dataset) -> None:
    for name in "x_train", "y_train", "x_test", "y_test":
        with pytest.raises(ValueError, match="read-only"):
            getattr(mnist, name)[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        mnist.y_test = mnist.y_train  # type: ignore[misc]


def test_a_folder_may_be_a_string(folder: Path, mnist: Dataset) -> None:
    np.testing.assert_array_equal(load_mnist(str(folder)).y_test, mnist.y_test)


def test_digests_in_code_in_sha256sums_and_in_the_readme_agree(originals: Path) -> None:
    lines = [f"{file.sha256}  {file.name}\n" for file in sorted(FILES, key=lambda file: file.name)]
    assert (originals / "SHA256SUMS").read_text() == "".join(lines)
    assert "".join(lines) in (originals / "README.md").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_missing_file_is_named_with_its_folder_and_the_way_out(folder: Path, file: MnistFile) -> None:
    name = f"{file.name}.gz"
    (folder / name).unlink()
    with pytest.raises(DataError, match=re.escape(f"{name} is missing from the folder {folder}")) as caught:
        load_mnist(folder)
    assert "git checkout data/" in str(caught.value)


def test_a_missing_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist; give one with"):
        load_mnist(tmp_path / "nowhere")


def test_swapped_files_are_recognised(folder: Path) -> None:
    train, test = folder / "train-labels-idx1-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"
    train.rename(folder / "x")
    test.rename(train)
    (folder / "x").rename(test)
    with pytest.raises(
        DataError,
        match=r"train-labels\S+gz holds t10k-labels-idx1-ubyte: the files were swapped; put the original there ",
    ):
        load_mnist(folder)


def test_a_damaged_clone_says_so_and_downloads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidbp.data.mnist.BESIDE_THE_CODE", folder)
    monkeypatch.setattr(pooch, "os_cache", lambda _: pytest.fail("looked for a cache"))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels.*missing from.*; `git checkout data/` restores it"):
        load_mnist()


def test_sha256sums_alone_marks_the_folder_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidbp.data.mnist.BESIDE_THE_CODE", tmp_path)
    monkeypatch.setattr(pooch, "os_cache", lambda _: pytest.fail("looked for a cache"))
    (tmp_path / "SHA256SUMS").touch()
    with pytest.raises(DataError, match="missing from"):
        load_mnist()


# -- the download without a network: pooch.retrieve is replaced by a function that serves local files ----------------

NAMES = sorted(f"{file.name}.gz" for file in FILES)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where load_mnist() looks in a copy without data/; the folder does not exist yet."""
    foreign = tmp_path / "data"  # some other package's folder of that name, beside ours in site-packages
    foreign.mkdir()
    (foreign / "README.md").touch()
    monkeypatch.setattr("minidbp.data.mnist.BESIDE_THE_CODE", foreign)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "minidbp"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, originals: Path) -> Callable[..., list[str]]:
    """Make pooch.retrieve serve the originals, but damaged or with an error for the mirrors named."""

    def install(errors: dict[str, Exception] | None = None, corrupt: tuple[str, ...] = ()) -> list[str]:
        asked: list[str] = []

        def retrieve(url: str, known_hash: None, fname: str, path: str) -> str:
            asked.append(url)
            mirror, name = url.rsplit("/", 1)
            target = Path(path) / fname
            assert not target.exists(), "pooch would not download again"
            shutil.copy(originals / name, target)
            if f"{mirror}/" in corrupt:
                target.write_bytes(target.read_bytes()[:-100])
            if error := (errors or {}).get(f"{mirror}/"):
                raise error  # after half the work, so that what is left behind shows
            return str(target)

        monkeypatch.setattr(pooch, "retrieve", retrieve)
        return asked

    return install


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_missing_is_downloaded_once(cache: Path, serve: Callable[..., list[str]], mnist: Dataset) -> None:
    asked = serve()
    loaded = load_mnist()
    np.testing.assert_array_equal(loaded.y_train, mnist.y_train)
    np.testing.assert_array_equal(loaded.x_test, mnist.x_test)
    assert files_in(cache) == NAMES
    assert asked == [f"{MIRRORS[0]}{file.name}.gz" for file in FILES]

    load_mnist()
    assert len(asked) == 4

    (cache / NAMES[0]).unlink()
    load_mnist()
    assert asked[4:] == [MIRRORS[0] + NAMES[0]]


@pytest.mark.parametrize("failure", [ConnectionError("down"), PermissionError(13, "Permission denied"), None])
def test_the_second_mirror_helps_where_the_first_fails(
    cache: Path, serve: Callable[..., list[str]], failure: Exception | None, mnist: Dataset
) -> None:
    asked = serve(errors={MIRRORS[0]: failure}) if failure else serve(corrupt=MIRRORS[:1])
    np.testing.assert_array_equal(load_mnist().y_test, mnist.y_test)
    assert files_in(cache) == NAMES
    assert len(asked) == 8


def test_where_both_mirrors_fail_the_cache_stays_empty(cache: Path, serve: Callable[..., list[str]]) -> None:
    asked = serve(errors={MIRRORS[0]: ConnectionError("first line\nsecond line")}, corrupt=MIRRORS)
    with pytest.raises(DataError) as caught:
        load_mnist()
    message = str(caught.value)
    assert message.startswith(f"train-images-idx3-ubyte.gz could not be downloaded into {cache}, neither from ")
    assert f"{MIRRORS[0]} (ConnectionError) nor from {MIRRORS[1]} (" in message
    assert "is a truncated gzip file" in message
    assert "--data" in message
    assert "\n" not in message
    assert len(asked) == 2
    assert files_in(cache) == []


def test_an_interruption_leaves_the_cache_empty(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(url: str, known_hash: None, fname: str, path: str) -> str:
        (Path(path) / fname).write_bytes(b"\x1f\x8b")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(KeyboardInterrupt):
        load_mnist()
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_made(cache: Path, serve: Callable[..., list[str]]) -> None:
    serve()
    cache.parent.touch()  # a file where a folder is needed
    with pytest.raises(DataError, match=r"cache folder .* cannot be made \(Not a directory\); make it writable"):
        load_mnist()


def test_a_damaged_cached_copy_is_reported_not_replaced(
    cache: Path, serve: Callable[..., list[str]], originals: Path
) -> None:
    shutil.copytree(originals, cache)
    damaged = cache / "train-images-idx3-ubyte.gz"
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    asked = serve()
    with pytest.raises(DataError, match="delete this cached copy, and the next load downloads it again"):
        load_mnist()
    assert asked == []

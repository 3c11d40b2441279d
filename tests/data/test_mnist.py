import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from minidbp.data import DataError, Mnist, load_mnist
from minidbp.data.files import FILES, MnistFile


def test_shapes_and_dtypes(mnist: Mnist) -> None:
    assert (mnist.x_train.shape, mnist.x_train.dtype) == ((60_000, 28, 28, 1), np.dtype(np.float32))
    assert (mnist.y_train.shape, mnist.y_train.dtype) == ((60_000,), np.dtype(np.int64))
    assert (mnist.x_test.shape, mnist.x_test.dtype) == ((10_000, 28, 28, 1), np.dtype(np.float32))
    assert (mnist.y_test.shape, mnist.y_test.dtype) == ((10_000,), np.dtype(np.int64))


def test_pixels_fill_the_range_from_0_to_1(mnist: Mnist) -> None:
    for x in (mnist.x_train, mnist.x_test):
        assert (x.min(), x.max()) == (0, 1)


def test_the_mean_of_the_training_images(mnist: Mnist) -> None:
    assert round(255 * float(mnist.x_train.mean(dtype=np.float64)), 4) == 33.3184


def test_pixels_are_whole_numbers_of_255ths(mnist: Mnist) -> None:
    pixels = np.rint(255 * mnist.x_test)
    np.testing.assert_array_equal(pixels.astype(np.float32) / np.float32(255), mnist.x_test)


def test_label_counts(mnist: Mnist) -> None:
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.y_train).tolist() == train
    assert np.bincount(mnist.y_test).tolist() == test


def test_arrays_and_fields_are_read_only(mnist: Mnist) -> None:
    for field in dataclasses.fields(mnist):
        with pytest.raises(ValueError, match="read-only"):
            getattr(mnist, field.name)[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        mnist.y_test = mnist.y_train  # type: ignore[misc]


def test_a_folder_may_be_a_string(folder: Path, mnist: Mnist) -> None:
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
    with pytest.raises(DataError, match="is missing from the folder"):
        load_mnist(tmp_path / "nowhere")


def test_swapped_files_are_recognised(folder: Path) -> None:
    train, test = folder / "train-labels-idx1-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"
    train.rename(folder / "x")
    test.rename(train)
    (folder / "x").rename(test)
    with pytest.raises(
        DataError, match=r"train-labels-idx1-ubyte\.gz holds t10k-labels-idx1-ubyte: the files were swapped; "
    ):
        load_mnist(folder)


def test_a_damaged_clone_says_so_and_downloads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidbp.data.mnist._folder_beside_the_code", lambda: folder)
    monkeypatch.setattr("minidbp.data.download.cache_folder", lambda: pytest.fail("looked for a cache"))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels.*missing from.*; `git checkout data/` restores it"):
        load_mnist()


def test_sha256sums_alone_marks_the_folder_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidbp.data.mnist._folder_beside_the_code", lambda: tmp_path)
    monkeypatch.setattr("minidbp.data.download.cache_folder", lambda: pytest.fail("looked for a cache"))
    (tmp_path / "SHA256SUMS").touch()
    with pytest.raises(DataError, match="missing from"):
        load_mnist()

"""Data by path: an .npz file, or a folder of four IDX files, which are MNIST's or another set's."""

import gzip
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minidbp.data import MNIST, DataError, Dataset, load, load_data
from minidbp.data.files import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_LABELS

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """A folder with files of MNIST's names and format, two of them gzipped, and other content."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    y = np.arange(30) % 3
    arrays = RNG.integers(0, 256, (30, 6, 5)), y, RNG.integers(0, 256, (9, 6, 5)), y[:9]
    for file, array in zip(FILES, arrays, strict=True):
        if "train" in file.name:
            (folder / file.name).write_bytes(idx(array))
        else:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def test_four_idx_files_of_another_set(fashion: Path) -> None:
    data = load_data(fashion)
    assert (data.name, data.verified, data.n_classes, data.image_shape) == ("fashion", False, 3, (6, 5, 1))
    assert (len(data.x_train), len(data.x_test), data.note) == (30, 9, "")
    raw = np.frombuffer((fashion / FILES[0].name).read_bytes(), np.uint8, offset=16)
    np.testing.assert_array_equal(np.rint(255 * data.x_train.ravel()), raw)
    np.testing.assert_array_equal(data.y_test, np.arange(9) % 3)


def test_a_folder_has_its_own_name_by_any_path(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fashion)
    assert load_data(".").identity == load_data(fashion).identity
    (fashion.parent / "current").symlink_to(fashion)
    assert load_data(fashion.parent / "current").name == "current"
    (fashion.parent / "MNIST").symlink_to(fashion)
    assert load_data(fashion.parent / "MNIST").name == "MNIST (not verified)"
    odd = fashion.rename(fashion.parent / "a\nb")
    assert load_data(odd).name == "a?b"


def test_mnist_is_mnist(folder: Path, mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_mnist", lambda: mnist)
    data = load_data(str(folder))
    assert data.identity == MNIST
    assert data.verified
    np.testing.assert_array_equal(data.y_test, mnist.y_test)
    assert load_data() is mnist


def flipped(file: str, folder: Path) -> None:
    """Change the last byte in one of the files, and keep it in its format."""
    path = folder / f"{file}.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.unlink()
    path.write_bytes(gzip.compress(raw, 1))


def test_one_damaged_file_is_a_damaged_mnist(folder: Path) -> None:
    flipped(TEST_LABELS.name, folder)
    with pytest.raises(DataError, match=r"t10k-labels\S+ does not hold MNIST's bytes .*put the original there"):
        load_data(folder)


def test_swapped_files_are_no_other_data(folder: Path) -> None:
    names = [folder / f"{file.name}.gz" for file in (TRAIN_LABELS, TEST_LABELS)]
    for path in names:
        path.rename(path.with_suffix(".old"))
    for path, other in zip(names, reversed(names), strict=True):
        path.symlink_to(other.with_suffix(".old"))
    with pytest.raises(DataError, match="the files were swapped"):
        load_data(folder)


def test_of_two_changed_files_the_name_and_a_note_tell(folder: Path) -> None:
    """MNIST-C has MNIST's labels and other images."""
    for file in TEST_IMAGES, TEST_LABELS:
        flipped(file.name, folder)
    data = load_data(folder)
    assert (data.name, data.verified) == ("mnist", False)
    assert data.digest != MNIST.digest
    assert data.note == "2 of its 4 files hold MNIST's bytes"


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage_in(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage_in


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "train-labels-idx1-ubyte.gz is missing from the"),
    "no gzip": (damage("t10k-labels-idx1-ubyte.gz", lambda raw: b"x" + raw), "is not a gzip file"),
    "half a gzip": (damage("t10k-labels-idx1-ubyte.gz", lambda raw: raw[:-9]), "is a truncated gzip file"),
    "half a file": (damage("train-images-idx3-ubyte", lambda raw: raw[:-1]), "needs 916"),
    "no IDX": (damage("train-images-idx3-ubyte", lambda raw: b"\0\0\x0d\3" + raw[4:]), "magic number 0x00000d03"),
    "label 7": (
        damage("train-labels-idx1-ubyte", lambda raw: raw[:-1] + b"\7"),
        "fashion: train-labels-idx1-ubyte holds labels up to 7, but not 3",
    ),
    "test label 3": (
        damage("t10k-labels-idx1-ubyte.gz", lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"\3")),
        "t10k-labels-idx1-ubyte holds the label 3, and train-labels-idx1-ubyte only 0 to 2",
    ),
    "labels less": (
        damage("train-labels-idx1-ubyte", lambda raw: idx(np.arange(29) % 3)),
        "train-images-idx3-ubyte holds 30 images, and train-labels-idx1-ubyte 29 labels",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_folder_is_said_in_a_sentence(
    fashion: Path, change: Callable[[Path], object], message: str
) -> None:
    change(fashion)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_data(fashion)
    assert str(fashion) in str(caught.value)
    assert str(caught.value).isprintable()


# -- .npz -------------------------------------------------------------------------------------------------------------


def test_an_npz_file(tmp_path: Path) -> None:
    x, y = RNG.random((30, 5, 4, 3)), np.arange(30) % 2
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    data = load_data(tmp_path / "mine.npz")
    assert (data.name, data.verified, data.image_shape, data.n_classes) == ("mine.npz", False, (5, 4, 3), 2)
    assert (len(data.x_train), len(data.x_test)) == (27, 3)
    np.savez_compressed(tmp_path / "mine.npz", x=x, y=y, x_test=x[:5], y_test=y[:5])
    assert len(load_data(tmp_path / "mine.npz").x_test) == 5


def test_what_is_wrong_in_an_npz_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=RNG.random((30, 5, 4)) * 2, y=np.arange(30))
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: x holds 1\.\d+ at .*lie in 0 to 1$"):
        load_data(path)
    np.savez(path, x=RNG.random((30, 5, 4)))
    with pytest.raises(DataError, match=r"lacks the array y; it holds x$"):
        load_data(path)


def test_no_such_path_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere does not exist; give a folder with four IDX files, or an \.npz file$"
    ):
        load_data(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is not a regular file"):
        load_data(tmp_path / "pipe")


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^train-images-idx3-ubyte\.gz is missing from the folder"):
        load_data(tmp_path)


def test_a_copy_of_mnist_without_one_file_is_not_replaced_by_the_projects(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    shutil.copy(folder / "train-labels-idx1-ubyte.gz", folder / "labels.gz")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is missing from the folder"):
        load_data(folder)

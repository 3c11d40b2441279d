"""The download without a network: pooch.retrieve is replaced by a function that serves local files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch  # type: ignore[import-untyped, unused-ignore]
import pytest

from minidbp.data import DataError, Mnist, load_mnist
from minidbp.data.download import MIRRORS
from minidbp.data.files import FILES

NAMES = sorted(f"{file.name}.gz" for file in FILES)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where load_mnist() looks in a copy without data/; the folder does not exist yet."""
    foreign = tmp_path / "data"  # some other package's folder of that name, beside ours in site-packages
    foreign.mkdir()
    (foreign / "README.md").touch()
    monkeypatch.setattr("minidbp.data.mnist._folder_beside_the_code", lambda: foreign)
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


def test_what_is_missing_is_downloaded_once(cache: Path, serve: Callable[..., list[str]], mnist: Mnist) -> None:
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
    cache: Path, serve: Callable[..., list[str]], failure: Exception | None, mnist: Mnist
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

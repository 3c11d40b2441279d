"""What commands are given, and folders that they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidbp.cli.inputs import check_image

Command = Callable[..., Any]
SWEEPS = ("table2", "table3", "table4", "credit")


def test_a_folder_that_stayed_empty_is_removed(
    command: Command, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidbp.diagnosis.attack.attack", no_space)
    result = command("attack", weights, "--out", "a/b/c", "--quiet")
    assert (result.exit_code, result.stderr) == (
        1,
        "minidbp: a file or the output cannot be used: No space left on device\n",
    )
    assert not Path("a").exists()
    (Path("a") / "b").mkdir(parents=True)
    command("attack", weights, "--out", "a/b/c")
    assert [*Path("a").rglob("*")] == [Path("a/b")]  # what was there before stays
    monkeypatch.setattr("minidbp.sweeps.sweep.write_with_digest", no_space)
    assert command("table2", "--preset", "smoke", "--out", "t").exit_code == 1
    assert not Path("t").exists()


@pytest.mark.parametrize("image", [-1, 10_000])
def test_an_image_that_is_not_there(image: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 9999; got {image}$"):
        check_image(image, 10_000)


def test_the_first_and_last_images_are_there() -> None:
    check_image(0, 10_000)
    check_image(9_999, 10_000)


def test_attack_reads_its_weights_once(command: Command, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, paths = Path.open, []
    monkeypatch.setattr(Path, "open", lambda path, *args, **named: paths.append(path) or read(path, *args, **named))
    assert command("attack", weights, "--images", "20", "--steps", "1", "--quiet").exit_code == 0
    assert [path.name for path in paths].count(Path(weights).name) == 1

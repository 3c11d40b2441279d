"""What the tests of the commands share: a way to call them, and what a refusal is."""

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import minidbp
from minidbp.cli import app, models
from minidbp.data.files import FILES
from minidbp.nn import build_model, save_model
from minidbp.training import Protocol

ROOT = Path(minidbp.__file__).parents[1]
DATA = ROOT / "data"
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="session")
def command() -> Command:
    """A command in this process, as it is quicker; a few tests start a real one."""

    def call(*arguments: str | Path) -> Any:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture(scope="module")
def weak_attacks() -> Iterator[None]:
    """What the commands print is tested, not how strong their attacks are, which take half a minute for each model."""
    weak = {"n_tracked": 1, "judged_eps": (), "apgd_steps": 1, "apgd_restarts": 1, "square_queries": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "Protocol", lambda **fields: Protocol(**{**fields, **weak, "reference_steps": 1}))
        yield


@pytest.fixture(scope="session")
def real_command() -> Command:
    def call(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "minidbp", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    return call


@pytest.fixture(scope="session")
def assert_refused() -> Callable[..., None]:
    """Exit code 2, one sentence on stderr that has these words, nothing else."""

    def check(result: Any, *named: str) -> None:
        exit_code = result.returncode if isinstance(result, subprocess.CompletedProcess) else result.exit_code
        assert exit_code == 2, result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("minidbp: ")]
        for word in named:
            assert word in line

    return check


@pytest.fixture(scope="session")
def files_in() -> Callable[[Path], set[str]]:
    return lambda folder: {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "C.safetensors"
    save_model(path, build_model("C", seed=1), "C")
    return path


@pytest.fixture(scope="session")
def with_damage() -> Callable[[Path, str], tuple[Path, str]]:
    """A folder of links to MNIST's files, one of them damaged; and the name of that one."""

    def make(folder: Path, damage: str) -> tuple[Path, str]:
        folder.mkdir()
        for file in FILES:
            (folder / f"{file.name}.gz").symlink_to(DATA / f"{file.name}.gz")
        images, labels = (folder / f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        original = labels.read_bytes()
        labels.unlink()
        if damage == "truncated":
            labels.write_bytes(original[:-9])
        elif damage == "flipped":
            plain = bytearray(gzip.decompress(original))
            plain[5000] ^= 1
            labels.write_bytes(gzip.compress(bytes(plain)))
        elif damage == "swapped":
            labels.symlink_to(DATA / images.name)
        return folder, labels.name

    return make

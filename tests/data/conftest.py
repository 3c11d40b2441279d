from pathlib import Path

import pytest

from minidbp.data.files import FILES

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with links to the four files; a test replaces the one that it damages."""
    copies = tmp_path / "mnist"
    copies.mkdir()
    for file in FILES:
        (copies / f"{file.name}.gz").symlink_to(DATA / f"{file.name}.gz")
    return copies


@pytest.fixture(scope="session")
def originals() -> Path:
    return DATA

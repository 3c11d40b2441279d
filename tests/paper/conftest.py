"""Tables of tests stand beside no results but those that a test ships."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from minidbp.paper import full_length


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_length, "FOLDER", Path(tmp_path_factory.mktemp("shipped")))
        yield

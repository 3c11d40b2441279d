"""The matrix in the docs is the one that the engine passes."""

from pathlib import Path

import pytest

from minidbp.checking.matrix import DTYPES, ORDERS, Cell, samples, verify
from minidbp.cli import matrix
from minidbp.cli.matrix import markdown


def test_the_page_is_not_stale() -> None:
    cells = [verify(op, order, dtype) for op in samples() for dtype in DTYPES for order in ORDERS]
    page = (Path(__file__).parents[2] / "docs" / "derivatives.md").read_text(encoding="utf-8")
    shown = page.split(matrix.BEGIN)[1].split(matrix.END)[0].strip()
    assert shown == markdown(cells).strip(), "renew it: minidbp gradcheck --page docs/derivatives.md"


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the matrix"):
        matrix.write_page(page, [])
    assert page.read_text() == "no marks"


def test_a_failed_cell_is_shown() -> None:
    assert markdown([Cell("exp", 1, "float64", "failed", "")]).count("FAILED") == 1

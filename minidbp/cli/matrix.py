"""The matrix of operations by order, on the screen and on the documentation's page."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from minidbp.checking.matrix import DTYPES, ORDERS, Cell
from minidbp.files.page import markdown_table, put_between

MARKS = {"verified": "✓", "raises": "raises", "failed": "FAILED"}
BEGIN, END = "<!-- matrix: made by minidbp gradcheck --page -->", "<!-- end of matrix -->"


def matrix(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the matrix: one row for each operation, one column for each dtype and order."""
    columns = [(dtype, order) for dtype in DTYPES for order in ORDERS]
    found = {(c.operation, c.dtype, c.order): MARKS[c.outcome] for c in cells}
    header = ["operation", *(f"{dtype}, order {order}" for dtype, order in columns)]
    names = sorted({c.operation for c in cells})
    return header, [[name, *(found.get((name, *column), "") for column in columns)] for name in names]


def on_screen(cells: Sequence[Cell]) -> Table:
    """The matrix for a terminal."""
    header, rows = matrix(cells)
    screen = Table(title="derivatives, operation by order", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(header):
        screen.add_column(name.replace(", order ", "\n"), justify="left" if i == 0 else "center")
    for row in rows:
        screen.add_row(*row)
    return screen


def markdown(cells: Sequence[Cell]) -> str:
    """The matrix as a Markdown table."""
    header, rows = matrix(cells)
    return markdown_table(header, [[f"`{name}`", *marks] for name, *marks in rows], align=":---:")


def write_page(page: Path, cells: Sequence[Cell]) -> None:
    """Put the matrix between the page's marks.  Raises ValueError if the page has no marks."""
    put_between(page, BEGIN, END, markdown(cells), "the matrix")

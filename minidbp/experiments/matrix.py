"""The matrix of operations by order, on the screen and on the documentation's page."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from minidbp.atomic import write_text
from minidbp.autodiff.catalogue import DTYPES, ORDERS, Cell

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
    lines = [header, ["---", *[":---:"] * (len(header) - 1)], *([f"`{name}`", *marks] for name, *marks in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write_page(page: Path, cells: Sequence[Cell]) -> None:
    """Put the matrix between the page's marks.  Raises ValueError if the page has no marks."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the matrix: it needs the lines {BEGIN} and {END}")
    write_text(page, f"{before}{begin}\n\n{markdown(cells)}\n{end}{after}")

"""Commands that check: the derivatives, and the machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minidbp.cli import options as opt
from minidbp.cli import output
from minidbp.cli.app import command, fail

if TYPE_CHECKING:
    from minidbp.checking.matrix import Cell

MARKS = {"verified": "✓", "raises": "raises", "failed": "FAILED"}
BEGIN, END = "<!-- matrix: made by minidbp gradcheck --page -->", "<!-- end of matrix -->"


@command
def gradcheck(
    op: Annotated[str | None, typer.Option(help="One operation; all of them if not given.")] = None,
    seed: opt.Seed = 0,
    page: Annotated[Path | None, typer.Option(help="Also write the matrix into this page, between its marks.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Check every operation's derivatives of order 1, 2 and 3, in float64 and float32; exit code 1 if one is wrong.

    float64 is compared with finite differences that avoid kinks, float32 with float64.
    """
    from minidbp.checking.matrix import DTYPES, ORDERS, samples, verify
    from minidbp.files.page import put_between

    if page and not page.is_file():
        raise ValueError(f"--page {page} is not a file; give a page with the lines {BEGIN} and {END}")
    todo = [(o, order, dtype) for o in ([op] if op else samples(seed)) for dtype in DTYPES for order in ORDERS]
    cells = []
    with output.progress("checking derivatives", len(todo)) as advance:
        for operation, order, dtype in todo:
            cells.append(verify(operation, order, dtype, seed))
            advance()
    if page:
        put_between(page, BEGIN, END, markdown(cells), "the matrix")
    header, *rows = matrix(cells)
    columns = [name.replace(", order ", "\n") for name in header]
    output.show(
        [cell._asdict() for cell in cells], as_json, output.table([columns, *rows], "derivatives, operation by order")
    )
    failed = [f"{c.operation}, order {c.order}, {c.dtype}: {c.detail}" for c in cells if c.outcome == "failed"]
    if failed:
        fail("; ".join(failed), code=1)


def matrix(cells: Sequence["Cell"]) -> list[list[str]]:
    """A header and a row for each operation, with a column for each dtype and order."""
    from minidbp.checking.matrix import DTYPES, ORDERS

    columns = [(dtype, order) for dtype in DTYPES for order in ORDERS]
    marks = {(c.operation, c.dtype, c.order): MARKS[c.outcome] for c in cells}
    rows = [["operation", *(f"{dtype}, order {order}" for dtype, order in columns)]]
    for name in sorted({c.operation for c in cells}):
        rows.append([name, *(marks.get((name, *column), "") for column in columns)])
    return rows


def markdown(cells: Sequence["Cell"]) -> str:
    """The matrix as a Markdown table."""
    from minidbp.files.markdown import markdown_table

    header, *rows = matrix(cells)
    return markdown_table(header, [[f"`{name}`", *marks] for name, *marks in rows], align=":---:")


@command
def doctor(data: opt.Data = None, as_json: opt.AsJson = False) -> None:
    """Examine versions, threads, the BLAS kernel, the kernel cache and the data; exit code 1 if something is wrong."""
    from minidbp.bench.doctor import examine

    output.compile_kernels()
    report = examine(data)
    lines = [(name, "bold", text) for name, text in report.facts.items()]
    lines += [("warning", "yellow", text) for text in report.warnings]
    lines += [("problem", "red", text) for text in report.problems]
    if not (report.warnings or report.problems):
        lines.append(("result", "green", "all is well"))
    output.show(report, as_json, *output.named(lines))
    if report.problems:
        raise typer.Exit(1)

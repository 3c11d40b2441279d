"""A table of a trace's steps, in plain text and in HTML."""

from collections.abc import Iterator, Sequence
from html import escape

# Okabe and Ito's colours, which every kind of colour vision tells apart; the words beside them do so in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

RIGHT_ALIGNED = ("step", "rule of", "min", "mean", "max", "error")
MAX_FORMULA = 44  # letters of a formula in plain text
MAX_ENDS = 150  # rows that a notebook shows of the beginning, and of the end, of a long table


def colour(order: int) -> str:
    """The colour of an order; they repeat after six."""
    return COLOURS[order % len(COLOURS)]


class Table:
    """Rows of cells.  `print` shows it as text; a notebook shows it in the colours of each row's order."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]], orders: Sequence[int]) -> None:
        self.columns, self.rows, self.orders = tuple(columns), [tuple(row) for row in rows], list(orders)

    def __repr__(self) -> str:
        rows = [[_cut(cell) if name == "formula" else cell for name, cell in self._named(row)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.columns, *rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if name in RIGHT_ALIGNED else cell.ljust(width)
                for (name, cell), width in zip(self._named(row), widths, strict=True)
            ).rstrip()
            for row in (self.columns, ["-" * width for width in widths], *rows)
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_style(name)}">{name}</th>' for name in self.columns)
        rows = [self._html_row(row, colour(order)) for row, order in zip(self.rows, self.orders, strict=True)]
        if len(rows) > 2 * MAX_ENDS:  # a page with thousands of rows is slow, and nobody reads them
            omitted = f"{len(rows) - 2 * MAX_ENDS} rows between are not shown here; print(...) shows all"
            rows[MAX_ENDS:-MAX_ENDS] = [
                f'<tr><td colspan="{len(self.columns)}" style="text-align:left">{omitted}</td></tr>'
            ]
        return (
            f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def _html_row(self, row: Sequence[str], mark: str) -> str:
        cells = []
        for name, cell in self._named(row):
            border = f";border-left:6px solid {mark}" if name == "step" else ""
            text = f"<code>{escape(cell)}</code>" if name == "formula" else escape(cell)
            if name == "order":
                text = f'<span aria-hidden="true" style="color:{mark}">■</span> {text}'
            cells.append(f'<td style="{_style(name)}{border}">{text}</td>')
        return f"<tr>{''.join(cells)}</tr>"

    def _named(self, row: Sequence[str]) -> Iterator[tuple[str, str]]:
        return zip(self.columns, row, strict=True)


def _style(name: str) -> str:
    return f"text-align:{'right' if name in RIGHT_ALIGNED else 'left'};white-space:nowrap;padding:2px 8px"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_FORMULA else text[: MAX_FORMULA - 1] + "…"

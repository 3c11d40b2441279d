"""A trace as a table, in plain text and in HTML."""

from collections.abc import Iterator, Sequence
from html import escape

from minidbp.inspection.steps import Step, order_in_words
from minidbp.inspection.values import Recorded

# Okabe and Ito's colours, which keep apart for every kind of colour vision; the words beside them do so in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

NUMBERS = ("step", "rule of", "min", "mean", "max", "error")  # columns that end on the right
WIDEST = 44  # letters of a formula in plain text
ENDS = 150  # lines at the beginning and at the end of a long table in a notebook


def colour(order: int) -> str:
    """The colour of an order; they come round again after six."""
    return COLOURS[order % len(COLOURS)]


def statistics(value: Recorded) -> tuple[str, str, str]:
    """min, mean and max in four digits; the max says how many NaN there are beside."""
    nans = f" ({value.nans} NaN)" if value.nans else ""
    return f"{value.min:.4g}", f"{value.mean:.4g}", f"{value.max:.4g}{nans}"


class Table:
    """Lines of cells: print it, or let a notebook show it, in the colours of each line's order."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]], orders: Sequence[int]) -> None:
        self.columns, self.rows, self.orders = tuple(columns), [tuple(row) for row in rows], list(orders)

    def __repr__(self) -> str:
        rows = [[_cut(cell) if name == "formula" else cell for name, cell in self._named(row)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.columns, *rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if name in NUMBERS else cell.ljust(width)
                for (name, cell), width in zip(self._named(line), widths, strict=True)
            ).rstrip()
            for line in (self.columns, ["-" * width for width in widths], *rows)
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_align(name)}">{name}</th>' for name in self.columns)
        rows = [self._html_row(row, colour(order)) for row, order in zip(self.rows, self.orders, strict=True)]
        if len(rows) > 2 * ENDS:  # a page with thousands of lines is slow, and nobody reads them
            left_out = f"{len(rows) - 2 * ENDS} lines between are not shown here; print(...) shows all"
            rows[ENDS:-ENDS] = [f'<tr><td colspan="{len(self.columns)}" style="text-align:left">{left_out}</td></tr>']
        body = "".join(rows)
        return f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def _html_row(self, row: Sequence[str], mark: str) -> str:
        cells = []
        for name, cell in self._named(row):
            style = f";border-left:6px solid {mark}" if name == "step" else ""
            text = f"<code>{escape(cell)}</code>" if name == "formula" else escape(cell)
            if name == "order":
                text = f'<span aria-hidden="true" style="color:{mark}">■</span> {text}'
            cells.append(f'<td style="{_align(name)}{style}">{text}</td>')
        return f"<tr>{''.join(cells)}</tr>"

    def _named(self, row: Sequence[str]) -> Iterator[tuple[str, str]]:
        return zip(self.columns, row, strict=True)


def steps_table(steps: Sequence[Step]) -> Table:
    """`Trace.table` of these steps."""
    columns = ("step", "operation", "formula", "shape", "order", "rule of", "min", "mean", "max")
    rows = [
        (
            step.label,
            step.name,
            step.formula,
            str(step.shape),
            order_in_words(step.order),
            "" if step.rule_of is None else f"#{step.rule_of}",
            *statistics(step),
        )
        for step in steps
    ]
    return Table(columns, rows, [step.order for step in steps])


def _align(name: str) -> str:
    return f"text-align:{'right' if name in NUMBERS else 'left'};white-space:nowrap;padding:2px 8px"


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"

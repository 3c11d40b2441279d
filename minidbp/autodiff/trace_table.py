"""A trace as a table, in plain text and in HTML."""

from collections.abc import Sequence
from html import escape

from minidbp.autodiff.steps import Recorded, Step, order_in_words

# Okabe and Ito's colours, which keep apart for every kind of colour vision; the words beside them do so in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

COLUMNS = ("step", "operation", "formula", "shape", "order", "rule of", "min", "mean", "max")
TO_THE_RIGHT = ("step", "rule of", "min", "mean", "max")
WIDEST = 44  # letters of a formula in plain text


def colour(order: int) -> str:
    """The colour of an order; they come round again after six."""
    return COLOURS[order % len(COLOURS)]


def statistics(value: Recorded) -> tuple[str, str, str]:
    """min, mean and max in four digits; the max says how many NaN there are beside."""
    nans = f" ({value.nans} NaN)" if value.nans else ""
    return f"{value.min:.4g}", f"{value.mean:.4g}", f"{value.max:.4g}{nans}"


class Table:
    """Steps in lines: print it, or let a notebook show it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                step.label,
                step.name,
                step.formula,
                str(step.shape),
                order_in_words(step.order),
                "" if step.rule_of is None else f"#{step.rule_of}",
                *statistics(step),
            )
            for step in self.steps
        ]

    def __repr__(self) -> str:
        cut = COLUMNS.index("formula")
        rows = [tuple(_cut(cell) if i == cut else cell for i, cell in enumerate(row)) for row in self._rows()]
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        lines = [COLUMNS, tuple("-" * width for width in widths), *rows]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if name in TO_THE_RIGHT else cell.ljust(width)
                for name, cell, width in zip(COLUMNS, line, widths, strict=True)
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_align(name)}">{name}</th>' for name in COLUMNS)
        body = "".join(_row(step, cells) for step, cells in zip(self.steps, self._rows(), strict=True))
        return f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(step: Step, cells: tuple[str, ...]) -> str:
    mark = colour(step.order)
    tds = []
    for name, cell in zip(COLUMNS, cells, strict=True):
        style = _align(name)
        if name == "step":
            style += f";border-left:6px solid {mark}"
        if name == "order":
            style += f";color:{mark};font-weight:bold"
        text = f"<code>{escape(cell)}</code>" if name == "formula" else escape(cell)
        tds.append(f'<td style="{style}">{text}</td>')
    return f"<tr>{''.join(tds)}</tr>"


def _align(name: str) -> str:
    return f"text-align:{'right' if name in TO_THE_RIGHT else 'left'};white-space:nowrap;padding:2px 8px"


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"

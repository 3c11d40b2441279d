"""A table on the screen, as CSV and as Markdown, with the protocol that made it."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich import box
from rich.table import Table

from minidbp.experiments.table2 import Row
from minidbp.training import Protocol

HEADER = ("model", "λ", "clean", "paper", "FGSM", "paper", "PGD", "epochs", "runs")

# Fields of the protocol that the paper leaves unsaid, in the order in which Protocol lists them.
UNSAID = (
    "penalised", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
)  # fmt: skip


def spread(value: Sequence[float] | None, digits: int = 2) -> str:
    """'98.63 ± 0.11', or the mean alone where there is one run, or a dash where there is none."""
    if value is None:
        return "–"
    mean, deviation = value
    return f"{mean:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def cells(row: Row, digits: int = 2) -> tuple[str, ...]:
    """A row as text, in HEADER's order; `digits` is for accuracies under attack."""
    return (
        row.model, f"{row.lam:g}", spread(row.clean), spread(row.paper and row.paper.clean), spread(row.fgsm, digits),
        spread(row.paper and row.paper.fgsm, digits), spread(row.pgd, digits), spread(row.epochs, 0), str(row.runs),
    )  # fmt: skip


def on_screen(rows: Sequence[Row], title: str) -> Table:
    """For a terminal: accuracy in percent, the paper's column beside each of ours."""
    screen = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # 80 columns are enough
        caption="test accuracy in percent, mean±standard deviation over runs",
    )
    for name in HEADER:
        screen.add_column(name, justify="right", style="dim" if name == "paper" else "")
    for i, row in enumerate(rows):
        last_of_model = i + 1 == len(rows) or rows[i + 1].model != row.model
        screen.add_row(*(cell.replace(" ", "") for cell in cells(row, digits=1)), end_section=last_of_model)
    return screen


def as_csv(rows: Sequence[Row]) -> str:
    """All numbers, unrounded; an empty field where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("clean", "fgsm", "pgd", "epochs", "paper_clean", "paper_fgsm")
    writer.writerow(["model", "lambda", "runs", *(f"{c}_{part}" for c in columns for part in ("mean", "sd"))])
    for row in rows:
        paper = row.paper or (("", ""), ("", ""))
        numbers = [n for pair in (row.clean, row.fgsm, row.pgd, row.epochs, *paper) for n in pair]
        writer.writerow([row.model, row.lam, row.runs, *("" if n != n else n for n in numbers)])
    return text.getvalue()


def as_markdown(
    rows: Sequence[Row], title: str, made_by: str, protocols: Mapping[str, Protocol], where: Mapping[str, Any]
) -> str:
    """The table, what made it, how to read it, every choice of the protocol by model, and the machine."""
    lines = [
        f"# {title}", "",
        f"Made by {made_by}.", "",
        "Test accuracy in percent, mean ± standard deviation over the runs; each column `paper` stands beside ours.",
        "The paper's are over 10 runs and have no lambda = 0. `PGD` is a stronger attack on the same weights, to tell",
        "robustness from masked gradients.", "",
        _line(HEADER), _line(["---", *["---:"] * (len(HEADER) - 1)]), *(_line(cells(row)) for row in rows), "",
        "![accuracy against lambda](accuracy.png)", "",
        "![test images and their adversarial twins](images.png)", "",
        "## Protocol", "",
        "**Bold**: the paper does not say; docs/protocol.md gives the reasons.", "",
        _line(["field", *(f"model {model}" for model in protocols)]), _line(["---"] * (len(protocols) + 1)),
    ]  # fmt: skip
    for field in fields(Protocol):
        name = f"**{field.name}**" if field.name in UNSAID else field.name
        lines.append(_line([name, *(str(getattr(p, field.name)) for p in protocols.values())]))
    lines += ["", "## Machine", ""]
    lines += [f"- {key}: {where[key]}" for key in ("minidbp", "python", "processor", "cores", "blas", "variables")]
    return "\n".join(lines) + "\n"


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"

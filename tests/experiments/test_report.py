"""The table as text: no cell is missing, and every choice is named."""

import csv
import dataclasses
import io
import math
import re

import pytest
from rich.console import Console

from minidbp.experiments.environment import environment
from minidbp.experiments.report import UNSAID, as_csv, as_markdown, on_screen, spread
from minidbp.experiments.table2 import Row, table
from minidbp.training import Protocol

RESULTS = [
    {
        "model": m, "lambda": lam, "seed": s,
        "clean": 97.125 + s, "fgsm": 31.5 + lam, "pgd": 4.75 - s, "epochs": 18 + 2 * s,
    }
    for m in "AC"
    for lam in (0.0, 50.0)
    for s in range(2 if m == "C" else 1)
]  # fmt: skip
ROWS = table(RESULTS)
NOT_SAID_IN_THE_PAPER = {  # DESIGN section 6
    "penalised", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [((98.634, 0.106), "98.63 ± 0.11"), ((98.0, math.nan), "98.00"), ((5.0, 0.0), "5.00 ± 0.00"), (None, "–")],
)
def test_spread(value: tuple[float, float] | None, text: str) -> None:
    assert spread(value) == text


def test_csv_has_every_number_unrounded() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert [(line["model"], float(line["lambda"]), int(line["runs"])) for line in lines] == [
        ("A", 0.0, 1), ("A", 50.0, 1), ("C", 0.0, 2), ("C", 50.0, 2),
    ]  # fmt: skip
    for line, row in zip(lines, ROWS, strict=True):
        assert None not in line.values()
        for name in ("clean", "fgsm", "pgd", "epochs"):
            mean, deviation = getattr(row, name)
            assert float(line[f"{name}_mean"]) == mean
            assert line[f"{name}_sd"] == ("" if math.isnan(deviation) else str(deviation))
        paper = [line[f"paper_{name}_{part}"] for name in ("clean", "fgsm") for part in ("mean", "sd")]
        assert paper == ([""] * 4 if row.paper is None else [str(n) for pair in row.paper for n in pair])
    assert "nan" not in as_csv(ROWS)


def tables_in(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return tables


@pytest.fixture(scope="module")
def markdown() -> str:
    protocols = {"A": Protocol(batch_size=32), "C": Protocol(max_epochs=7)}
    return as_markdown(ROWS, "Table 2, preset test", "`minidbp`", protocols, environment())


def test_markdown_has_no_cell_missing(markdown: str) -> None:
    numbers = tables_in(markdown)[0]
    assert len({len(line) for line in numbers}) == 1
    header, body = [cell.lower() for cell in numbers[0]], numbers[2:]
    for name in ("model", "lambda", "clean", "paper", "fgsm", "pgd", "epochs"):
        assert name in header or (name == "lambda" and "λ" in header)
    assert header.count("paper") == 2
    assert all(cell for line in body for cell in line)
    assert len(body) == len(ROWS)
    for line, row in zip(body, ROWS, strict=True):
        assert line[:2] == [row.model, f"{row.lam:g}"]
        where = header.index("clean")
        assert line[where].startswith(f"{row.clean[0]:.2f}"[:4])
        if row.paper:
            assert line[where + 1].startswith(f"{row.paper.clean[0]:.2f}"[:4])
        assert ("±" in line[where]) == (row.runs > 1)


def test_markdown_lists_every_field_of_the_protocol_and_marks_the_unsaid(markdown: str) -> None:
    choices = tables_in(markdown)[1]
    header, body = choices[0], {line[0]: line[1:] for line in choices[2:]}
    assert any("A" in cell for cell in header)
    assert any("C" in cell for cell in header)
    names = {name.strip("*") for name in body}
    assert names == {field.name for field in dataclasses.fields(Protocol)}
    assert {name.strip("*") for name in body if name.startswith("**")} == NOT_SAID_IN_THE_PAPER
    assert body["**batch_size**"] == ["32", "128"]
    assert body["max_epochs"] == ["100", "7"]
    assert body["**attack_label**"] == ["true", "true"]


def test_the_unsaid_are_fields_and_the_designs() -> None:
    assert set(UNSAID) == NOT_SAID_IN_THE_PAPER


def test_markdown_names_the_machine_and_shows_the_pictures(markdown: str) -> None:
    where = environment()
    assert where["processor"] in markdown
    assert where["python"] in markdown
    for picture in ("(accuracy.png)", "(images.png)"):
        assert picture in markdown
    assert markdown.startswith("# Table 2, preset test")


def text_of(rows: list[Row], width: int = 200) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(on_screen(rows, "Table 2, preset test"))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_shows_every_row(width: int) -> None:
    text = text_of(ROWS, width)
    assert "Table 2, preset test" in text
    assert "…" not in text  # nothing is cut off
    for name in ("FGSM", "PGD", "clean", "paper", "epochs"):
        assert name in text
    lines = [line.split() for line in text.splitlines() if line.split()[:1] in (["A"], ["C"])]
    assert len(lines) == len(ROWS)
    for line, row in zip(lines, ROWS, strict=True):
        assert float(line[1]) == row.lam
        assert int(line[-1]) == row.runs
        shown = {round(float(number), 1) for number in re.findall(r"\d+\.\d+", " ".join(line))}
        paper = [row.paper.clean, row.paper.fgsm] if row.paper else []
        for mean, deviation in [row.clean, row.fgsm, row.pgd, *paper]:
            assert any(abs(number - mean) < 0.11 for number in shown)
            assert math.isnan(deviation) or any(abs(number - deviation) < 0.11 for number in shown)


def test_no_rows_make_an_empty_table() -> None:
    assert len(as_csv([]).splitlines()) == 1
    assert "Table 2" in text_of([])
    assert len(tables_in(as_markdown([], "t", "m", {"C": Protocol()}, environment()))[0]) == 2

"""The numbers of our findings are those of results/: in the README, and on the page of the reproduction.

Such a number is the text of a link to a table. The link's title, "C,50:FGSM,seeds", names the first cells of a row and
some columns; its fragment names the section of the page.
"""

import json
import re
from pathlib import Path

import pytest

from minidbp.paper.published import TABLE_2, TABLE_3
from minidbp.paper.statistics import Summary, holm, paired, welch

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduction" / "index.md"
README = ROOT / "README.md"
LINK = re.compile(r'\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#]+)#?([^)\s]*) "([^"]+)"\)')
NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?")


def findings(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text.split("## Findings")[1].split("## Install")[0] if path == README else text


LINKS = [(path, *link) for path in (README, PAGE) for link in LINK.findall(findings(path))]


def section(text: str, anchor: str) -> str:
    """The part of a page under the heading with this anchor, as GitHub makes anchors; without one, its beginning."""
    parts = re.split(r"^#+ (.*)\n", text, flags=re.MULTILINE)
    bodies = {
        re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-"): body
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    return bodies[anchor] if anchor else next(iter(bodies.values()))


def table_of(text: str) -> list[list[str]]:
    """The first table of a text: its header, and its rows."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines
    header, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[0].splitlines())
    return [header, *rows]


def cells(file: Path, anchor: str, title: str) -> list[str]:
    keys, columns = (part.split(",") for part in title.split(":"))
    header, *rows = table_of(section(file.read_text(encoding="utf-8"), anchor))
    (row,) = (row for row in rows if row[: len(keys)] == keys)
    names = [name.replace(" ", "") for name in header]
    return [row[names.index(column)] for column in columns]


@pytest.mark.parametrize(("path", "text", "file", "anchor", "title"), LINKS, ids=lambda value: str(value)[:40])
def test_a_number_of_the_findings_is_that_of_its_row(path: Path, text: str, file: str, anchor: str, title: str) -> None:
    there = [number for cell in cells((path.parent / file).resolve(), anchor, title) for number in NUMBER.findall(cell)]
    assert NUMBER.findall(text) == there


def test_the_readme_gives_no_accuracy_without_a_link() -> None:
    assert len([path for path, *_ in LINKS if path == README]) >= 6
    rest = LINK.sub("", findings(README)).replace("95% intervals", "")
    assert re.findall(r"\d+(?:\.\d+)?\s*%|p = |[+-]\d|\[[+-]", rest) == []


def test_pgd_leaves_no_more_than_the_findings_say() -> None:
    header, *rows = table_of(section((ROOT / "results/laptop/table2/table.md").read_text(encoding="utf-8"), ""))
    best = max((row[header.index("PGD")] for row in rows), key=lambda cell: float(cell.split()[0]))
    assert f"[{best}%](../../results/laptop/table2/table.md" in findings(PAGE)


def differences(figure: str) -> dict[tuple[str, float], Summary]:
    """Table 3 from its runs: with the penalty minus without it, by model and eps."""
    runs = [json.loads(path.read_text()) for path in (ROOT / "results/laptop/table3/runs").glob("*.json")]
    found = {}
    for model, eps in {(run["model"], run["protocol"]["eps"]) for run in runs}:
        here = [run for run in runs if (run["model"], run["protocol"]["eps"]) == (model, eps)]
        with_, without = ({run["seed"]: run[figure] for run in here if run["lambda"] == lam} for lam in (10.0, 0.0))
        found[model, eps] = paired(with_, without)
    return found


def test_one_of_table_3s_eleven_comparisons_under_pgd_survives_holm() -> None:
    by_cell = differences("pgd")
    adjusted = dict(zip(by_cell, holm([test.p_value() for test in by_cell.values()]), strict=True))
    tested = {cell: p for cell, p in adjusted.items() if p == p}
    assert len(tested) == 11
    assert [cell for cell, p in tested.items() if p < 0.05] == [("C", 0.1)]
    assert f"p = {tested['C', 0.1]:.3f}" in findings(PAGE)
    by_cell = differences("fgsm")
    assert min(holm([test.p_value() for test in by_cell.values()])) > 0.05


def test_the_papers_own_numbers() -> None:
    text = " ".join(findings(PAGE).split())
    for model in "ABC":
        high, low = TABLE_2[model, 50.0].fgsm, TABLE_2[model, 0.1].fgsm
        test = welch(high, low, n=10, weight=2)
        assert f"{high[0] / low[0]:.2f} times" in text
        assert f"{test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}]" in text
        with_, without = TABLE_3[model, 0.3, 10.0].fgsm[0], TABLE_3[model, 0.3, 0.0].fgsm[0]
        assert f"({with_:.2f}% against {without:.2f}%)" in text
    for cell in ("A", 10.0), ("A", 50.0), ("C", 1.0), ("C", 10.0):
        assert f"{TABLE_2[cell].fgsm[0]:.2f}% at" in text

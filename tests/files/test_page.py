"""Pages of HTML: what a phone needs, what paper needs, and both in a browser."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from minidbp.files.page import PRINT, VIEWPORT, as_html, markdown_table

WIDE = markdown_table(
    ["claim", *(f"column {k}" for k in range(12))],
    [["a sentence of more than thirty characters", *["98.20 ± 0.05"] * 12]] * 60,
    "---:",
)


def test_a_page_fits_a_phone_and_paper(tmp_path: Path) -> None:
    page = as_html("# t\n\na", "t", tmp_path)
    assert VIEWPORT in page
    assert PRINT in page
    assert "@media print" in PRINT
    assert PRINT.count("{") == PRINT.count("}")


def test_only_sentences_may_be_broken_into_lines_on_a_phone(tmp_path: Path) -> None:
    table = markdown_table(["a", "b"], [["this run", "**at λ = 0** the accuracy changes by much more"], ["", "x" * 29]])
    page = BeautifulSoup(as_html(table, "t", tmp_path), "html.parser")
    assert [cell.get("class") for cell in page("td")] == [None, ["sentence"], None, None]
    assert page("td")[1].get_text() == "at λ = 0 the accuracy changes by much more"


@pytest.mark.slow
def test_in_a_browser(tmp_path: Path, browser) -> None:
    """At the width of a phone only the table scrolls; on paper it fits, and no row is in two parts."""
    path = tmp_path / "page.html"
    path.write_text(as_html(f"# Page\n\n[a link](https://example.org/a)\n\n{WIDE}", "t", tmp_path), encoding="utf-8")
    phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True).new_page()
    phone.goto(path.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    table = phone.locator("table")
    assert table.evaluate("t => t.clientWidth <= 390 && t.scrollWidth > 1000")

    paper = browser.new_context(viewport={"width": 680, "height": 1000}, color_scheme="dark").new_page()
    paper.goto(path.as_uri())
    paper.emulate_media(media="print")
    assert paper.evaluate("document.documentElement.scrollWidth") == 680
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    assert paper.locator("body").evaluate(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert paper.locator("tr").last.evaluate("e => getComputedStyle(e).breakInside") == "avoid"
    assert "https://example.org/a" in paper.locator("a").evaluate("e => getComputedStyle(e, '::after').content")
    assert paper.pdf(format="A4").startswith(b"%PDF")

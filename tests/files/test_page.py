"""Pages of HTML: what a phone needs, what paper needs, and both in a browser."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from minidbp.files.markdown import markdown_table
from minidbp.files.page import PRINT, VIEWPORT, as_html

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


def test_only_the_named_pictures_are_in_the_page(tmp_path: Path) -> None:
    for name in "ours.png", "other.png":
        (tmp_path / name).write_bytes(b"a picture")
    markdown = "![one](ours.png) ![two](other.png) ![three](http://example.org/a.png) ![<i>](../ours.png)"
    page = BeautifulSoup(as_html(markdown, "<b>", tmp_path, ["ours.png"]), "html.parser")
    assert [(picture["alt"], picture["src"]) for picture in page("img")] == [
        ("one", "data:image/png;base64,YSBwaWN0dXJl")
    ]
    assert page("p")[0].get_text() == " two three <i>"
    assert page("title")[0].get_text() == "<b>"
    (policy,) = page("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; ")


@pytest.mark.slow
def test_a_browser_loads_and_runs_nothing(tmp_path: Path, browser) -> None:
    """Even if a page held HTML of others, which it does not."""
    page = as_html("a", "ours", tmp_path)
    foreign = "<script>document.title = 'theirs'</script><link rel=stylesheet href=b.css><iframe src=c.html></iframe>"
    foreign += "<img src=http://127.0.0.1:9/a.png onerror=\"document.title = 'theirs'\">"
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{foreign}</body>"), encoding="utf-8")
    for name in "b.css", "c.html":
        (tmp_path / name).write_text("body { color: red }")
    tab, asked = browser.new_page(), []
    tab.on("requestfinished", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "page.html").as_uri())
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert tab.title() == "ours"
    assert tab.locator("body").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"


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

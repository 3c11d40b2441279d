"""Notebooks' pages in Chromium: what a class sees of text, formulas and code; sliders, which move without a kernel.

One page has a small example of each; another has the words of all notebooks.
"""

import io
import re
import tomllib
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from minidbp.teaching import explore, pictures
from minidbp.teaching.frames import FRAMES
from minidbp.teaching.notebooks import read_sources, source_folder
from minidbp.teaching.pages import FONT, as_html

pytestmark = pytest.mark.slow

FOREIGN = "<script>document.title = 'theirs'</script><img src=x onerror=\"document.title = 'theirs'\">"


@pytest.fixture(scope="module")
def sliders() -> dict[str, str]:
    """What `explore` displays of two sliders for a page."""
    bundles: list[dict[str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FRAMES, "6")
        patch.setattr(pictures, "display", lambda data, raw: bundles.append(data))
        explore(
            lambda k, lam: (plt.figure(figsize=(1, 1)), f"step {k} at {lam}"),
            k=ipywidgets.IntSlider(2, min=1, max=3),
            lam=ipywidgets.SelectionSlider(options=[("none", 0), ("some", 0.03)], description="λ"),
        )
    return bundles[0]


WORDS = """\
A name with an underscore, $x_{\\text{adv\\_1}} + \\operatorname{my\\_f}(x)$:

$$\\boxed{\\;\\underbrace{a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8 + a_9}_{\\text{nine}} = b\\;}$$

$$\\overbrace{a + b + c + d + e + f + a + b + c + d + e + f + a + b + c + d + e + f}^{n}$$
"""
LONGEST = "f(" + "x" * 93 + ")"


A4 = 680  # pixels between the margins


def opened(browser: Browser, notebook: NotebookNode, folder: Path) -> Page:
    path = folder / "page.html"
    path.write_text(as_html(notebook, "ours"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="module")
def page(sliders: dict[str, str], browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a small notebook."""
    said = new_output("display_data", {"text/markdown": "A result: $y\\_1 = \\underbrace{1 + 2 + 3}_{6}$"})
    cells = [
        new_markdown_cell(WORDS + FOREIGN),
        new_code_cell("explore(...)", outputs=[new_output("display_data", sliders), said]),
        new_code_cell(LONGEST, metadata={"jupyter": {"source_hidden": True}}),
    ]
    return opened(browser, new_notebook(cells=cells), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def notebooks(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """One page of the words of all notebooks."""
    cells = [cell for source in read_sources().values() for cell in source.cells if cell.cell_type == "markdown"]
    return opened(browser, new_notebook(cells=cells), tmp_path_factory.mktemp("notebooks"))


@pytest.fixture(scope="module", params=["page", "notebooks"])
def any_page(request: pytest.FixtureRequest) -> Page:
    return request.getfixturevalue(request.param)


def lacking(page: Page, selector: str, condition: str) -> list[str]:
    """The text of each element for which a JavaScript condition on `e` does not hold; there are some to look at."""
    elements = page.locator(selector)
    assert elements.count()
    return elements.evaluate_all(f"all => all.filter(e => !({condition})).map(e => e.textContent)")


def test_no_underscore_has_a_backslash(any_page: Page) -> None:
    condition = r"e.closest('pre') || !e.textContent.includes('\\_')"
    assert lacking(any_page, "math, p, li, td, h1, h2, h3", condition) == []


def test_the_box_of_a_formula_is_drawn(any_page: Page) -> None:
    boxes = "math .boxed, menclose"  # of which Chromium draws only the first
    assert lacking(any_page, boxes, "parseFloat(getComputedStyle(e).borderTopWidth) > 0") == []


def test_a_brace_spans_its_terms(any_page: Page) -> None:
    """In the picture: the size of its element is what it would be if it did not grow."""
    braces = any_page.locator("munder:has(> mo), mover:has(> mo)").filter(has_text=re.compile("[⏞⏟]"))
    assert braces.count()
    for brace in braces.all():
        brace.scroll_into_view_if_needed()
        terms, sign = (brace.locator(f"xpath=./*[{k}]").bounding_box() for k in (1, 2))
        clip = {"x": terms["x"], "y": sign["y"], "width": terms["width"], "height": sign["height"]}
        png = any_page.screenshot(clip=clip)
        ink = np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 200
        assert ink.any(axis=0).mean() > 0.9, brace.text_content()


def test_folded_code_has_its_triangle(page: Page) -> None:
    assert lacking(page, "summary", "getComputedStyle(e).display == 'list-item'") == []


def test_a_line_of_code_as_long_as_may_be_is_seen_whole(page: Page) -> None:
    """The linter holds the notebooks to this length."""
    settings = tomllib.loads((source_folder() / "ruff.toml").read_text(encoding="utf-8"))
    assert settings["line-length"] == len(LONGEST)
    page.locator("summary").click()
    assert lacking(page, "div.input pre", "e.scrollWidth <= e.clientWidth") == []


def test_the_font_has_every_character_of_a_formula(any_page: Page) -> None:
    with TTFont(FONT / "formulas.woff") as font:
        known = set(map(chr, font.getBestCmap()))
    assert set("".join(any_page.locator("math").all_text_contents())) - known - {"\n"} == set()
    assert any_page.evaluate("document.fonts.check('16px formulas')")


def test_a_formula_in_a_result_is_set(page: Page) -> None:
    expect(page.locator("div.output math mo").last).to_have_text("⏟")


def test_a_slider_changes_the_picture_by_the_keyboard(page: Page) -> None:
    k, lam = page.get_by_role("slider", name="k", exact=True), page.get_by_role("slider", name="λ")
    picture = page.locator("div.frames img:visible")
    expect(picture).to_have_attribute("alt", "step 2 at 0")
    k.press("ArrowRight")
    expect(picture).to_have_attribute("alt", "step 3 at 0")
    expect(k).to_have_attribute("aria-valuetext", "3")
    lam.press("End")
    expect(picture).to_have_attribute("alt", "step 3 at 0.03")
    k.press("Home")
    expect(picture).to_have_attribute("alt", "step 1 at 0.03")
    expect(page.locator("div.frames")).to_have_text(
        "k = 1λ = some" + "".join(f"step {k} at {lam}" for k in (1, 2, 3) for lam in (0, 0.03))
    )
    expect(page.locator("figcaption:visible")).to_have_text("step 1 at 0.03")


def test_on_paper_there_is_one_picture_and_its_values(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.locator("div.frames img:visible")).to_have_count(1)
    expect(page.locator("input:visible")).to_have_count(0)
    expect(page.locator("div.frames span:visible")).to_have_count(2)
    page.locator("details").evaluate("e => { e.open = false; }")
    expect(page.locator("details:visible")).to_have_count(0)  # what is folded would be a line that says nothing
    page.emulate_media(media="screen")


def test_on_paper_the_longest_line_of_code_is_not_broken(page: Page) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4, "height": 900})
    page.locator("details").evaluate("e => { e.open = true; }")
    assert lacking(page, "details pre", "e.clientHeight < 40") == []
    page.set_viewport_size({"width": 1200, "height": 900})
    page.emulate_media(media="screen")


def test_no_other_script_runs(page: Page) -> None:
    assert page.title() == "ours"

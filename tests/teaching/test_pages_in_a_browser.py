"""Notebooks' pages in Chromium: sliders move without a kernel, and nothing else runs."""

from collections.abc import Iterator

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser, Page, expect

from minidbp.teaching import explore, pictures
from minidbp.teaching.frames import FRAMES
from minidbp.teaching.pages import as_html

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


@pytest.fixture(scope="module")
def page(sliders: dict[str, str], browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a small notebook with all that a page must show right."""
    cell = new_code_cell("explore(...)", outputs=[new_output("display_data", sliders)])
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(as_html(new_notebook(cells=[new_markdown_cell(FOREIGN), cell]), "ours"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(path.as_uri())
    yield page
    page.close()


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
    page.emulate_media(media="screen")


def test_no_other_script_runs(page: Page) -> None:
    assert page.title() == "ours"

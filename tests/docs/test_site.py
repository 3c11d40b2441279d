"""Notebooks, formulas and links on their way into the site, and the look through its pages afterwards."""

import json
from pathlib import Path

import pytest
from check_pages import faults
from docutils.utils.math import MathError
from executed_notebooks import WIDGET, descriptions, executed
from included_links import moved
from mathml import to_mathml
from sphinx.errors import ExtensionError


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": [source], "outputs": list(outputs)}


def text(source: str) -> dict:
    return {"cell_type": "markdown", "source": source.splitlines(keepends=True)}


def picture(**metadata: str) -> dict:
    return {"data": {"image/png": "", "text/plain": "<Figure>"}, "metadata": {"image/png": metadata}}


def write(root: Path, folder: str, cells: list[dict]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "one.ipynb").write_text(json.dumps({"cells": cells, "metadata": {"widgets": {}}}))


def test_the_executed_copy_is_shown_without_widgets(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", [code("f()")])
    write(tmp_path, "out/notebooks", [code("f()", {"data": {WIDGET: {}}}, picture())])
    notebook = executed(tmp_path, "one.ipynb")
    assert [next(iter(output["data"])) for output in notebook["cells"][0]["outputs"]] == ["image/png"]
    assert "widgets" not in notebook["metadata"]


def test_a_notebook_that_was_not_run_stops_the_build(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", [code("f()")])
    with pytest.raises(ExtensionError, match="has not been run"):
        executed(tmp_path, "one.ipynb")


def test_a_notebook_that_was_changed_since_stops_the_build(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", [text("# One"), code("g()")])
    write(tmp_path, "out/notebooks", [text("# One"), code("f()")])
    with pytest.raises(ExtensionError, match="other cells"):
        executed(tmp_path, "one.ipynb")


def test_pictures_are_described_by_themselves_or_by_the_text_above() -> None:
    cells = [
        text("# One\n\n**So.** *The figure:* the `x` of\n$\\lVert J\\rVert_1$.\n\nMore."),
        code("f()", picture(), picture(alt="its own")),
        code("g()", picture()),
        text("Nothing."),
        code("h()", picture()),
    ]
    above = "The figure: the x of ‖J‖1."
    assert descriptions({"cells": cells}) == [above, "its own", above, ""]


def test_formulas_become_mathml() -> None:
    assert "<mfrac>" in to_mathml(r"\frac{\partial f}{\partial x}")
    assert 'display="block"' in to_mathml(r"J = \nabla f \tag{eq. 3}", as_block=True)
    assert "(eq. 3)" in to_mathml(r"J \tag{eq. 3}").replace("\xa0", " ")


def test_a_formula_that_cannot_be_converted_is_an_error() -> None:
    with pytest.raises(MathError):
        to_mathml(r"\nosuchcommand{x}")


def test_links_of_the_readme_hold_in_another_folder() -> None:
    markdown = "[a](docs/a.md) ![b](results/b.png) [c](https://example.org/c) [d](#d) [e](docs/e.md#part)"
    wanted = "[a](a.md) ![b](../results/b.png) [c](https://example.org/c) [d](#d) [e](e.md#part)"
    assert moved(markdown, Path(), Path("docs")) == wanted


PAGE = '<html lang="en"><h1 id="top">One</h1><a href="#top">up</a><a href="https://example.org">out</a>{}</html>'


def test_a_page_without_fault(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    (tmp_path / "one.html").write_text(PAGE.format('<img src="x.png" alt="a curve"><a href="one.html#top">here</a>'))
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<img src="one.html">', "no alt text"),
        ('<img src="one.html" alt=" ">', "no alt text"),
        ('<img src="one.html" alt="one.html">', "no alt text"),  # what Sphinx puts where none is given
        ('<script src="https://example.org/a.js"></script>', "over the network"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "over the network"),
        ('<a href="two.html">two</a>', "leads nowhere"),
        ('<a href="one.html#bottom">down</a>', "no such place"),
    ],
)
def test_faults_of_a_page(tmp_path: Path, html: str, fault: str) -> None:
    (tmp_path / "one.html").write_text(PAGE.format(html))
    (found,) = faults(tmp_path)
    assert fault in found


def test_a_page_in_no_language_and_a_site_of_no_pages(tmp_path: Path) -> None:
    assert "there are no pages" in faults(tmp_path)[0]
    (tmp_path / "one.html").write_text("<html></html>")
    assert "names no language" in faults(tmp_path)[0]

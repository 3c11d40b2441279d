"""Notebooks, formulas and links on their way into the site, and the look through its pages afterwards."""

from pathlib import Path

import nbformat
import pytest
from check_pages import faults
from executed_notebooks import FOLDER, descriptions, executed, fold
from included_links import moved
from nbformat import NotebookNode, v4
from sphinx.errors import ExtensionError

from minidbp.teaching.notebooks import BEGIN, END


def picture(**metadata: str) -> NotebookNode:
    data = {"image/png": "", "text/plain": "<Figure>"}
    return v4.new_output("display_data", data, metadata={"image/png": metadata})


def notebook(*cells: NotebookNode) -> NotebookNode:
    return v4.new_notebook(cells=list(cells))


def write(root: Path, folder: str, *cells: NotebookNode) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(*cells), root / folder / "one.ipynb")


def test_the_executed_copy_has_the_teachers_cells(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", v4.new_code_cell(f"{BEGIN}\nf()\n{END}"))
    write(tmp_path, FOLDER, v4.new_code_cell("# solution:\nf()\n# end of the solution", outputs=[picture()]))
    (cell,) = executed(tmp_path, "one").cells
    assert len(cell.outputs) == 1


def test_a_notebook_that_was_not_run_stops_the_build(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", v4.new_code_cell("f()"))
    with pytest.raises(ExtensionError, match=r"notebooks/one.ipynb has not been run"):
        executed(tmp_path, "one")


def test_a_notebook_that_was_changed_since_stops_the_build(tmp_path: Path) -> None:
    write(tmp_path, "notebooks", v4.new_code_cell("g()"))
    write(tmp_path, FOLDER, v4.new_code_cell("f()"))
    with pytest.raises(ExtensionError, match="other cells"):
        executed(tmp_path, "one")


def test_solutions_are_folded() -> None:
    cells = [
        v4.new_code_cell("# solution:\nf()\n# end of the solution"),
        v4.new_code_cell("g()", metadata={"tags": ["solution"]}),
        v4.new_code_cell('with exercise("1.1"):\n    pass', metadata={"tags": ["hide-input"]}),
        v4.new_markdown_cell("**An answer.** $a$", metadata={"tags": ["solution"]}),
        v4.new_markdown_cell("# Words"),
    ]
    folded = notebook(*cells)
    fold(folded)
    hidden = [[tag for tag in cell.metadata.get("tags", []) if tag.startswith("hide")] for cell in folded.cells]
    assert hidden == [["hide-cell"], ["hide-cell"], ["hide-input"], [], []]
    names = [cell.metadata.get("mystnb", {}).get("code_prompt_show") for cell in folded.cells]
    assert names == ["the solution", "the solution", "the check", None, None]
    assert folded.cells[3].source.startswith(
        "<details><summary>An answer</summary>\n\n**An answer.** $a$\n\n</details>"
    )
    assert folded.cells[4].source == "# Words"


def test_pictures_are_described() -> None:
    one = notebook(
        v4.new_code_cell("f()", outputs=[picture(alt="one"), v4.new_output("stream", text="no picture")]),
        v4.new_code_cell("g()", outputs=[picture(), picture(alt="three")]),
    )
    assert descriptions(one) == ["one", "", "three"]


def test_links_of_the_readme_hold_in_another_folder() -> None:
    markdown = "[a](docs/a.md) ![b](results/b.png) [c](https://example.org/c) [d](#d) [e](docs/e.md#part)"
    markdown += ' [f](docs/f.md "C,50:PGD")'
    wanted = "[a](a.md) ![b](../results/b.png) [c](https://example.org/c) [d](#d) [e](e.md#part)"
    wanted += ' [f](f.md "C,50:PGD")'
    assert moved(markdown, Path(), Path("docs")) == wanted


PAGE = '<html lang="en"><meta name="viewport" content="width=device-width"><h1 id="top">One</h1><a href="#top">up</a><a href="https://example.org">out</a>{}</html>'


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
    language, phone = faults(tmp_path)
    assert "names no language" in language
    assert "so a phone shows it too small" in phone

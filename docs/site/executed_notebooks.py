"""Notebooks as pages: notebooks/*.ipynb have no outputs in git; what `minidbp notebooks --html` made of them is shown.

The executed copies must be there, with the teacher's cells of now: a page is never empty or out of date.  Every picture
is described by `alt` in the metadata of the output, where `minidbp.teaching.show` puts it.  Solutions are folded, since
students read the site too.
"""

from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

from minidbp.teaching.notebooks import SOLVED, teacher_version
from minidbp.teaching.pages import folded_name

logger = logging.getLogger(__name__)
FOLDER = "out/notebooks/executed"


def executed(root: Path, name: str) -> NotebookNode:
    """The executed copy of notebooks/`name`.ipynb.  Raises ExtensionError if it is not there, or of other cells."""
    path, source = root / FOLDER / f"{name}.ipynb", root / "notebooks" / f"{name}.ipynb"
    remedy = "run `minidbp notebooks --html` first"
    if not path.is_file():
        raise ExtensionError(f"notebooks/{name}.ipynb has not been run, as {FOLDER}/{name}.ipynb is missing: {remedy}")
    notebook = nbformat.read(path, as_version=4)
    if _cells(notebook) != _cells(teacher_version(nbformat.read(source, as_version=4))):
        raise ExtensionError(
            f"{FOLDER}/{name}.ipynb was run from other cells than notebooks/{name}.ipynb has: {remedy}"
        )
    return notebook


def _cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def fold(notebook: NotebookNode) -> None:
    """Fold the solutions of a teacher's version, and say of all that is folded what it is."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            is_solution = "solution" in tags or SOLVED in cell.source
            if is_solution:
                cell.metadata["tags"] = [*tags, "hide-cell"]
            name = "the solution" if is_solution else folded_name(cell)
            cell.metadata["mystnb"] = {"code_prompt_show": name, "code_prompt_hide": name}
        elif "solution" in tags:
            cell.source = f"<details><summary>An answer</summary>\n\n{cell.source}\n\n</details>"


def descriptions(notebook: NotebookNode) -> list[str]:
    """Of each picture in the outputs, in order, the description in words; "" where there is none."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [(output, [kind for kind in output.get("data", {}) if kind.startswith("image/")]) for output in outputs]
    return [output.metadata.get(kind[0], {}).get("alt", "") for output, kind in kinds if kind]


def _name(docname: str) -> str | None:
    """The notebook's name, if the page is one."""
    return docname.removeprefix("notebooks/") if docname.startswith("notebooks/") else None


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if name := _name(docname):
        notebook = executed(Path(app.srcdir), name)
        fold(notebook)
        source[0] = nbformat.writes(notebook)
        app.env.note_dependency(str(Path(app.srcdir, FOLDER, f"{name}.ipynb")))


def describe(app: Sphinx, doctree: nodes.document) -> None:
    if name := _name(app.env.docname):
        outputs = [node for node in doctree.findall(nodes.container) if "cell_output" in node["classes"]]
        pictures = [picture for output in outputs for picture in output.findall(nodes.image)]
        for picture, text in zip(pictures, descriptions(executed(Path(app.srcdir), name)), strict=True):
            picture["alt"] = text
            if not text:
                logger.warning("a picture without a description: use minidbp.teaching.show", location=app.env.docname)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    app.connect("doctree-read", describe)
    return {"parallel_read_safe": True}

"""Notebooks as pages: notebooks/*.ipynb have no outputs in git, so the executed copies in out/notebooks/ are shown.

The copies must be there and have the same cells: a page is never empty or out of date.  Every picture is described: by
`alt` in the metadata of the output, or else by the text above the cell, from the words *The figure* to the end
of the paragraph.  Widgets, which need a running Python, are left out; pictures beside them stay.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from mathml import to_mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)
FOLDER = "out/notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
THE_FIGURE = re.compile(r"\*The figures?\b.*?(?=\n\s*\n|\Z)", re.DOTALL)

Notebook = dict[str, Any]


def executed(root: Path, name: str) -> Notebook:
    """The executed copy of notebooks/`name`, without widgets; ExtensionError if it is not there or of other cells."""
    path = root / FOLDER / name
    remedy = "run the notebooks first, by the README's command for the site"
    if not path.is_file():
        raise ExtensionError(f"notebooks/{name} has not been run: there is no {FOLDER}/{name}; {remedy}")
    notebook = json.loads(path.read_text())
    if _sources(notebook) != _sources(json.loads((root / "notebooks" / name).read_text())):
        raise ExtensionError(f"{FOLDER}/{name} was run from other cells than notebooks/{name} has; {remedy}")
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    notebook["metadata"].pop("widgets", None)
    return notebook


def _sources(notebook: Notebook) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def descriptions(notebook: Notebook) -> list[str]:
    """Of each picture in the outputs, in order, the description in words; "" where there is none."""
    found, text = [], ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            paragraph = THE_FIGURE.search("".join(cell["source"]))
            text = in_words(paragraph[0]) if paragraph else ""
        for output in cell.get("outputs", []):
            kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            if kinds:
                own = [output["metadata"].get(kind, {}).get("alt") for kind in kinds] + [output["metadata"].get("alt")]
                found.append(next(filter(None, own), text))
    return found


def in_words(markdown: str) -> str:
    """A paragraph of Markdown without its marks; formulas as the letters that are seen."""
    text = re.sub(r"\$+([^$]+)\$+", lambda formula: _letters(to_mathml(formula[1])), markdown)
    return " ".join(re.sub(r"[*`]", "", text).split())


def _letters(xml: str) -> str:
    return html.unescape(re.sub(r"\s*<[^>]*>\s*", "", xml))


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.startswith("notebooks/"):
        name = docname.removeprefix("notebooks/") + ".ipynb"
        source[0] = json.dumps(executed(Path(app.srcdir), name))
        app.env.note_dependency(str(Path(app.srcdir, FOLDER, name)))


def describe(app: Sphinx, doctree: nodes.document) -> None:
    docname = app.env.docname
    if not docname.startswith("notebooks/"):
        return
    notebook = executed(Path(app.srcdir), docname.removeprefix("notebooks/") + ".ipynb")
    outputs = doctree.findall(lambda node: isinstance(node, nodes.Element) and "cell_output" in node.get("classes", ()))
    pictures = [picture for output in outputs for picture in output.findall(nodes.image)]
    for picture, text in zip(pictures, descriptions(notebook), strict=True):
        picture["alt"] = text
        if not text:
            logger.warning(
                "a picture without a description: put *The figure:* and what it shows above its cell", location=picture
            )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    app.connect("doctree-read", describe)
    return {"parallel_read_safe": True}

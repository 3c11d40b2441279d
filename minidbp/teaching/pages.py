"""A notebook that was run as a page of HTML that needs no network and runs nothing."""

import copy
from collections.abc import Iterator
from typing import Any

from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from minidbp.teaching.mathml import to_mathml
from minidbp.teaching.sliders import WIDGET

LOOK = "classic"  # of nbconvert's templates, the one that hands on the descriptions of pictures


def still(executed: NotebookNode) -> NotebookNode:
    """A copy for a page that runs nothing: in place of sliders the words that say so, folded cells marked for MyST."""
    page = copy.deepcopy(executed)
    page.metadata.pop("widgets", None)
    for cell in page.cells:
        if _is_folded(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    return page


def as_html(executed: NotebookNode, title: str) -> str:
    """A notebook that was run, as one page of HTML.  Raises ValueError, naming it, for a formula that cannot be set."""
    body, _ = _Exporter(template_name=LOOK).from_notebook_node(still(executed), resources={"metadata": {"name": title}})
    page = BeautifulSoup(body, "html.parser")
    for script in page("script"):  # they would come from a network, to draw what is drawn already
        script.decompose()
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    for cell, code in zip(cells, page.select("div.input"), strict=True):
        if _is_folded(cell):
            fold = code.wrap(page.new_tag("details", style="margin-left: 8em"))
            fold.insert(0, page.new_tag("summary", string="the code that draws"))
    return str(page)


def _is_folded(cell: NotebookNode) -> bool:
    """Whether JupyterLab shows a bar in place of the cell's code."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return _formula(body, as_block=False)

    def block_math(self, body: str) -> str:
        return _formula(body, as_block=True)

    def multiline_math(self, text: str) -> str:
        return _formula(text.strip("$"), as_block=True)


class _Exporter(HTMLExporter):
    def default_filters(self) -> Iterator[tuple[str, Any]]:
        yield from super().default_filters()
        yield "markdown2html", _markdown


@pass_context
def _markdown(context: Context, source: str) -> str:
    return str(MarkdownWithMath(renderer=_Renderer(escape=False)).render(source))


def _formula(tex: str, as_block: bool) -> str:
    try:
        return to_mathml(tex, as_block)
    except MathError as error:
        raise ValueError(f"cannot set the formula {tex!r}: {error}") from None

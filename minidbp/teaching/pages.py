"""An executed notebook as a page of HTML that needs no network; its formulas are MathML, its sliders choose pictures.

The only script is that of the sliders, which the page's policy names by its hash.
"""

import base64
import copy
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from minidbp.files.page import PRINT, policy
from minidbp.teaching import frames
from minidbp.teaching.formulas import to_mathml
from minidbp.teaching.pictures import WIDGET

LOOK = "classic"  # the nbconvert template that keeps the descriptions of pictures
STYLE = """
pre { white-space: pre !important; word-break: normal !important; overflow-x: auto; } /* no word of code is broken */
img, svg { max-width: 100%; height: auto; }
figure { margin: 1em 0; }
.together { white-space: nowrap; }
details { margin-left: 8em; }
details div.prompt { display: none; } /* folded code begins where other code does */
summary { display: list-item; cursor: pointer; } /* with its triangle, which the theme hides */
.rendered_html table { margin-left: 0; font-size: 14px; } /* a table begins where the text does, and is as large */
@media (min-width: 992px) and (max-width: 1199px) { .container { width: 97%; } } /* room for a line of code */
@media (max-width: 540px) { details { margin-left: 0; } div.output_subarea { max-width: 100%; } }
@media print { /* as much as fits: whole lines of code, cells in two parts, no names of files, nothing that is folded */
  pre, div.input pre { font-size: 7.5pt !important; line-height: 1.3 !important; }
  div.prompt, details:not([open]) { display: none !important; }
  div, pre { break-inside: auto !important; }
  a:not([href^="http"])::after { content: none !important; }
}
"""

FONT = Path(__file__).parent / "font"
FORMULAS = (FONT / "formulas.css").read_text(encoding="utf-8")
FORMULAS = FORMULAS.replace("formulas.woff", frames.url("font/woff", (FONT / "formulas.woff").read_bytes()))

HASH = base64.b64encode(hashlib.sha256(frames.SCRIPT.encode()).digest()).decode()
POLICY = policy("font-src data:", f"script-src 'sha256-{HASH}'")

FOLDED = {  # by what a folded cell calls
    "exercise(": "the check",
    "show(": "the code that draws",
    "explore(": "the code that draws",
    "say(": "the code that writes this paragraph",
}
NOTEBOOK = re.compile(r"^([\w./-]+)\.ipynb(?=#|$)")  # in a link from one notebook to another
PNG = re.compile(r"^data:image/png;base64,")
INLINE = re.compile(r"(?s)[^\s<>]*<math>.*?</math>[^\s<]*")  # with the brackets and the full stop that touch it


def without_widgets(executed: NotebookNode) -> NotebookNode:
    """A copy for a page that runs no Python: sliders become their text, and folded cells get the tag for MyST."""
    page = copy.deepcopy(executed)
    page.metadata.pop("widgets", None)
    for cell in page.cells:
        if is_folded(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    return page


def as_html(executed: NotebookNode, title: str) -> str:
    """An executed notebook as one page of HTML. Raises ValueError with the formula if one cannot be converted."""
    exporter = _Exporter(template_name=LOOK)
    html_text, _ = exporter.from_notebook_node(without_widgets(executed), resources={"metadata": {"name": title}})
    page = BeautifulSoup(html_text, "html.parser")
    for script in page("script"):  # scripts from the network that would draw what is drawn already
        script.decompose()
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    for cell, code in zip(cells, page.select("div.input"), strict=True):
        if is_folded(cell):
            fold = code.wrap(page.new_tag("details"))
            fold.insert(0, page.new_tag("summary", string=folded_name(cell)))
    for picture in page("img", src=PNG):
        picture["src"] = frames.as_webp(base64.b64decode(PNG.sub("", str(picture["src"]))))
    for link in page("a", href=NOTEBOOK):
        link["href"] = NOTEBOOK.sub(r"\1.html", str(link["href"]))
    (head,), (body,) = page("head"), page("body")
    head.insert(0, BeautifulSoup(POLICY, "html.parser"))
    head.append(page.new_tag("style", string=STYLE + FORMULAS + frames.STYLE + PRINT))
    body.append(BeautifulSoup(f"<script>{frames.SCRIPT}</script>", "html.parser"))
    return str(page)


def is_folded(cell: NotebookNode) -> bool:
    """Whether JupyterLab shows a bar in place of the cell's code."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def folded_name(cell: NotebookNode) -> str:
    """What a page shows in place of a folded cell's code."""
    return next((name for call, name in FOLDED.items() if call in cell.source), "the code")


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
    """A browser may break a line at each side of a formula, so a formula is kept with what touches it."""
    text = str(MarkdownWithMath(renderer=_Renderer(escape=False)).render(source))
    return INLINE.sub(r'<span class="together">\g<0></span>', text)


def _formula(tex: str, as_block: bool) -> str:
    try:
        return to_mathml(tex, as_block)
    except MathError as error:
        raise ValueError(f"cannot set the formula {tex!r}: {error}") from None

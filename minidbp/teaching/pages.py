"""An executed notebook as a page of HTML that needs no network; its formulas are MathML, its sliders choose pictures.

Browsers draw MathML by themselves, and screen readers can read it.  The only script is that of the sliders, which the
page's policy names by its hash.
"""

import base64
import copy
import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from minidbp.files.page import PRINT, policy
from minidbp.teaching import frames
from minidbp.teaching.pictures import WIDGET

LOOK = "classic"  # the nbconvert template that keeps the descriptions of pictures
STYLE = """
pre { white-space: pre !important; word-break: normal !important; overflow-x: auto; } /* no word of code is broken */
img, svg { max-width: 100%; height: auto; }
figure { margin: 1em 0; }
details { margin-left: 8em; }
summary { display: list-item; cursor: pointer; } /* with its triangle, which the theme hides */
@media (max-width: 540px) { details { margin-left: 0; } div.output_subarea { max-width: 100%; } }
"""

FONT = Path(__file__).parent / "font"
FORMULAS = (FONT / "formulas.css").read_text(encoding="utf-8")
FORMULAS = FORMULAS.replace("formulas.woff", frames.url("font/woff", (FONT / "formulas.woff").read_bytes()))

HASH = base64.b64encode(hashlib.sha256(frames.SCRIPT.encode()).digest()).decode()
POLICY = policy("font-src data:", f"script-src 'sha256-{HASH}'")

TEX = (  # what the converter does not know
    (re.compile(r"\\tag\{([^{}]*)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\([dt]?frac)(\d)([\da-zA-Z])"), r"\\\1{\2}{\3}"),  # the converter reads \tfrac12 x as 12 over x
)
BOX = re.compile(r'<menclose notation="box" class="boxed">(.*?)</menclose>', re.DOTALL)
ESCAPED = re.compile(r"\\([_%#&{}$])(?=[^<>]*</m(?:text|i)>)")
MATHML = (  # what Chromium would otherwise not show, set too tall, or too far apart
    (BOX, r'<mrow class="boxed">\1</mrow>'),
    (ESCAPED, r"\1"),
    (re.compile(r"(<msu[bp](?:sup)?>\s*)<mo>"), r'\1<mo stretchy="false">'),  # the bar of a norm with an index
    (re.compile(r'<mo stretchy="false">\|'), r'<mo stretchy="false" lspace="0" rspace="0">|'),
)
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
NOTEBOOK = re.compile(r"^([\w./-]+)\.ipynb(?=#|$)")  # in a link from one notebook to another
PNG = re.compile(r"^data:image/png;base64,")
HTML_ENTITY = re.compile(r"&(?!lt;|gt;|amp;)\w+;")  # such as &ApplyFunction;, which XML does not know
BRACES = {"⏟": ("msub", "munder"), "⏞": ("msup", "mover")}


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
    return "the check" if "exercise(" in cell.source else "the code that draws"


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


def to_mathml(tex: str, as_block: bool = False) -> str:
    """A formula as a <math> element. Raises docutils' MathError if it cannot be converted."""
    return _replaced(_beside_braces(str(tex2mathml(_replaced(tex, TEX), as_block=as_block))), MATHML)


def _beside_braces(mathml: str) -> str:
    """Move the label of a brace under it or over it; the converter puts it to the right."""
    if not any(brace in mathml for brace in BRACES):
        return mathml
    xml = HTML_ENTITY.sub(lambda entity: html.unescape(entity[0]), mathml.replace(NAMESPACE, ""))
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        for brace, (beside, at) in BRACES.items():
            if element.tag == beside and element[0].tag == at and element[0][-1].text == brace:
                element.tag = at
    return ElementTree.tostring(root, encoding="unicode").replace("<math", f"<math{NAMESPACE}", 1)


def _replaced(text: str, replacements: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in replacements:
        text = pattern.sub(new, text)
    return text

"""An executed notebook as a page of HTML that needs no network; its formulas are MathML, its sliders choose pictures.

Browsers draw MathML by themselves, and screen readers can read it.  The only script is that of the sliders, which the
page's policy names by its hash.
"""

import base64
import copy
import hashlib
import html
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

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

TEX = (  # what the converter does not know
    (re.compile(r"\\tag\{([^{}]*)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\([dt]?frac)(\d)([\da-zA-Z])"), r"\\\1{\2}{\3}"),  # the converter reads \tfrac12 x as 12 over x
)
FOLDED = {  # by what a folded cell calls
    "exercise(": "the check",
    "show(": "the code that draws",
    "explore(": "the code that draws",
    "say(": "the code that writes this paragraph",
}
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
NOTEBOOK = re.compile(r"^([\w./-]+)\.ipynb(?=#|$)")  # in a link from one notebook to another
PNG = re.compile(r"^data:image/png;base64,")
HTML_ENTITY = re.compile(r"&(?!lt;|gt;|amp;)\w+;")  # such as &ApplyFunction;, which XML does not know
BRACES = {"⏟": ("msub", "munder"), "⏞": ("msup", "mover")}
BARS, FENCES = ["|", "‖"], ["|", "‖", "⟨", "⟩", "⌊", "⌋", "⌈", "⌉"]
LIMITS = ("munder", "msub")  # what is under the name max, or beside it within a line
RELATIONS, SIGNS = ("=", "≈", "<", ">", "≤", "≥", ","), ("+", "−", "±")
OPENING = ("(", "[", "{", "⟨")
APPLY, THIN = "\u2061", "0.17em"  # the sign between a function's name and its argument, which is not seen
INLINE = re.compile(r"(?s)[^\s<>]*<math>.*?</math>[^\s<]*")  # with the brackets and the full stop that touch it
NAME = re.compile("[a-z]+")
ESCAPED = re.compile(r"\\([_%#&{}$])")


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


def to_mathml(tex: str, as_block: bool = False) -> str:
    """A formula as a <math> element. Raises docutils' MathError if it cannot be converted.

    HTML needs no namespace, and with one nbconvert would rename the elements in a heading to <ns0:math>.
    """
    mathml = str(tex2mathml(_replaced(tex, TEX), as_block=as_block)).replace(NAMESPACE, "")
    root = ElementTree.fromstring(HTML_ENTITY.sub(lambda entity: html.unescape(entity[0]), mathml))
    grow = {id(fence) for row in root.iter("mrow") for fence in _pair(row)}
    for element in list(root.iter()):
        _join(element)
        _mend(element, may_grow=id(element) in grow)
        _space_functions(element)
        _space_signs(element)
    return ElementTree.tostring(root, encoding="unicode")


def _join(element: Element) -> None:
    """Remove the converter's line ends: nbconvert would take those in a heading into the heading's address."""
    element.tail = None
    if len(element):
        element.text = None


def _pair(row: Element) -> list[Element]:
    r"""The first and the last element of a row, if both are fences: those of \left and \right."""
    ends = [row[0], row[-1]] if len(row) > 1 else []
    return ends if all(end.tag == "mo" and end.text in FENCES for end in ends) else []


def _space_functions(row: Element) -> None:
    """A thin space before the name of a function, and behind it where no bracket follows, as in LaTeX."""
    for k, element in enumerate(row):
        name = element[0] if element.tag in LIMITS else element
        # max or lim, which browsers set like a sign of relation
        if row.tag not in LIMITS and name.tag == "mo" and NAME.fullmatch(name.text or ""):
            name.set("lspace", THIN if k and _is_term(row[k - 1]) else "0")
            name.set("rspace", "0" if any(map(_opens, row[k + 1 : k + 2])) else THIN)
    for k in reversed([k for k, element in enumerate(row) if element.text == APPLY]):
        if row[k + 1 : k + 2] and not _opens(row[k + 1]):
            row[k].set("rspace", THIN)
        if k >= 2 and _is_term(row[k - 2]):
            row.insert(k - 1, Element("mspace", width=THIN))


def _space_signs(row: Element) -> None:
    """No space between a sign and its number, where the sign stands between no two terms."""
    for before, sign in itertools.pairwise(row):
        if (before.tag, sign.tag) == ("mo", "mo") and before.text in RELATIONS and sign.text in SIGNS:
            sign.set("form", "prefix")


def _opens(element: Element) -> bool:
    """Whether an element is a bracket, or begins with one."""
    return element.text in OPENING or (element.tag == "mrow" and any(map(_opens, element[:1])))


def _is_term(element: Element) -> bool:
    return element.tag != "mo" or element.text in (")", "]")


def _mend(element: Element, may_grow: bool) -> None:
    """Change what the converter does otherwise than LaTeX, or what Chromium does not show."""
    if element.tag == "menclose" and element.get("notation") == "box":
        element.tag = "mrow"
        element.attrib = {"class": "boxed"}
    for brace, (beside, at) in BRACES.items():  # its label belongs under it or over it, not to the right
        if element.tag == beside and element[0].tag == at and element[0][-1].text == brace:
            element.tag = at
    if element.tag == "munderover" and (element[0].tag, element[2].tag) == (
        "mi",
        "mo",
    ):  # the index of a y with a tilde
        letter = Element("mover", accent="true")
        letter.extend([element[0], element[2]])
        element.tag, element[:] = "msub", [letter, element[1]]
    if element.tag in ("msub", "msubsup") and (element[0].tag in ("mi", "mover") or element[0].text in BARS):
        base = Element("mpadded", depth="0")  # or the index would be as much lower as a p goes below the line
        base.append(element[0])
        element[0] = base
    if element.tag in ("mtext", "mi"):
        element.text = ESCAPED.sub(r"\1", element.text or "")
    if element.tag == "msqrt":  # as tall as a letter, or the root of an x hangs below the line
        element.append(Element("mspace", width="0", height="0.85em", depth="0.15em"))
    if element.tag == "mo" and element.text == "/":
        element.attrib |= {"lspace": "0", "rspace": "0"}
    if element.tag == "mo" and element.text in FENCES and not may_grow:  # as tall as its index, or a brace
        element.set("stretchy", "false")
        if element.text in BARS:
            element.attrib |= {"lspace": "0", "rspace": "0"}


def _replaced(text: str, replacements: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in replacements:
        text = pattern.sub(new, text)
    return text

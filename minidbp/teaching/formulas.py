"""Formulas as MathML: docutils' converter, and what it does otherwise than LaTeX or than browsers need.

Browsers draw MathML by themselves, and screen readers can read it.
"""

import html
import itertools
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from docutils.utils.math.latex2mathml import tex2mathml

TEX = (  # what the converter does not know
    (re.compile(r"\\tag\{([^{}]*)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\([dt]?frac)(\d)([\da-zA-Z])"), r"\\\1{\2}{\3}"),  # the converter reads \tfrac12 x as 12 over x
)
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
HTML_ENTITY = re.compile(r"&(?!lt;|gt;|amp;)\w+;")  # such as &ApplyFunction;, which XML does not know
BRACES = {"⏟": ("msub", "munder"), "⏞": ("msup", "mover")}
BARS, FENCES = ["|", "‖"], ["|", "‖", "⟨", "⟩", "⌊", "⌋", "⌈", "⌉"]
LIMITS = ("munder", "msub")  # what is under the name max, or beside it within a line
RELATIONS, SIGNS = ("=", "≈", "<", ">", "≤", "≥", ","), ("+", "−", "±")
OPENING = ("(", "[", "{", "⟨")
APPLY, THIN = "\u2061", "0.17em"  # the sign between a function's name and its argument, which is not seen
NAME = re.compile("[a-z]+")
ESCAPED = re.compile(r"\\([_%#&{}$])")


def to_mathml(tex: str, as_block: bool = False) -> str:
    """A formula as a <math> element. Raises docutils' MathError if it cannot be converted.

    HTML needs no namespace, and with one nbconvert would rename the elements in a heading to <ns0:math>.
    """
    for pattern, known in TEX:
        tex = pattern.sub(known, tex)
    mathml = str(tex2mathml(tex, as_block=as_block)).replace(NAMESPACE, "")
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
    for change in _box, _brace_label, _accent, _index, _unescape, _root, _slash:
        change(element)
    if element.tag == "mo" and element.text in FENCES and not may_grow:  # or as tall as its index, or a brace
        element.set("stretchy", "false")
        if element.text in BARS:
            element.attrib |= {"lspace": "0", "rspace": "0"}


def _box(element: Element) -> None:
    r"""\boxed: browsers draw no <menclose>."""
    if element.tag == "menclose" and element.get("notation") == "box":
        element.tag = "mrow"
        element.attrib = {"class": "boxed"}


def _brace_label(element: Element) -> None:
    """The label of a brace under it or over it, not to the right."""
    for brace, (beside, at) in BRACES.items():
        if element.tag == beside and element[0].tag == at and element[0][-1].text == brace:
            element.tag = at


def _accent(element: Element) -> None:
    """The index of a y with a tilde beside the y, not under it."""
    if element.tag == "munderover" and (element[0].tag, element[2].tag) == ("mi", "mo"):
        letter = Element("mover", accent="true")
        letter.extend([element[0], element[2]])
        element.tag, element[:] = "msub", [letter, element[1]]


def _index(element: Element) -> None:
    """All indices at one height: that of a p would be as much lower as the p goes below the line."""
    if element.tag in ("msub", "msubsup") and (element[0].tag in ("mi", "mover") or element[0].text in BARS):
        base = Element("mpadded", depth="0")
        base.append(element[0])
        element[0] = base


def _unescape(element: Element) -> None:
    if element.tag in ("mtext", "mi"):
        element.text = ESCAPED.sub(r"\1", element.text or "")


def _root(element: Element) -> None:
    """A root as tall as a letter, or that of an x hangs below the line."""
    if element.tag == "msqrt":
        element.append(Element("mspace", width="0", height="0.85em", depth="0.15em"))


def _slash(element: Element) -> None:
    if element.tag == "mo" and element.text == "/":
        element.attrib |= {"lspace": "0", "rspace": "0"}

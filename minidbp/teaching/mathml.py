"""Formulas as MathML, which browsers draw by themselves: no script, no network, and a screen reader can read it."""

import html
import re
from collections.abc import Iterable
from xml.etree import ElementTree

from docutils.utils.math.latex2mathml import tex2mathml

TEX = (  # what the converter does not know
    (re.compile(r"\\tag\{([^{}]*)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\([dt]?frac)(\d)([\da-zA-Z])"), r"\\\1{\2}{\3}"),  # it would read \tfrac12 x as 12 over x
)
MATHML = (  # what browsers would otherwise set too tall, or too far apart
    (re.compile(r"(<msu[bp](?:sup)?>\s*)<mo>"), r'\1<mo stretchy="false">'),  # the bar of a norm with an index
    (re.compile(r'<mo stretchy="false">\|'), r'<mo stretchy="false" lspace="0" rspace="0">|'),
)


NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
ENTITY = re.compile(r"&(?!lt;|gt;|amp;)\w+;")  # of HTML, which XML does not know: &ApplyFunction;
BRACES = {"⏟": ("msub", "munder"), "⏞": ("msup", "mover")}


def to_mathml(tex: str, as_block: bool = False) -> str:
    """`tex` as a <math> element.  Raises docutils' MathError for what cannot be converted."""
    return _replaced(_beside_braces(str(tex2mathml(_replaced(tex, TEX), as_block=as_block))), MATHML)


def _beside_braces(mathml: str) -> str:
    """What is said of a brace belongs under it or over it; the converter puts it to the right."""
    if not any(brace in mathml for brace in BRACES):
        return mathml
    xml = ENTITY.sub(lambda entity: html.unescape(entity[0]), mathml.replace(NAMESPACE, ""))
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

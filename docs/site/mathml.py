"""Formulas as MathML, which browsers draw by themselves: no script, no network, and a screen reader can read it."""

import re
from collections.abc import Iterable

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


TEX = (  # what the converter does not know
    (re.compile(r"\\tag\{([^{}]*)\}"), r"\\qquad\\text{(\1)}"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
)
MATHML = (  # what browsers would otherwise set too tall, or too far apart
    (re.compile(r"(<msu[bp](?:sup)?>\s*)<mo>"), r'\1<mo stretchy="false">'),  # the bar of a norm with an index
    (re.compile(r'<mo stretchy="false">\|'), r'<mo stretchy="false" lspace="0" rspace="0">|'),
)


def to_mathml(tex: str, as_block: bool = False) -> str:
    """`tex` as a <math> element.  Raises docutils' MathError for what cannot be converted."""
    mathml = tex2mathml(_replaced(tex, TEX), as_block=as_block)
    return _replaced(mathml, MATHML)


def _replaced(text: str, replacements: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in replacements:
        text = pattern.sub(new, text)
    return text


def _write(translator: HTML5Translator, node: nodes.math | nodes.math_block, as_block: bool) -> None:
    try:
        translator.body.append(to_mathml(node.astext(), as_block))
    except MathError as error:
        logger.warning("cannot make MathML of %r: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    _write(translator, node, as_block=False)


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    _write(translator, node, as_block=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    app.config.html_math_renderer = "mathml"  # type: ignore[attr-defined]
    return {"parallel_read_safe": True, "parallel_write_safe": True}

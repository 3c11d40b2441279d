"""Formulas in the site are MathML, as in the notebooks' own pages."""

from docutils import nodes
from docutils.utils.math import MathError
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from minidbp.teaching.formulas import to_mathml

logger = logging.getLogger(__name__)


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

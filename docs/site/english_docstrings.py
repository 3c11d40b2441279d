"""Docstrings as they are written, in plain English with `code` in backticks, made into reStructuredText for autodoc.

A blank line ends a paragraph; an indented paragraph is code; a line beginning with a word and a colon, or with a dash,
begins anew.  Nothing else has a meaning: |x|, W_l and a * b stay what they are.
"""

import re
from collections.abc import Iterator
from itertools import groupby

from sphinx.application import Sphinx

BEGINS_ANEW = re.compile(r"- |[A-Za-z_]\w*( and [A-Za-z_]\w*)?: ")


def to_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring, without its indentation, as lines of reStructuredText."""
    rst: list[str] = []
    code = False
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        paragraph = list(group)
        if blank:
            continue
        if all(line.startswith(" ") for line in paragraph):
            rst += [*([] if code else ["::", ""]), *paragraph, ""]  # two paragraphs of code are one
            code = True
        else:
            rst += [*_prose(paragraph), ""]
            code = False
    return rst


def _prose(lines: list[str]) -> Iterator[str]:
    begins = [n == 0 or bool(BEGINS_ANEW.match(line)) for n, line in enumerate(lines)]
    several = sum(begins) > 1
    for line, first in zip(lines, begins, strict=True):
        yield ("| " if first else "  ") * several + _text(line.strip())


def _text(line: str) -> str:
    # every sign is escaped; an escaped blank is nothing, and sets code apart from a letter beside it
    rst = "".join(
        rf"\ ``{part[1:-1]}``\ " if part.startswith("`") else re.sub(r"([^\w\s]|_)", r"\\\1", part)
        for part in re.split("(`[^`]+`)", line)
    )
    return rst.removesuffix(r"\ ")  # at the end of a line it would swallow the new line


def process_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    constants_type = what == "data" and obj.__doc__ == type(obj).__doc__  # says nothing of the constant
    lines[:] = [] if constants_type else to_rst(lines)


def skip_member(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples, which the signature has already; else None: as autodoc likes."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-skip-member", skip_member)
    return {"parallel_read_safe": True}

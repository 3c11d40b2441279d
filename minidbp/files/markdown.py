"""Markdown: tables, and text from elsewhere that is shown as it is."""

import re
from collections.abc import Iterable, Sequence

from minidbp.files.reading import printable

SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])")  # `_` within a word, as in n_train, means nothing
AT_THE_BEGINNING = re.compile(r"^([-+=]|\d+[.)](?= |$))")  # of a list, or of a line that makes a heading


def escaped(text: str) -> str:
    """A text from elsewhere as one line of Markdown that shows it as it is.

    Names of files and texts in them may come from anywhere.  None of them becomes a heading, a link, a picture, HTML,
    code, a formula or the end of a table's cell.
    """
    line = SPECIAL.sub(r"\\\g<0>", printable(text).strip())
    return AT_THE_BEGINNING.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", line)


def code_span(text: str) -> str:
    """A text from elsewhere, such as a command, as code within a line of Markdown."""
    line = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if line.startswith("`") or line.endswith("`") else f"{fence}{line}{fence}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | Sequence[str] = "---") -> str:
    """A Markdown table. `align` is the alignment mark of all columns except the first, or has one for each of them."""
    marks = [align] * (len(header) - 1) if isinstance(align, str) else align
    lines = [header, ["---", *marks], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)

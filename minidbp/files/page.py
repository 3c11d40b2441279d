"""Markdown tables, HTML pages, and text that a command puts between two marks of a hand-written page."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from minidbp.files.atomic import write_text

STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.5rem; border-bottom: 1px solid #ccc; } th { border-bottom: 2px solid #555; }
th { text-align: left; } td[style] { white-space: nowrap; } /* numbers, which are aligned at the right */
img { max-width: 100%; } code { background: #f2f2f2; padding: 0 0.2rem; }
"""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | Sequence[str] = "---") -> str:
    """A Markdown table. `align` is the alignment mark of all columns except the first, or has one for each of them."""
    marks = [align] * (len(header) - 1) if isinstance(align, str) else align
    lines = [header, ["---", *marks], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def put_between(page: Path, begin: str, end: str, text: str, what: str) -> None:
    """Replace the text between two marks of a page.  Raises ValueError, which names `what`, if a mark is absent."""
    whole = page.read_text(encoding="utf-8")
    before, begin_mark, rest = whole.partition(begin)
    _, end_mark, after = rest.partition(end)
    if not (begin_mark and end_mark):
        raise ValueError(f"{page} has no place for {what}: it needs the lines {begin} and {end}")
    write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")


def as_html(markdown: str, title: str, folder: Path) -> str:
    """The Markdown as an HTML page that needs no other file: the pictures are read from `folder` and embedded."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)

    def embedded(match: re.Match[str]) -> str:
        picture = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{picture}"'

    body = re.sub(r'src="([\w.-]+\.png)"', embedded, body)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'

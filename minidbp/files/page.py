"""Markdown tables, HTML pages, and text that a command puts between two marks of a hand-written page."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from minidbp.files.atomic import write_text

PRINT = (Path(__file__).parent / "print.css").read_text(encoding="utf-8")  # for the site and the notebooks' pages too
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8") + PRINT
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'  # the default is 980 pixels
SENTENCE = 30  # characters; on a phone, longer cells are broken into lines, and shorter ones are not


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


def _cell(match: re.Match[str]) -> str:
    words = html.unescape(re.sub(r"<[^>]*>", "", match[1]))
    return f'<td class="sentence">{match[1]}</td>' if len(words) >= SENTENCE else match[0]


def as_html(markdown: str, title: str, folder: Path) -> str:
    """The Markdown as an HTML page that needs no other file: the pictures are read from `folder` and embedded."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)

    def embedded(match: re.Match[str]) -> str:
        picture = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{picture}"'

    body = re.sub(r'src="([\w.-]+\.png)"', embedded, body)
    body = re.sub(r"<td>(.*?)</td>", _cell, body)
    head = f'<meta charset="utf-8">{VIEWPORT}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'

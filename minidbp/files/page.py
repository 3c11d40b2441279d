"""HTML pages, and text that a command puts between two marks of a hand-written page."""

import base64
import html
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from minidbp.files.atomic import write_text

PRINT = (Path(__file__).parent / "print.css").read_text(encoding="utf-8")  # for the site and the notebooks' pages too
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8") + PRINT
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'  # the default is 980 pixels
SENTENCE = 30  # characters; on a phone, longer cells are broken into lines, and shorter ones are not


def policy(*more: str) -> str:
    """The browser loads and runs nothing, whatever the page may hold, except what the directives in `more` allow."""
    directives = "; ".join(["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", *more])
    return f'<meta http-equiv="Content-Security-Policy" content="{directives}">'


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


def as_html(markdown: str, title: str, folder: Path, pictures: Collection[str] = ()) -> str:
    """The Markdown as an HTML page that needs no other file and loads nothing.

    Args:
        title: of the window; a text from elsewhere may stand here as it is.
        folder: where the pictures are, which are read and embedded.
        pictures: their names.  In place of any other picture, the page shows its description.
    """

    def embedded(of: RendererHTML, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
        name = tokens[i].attrs["src"]
        if name not in pictures:
            return html.escape(tokens[i].content)
        picture = base64.b64encode((folder / str(name)).read_bytes()).decode()
        tokens[i].attrs["src"] = f"data:image/png;base64,{picture}"
        return of.image(tokens, i, options, env)

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", embedded)
    body = re.sub(r"<td>(.*?)</td>", _cell, parser.render(markdown))
    head = f'<meta charset="utf-8">{policy()}{VIEWPORT}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'

"""Tables made by a command, in a page written by hand: they stand between two marks."""

from collections.abc import Sequence
from pathlib import Path

from minidbp.atomic import write_text


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---") -> str:
    """A Markdown table whose columns, but for the first, have this alignment mark."""
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def put_between(page: Path, begin: str, end: str, text: str, what: str) -> None:
    """Replace what stands between two marks of a page.  Raises ValueError, which names `what`, if it has none."""
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no place for {what}: it needs the lines {begin} and {end}")
    write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")

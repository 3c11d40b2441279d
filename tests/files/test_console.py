"""The console shows every text as it is: no markup, and nothing that a terminal would obey."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

import minidbp
from minidbp.files.console import Console

MARKUP = "a[/b]c [red]d[/red] :smile: [link=x]e"
OBEYED = "".join(map(chr, (*range(32), *range(127, 160), 0x200E, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xDC80)))


def table(text: str) -> Table:
    grid = Table(text, title=text, box=None)
    grid.add_row(text)
    return grid


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_markup_is_text(console: Console) -> None:
    console.say(MARKUP, "red")
    console.print(MARKUP, table(MARKUP))
    with console.status(Text(MARKUP)):
        console.print("")
    assert printed(console).count(MARKUP) >= 5


@pytest.mark.parametrize("kind", [str, Text, table])
def test_nothing_is_obeyed(kind: type[RenderableType], console: Console) -> None:
    console.print(kind(f"x{OBEYED}y"))
    assert all(character.isprintable() or character == "\n" for character in printed(console))
    assert "?" in printed(console)


def test_a_sentence_is_one_line_and_tells_of_every_character(console: Console) -> None:
    console.say(f"x{OBEYED}y")
    assert printed(console) == f"x{'?' * len(OBEYED)}y\n"


def test_what_is_printed_around_a_live_view_is_shown_as_it_is(console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        live.update(Text("\x1b[31mone\x1b]0;two\x07"), refresh=True)
        print("\x1b]0;three\x07")
    assert "\x1b[?25l" in printed(console)  # Rich's own sequence, which hides the cursor
    assert "?[31mone?]0;two" in printed(console)
    assert "\x1b]" not in printed(console)
    assert "\x07" not in printed(console)


def test_there_is_no_other_console() -> None:
    imported = [
        (path, name.name)
        for path in Path(minidbp.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich"
        for name in node.names
    ]
    assert imported
    assert not [path for path, name in imported if name in ("Console", "print", "get_console")]

"""What prints to the terminal: every text is shown as it is, whoever wrote it."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from minidbp.files.reading import printable


class Console(rich.console.Console):
    """Rich's console without markup, emoji codes and highlighting, and with a ? for what cannot be printed.

    Names of files and texts in them may come from anywhere.  As markup, `[/b]` would raise an error and `[red]` would
    vanish; an escape sequence could change what the terminal shows elsewhere.  A line break stays: our own texts have
    some.  So a text of one line is printed by `say`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a text on one line, however long it is."""
        self.print(printable(text), style=style, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        # a Text would drop some characters, such as a carriage return, without a word
        return super().render_str(_shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _shown(text), style, control)


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))

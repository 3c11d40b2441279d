"""What the commands print: results, progress, messages, and commands to copy."""

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from minidbp import kernels
from minidbp.cli import memory
from minidbp.cli.invocation import current
from minidbp.files.console import Console
from minidbp.files.reading import printable
from minidbp.sweeps import monitor
from minidbp.sweeps.monitor import is_live, left, plain_lines

screen = Console()
messages = Console(stderr=True)  # errors and notes, so that stdout holds nothing but the results
updates = Console(stderr=True)  # progress and the names of written files, which --quiet leaves out


def say(message: str, style: str | None = None, console: Console = messages) -> None:
    """Print a message on standard error, on one line."""
    console.say(message, style)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Progress on stderr, a bar or plain lines; the function that this yields moves it by 1 or n of `total` units.

    If Ctrl-C comes meanwhile, this function raises KeyboardInterrupt, which ends the work of other threads too.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    invocation = current()  # other threads have another context
    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=updates, disable=not is_live(updates), transient=True) as bar:
        number = bar.add_task(title, total=total)
        (task,) = bar.tasks

        def line(seconds: float) -> str:
            share = task.percentage / 100
            if share in (0, 1):
                return f"{title}: {'just begun' if share == 0 else 'at the end'}"
            return f"{title}: {100 * share:.0f}%, {left(seconds * (1 - share) / share)}"

        def advance(n: float = 1) -> None:
            if invocation.stopped:
                raise KeyboardInterrupt
            if n:
                bar.advance(number, n)

        with plain_lines(updates, line):
            yield advance


def busy(title: str) -> AbstractContextManager[None]:
    """Show on stderr that something is done whose length is not known."""
    return monitor.busy(updates, title)


def compile_kernels() -> None:
    """Compile the kernels, which takes some 15 s, or load them from the cache, with a message meanwhile."""
    memory.check_limit(memory.LEAST_FOR_KERNELS)
    with busy("preparing kernels"):
        kernels.warm_up()


def show(result: Any, as_json: bool, *pieces: RenderableType) -> None:
    """Print a result: as JSON, or as these texts and tables.

    A terminal gets texts broken between words; a Text with `no_wrap`, such as a command to copy, is never broken. In a
    file or a pipe each text is one line.
    """
    if as_json:
        typer.echo(json_text(result))
        return
    for piece in pieces:
        one_line = isinstance(piece, str | Text) and (not screen.is_terminal or getattr(piece, "no_wrap", False))
        screen.print(piece, soft_wrap=one_line)


def json_text(result: Any) -> str:
    """A result as JSON: dataclasses become objects, whose keys have no underscore at the end."""
    as_dict = functools.partial(dataclasses.asdict, dict_factory=lambda pairs: {k.rstrip("_"): v for k, v in pairs})
    return json.dumps(result, indent=1, default=as_dict)


def table(rows: Sequence[Sequence[str]], title: str, left: int = 1) -> Table:
    """A header and rows as a table whose first `left` columns are aligned at the left."""
    grid = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(rows[0]):
        grid.add_column(name, justify="left" if i < left else "right", overflow="fold")  # no name is cut
    for row in rows[1:]:
        grid.add_row(*row)
    return grid


def named(lines: Sequence[tuple[str, str, str]]) -> list[RenderableType]:
    """Texts beside their names, from (name, style of the name, text); a terminal gets long texts in lines."""
    lines = [(name, style, printable(text)) for name, style, text in lines]
    if not screen.is_terminal:
        return [Text.assemble((f"{name:>12}", style), "  ", text) for name, style, text in lines]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True, min_width=12)
    grid.add_column(overflow="fold")
    for name, style, text in lines:
        grid.add_row(Text(name, style=style), Text(text))
    return [grid]


def list_written(folder: Path, *names: str) -> None:
    """Name those of these files and folders that exist."""
    say(f"written to {folder}: {', '.join(name for name in names if (folder / name).exists())}", console=updates)


def command_line(name: str, *arguments: str, **options: Any) -> str:
    """The command that repeats a result: options that are None are left out, and lists repeat the option."""
    return " ".join(filter(None, [shlex.join(["minidbp", name, *arguments]), options_line(**options)]))


def options_line(**options: Any) -> str:
    """Options in the shell's notation."""
    words = []
    for option, value in options.items():
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{option.replace('_', '-')}", f"{item:g}" if isinstance(item, float) else str(item)]
    return shlex.join(words)

"""What the commands share: how they fail, what they print, and how they show progress."""

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

screen = Console()
messages = Console(stderr=True)  # progress and errors, so that stdout holds nothing but the results


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one sentence that says what was wrong, and stop."""
    say(f"minidbp: {message}", style="red")
    raise typer.Exit(code)


def say(message: str, style: str | None = None) -> None:
    """Print a message on standard error, on one line and as it is."""
    messages.print(message, style=style, highlight=False, soft_wrap=True, markup=False)


def at_least(least: int, **options: int | None) -> None:
    """Raise ValueError for an option below `least`, before anything is computed or written."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}; got {value}")


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr if that is a terminal; the function that this yields moves it by 1 or n of `total` units."""
    from rich.progress import Progress

    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n=1: bar.advance(task, n)


def compile_kernels() -> None:
    """Compile the kernels, which takes some 15 s, or load them from the cache, with a message meanwhile."""
    from minidbp import kernels

    with messages.status("compiling kernels, once"):
        kernels.warm_up()


def out_folder(out: Path | None, default: str) -> Path:
    """The folder `out`, or out/`default`, made and found writable."""
    from minidbp.sweeps import sweep

    return sweep.prepare(out or Path("out") / default)


def command_line(name: str, *arguments: str, **options: Any) -> str:
    """The command that repeats a result: options that are None are left out, and lists repeat the option."""
    words = ["minidbp", name, *arguments]
    for option, value in options.items():
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{option.replace('_', '-')}", f"{item:g}" if isinstance(item, float) else str(item)]
    return shlex.join(words)


def json_text(result: Any) -> str:
    """A result as JSON: dataclasses become objects, whose keys have no underscore at the end."""
    as_dict = functools.partial(dataclasses.asdict, dict_factory=lambda pairs: {k.rstrip("_"): v for k, v in pairs})
    return json.dumps(result, indent=1, default=as_dict)


def show(result: Any, as_json: bool, *pieces: RenderableType) -> None:
    """Print a result: as JSON, or as these texts and tables."""
    if as_json:
        typer.echo(json_text(result))
        return
    for piece in pieces:
        screen.print(piece, highlight=False, markup=False, soft_wrap=isinstance(piece, str | Text))


def table(rows: Sequence[Sequence[str]], title: str, left: int = 1) -> Table:
    """A header and rows as a table whose first `left` columns are aligned at the left."""
    grid = Table(title=title, box=box.SIMPLE_HEAD)
    for i, name in enumerate(rows[0]):
        grid.add_column(name, justify="left" if i < left else "right")
    for row in rows[1:]:
        grid.add_row(*row)
    return grid


def list_written(folder: Path, *names: str) -> None:
    """Name those of these files and folders that exist."""
    say(f"written to {folder}: {', '.join(name for name in names if (folder / name).exists())}")

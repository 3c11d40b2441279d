"""The program `minidbp`, and what its commands share: how they fail, what they print, how they show progress."""

import dataclasses
import functools
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from minidbp import __version__, kernels
from minidbp.data import Mnist, load_mnist
from minidbp.sweeps.runs import RunFailed

screen = Console()
messages = Console(stderr=True)  # progress and errors, so that stdout holds nothing but the results


app = typer.Typer(
    help="Double backpropagation from scratch: the experiments of Seck, Loosli and Canu (ESANN 2019) on MNIST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"minidbp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def command(function: Callable[..., None], to: typer.Typer = app) -> Callable[..., None]:
    """Add a command that answers bad input with one sentence and exit code 2, and a failed computation with 1."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped", code=130)
        except EOFError as error:  # of which click would make a bare "Aborted."
            fail(f"a file or a connection ended too early ({str(error) or 'EOFError'})", code=1)
        except (ArithmeticError, RunFailed) as error:
            fail(str(error), code=1)
        except (ValueError, TypeError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")

    # --help would break lines where the docstring does; one line for each paragraph lets the terminal break them
    guarded.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
    return to.command(function.__name__.removeprefix("bench_"))(guarded)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one sentence that says what was wrong, and stop."""
    say(f"minidbp: {message}", style="red")
    raise typer.Exit(code)


def say(message: str, style: str | None = None) -> None:
    """Print a message on standard error, on one line and as it is."""
    messages.print(message, style=style, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr if that is a terminal; the function that this yields moves it by 1 or n of `total` units."""
    from rich.progress import Progress

    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n=1: bar.advance(task, n)


def compile_kernels() -> None:
    """Compile the kernels, which takes some 15 s, or load them from the cache, with a message meanwhile."""
    with messages.status("preparing kernels"):
        kernels.warm_up()


def load_data(data: Path | None) -> Mnist:
    """MNIST, and compiled kernels."""
    mnist = load_mnist(data)
    compile_kernels()
    return mnist


def out_folder(out: Path | None, default: str = "") -> Path:
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
    grid = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(rows[0]):
        grid.add_column(name, justify="left" if i < left else "right", overflow="fold")  # no name is cut
    for row in rows[1:]:
        grid.add_row(*row)
    return grid


def list_written(folder: Path, *names: str) -> None:
    """Name those of these files and folders that exist."""
    say(f"written to {folder}: {', '.join(name for name in names if (folder / name).exists())}")


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ prints ? instead
    app()

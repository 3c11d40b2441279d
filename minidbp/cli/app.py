"""What every command shares: the program, its two consoles, how it fails, and what it shows while one waits."""

import functools
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from minidbp.sweeps.runs import RunFailed

app = typer.Typer(
    help="Double backpropagation from scratch: the experiments of Seck, Loosli and Canu (ESANN 2019) on MNIST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        from minidbp import __version__

        typer.echo(f"minidbp {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


screen = Console()
messages = Console(stderr=True)  # progress and errors, so that --json leaves stdout to the numbers


def fail(message: str, code: int = 2) -> NoReturn:
    """Say in one sentence what was wrong, and stop."""
    messages.print(f"minidbp: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(code)


def at_least(least: int, **options: int | None) -> None:
    """Raise ValueError for an option below `least`: before anything is computed or made."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}; got {value}")


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr, if that is a terminal; call what this yields after one of `total` pieces of work, or n."""
    from rich.progress import Progress

    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n=1: bar.advance(task, n)


def compile_kernels() -> None:
    """Compile the kernels, or fetch them from the cache, and say so: the first time takes some 15 s."""
    from minidbp import kernels

    with messages.status("compiling kernels, once"):
        kernels.warm_up()


def command(function: Callable[..., None], to: typer.Typer = app) -> Callable[..., None]:
    """A command that answers bad input with one sentence and exit code 2, and a failed computation with 1."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped", code=130)
        except (ArithmeticError, RunFailed) as error:
            fail(str(error), code=1)
        except (ValueError, TypeError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")

    # --help breaks lines where the docstring does; a terminal knows better where
    guarded.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
    return to.command(function.__name__.removeprefix("bench_"))(guarded)


def told_where(folder: Path, *names: str) -> None:
    """Say which of these files and folders are there now."""
    there = [name for name in names if (folder / name).exists()]
    messages.print(f"written to {folder}: {', '.join(there)}", highlight=False, soft_wrap=True)


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without λ shows ?, and loses nothing else
    app()

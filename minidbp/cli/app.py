"""The program `minidbp`, and how a function becomes one of its commands."""

import functools
import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from minidbp.cli.common import fail
from minidbp.sweeps.runs import RunFailed

app = typer.Typer(
    help="Double backpropagation from scratch: the experiments of Seck, Loosli and Canu (ESANN 2019) on MNIST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        from minidbp import __version__

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
        except (ArithmeticError, RunFailed) as error:
            fail(str(error), code=1)
        except (ValueError, TypeError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")

    # --help would break lines where the docstring does; one line for each paragraph lets the terminal break them
    guarded.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
    return to.command(function.__name__.removeprefix("bench_"))(guarded)


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ prints ? instead
    app()

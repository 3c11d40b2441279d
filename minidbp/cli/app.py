"""The program `minidbp`: what makes a function a command, and how commands end."""

import functools
import inspect
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from minidbp import __version__
from minidbp.cli import memory
from minidbp.cli.config import read_config
from minidbp.cli.invocation import Command, Group, current, end_soon, interruptible, signals_raise
from minidbp.cli.output import say, updates
from minidbp.sweeps.runs import RunFailed
from minidbp.training.protocol import FieldError

app = typer.Typer(
    name="minidbp",
    cls=Group,
    help="Double backpropagation from scratch: the experiments of Seck, Loosli and Canu (ESANN 2019) on MNIST.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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


def _read_options(ctx: typer.Context, path: Path | None) -> None:
    """Take the options in a TOML file as the command's defaults."""
    if path is None:
        return
    names = {word.removeprefix("--"): p.name for p in ctx.command.params for word in p.opts if word.startswith("--")}
    del names["config"]
    parameters = inspect.signature(ctx.command.callback).parameters  # type: ignore[arg-type]
    kinds = {word: get_args(parameters[str(name)].annotation)[0] for word, name in names.items()}
    try:
        ctx.default_map = {str(names[word]): value for word, value in read_config(path, kinds).items()}
    except ValueError as error:
        fail(str(error))


Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress and no list of written files.")]
Config = Annotated[
    Path | None,
    typer.Option(
        is_eager=True,
        callback=_read_options,
        metavar="FILE",
        help="A TOML file of options; what is typed overrides it.",
    ),
]


def command(
    function: Callable[..., None] | None = None, *, to: typer.Typer = app, config: bool = False
) -> Callable[..., Any]:
    """Add a command that answers bad input with one sentence and exit code 2, and a failure while it runs with 1.

    The command gets the option --quiet, and with `config` also --config.
    """
    if function is None:
        return functools.partial(command, to=to, config=config)
    work = function

    @functools.wraps(work)
    def guarded(quiet: bool, config: Path | None = None, **options: Any) -> None:
        updates.quiet = quiet
        with interruptible(), current().at_end:
            try:
                with signals_raise(current()):
                    _call(work, options)
            except KeyboardInterrupt:
                stop()

    own = inspect.signature(work)
    added: dict[str, tuple[Any, Any]] = {"config": (Config, None)} if config else {}
    added |= {"quiet": (Quiet, False)}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    extra = [inspect.Parameter(name, kind, default=value, annotation=hint) for name, (hint, value) in added.items()]
    parameters = [*own.parameters.values(), *extra]
    guarded.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    # --help would break lines where the docstring does; one line for each paragraph lets the terminal break them
    guarded.__doc__ = "\n\n".join(" ".join(part.split()) for part in (work.__doc__ or "").split("\n\n"))
    return to.command(work.__name__.removeprefix("bench_"), cls=Command)(guarded)


def _call(work: Callable[..., None], options: dict[str, Any]) -> None:
    """Call a command's function.  An error becomes one sentence, and an exit code."""
    try:
        _refuse_extra_arguments()
        with memory.as_memory_error():
            memory.check_limit()
            _interruptibly(work, options)
    except EOFError as error:  # click would print "Aborted." alone
        fail(f"a file or a connection ended too early ({str(error) or 'EOFError'})", code=1)
    except FieldError as error:
        fail(f"{current().option(error.field)} {error.reason}")
    except (ArithmeticError, RunFailed) as error:
        fail(str(error), code=1)
    except MemoryError as error:
        fail(memory.message(error), code=1)
    except (ValueError, TypeError) as error:
        fail(str(error))
    except BrokenPipeError:
        raise  # the reader has closed the pipe; Typer then exits without a message
    except OSError as error:
        fail(_unusable(error), code=1)


def _interruptibly(work: Callable[..., None], options: dict[str, Any]) -> None:
    """Call a command's function; an error into which a library has turned KeyboardInterrupt is one again."""
    try:
        work(**options)
    except typer.Exit:
        raise
    except Exception:
        if current().interrupted:
            raise KeyboardInterrupt from None
        raise


def _unusable(error: OSError) -> str:
    return f"{error.filename or 'a file or the output'} cannot be used: {error.strerror or error}"


def _refuse_extra_arguments() -> None:
    takes, extra = current().takes, current().extra
    if extra:
        most = f"only one argument, {takes[0]}" if takes else "no argument"
        advice = "; run it once for each" if takes else ""
        fail(f"this command takes {most}; got also {', '.join(extra)}{advice}")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one sentence that says what was wrong, and stop."""
    say(f"minidbp: {message}", style="red")
    raise typer.Exit(code)


def stop() -> NoReturn:
    """Print how to go on after Ctrl-C or another signal, and stop."""
    fail(current().stop_message(), current().exit_code)


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ prints ? instead
    try:
        app()
    except SystemExit as ended:
        if current().stopped:
            end_soon(int(ended.code or 0))
        raise
    except MemoryError:  # there was none left for the message either
        os.write(2, b"minidbp: there is not enough memory\n")
        sys.exit(1)
    except OSError as error:  # of what Typer writes itself, such as --help
        say(f"minidbp: {_unusable(error)}", style="red")
        sys.exit(1)

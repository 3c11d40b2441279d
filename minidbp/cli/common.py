"""The program `minidbp`, and what its commands share: how they fail, what they print, how they show progress."""

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from minidbp import __version__, kernels, training
from minidbp.cli.config import read_config
from minidbp.cli.invocation import Command, current, interruptible
from minidbp.data import Dataset
from minidbp.nn import Sequential, trained_on
from minidbp.sweeps import monitor
from minidbp.sweeps.execute import data_in
from minidbp.sweeps.monitor import is_live, left, plain_lines
from minidbp.sweeps.runs import RunFailed
from minidbp.training.protocol import FieldError, Protocol

screen = Console()
messages = Console(stderr=True)  # errors and notes, so that stdout holds nothing but the results
updates = Console(stderr=True)  # progress and the names of written files, which --quiet leaves out


app = typer.Typer(
    name="minidbp",
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
        _refuse_extra_arguments()
        with interruptible(), current().at_end:
            try:
                work(**options)
            except KeyboardInterrupt:
                stop(f"stopped; to begin again: {current().words}")
            except EOFError as error:  # click would print "Aborted." alone
                fail(f"a file or a connection ended too early ({str(error) or 'EOFError'})", code=1)
            except FieldError as error:
                fail(f"{current().option(error.field)} {error.reason}")
            except (ArithmeticError, RunFailed) as error:
                fail(str(error), code=1)
            except MemoryError as error:
                fail(f"there is not enough memory: {str(error) or 'nothing could be allocated'}", code=1)
            except (ValueError, TypeError) as error:
                fail(str(error))
            except BrokenPipeError:
                raise  # the reader has closed the pipe; Typer then exits without a message
            except OSError as error:
                fail(_unusable(error), code=1)

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


def stop(message: str) -> NoReturn:
    """Print how to go on after Ctrl-C or SIGTERM, and stop."""
    fail(message, 143 if current().terminated else 130)


@contextmanager
def resumable() -> Iterator[None]:
    """Add to a failure of runs how to go on."""
    try:
        yield
    except RunFailed as error:
        raise RunFailed(f"{error}; to go on: {current().words}") from error


def say(message: str, style: str | None = None, console: Console = messages) -> None:
    """Print a message on standard error, on one line and as it is."""
    console.print(message, style=style, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Progress on stderr, a bar or plain lines; the function that this yields moves it by 1 or n of `total` units.

    If Ctrl-C comes meanwhile, this function raises KeyboardInterrupt, which ends the work of other threads too.
    """
    from rich.progress import Progress

    invocation = current()  # other threads have another context
    before = invocation.stopped  # figure1 draws what it has after Ctrl-C
    with Progress(console=updates, disable=not is_live(updates), transient=True) as bar:
        number = bar.add_task(title, total=total)
        (task,) = bar.tasks

        def line(seconds: float) -> str:
            share = task.percentage / 100
            if share in (0, 1):
                return f"{title}: {'just begun' if share == 0 else 'at the end'}"
            return f"{title}: {100 * share:.0f}%, {left(seconds * (1 - share) / share)}"

        def advance(n: float = 1) -> None:
            if invocation.stopped and not before:
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
    with busy("preparing kernels"):
        kernels.warm_up()


def load_data(data: Path | None) -> Dataset:
    """MNIST or the user's data, of which a message says that they are not verified; and compiled kernels."""
    dataset = data_in(data)
    if not dataset.verified:
        say(
            f"the data in {data} are not MNIST, so they are not verified; they are called {dataset.name}",
            style="yellow",
        )
        say(str(dataset))
    compile_kernels()
    return dataset


def load_mnist(data: Path | None, command: str) -> Dataset:
    """MNIST.  Raises ValueError for other data."""
    dataset = data_in(data)
    if not dataset.verified:
        raise ValueError(f"{command} needs MNIST, and {data} holds other data: leave --data out")
    return dataset


def check_fits(weights: Path, model: Sequential, dataset: Dataset) -> None:
    """Raise ValueError if the model of this file is not for such data; say so if it was trained on others."""
    training.check_fits(model, dataset, str(weights))
    trained = trained_on(weights)
    if trained and trained[1] != dataset.digest:
        say(f"{weights} was trained on other data, {trained[0]}, than {dataset.name}", style="yellow")


def on_test_images(protocol: Protocol, images: int | None, default: int, dataset: Dataset) -> Protocol:
    """The protocol for --images test images; without this option `default`, or all where there are fewer.

    Nothing is tracked, as nothing is trained.  Raises FieldError if there are fewer than --images.
    """
    there = len(dataset.x_test)
    if images is not None and images > there:
        raise FieldError(
            "n_test", f"must be at most {there}, the number of test images of {dataset.name}; got {images}"
        )
    return dataclasses.replace(protocol, n_test=images or min(default, there), n_tracked=1)


def out_folder(out: Path | None, default: str = "") -> Path:
    """The folder `out`, or out/`default`, made and found writable; removed in the end if it is still empty."""
    from minidbp.sweeps import sweep

    folder = out or Path("out") / default
    remove_if_empty(folder)
    return sweep.prepare(folder)


def remove_if_empty(folder: Path) -> None:
    """When the command ends, remove the folder and those above it that are empty and did not exist before."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]

    def remove() -> None:
        with contextlib.suppress(OSError):  # not empty, or not there
            for path in new:
                path.rmdir()

    current().at_end.callback(remove)


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


def json_text(result: Any) -> str:
    """A result as JSON: dataclasses become objects, whose keys have no underscore at the end."""
    as_dict = functools.partial(dataclasses.asdict, dict_factory=lambda pairs: {k.rstrip("_"): v for k, v in pairs})
    return json.dumps(result, indent=1, default=as_dict)


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
        screen.print(piece, highlight=False, markup=False, soft_wrap=one_line)


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


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ prints ? instead
    try:
        app()
    except OSError as error:  # of what Typer writes itself, such as --help
        say(f"minidbp: {_unusable(error)}", style="red")
        sys.exit(1)

"""The command that was typed: its words, for a message that repeats it, its options, and the signal that ended it."""

import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from minidbp.files.reading import printable

# Options whose name is not that of the protocol's field; some commands have an option of the field's name instead
OPTIONS = {
    "n_train": "--images",
    "n_test": "--images",
    "eps": "--adversarial",
    "max_epochs": "--epochs",
    "training_attack": "--attack",
    "pgd_steps": "--steps",
    "pgd_step": "--step",
    "pgd_restarts": "--restarts",
    "batch_size": "--batch",
}


@dataclass
class Invocation:
    """A command in the shell's notation, the program alone and all words, and the options that the command has."""

    program: str = "minidbp"
    words: str = "minidbp"
    options: frozenset[str] = frozenset()
    takes: tuple[str, ...] = ()  # the names of its arguments
    extra: tuple[str, ...] = ()  # arguments beyond those
    stopped: bool = False  # by Ctrl-C or SIGTERM
    terminated: bool = False  # by SIGTERM
    at_end: ExitStack = field(default_factory=ExitStack)

    def option(self, field: str) -> str:
        """The option that sets a field of the protocol, or the field itself if none does."""
        candidates = OPTIONS.get(field, ""), f"--{field.replace('_', '-')}"
        return next((name for name in candidates if name in self.options), field)


_current: ContextVar[Invocation] = ContextVar("invocation")


def current() -> Invocation:
    """The command that runs now."""
    return _current.get(Invocation())


class Command(TyperCommand):
    """A command that notes what was typed, with arguments beyond those that it takes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        root = ctx.find_root().info_name
        program = _program(root)
        words = shlex.join([*program, *ctx.command_path.removeprefix(root).split(), *args])
        options = frozenset(name for p in self.params for name in p.opts)
        arguments = [str(p.name) for p in self.params if p.param_type_name == "argument"]
        invocation = Invocation(shlex.join(program), words, options, tuple(arguments))
        _current.set(invocation)
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        invocation.extra = tuple(ctx.args)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for name, value in (ctx.default_map or {}).items():  # from the file of --config
            if isinstance(value, str | list):
                ctx.default_map[name] = printable(value if isinstance(value, str) else ", ".join(value))
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """The program, whose messages about unusable arguments have a ? for what cannot be printed."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _printable_message():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _printable_message():
            return super().invoke(ctx)


@contextmanager
def _printable_message() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):  # of click, or of Typer's own copy of it
            error.message = printable(message)  # type: ignore[attr-defined]
        raise


def _program(name: str) -> list[str]:
    """The program, so that a shell finds it: "minidbp", its path, or "python -m minidbp"."""
    words = name.split()
    if words[0] == "python":
        words[0] = "python" if shutil.which("python") == sys.executable else sys.executable
    elif words[0] == Path(sys.argv[0]).name and shutil.which(words[0]) != str(Path(sys.argv[0]).absolute()):
        words[0] = sys.argv[0]
    return words


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, which `kill` and batch systems send, end what runs as Ctrl-C does; note which of them came."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: Any) -> None:
        current().stopped = True
        current().terminated |= number == signal.SIGTERM
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell lets its background jobs ignore it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

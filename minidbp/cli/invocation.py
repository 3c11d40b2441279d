"""The command that was typed: its words, for a message that repeats it, its options, and the signals that end it.

What the SIGNALS do is decided here alone.  Before a command begins and after its end, the system ends
the process.  In a command, the first signal raises KeyboardInterrupt; while a sweep trains, it is only noted.  Later
signals do nothing, so that none falls into the clean-up of the first.  A thread watches: what a command still writes
`AGAIN` seconds after the first signal is interrupted too, and after `GRACE` seconds the thread ends the process.  That
loses nothing, as every file is whole or not there.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from minidbp.files.reading import printable
from minidbp.starting import SIGNALS

AGAIN, GRACE = 6.0, 8.0  # seconds after the first signal
LAST = 1.0  # seconds for the last words, and for Python to end
SHOW_CURSOR = "\x1b[?25h"

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
    stopped: bool = False  # by Ctrl-C or another signal of SIGNALS
    stopped_by: int = signal.SIGINT  # the first of them
    raises: bool = False  # whether the first signal raises KeyboardInterrupt
    interrupted: bool = False  # whether it has
    lost: bool = False  # whether Python has ignored it, as it does in the callback of a weak reference
    how_to_go_on: Callable[[], str] | None = None
    at_end: ExitStack = field(default_factory=ExitStack)

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal."""
        return 128 + self.stopped_by

    def stop_message(self) -> str:
        """What a stopped command says in the end."""
        return self.how_to_go_on() if self.how_to_go_on else f"stopped; to begin again: {self.words}"

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
    """Handle the SIGNALS in this block; see above."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handling = _Handling(current())
    # A shell lets its background jobs ignore Ctrl-C, and nohup a closed terminal
    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    with contextlib.suppress(RuntimeError):  # there is no memory for another thread
        threading.Thread(target=handling.watch, daemon=True).start()
    sys.unraisablehook = handling.note_lost
    before = {number: signal.signal(number, handling.interrupt) for number in numbers}
    try:
        yield
    finally:
        handling.end()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = handling.report_ignored


class _Handling:
    """What a signal does to the command that runs in the main thread."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation, self.main = invocation, threading.get_ident()
        self.report_ignored = sys.unraisablehook
        self._arrived, self._ended = threading.Event(), threading.Event()

    def interrupt(self, number: int, _: Any) -> None:
        """Note a signal, and raise KeyboardInterrupt where the command is to be interrupted."""
        invocation = self.invocation
        if invocation.stopped and not invocation.lost:
            return
        if not invocation.stopped:
            invocation.stopped_by = number
        invocation.stopped, invocation.lost = True, False
        self._arrived.set()
        if invocation.raises:
            invocation.interrupted = True
            raise KeyboardInterrupt

    def note_lost(self, ignored: Any) -> None:
        """Note a KeyboardInterrupt that Python has ignored, and report any other error that it has."""
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            self.invocation.lost = True
        else:
            self.report_ignored(ignored)

    def watch(self) -> None:
        """Wait for a signal in a thread, repeat an interrupt that was lost, and end the process in the end."""
        self._arrived.wait()
        begun, again = time.monotonic(), False
        while not self._ended.wait(0.2):
            seconds = time.monotonic() - begun
            if seconds >= GRACE:
                _end_process(self.invocation)
            if seconds >= AGAIN and self.invocation.raises and not again:
                again = self.invocation.lost = True
            if self.invocation.lost and hasattr(signal, "pthread_kill"):
                signal.pthread_kill(self.main, signal.SIGTERM)  # calls `interrupt` once more

    def end(self) -> None:
        """End the thread: the command has ended."""
        self._ended.set()
        self._arrived.set()


@contextmanager
def signals_raise(invocation: Invocation) -> Iterator[None]:
    """In this block the first signal raises KeyboardInterrupt."""
    invocation.raises = True
    try:
        if invocation.stopped:
            raise KeyboardInterrupt
        yield
    finally:
        invocation.raises = False


@contextmanager
def signals_noted() -> Iterator[Callable[[], bool]]:
    """In this block signals are only noted; the function that this yields tells whether one has come."""
    invocation = current()
    invocation.raises = False
    try:
        yield lambda: invocation.stopped
    finally:
        invocation.raises = True


def _end_process(invocation: Invocation) -> None:
    """End this process and its workers at once, with the command's last sentence."""
    end_soon(invocation.exit_code)  # the folder may not answer any more
    try:
        if "multiprocessing" in sys.modules:
            for worker in sys.modules["multiprocessing"].active_children():
                worker.kill()
        text = f"minidbp: {printable(invocation.stop_message())}\n"
        if os.isatty(2):
            text = f"{SHOW_CURSOR}\n{text}"
        os.set_blocking(2, False)  # nobody may read the pipe
        os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(invocation.exit_code)


def end_soon(code: int) -> None:
    """End this process after LAST seconds, if it still runs: Python waits for all threads as it ends."""
    timer = threading.Timer(LAST, os._exit, [code])
    timer.daemon = True
    timer.start()

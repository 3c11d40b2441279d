"""What the cells of a notebook call: exercises that check an answer, and smaller sizes for a trial run."""

import html
import linecache
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, FunctionType
from typing import Any, TypeVar

from IPython import get_ipython
from IPython.display import display

T = TypeVar("T")

RIGHT, WRONG = "✓", "✗"
VERDICT = '<div role="status"'  # begins the HTML of every verdict
SMOKE = "MINIDBP_SMOKE"
NO_CHECKS = "Python leaves every assert out, so no answer can be checked; start Jupyter without PYTHONOPTIMIZE and -O"
DARK_GREEN, DARK_ORANGE = "#00664B", "#B24A00"

_solved: dict[str, bool] = {}  # by name, each exercise that was checked in this kernel


def sized(full: T, smoke: T) -> T:
    """`full`, or `smoke` if the environment sets MINIDBP_SMOKE: the number of steps, images or seeds of a slow cell."""
    return smoke if os.environ.get(SMOKE) else full


def exercise(name: str) -> AbstractContextManager[None]:
    """Check an answer: `with exercise("1.1 the central difference"): assert ..., "what is wrong"`.

    Shows ✓ and the name if the block runs to its end. If anything in it raises, shows ✗, the name and the reason: a
    missing answer (None, NotImplementedError) or a wrong one never stops the notebook. If the answer itself raises,
    the reason says in which of its lines. If Python leaves asserts out, as with `python -O`, shows in place of ✓ that
    nothing can be checked.

    Names that the block sets are removed and those it changes are restored, so an exercise can be checked again at any
    time. The notebook's functions do not see them either: a function that uses the notebook's `x` in place of its
    argument is wrong, although the check has an `x` too.
    """
    return _checked(name, sys._getframe(1))


@contextmanager
def _checked(name: str, check: FrameType) -> Iterator[None]:
    names = check.f_globals
    before = dict(names)
    answers = _isolated(names)
    names.update(answers)
    _solved[name] = False
    try:
        yield
    except Exception as error:
        _show(WRONG, f"{name}: {_reason(error, check, answers)}", DARK_ORANGE, "not yet")
    else:
        if __debug__:
            _solved[name] = True
            _show(RIGHT, name, DARK_GREEN, "right")
        else:
            _show(WRONG, f"{name}: {NO_CHECKS}", DARK_ORANGE, "not checked")
    finally:
        for new in names.keys() - before.keys():
            del names[new]
        names.update(before)


def _isolated(names: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook's names.  The notebook's functions in it have the copy as their globals."""
    own = dict(names)
    for name, f in names.items():
        if isinstance(f, FunctionType) and f.__globals__ is names:
            own[name] = twin = FunctionType(f.__code__, own, f.__name__, f.__defaults__, f.__closure__)
            twin.__kwdefaults__ = f.__kwdefaults__
            twin.__dict__.update(f.__dict__)
    return own


def _reason(error: Exception, check: FrameType, answers: dict[str, Any]) -> str:
    """The check's own sentence; or, if the answer raises, its line and the exception."""
    message = str(error) or "not yet"
    lines = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if any(frame.f_globals is own for own in (check.f_globals, answers))
        and frame.f_code.co_filename != check.f_code.co_filename
    ]  # of the notebook's other cells, the answer's among them
    if isinstance(error, AssertionError) and not lines:
        return message
    reason = f"{type(error).__name__}: {message}"
    if not lines:
        return reason
    file, number = lines[-1]
    return f"line {number} of the cell, {linecache.getline(file, number).strip()!r}: {reason}"


def solved() -> None:
    """Show how many of the exercises checked so far are solved, and which are open.

    An exercise is solved if its last check found it right.
    """
    missing = [name for name, right in _solved.items() if not right]
    line = f"{len(_solved) - len(missing)} of {len(_solved)} exercises solved"
    if not _solved:
        _box("no exercise has been checked yet", DARK_ORANGE)
    elif missing:
        _box(f"{line}; open: {', '.join(missing)}", DARK_ORANGE)
    else:
        _box(line, DARK_GREEN)


def _show(mark: str, text: str, colour: str, word: str) -> None:
    _box(f"{mark} {word}: {text}", colour)


def _box(line: str, colour: str) -> None:
    box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; color: {colour}; font-weight: bold; "
    box += "background: white"  # the colours are made for white; a notebook may be dark
    display({"text/plain": line, "text/html": f'{VERDICT} style="{box}">{html.escape(line)}</div>'}, raw=True)


def is_verdict(output: Mapping[str, Any]) -> bool:
    """Whether a cell's output says how an exercise, or all of them, were solved."""
    return str(output.get("data", {}).get("text/html", "")).startswith(VERDICT)


if not __debug__ and get_ipython() is not None:  # said once, where a notebook imports this: all its cells have asserts
    _show(WRONG, NO_CHECKS, DARK_ORANGE, "not checked")

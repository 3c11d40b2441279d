"""Exercises: a cell that checks the student's answer and says what is wrong, without stopping the notebook."""

import html
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from IPython.display import display

RIGHT, WRONG = "✓", "✗"


def exercise(name: str) -> AbstractContextManager[None]:
    """Check an answer: `with exercise("1.1 the central difference"): assert ..., "what is wrong"`.

    Shows ✓ and the name if the block runs to its end, and ✗, the name and the reason if anything in it raises: an
    answer that is missing (None, NotImplementedError) or wrong never stops the notebook.  Names that the block gives
    are forgotten and those it changes are put back, so that an exercise can be checked again at any time.
    """
    return _checked(name, sys._getframe(1).f_globals)


@contextmanager
def _checked(name: str, names: dict[str, Any]) -> Iterator[None]:
    before = dict(names)
    try:
        yield
    except Exception as error:
        message = str(error) or "not yet"
        reason = message if isinstance(error, AssertionError) else f"{type(error).__name__}: {message}"
        _tell(WRONG, f"{name}: {reason}", "#B24A00", "not yet")
    else:
        _tell(RIGHT, name, "#00664B", "right")
    finally:
        for given in names.keys() - before.keys():
            del names[given]
        names.update(before)


def _tell(mark: str, text: str, colour: str, word: str) -> None:
    line = f"{mark} {word}: {text}"
    box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; color: {colour}; font-weight: bold; "
    box += "background: white"  # which these colours are made for; a notebook may be dark
    display({"text/plain": line, "text/html": f'<div role="status" style="{box}">{html.escape(line)}</div>'}, raw=True)

"""Exercises: a cell that checks the student's answer and says what is wrong, without stopping the notebook."""

import html
from collections.abc import Iterator
from contextlib import contextmanager

from IPython.display import display

RIGHT, WRONG = "✓", "✗"


@contextmanager
def exercise(name: str) -> Iterator[None]:
    """Check an answer: `with exercise("1.1 the central difference"): assert ..., "what is wrong"`.

    Shows ✓ and the name if the block runs to its end, and ✗, the name and the reason if anything in it raises: an
    answer that is missing (None, NotImplementedError) or wrong never stops the notebook.
    """
    try:
        yield
    except Exception as error:
        message = str(error) or "not yet"
        reason = message if isinstance(error, AssertionError) else f"{type(error).__name__}: {message}"
        _tell(WRONG, f"{name}: {reason}", "#B24A00", "not yet")
    else:
        _tell(RIGHT, name, "#00664B", "right")


def _tell(mark: str, text: str, colour: str, word: str) -> None:
    line = f"{mark} {word}: {text}"
    box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; color: {colour}; font-weight: bold; "
    box += "background: white"  # which these colours are made for; a notebook may be dark
    display({"text/plain": line, "text/html": f'<div role="status" style="{box}">{html.escape(line)}</div>'}, raw=True)

"""What the cells of a notebook call: exercises that check an answer, and smaller sizes for a trial run."""

import html
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from IPython import get_ipython
from IPython.display import display

T = TypeVar("T")

RIGHT, WRONG = "✓", "✗"
SMOKE = "MINIDBP_SMOKE"
NO_CHECKS = "Python leaves every assert out, so no answer can be checked; start Jupyter without PYTHONOPTIMIZE and -O"


def sized(full: T, smoke: T) -> T:
    """`full`, or `smoke` if the environment sets MINIDBP_SMOKE: the number of steps, images or seeds of a slow cell."""
    return smoke if os.environ.get(SMOKE) else full


def exercise(name: str) -> AbstractContextManager[None]:
    """Check an answer: `with exercise("1.1 the central difference"): assert ..., "what is wrong"`.

    Shows ✓ and the name if the block runs to its end. If anything in it raises, shows ✗, the name and the reason: a
    missing answer (None, NotImplementedError) or a wrong one never stops the notebook. Names that the block sets are
    removed and those it changes are restored, so an exercise can be checked again at any time. If Python leaves asserts
    out, as with `python -O`, shows in place of ✓ that nothing can be checked.
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
        _show(WRONG, f"{name}: {reason}", "#B24A00", "not yet")
    else:
        if __debug__:
            _show(RIGHT, name, "#00664B", "right")
        else:
            _show(WRONG, f"{name}: {NO_CHECKS}", "#B24A00", "not checked")
    finally:
        for new in names.keys() - before.keys():
            del names[new]
        names.update(before)


def _show(mark: str, text: str, colour: str, word: str) -> None:
    line = f"{mark} {word}: {text}"
    box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; color: {colour}; font-weight: bold; "
    box += "background: white"  # the colours are made for white; a notebook may be dark
    display({"text/plain": line, "text/html": f'<div role="status" style="{box}">{html.escape(line)}</div>'}, raw=True)


if not __debug__ and get_ipython() is not None:  # said once, where a notebook imports this: all its cells have asserts
    _show(WRONG, NO_CHECKS, "#B24A00", "not checked")

"""The signals that end a command; and Ctrl-C while `minidbp` still imports its modules: it ends at once, as elsewhere.

The package imports this module first.  Where the package is imported by another program, nothing changes.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import PurePath

# Ctrl-C; what `kill` and batch systems send; and what a terminal sends when it is closed (not on Windows)
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def is_command(words: Sequence[str]) -> bool:
    """Whether the words with which Python was started, `sys.orig_argv`, are those of the command."""
    if "-m" in words:
        return words[words.index("-m") + 1 :][:1] == ["minidbp"]
    return any(PurePath(word).stem == "minidbp" for word in words[1:2])


if is_command(sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""The commands: each checks its arguments, calls the package, and prints.

A command imports the modules that it needs when it runs, so that --help answers at once.
"""

from minidbp.cli import tables, models, checks, notebooks, bench  # noqa: I001 - in the order of --help
from minidbp.cli.app import app, main

__all__ = ["app", "main"]

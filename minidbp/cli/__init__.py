"""The commands.  Thin: each checks its arguments, calls the package, and prints.

Heavy imports wait until a command runs, so that --help answers at once.
"""

from minidbp.cli import bench, checks, figure1, models, tables
from minidbp.cli.app import app, main

__all__ = ["app", "main"]

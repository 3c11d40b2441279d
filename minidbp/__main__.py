"""`python -m minidbp` is `minidbp`."""

from minidbp.cli import main

main()

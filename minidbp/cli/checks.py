"""Commands that check: the derivatives, and the machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from minidbp.cli.app import at_least, command, compile_kernels, fail, messages, screen
from minidbp.cli.options import AsJson, Data, Seed


@command
def gradcheck(
    op: Annotated[str | None, typer.Option(help="One operation; all of them if not given.")] = None,
    seed: Seed = 0,
    page: Annotated[
        Path | None, typer.Option(help="Also write the matrix into this Markdown page, between its marks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every operation's derivatives of order 1, 2 and 3, in float64 and float32; exit code 1 if one is wrong.

    float64 is compared with differences that keep clear of kinks, float32 with float64.
    """
    from rich.progress import track

    from minidbp.checking import matrix as catalogue
    from minidbp.cli import matrix

    at_least(0, seed=seed)
    operations = [op] if op else list(catalogue.samples(seed))
    todo = [(o, order, dtype) for o in operations for dtype in catalogue.DTYPES for order in catalogue.ORDERS]
    cells = [
        catalogue.verify(*cell, seed)
        for cell in track(todo, "checking derivatives", console=messages, disable=not messages.is_terminal)
    ]
    if page:
        matrix.write_page(page, cells)
    if as_json:
        typer.echo(json.dumps([cell._asdict() for cell in cells], indent=1))
    else:
        screen.print(matrix.on_screen(cells))
    failed = [f"{c.operation}, order {c.order}, {c.dtype}: {c.detail}" for c in cells if c.outcome == "failed"]
    if failed:
        fail("; ".join(failed), code=1)


@command
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Versions, threads, the BLAS kernel that runs, kernel cache and data; exit code 1 if something is wrong."""
    from minidbp.bench.doctor import examine

    compile_kernels()
    found = examine(data)
    if as_json:
        typer.echo(json.dumps({"facts": found.facts, "warnings": found.warnings, "problems": found.problems}, indent=1))
    else:
        for key, value in found.facts.items():
            screen.print(f"[bold]{key:>12}[/]  {value}", highlight=False, soft_wrap=True)
        for warning in found.warnings:
            screen.print(f"[yellow]     warning[/]  {warning}", highlight=False, soft_wrap=True)
        for problem in found.problems:
            screen.print(f"[red]     problem[/]  {problem}", highlight=False, soft_wrap=True)
        if not (found.warnings or found.problems):
            screen.print("[green]all is well[/]")
    if found.problems:
        raise typer.Exit(1)

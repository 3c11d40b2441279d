"""The command that makes what a class opens."""

from pathlib import Path
from typing import Annotated

import typer

from minidbp.cli.app import command, fail, messages, progress, told_where
from minidbp.cli.options import Out

DEFAULT = Path("out/notebooks")


@command
def notebooks(
    out: Out = None,
    html: Annotated[bool, typer.Option("--html", help="Also run them and write what comes out as pages.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="With --html: on less data, for a trial.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Begin anew: replace notebooks that were worked in.")] = False,
) -> None:
    """Write the notebooks: student/ with exercises to solve, teacher/ with their solutions.

    A notebook that somebody has worked in is left as it is, unless --again is given.
    """
    try:
        from minidbp.teaching import notebooks as nb
        from minidbp.teaching import pages
    except ImportError as error:
        raise ValueError(f'notebooks need {error.name}, which is not installed: pip install -e ".[notebook]"') from None

    if smoke and not html:
        raise ValueError("--smoke is for --html: without it no notebook is run")
    out = out or DEFAULT
    sources = nb.read_sources()
    kept = []
    for name, source in sources.items():
        for kind, made in ("student", nb.student_version(source)), ("teacher", nb.teacher_version(source)):
            path, text = out / kind / f"{name}.ipynb", nb.as_text(made)
            if again or not path.exists():
                nb.write(path, text)
            elif path.read_bytes() != text.encode():  # whatever somebody made of it
                kept.append(f"{kind}/{path.name}")
    if html:
        with progress("running the notebooks", len(sources)) as advance:
            for name, source in sources.items():
                try:
                    executed = nb.execute(nb.teacher_version(source), out / "teacher", smoke)
                except nb.FAILURES as error:
                    fail(f"{name}: {nb.reason(error)}", code=1)
                nb.write(out / "executed" / f"{name}.ipynb", nb.as_text(pages.without_widgets(executed)))
                nb.write(out / "html" / f"{name}.html", pages.as_html(executed, name))
                advance()
    if kept:
        messages.print(f"left as they were (--again replaces them): {', '.join(kept)}", highlight=False, soft_wrap=True)
    told_where(out, "student", "teacher", "executed", "html")

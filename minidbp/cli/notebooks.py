"""`minidbp notebooks`: the notebooks for a class."""

from typing import Annotated

import typer

from minidbp.cli import inputs, output
from minidbp.cli import options as opt
from minidbp.cli.app import command, fail

KINDS = ("student", "teacher", "executed", "html")


@command
def notebooks(
    out: opt.Out = None,
    html: Annotated[
        bool, typer.Option("--html", help="Also run the notebooks and write pages, in html/student/ and html/teacher/.")
    ] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="With --html: run on less data, for a trial.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also replace notebooks that somebody has worked in.")] = False,
) -> None:
    """Write the notebooks: student/ with exercises to solve, teacher/ with their solutions.

    A notebook that somebody has worked in stays as it is, unless --again is given.
    """
    try:
        from minidbp.teaching import notebooks as nb
        from minidbp.teaching import pages
    except ImportError as error:
        advice = 'run pip install -e ".[notebook]" in a clone of the project, which has their sources'
        raise ValueError(f"notebooks need {error.name}, which is not installed: {advice}") from None

    if smoke and not html:
        raise ValueError("--smoke is for --html: without --html no notebook is run")
    sources = nb.read_sources()
    out = inputs.out_folder(out, "notebooks")
    for kind in (*KINDS, "html/student", "html/teacher"):
        inputs.remove_if_empty(out / kind)
    unchanged = []
    for name, source in sources.items():
        for kind, version in ("student", nb.student_version(source)), ("teacher", nb.teacher_version(source)):
            path, text = out / kind / f"{name}.ipynb", nb.as_text(version)
            if again or not path.exists():
                nb.write(path, text)
            elif path.read_bytes() != text.encode():  # somebody has worked in it
                unchanged.append(f"{kind}/{path.name}")
    if html:
        with output.progress("running the notebooks", len(sources)) as advance:
            for name, source in sources.items():
                try:
                    executed = nb.execute(nb.teacher_version(source), out / "teacher", smoke, for_page=True)
                except nb.FAILURES as error:
                    fail(f"{name}: {nb.reason(error)}", code=1)
                nb.write(out / "executed" / f"{name}.ipynb", nb.as_text(pages.without_widgets(executed)))
                for kind, version in ("student", nb.student_results(source, executed)), ("teacher", executed):
                    nb.write(out / "html" / kind / f"{name}.html", pages.as_html(version, name))
                advance()
    if unchanged:
        output.say(f"left unchanged (--again replaces them): {', '.join(unchanged)}")
    output.list_written(out, *KINDS)

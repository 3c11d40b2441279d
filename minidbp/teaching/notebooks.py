"""The notebooks: a student's and a teacher's version made from one source, and run.

A source, `notebooks/*.ipynb`, holds the solutions, between the marks that nbgrader uses too; so a teacher who grades
with nbgrader can take the sources as they are.
"""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbclient
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from minidbp.files.atomic import write_text
from minidbp.teaching.size import SMOKE

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "...  # your code here"
FAILURES = CellExecutionError, CellTimeoutError, RuntimeError  # a RuntimeError: the kernel died, or never began
TIMEOUT = 600  # seconds for a cell, on a machine that does other things too


def source_folder() -> Path:
    """The folder with the sources.  Raises ValueError where the package is installed without them."""
    folder = Path(__file__).parents[2] / "notebooks"
    if not any(folder.glob("*.ipynb")):
        raise ValueError(f"there are no notebooks in {folder}: run this in a clone of the project (pip install -e .)")
    return folder


def read_sources() -> dict[str, NotebookNode]:
    """The sources by name (without .ipynb), in order."""
    paths = sorted(source_folder().glob("*.ipynb"))
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def student_version(source: NotebookNode) -> NotebookNode:
    """A copy with `...  # your code here` in place of each solution, and without cells tagged "solution"."""
    student = copy.deepcopy(source)
    student.cells = [cell for cell in student.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.source = _SOLUTION.sub(lambda found: found["indent"] + STUB, cell.source)
            _check_marks(cell, cell.source)
    return student


def teacher_version(source: NotebookNode) -> NotebookNode:
    """A copy with the solutions, and the words "solution" and "end of the solution" around each."""
    teacher = copy.deepcopy(source)
    for cell in teacher.cells:
        if cell.cell_type == "code":
            _check_marks(cell, _SOLUTION.sub("", cell.source))
            cell.source = cell.source.replace(BEGIN, "# solution:").replace(END, "# end of the solution")
    return teacher


_SOLUTION = re.compile(rf"^(?P<indent>[ \t]*){BEGIN}[^\n]*\n.*?^[ \t]*{END}[^\n]*$", re.MULTILINE | re.DOTALL)


def _check_marks(cell: NotebookNode, rest: str) -> None:
    if BEGIN in rest or END in rest:
        raise ValueError(f"cell {cell.get('id')}: every line {BEGIN!r} needs a line {END!r} behind it")


def execute(notebook: NotebookNode, folder: Path, smoke: bool = False) -> NotebookNode:
    """A copy, run from top to bottom in `folder`; smoke: on less data.

    Raises one of FAILURES if it does not end, and KeyboardInterrupt if it is stopped.
    """
    notebook = copy.deepcopy(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with _environment(smoke):
        try:
            client.execute()
        except Exception:
            # nbclient takes Ctrl-C for itself, ends the kernel, and then stumbles over its absence
            if hasattr(client, "_async_cleanup_kernel_future"):
                raise KeyboardInterrupt from None
            raise
    return notebook


def reason(failure: Exception) -> str:
    """In one line, why a notebook did not run to its end."""
    if isinstance(failure, CellExecutionError):
        return f"{failure.ename}: {failure.evalue}"
    return str(failure).strip().splitlines()[0]


@contextmanager
def _environment(smoke: bool) -> Iterator[None]:
    """The environment that the notebook's kernel inherits."""
    before = os.environ.get(SMOKE)
    try:
        os.environ[SMOKE] = "1" if smoke else ""
        yield
    finally:
        os.environ.pop(SMOKE)
        if before is not None:
            os.environ[SMOKE] = before


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all, into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def as_text(notebook: NotebookNode) -> str:
    """What an .ipynb file holds."""
    return str(nbformat.writes(notebook)) + "\n"

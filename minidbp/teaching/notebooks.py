"""Make the student's and the teacher's version of each notebook from its source, and run them.

A source, `notebooks/*.ipynb`, holds the solutions between nbgrader's marks, so nbgrader can use the sources directly.
"""

import asyncio
import copy
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbclient
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from minidbp.files.atomic import write_text
from minidbp.teaching.exercises import SMOKE, is_verdict
from minidbp.teaching.frames import FRAMES, FULL_FRAMES, SMOKE_FRAMES

LETTERS = "00_notation"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLVED = "# solution:"  # the same mark in the teacher's version
STUB = "...  # your code here"
FAILURES = CellExecutionError, CellTimeoutError, RuntimeError  # a RuntimeError: the kernel died or did not start
TIMEOUT = 600  # seconds for a cell, on a busy machine


def source_folder() -> Path:
    """The folder with the sources.  Raises ValueError if the package is installed without them."""
    folder = Path(__file__).parents[2] / "notebooks"
    if not any(folder.glob("*.ipynb")):
        raise ValueError(f"there are no notebooks in {folder}: run this in a clone of the project (pip install -e .)")
    return folder


def read_sources() -> dict[str, NotebookNode]:
    """The sources by name (without .ipynb), in order."""
    paths = sorted(source_folder().glob("*.ipynb"))
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def read_lessons() -> dict[str, NotebookNode]:
    """The sources without the table of letters, which has nothing to run."""
    return {name: source for name, source in read_sources().items() if name != LETTERS}


def student_version(source: NotebookNode) -> NotebookNode:
    """A copy with `...  # your code here` in place of each solution, and without cells tagged "solution"."""
    student = copy.deepcopy(source)
    student.cells = [cell for cell in student.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.source = _SOLUTION.sub(lambda match: match["indent"] + STUB, cell.source)
            _check_marks(cell, cell.source)
    return student


def teacher_version(source: NotebookNode) -> NotebookNode:
    """A copy in which comments mark the beginning and the end of each solution."""
    teacher = copy.deepcopy(source)
    for cell in teacher.cells:
        if cell.cell_type == "code":
            _check_marks(cell, _SOLUTION.sub("", cell.source))
            cell.source = cell.source.replace(BEGIN, SOLVED).replace(END, "# end of the solution")
    return teacher


def student_results(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The student's version with the results of a run of the teacher's, so that a page needs no second run.

    It shows what a student sees before the first answer, less what an answer makes: verdicts, and all that a cell with
    a solution displays.  No other cell depends on an answer.
    """
    student = student_version(source)
    results = {cell.id: cell for cell in executed.cells}
    for cell in student.cells:
        if cell.cell_type == "code" and STUB not in cell.source:
            outputs = copy.deepcopy(results[cell.id].outputs)
            cell.outputs = [output for output in outputs if not is_verdict(output)]
            cell.execution_count = results[cell.id].execution_count
    return student


_SOLUTION = re.compile(rf"^(?P<indent>[ \t]*){BEGIN}[^\n]*\n.*?^[ \t]*{END}[^\n]*$", re.MULTILINE | re.DOTALL)


def _check_marks(cell: NotebookNode, rest: str) -> None:
    if BEGIN in rest or END in rest:
        raise ValueError(f"cell {cell.get('id')}: every line {BEGIN!r} needs a line {END!r} behind it")


def execute(notebook: NotebookNode, folder: Path, smoke: bool = False, for_page: bool = False) -> NotebookNode:
    """Run a copy from top to bottom in `folder`, on less data if `smoke`.

    If `for_page`, sliders become pictures drawn beforehand, since a page runs no Python.
    Raises one of FAILURES if a cell fails, and KeyboardInterrupt if it is stopped.
    """
    notebook = copy.deepcopy(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # nbclient handles signals itself, but not outside the main thread
    with _environment(smoke, for_page), ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.execute)
        try:
            running.result()
        except KeyboardInterrupt:
            if kernel := getattr(client.km, "provisioner", None):
                asyncio.run(kernel.kill())  # nbclient then ends within a second
            raise
    return notebook


def reason(failure: Exception) -> str:
    """The reason of a failure in one line."""
    if isinstance(failure, CellExecutionError):
        return f"{failure.ename}: {failure.evalue}"
    return str(failure).strip().splitlines()[0]


@contextmanager
def _environment(smoke: bool, for_page: bool) -> Iterator[None]:
    """Set what the notebook's kernel inherits: SMOKE, how many FRAMES to draw, and that asserts are run."""
    frames = str(SMOKE_FRAMES if smoke else FULL_FRAMES) if for_page else ""
    values = {SMOKE: "1" if smoke else "", FRAMES: frames, "PYTHONOPTIMIZE": ""}
    before = {name: os.environ.get(name) for name in values}
    try:
        os.environ.update(values)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all; make its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def as_text(notebook: NotebookNode) -> str:
    """The content of an .ipynb file."""
    return str(nbformat.writes(notebook)) + "\n"

"""Every notebook runs from top to bottom in both versions, its exercises tell right from missing, its pictures speak.

A notebook's claims are asserts in its own cells: one that fails ends the run, and the test says which and why.
Run on less data (`sized`), all cells; without nbclient and ipykernel this fails rather than skips.
"""

import ast
import re

import nbformat
import pytest
from nbformat.v4 import new_notebook

from minidbp.teaching import notebooks as nb
from minidbp.teaching.exercises import RIGHT, WRONG
from minidbp.teaching.pages import as_html

SOURCES = nb.read_sources()

each_notebook = pytest.mark.parametrize("name", SOURCES)


def test_they_are_numbered_without_a_gap():
    assert [name[:3] for name in SOURCES] == [f"{i:02}_" for i in range(1, 10)]


def outputs(executed):
    return [output for cell in executed.cells for output in cell.get("outputs", [])]


def verdicts(executed, mark):
    """The names of the exercises that were judged so."""
    said = [output.get("data", {}).get("text/plain", "") for output in outputs(executed)]
    return [text.split(": ", 1)[1] for text in said if text.startswith(mark)]


def exercises(notebook):
    """The names in `with exercise("..."):` of a notebook's cells."""
    calls = [
        node.items[0].context_expr
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source.replace("%matplotlib", "# %matplotlib")))
        if isinstance(node, ast.With)
    ]
    return [call.args[0].value for call in calls if isinstance(call, ast.Call) and ast.unparse(call.func) == "exercise"]


def describes_its_pictures(executed):
    kinds = [(output, kind) for output in outputs(executed) for kind in output.get("data", {}) if "image/" in kind]
    assert len(kinds) >= 3
    for output, kind in kinds:
        assert len(output.metadata.get(kind, {}).get("alt", "")) > 30, "a picture without a description"


@pytest.mark.slow
@each_notebook
def test_the_solutions_solve_every_exercise(name, tmp_path):
    executed = nb.execute(nb.teacher_version(SOURCES[name]), tmp_path, smoke=True)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    wanted = exercises(SOURCES[name])
    assert len(wanted) >= 3
    assert (verdicts(executed, RIGHT), verdicts(executed, WRONG)) == (wanted, [])
    describes_its_pictures(executed)


@pytest.mark.slow
@each_notebook
def test_the_stubs_run_and_solve_none(name, tmp_path):
    student = nb.student_version(SOURCES[name])
    assert nb.BEGIN not in nb.as_text(student)
    executed = nb.execute(student, tmp_path, smoke=True)
    missed = [text.split(":")[0] for text in verdicts(executed, WRONG)]
    assert missed == [wanted.split(":")[0] for wanted in exercises(SOURCES[name])]
    assert verdicts(executed, RIGHT) == []


@each_notebook
def test_is_kept_without_outputs(name):
    notebook = nbformat.read(nb.source_folder() / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells need ids"
    assert notebook.metadata.kernelspec.name == "python3"
    left = [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert not left, f"clear the outputs of {name} before committing: cells {left} have some"


@each_notebook
def test_its_formulas_can_be_set(name):
    words = [cell for cell in SOURCES[name].cells if cell.cell_type == "markdown"]
    page = as_html(new_notebook(cells=words), name)
    assert page.count("<math") >= 5
    assert not re.findall(r"\$[^$`<]+\$", re.sub(r"(?s)<(code|pre|style).*?</\1>", "", page)), (
        "a formula is left as TeX"
    )


@each_notebook
def test_has_an_aim_and_says_what_to_take_away(name):
    words = "\n".join(cell.source for cell in SOURCES[name].cells if cell.cell_type == "markdown")
    assert "Aim" in words
    assert "take away" in words


def test_the_engine_of_eighty_lines_has_no_more():
    """Notebook 2 counts them too, but says so only, since a student may add some."""
    code = [cell.source for cell in SOURCES["02_engine"].cells if cell.cell_type == "code"]
    (engine,) = (source for source in code if source.startswith("# The engine."))
    (order_of_walk,) = (source for source in code if source.startswith("def inputs_first"))
    order_of_walk, walk, _ = order_of_walk.partition("def walk")
    assert walk
    lines = [line for line in (engine + "\n" + order_of_walk).splitlines() if line.strip()]
    assert len(lines) <= 80

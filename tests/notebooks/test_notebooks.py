"""Every notebook runs from top to bottom in both versions, its exercises tell right from missing, its pictures speak.

A notebook's claims are asserts in its own cells: one that fails ends the run, and the test says which and why.
Run on less data (`sized`), all cells; without nbclient and ipykernel this fails rather than skips.
"""

import copy
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from notebook_exercises import LESSONS, SOURCES, exercises, shared_code

from minidbp.teaching import notebooks as nb
from minidbp.teaching.exercises import RIGHT, WRONG
from minidbp.teaching.pages import as_html

each_notebook = pytest.mark.parametrize("name", SOURCES)
each_lesson = pytest.mark.parametrize("name", LESSONS)


def test_they_are_numbered_without_a_gap():
    assert [name[:3] for name in LESSONS] == [f"{i:02}_" for i in range(1, 10)]


def outputs(executed):
    return [output for cell in executed.cells for output in cell.get("outputs", [])]


def plain_texts(executed):
    return [output.get("data", {}).get("text/plain", "") for output in outputs(executed)]


def verdicts(executed):
    """What the checks said, in order: ✓ or ✗, the exercise, and the reason for ✗."""
    return [text for text in plain_texts(executed) if text.startswith((RIGHT, WRONG))]


def with_wrong_answers(name):
    """The source, with each wrong answer and its check behind each exercise's own check, and the solution once more."""
    source = copy.deepcopy(SOURCES[name])
    for exercise in exercises(name):
        answers = [*(answer for answer, _ in exercise.wrong), exercise.solution.source]
        cells = [cell for answer in answers for cell in (new_code_cell(answer), new_code_cell(exercise.check.source))]
        behind = [cell.id for cell in source.cells].index(exercise.check.id) + 1
        source.cells[behind:behind] = cells
    return source


def describes_its_pictures(executed):
    kinds = [(output, kind) for output in outputs(executed) for kind in output.get("data", {}) if "image/" in kind]
    assert len(kinds) >= 3
    for output, kind in kinds:
        assert len(output.metadata.get(kind, {}).get("alt", "")) > 30, "a picture without a description"


@pytest.mark.slow
@each_lesson
def test_a_check_accepts_the_solution_and_names_the_mistake_of_each_wrong_answer(name, tmp_path):
    executed = nb.execute(nb.teacher_version(with_wrong_answers(name)), tmp_path, smoke=True)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    said = iter(verdicts(executed))
    for exercise in exercises(name):
        assert len(exercise.wrong) >= 3, f"{exercise.title} needs three wrong answers"
        right = f"{RIGHT} right: {exercise.title}"
        assert next(said) == right
        for answer, says in exercise.wrong:
            verdict = next(said)
            assert verdict.startswith(f"{WRONG} not yet: {exercise.title}: "), f"{verdict} for:\n{answer}"
            assert says in verdict, f"{verdict} for:\n{answer}"
        assert next(said) == right
    assert list(said) == []
    describes_its_pictures(executed)


@pytest.mark.slow
@each_lesson
def test_the_stubs_run_and_solve_none(name, tmp_path):
    student = nb.student_version(SOURCES[name])
    assert nb.BEGIN not in nb.as_text(student)
    executed = nb.execute(student, tmp_path, smoke=True)
    missed = [verdict.split(": ")[1] for verdict in verdicts(executed)]
    assert missed == [exercise.title.split(": ")[0] for exercise in exercises(name)]
    assert all(verdict.startswith(WRONG) for verdict in verdicts(executed))
    (score,) = [text for text in plain_texts(executed) if re.match(r"\d+ of \d+ exercises solved", text)]
    assert score.startswith(f"0 of {len(missed)} ")


@each_lesson
def test_an_exercise_is_a_heading_a_stub_and_a_folded_check(name):
    found = exercises(name)
    assert len(found) >= 3
    assert [exercise.title.split()[0] for exercise in found] == [f"{int(name[:2])}.{i + 1}" for i in range(len(found))]
    for exercise in found:
        assert re.search(r"(?m)^### Exercise (\d\.\d): \S", exercise.heading.source), exercise.title
        number, _, title = exercise.title.partition(" ")
        assert f"### Exercise {number}: {title}" in exercise.heading.source
        assert nb.BEGIN in exercise.solution.source, f"{exercise.title}: the solution stands just before the check"
        assert exercise.check.metadata.jupyter.source_hidden, f"{exercise.title}: fold the check"


@each_lesson
def test_no_check_contains_an_answer(name):
    found = exercises(name)
    shared = {exercise.title: shared_code(exercise, [other.check for other in found]) for exercise in found}
    assert {title: code for title, code in shared.items() if code} == {}


@each_lesson
def test_asks_before_it_answers(name):
    words = [cell for cell in SOURCES[name].cells if cell.cell_type == "markdown"]
    text = "\n\n".join(cell.source for cell in words)
    assert "**Predict before you run.**" in text
    (*_, question) = [i for i, cell in enumerate(words) if cell.source.startswith("**Open question.**")]
    answer = words[question + 1]
    assert answer.source.startswith("**An answer.**")
    assert "solution" in answer.metadata.tags, "the student's version has no answer"
    assert "(00_notation.ipynb)" in text
    assert "**Next:**" in text


@each_notebook
def test_is_kept_without_outputs(name):
    notebook = nbformat.read(nb.source_folder() / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells need ids"
    assert notebook.metadata.kernelspec.name == "python3"
    left = [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert not left, f"clear the outputs of {name} before committing: cells {left} have some"


@each_lesson
def test_its_formulas_can_be_set(name):
    words = [cell for cell in SOURCES[name].cells if cell.cell_type == "markdown"]
    page = as_html(new_notebook(cells=words), name)
    assert page.count("<math") >= 5
    assert not re.findall(r"\$[^$`<]+\$", re.sub(r"(?s)<(code|pre|style).*?</\1>", "", page)), (
        "a formula is left as TeX"
    )


@each_lesson
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

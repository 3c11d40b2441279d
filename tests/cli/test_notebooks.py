import re
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import minidbp.teaching
from minidbp.teaching import notebooks as nb


@pytest.fixture
def sources(monkeypatch):
    cell = new_code_cell("answer = None\n### BEGIN SOLUTION\nanswer = 42\n### END SOLUTION\nanswer")
    monkeypatch.setattr(nb, "read_sources", lambda: {"01_answer": new_notebook(cells=[cell])})


def test_writes_both_versions(command, sources, tmp_path):
    result = command("notebooks", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "student, teacher" in result.output
    assert "42" not in (tmp_path / "student" / "01_answer.ipynb").read_text()
    assert "42" in (tmp_path / "teacher" / "01_answer.ipynb").read_text()


def test_leaves_what_somebody_worked_in(command, sources, tmp_path):
    command("notebooks", "--out", tmp_path)
    mine = tmp_path / "student" / "01_answer.ipynb"
    mine.write_text("hours of work")
    result = command("notebooks", "--out", tmp_path)
    assert mine.read_text() == "hours of work"
    assert "left unchanged (--again replaces them): student/01_answer.ipynb" in result.output
    assert "teacher/01" not in result.output
    command("notebooks", "--out", tmp_path, "--again")
    assert "hours" not in mine.read_text()


def test_what_is_there_may_be_anything(command, assert_refused, sources, tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "01_answer.ipynb").write_bytes(b"\xff\xfe no text")
    assert "student/01_answer.ipynb" in command("notebooks", "--out", tmp_path).output
    (tmp_path / "file").touch()
    assert_refused(command("notebooks", "--out", tmp_path / "file"), "file")


def test_a_full_disk_leaves_no_empty_folder(command, sources, tmp_path, monkeypatch):
    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(nb, "write", write)
    result = command("notebooks", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "01_answer.ipynb cannot be used: No space left on device" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_trial_run_of_nothing_is_refused(command, assert_refused, sources, tmp_path):
    assert_refused(command("notebooks", "--out", tmp_path / "out", "--smoke"), "--smoke is for --html")
    assert not (tmp_path / "out").exists()


def test_without_jupyter_says_what_to_install(command, assert_refused, monkeypatch):
    monkeypatch.delitem(sys.modules, "minidbp.teaching.pages", raising=False)
    monkeypatch.delattr(minidbp.teaching, "pages", raising=False)
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert_refused(command("notebooks"), "notebooks need nbconvert", 'pip install -e ".[notebook]" in a clone')


@pytest.mark.slow
def test_runs_them_and_writes_pages(command, sources, tmp_path):
    result = command("notebooks", "--out", tmp_path, "--html", "--smoke")
    assert result.exit_code == 0, result.output
    assert "42" in (tmp_path / "html" / "teacher" / "01_answer.html").read_text()
    student = (tmp_path / "html" / "student" / "01_answer.html").read_text()
    assert "your code here" in student
    assert "42" not in re.sub("<style.*?</style>", "", student, flags=re.DOTALL)
    executed = nbformat.read(tmp_path / "executed" / "01_answer.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].data["text/plain"] == "42"


@pytest.mark.slow
def test_a_cell_that_fails_is_told_in_one_line(command, monkeypatch, tmp_path):
    broken = new_notebook(cells=[new_code_cell("1 / 0")])
    monkeypatch.setattr(nb, "read_sources", lambda: {"01_broken": broken})
    result = command("notebooks", "--out", tmp_path, "--html")
    assert result.exit_code == 1
    assert "01_broken: ZeroDivisionError: division by zero" in result.output
    assert not (tmp_path / "html").exists()

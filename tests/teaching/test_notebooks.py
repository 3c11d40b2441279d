import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minidbp.cli import invocation
from minidbp.teaching import exercises
from minidbp.teaching import notebooks as nb

SOLVED = """\
def twice(x):
    ### BEGIN SOLUTION
    y = x + x

    return y
    ### END SOLUTION
"""


@pytest.fixture
def source():
    cells = [
        new_markdown_cell("# Doubling"),
        new_code_cell(SOLVED),
        new_code_cell("with exercise('1.1 twice'):\n    assert twice(2) == 4"),
        new_markdown_cell("Because x + x is 2 x.", metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells)


def test_a_student_gets_stubs_where_solutions_were(source):
    student = nb.student_version(source)
    assert student.cells[1].source == "def twice(x):\n    ...  # your code here\n"
    assert [cell.source for cell in student.cells[::2]] == ["# Doubling", source.cells[2].source]
    assert len(student.cells) == 3
    assert source.cells[1].source == SOLVED, "the source itself is left alone"


def test_a_teacher_sees_where_the_solution_is(source):
    teacher = nb.teacher_version(source)
    assert teacher.cells[1].source == (
        "def twice(x):\n    # solution:\n    y = x + x\n\n    return y\n    # end of the solution\n"
    )
    assert len(teacher.cells) == 4


def test_a_students_page_needs_no_run_of_its_own(source, monkeypatch):
    """It has the results of the teacher's run, but no verdict, nor what a solved cell displays."""
    displayed = []
    monkeypatch.setattr(exercises, "display", lambda data, raw: displayed.append(data))
    with exercises.exercise("1.1 twice"):
        pass
    exercises.solved()
    verdict, summary = (new_output("display_data", data) for data in displayed)
    result = new_output("stream", text="a result")
    source.cells.append(new_code_cell("solved()"))
    executed = nb.teacher_version(source)
    for cell, outputs in (1, [result]), (2, [verdict, result]), (4, [summary]):
        executed.cells[cell].outputs = outputs
        executed.cells[cell].execution_count = cell
    student = nb.student_results(source, executed)
    assert [cell.source for cell in student.cells] == [cell.source for cell in nb.student_version(source).cells]
    assert [cell.get("outputs") for cell in student.cells] == [None, [], [result], []]
    assert [cell.get("execution_count") for cell in student.cells] == [None, None, 2, 4]


def test_each_of_several_solutions_in_a_cell_becomes_a_stub():
    cell = new_code_cell(
        "a = 1\n### BEGIN SOLUTION\na = 2\n### END SOLUTION\nb = 3\n### BEGIN SOLUTION\nb = 4\n### END SOLUTION"
    )
    stubs = nb.student_version(new_notebook(cells=[cell])).cells[0].source
    assert stubs == f"a = 1\n{nb.STUB}\nb = 3\n{nb.STUB}"


@pytest.mark.parametrize("version", [nb.student_version, nb.teacher_version])
@pytest.mark.parametrize("cell", ["### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION"])
def test_a_mark_without_its_other_is_refused(version, cell):
    with pytest.raises(ValueError, match="needs a line '### END SOLUTION' behind it"):
        version(new_notebook(cells=[new_code_cell(cell)]))


@pytest.mark.slow
def test_runs_with_less_data_only_where_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIDBP_SMOKE", raising=False)
    notebook = new_notebook(cells=[new_code_cell("from minidbp.teaching import sized\nprint(sized('full', 'smoke'))")])
    for smoke, said in (True, "smoke\n"), (False, "full\n"):
        assert nb.execute(notebook, tmp_path, smoke).cells[0].outputs[0].text == said


def test_sigterm_stops_it_and_is_not_taken_for_ctrl_c(tmp_path):
    stop = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    invocation._current.set(invocation.Invocation())
    begun = invocation.current()
    with pytest.raises(KeyboardInterrupt), invocation.interruptible(), invocation.signals_raise(begun):
        nb.execute(new_notebook(cells=[new_code_cell(stop)]), tmp_path)
    assert begun.exit_code == 143


@pytest.mark.slow
def test_a_kernel_that_dies_is_told_in_one_line(tmp_path):
    with pytest.raises(nb.FAILURES) as caught:
        nb.execute(new_notebook(cells=[new_code_cell("import os\nos._exit(3)")]), tmp_path)
    assert nb.reason(caught.value) == "Kernel died"


def test_without_sources_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(nb, "__file__", str(tmp_path / "lib" / "minidbp" / "teaching" / "notebooks.py"))
    with pytest.raises(ValueError, match=r"there are no notebooks in .*: run this in a clone"):
        nb.source_folder()


def test_what_is_written_can_be_read_again(source):
    assert nbformat.reads(nb.as_text(source), as_version=4) == source

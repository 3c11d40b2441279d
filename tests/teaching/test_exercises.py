import linecache
from pathlib import Path

import pytest

from minidbp.teaching import exercise, exercises, sized, solved


@pytest.fixture
def shown(monkeypatch):
    said = []
    monkeypatch.setattr(exercises, "display", lambda data, raw: said.append(data))
    return said


def test_a_right_answer(shown):
    with exercise("1.1 twice"):
        assert 2 + 2 == 4
    assert [data["text/plain"] for data in shown] == ["✓ right: 1.1 twice"]


def test_a_wrong_answer_is_told_why_and_stops_nothing(shown):
    with exercise("1.1 twice"):
        raise AssertionError("2 + 2 is <4>")  # as a plain assert does; pytest rewrites its own
    assert [data["text/plain"] for data in shown] == ["✗ not yet: 1.1 twice: 2 + 2 is <4>"]
    assert "2 + 2 is &lt;4&gt;" in shown[0]["text/html"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lambda: None + 1, "TypeError: unsupported operand"), (lambda: [][0], "IndexError: "), (lambda: 1 / 0, "ZeroDiv")],
)
def test_an_answer_that_breaks_stops_nothing(shown, answer, reason):
    with exercise("1.2 broken"):
        answer()
    assert shown[0]["text/plain"].startswith(f"✗ not yet: 1.2 broken: {reason}")


def test_a_stub_of_dots_is_not_yet(shown):
    with exercise("1.3 stub"):
        raise NotImplementedError
    assert shown[0]["text/plain"] == "✗ not yet: 1.3 stub: NotImplementedError: not yet"


def test_an_answer_that_raises_is_told_its_line(shown):
    answer = "def twice(x):\n    y = x + x\n    return y.dta\n"
    names = {"exercise": exercise}
    linecache.cache["answer.py"] = len(answer), None, answer.splitlines(keepends=True), "answer.py"  # as Jupyter does
    exec(compile(answer, "answer.py", "exec"), names)
    exec(compile("with exercise('1.5 twice'):\n    assert twice(2) == 4", "check.py", "exec"), names)
    reason = "line 3 of the cell, 'return y.dta': AttributeError: 'int' object has no attribute 'dta'"
    assert [data["text/plain"] for data in shown] == [f"✗ not yet: 1.5 twice: {reason}"]


def test_the_end_says_how_many_are_solved(shown, monkeypatch):
    monkeypatch.setattr(exercises, "_solved", {})
    solved()
    for answers in {1: 2, 2: 5}, {2: 4}, {1: 4, 2: 4}, {1: 2}:  # checked again, in any order
        for number, answer in answers.items():
            with exercise(f"1.{number} twice"):
                if answer != 4:
                    raise AssertionError("2 + 2 is 4")
        solved()
    said = [data["text/plain"] for data in shown]
    assert [text for text in said if not text.startswith((exercises.RIGHT, exercises.WRONG))] == [
        "no exercise has been checked yet",
        "0 of 2 exercises solved; open: 1.1 twice, 1.2 twice",
        "1 of 2 exercises solved; open: 1.1 twice",
        "2 of 2 exercises solved",
        "1 of 2 exercises solved; open: 1.1 twice",
    ]


def test_ctrl_c_goes_through():
    with pytest.raises(KeyboardInterrupt), exercise("1.1"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("last", ["pass", "raise ValueError"])
def test_a_check_leaves_no_names_behind(shown, last):
    names = {"exercise": exercise, "kernel": "the student's own"}
    exec(f"with exercise('1.4 names'):\n    for kernel in 1, 2: new = kernel\n    {last}", names)
    assert names["kernel"] == "the student's own"
    assert "new" not in names
    assert len(shown) == 1


GLOBAL_X = "NameError: name 'x' is not defined"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("def twice(y):\n    return 2 * x", f"✗ not yet: 1.4 twice: line 2 of the cell, 'return 2 * x': {GLOBAL_X}"),
        ("x = 3\ndef twice(y):\n    return 2 * x", "✗ not yet: 1.4 twice: 2 * 5 is 10"),  # a global for its argument
        ("two = 2\ndef helper(y): return two * y\ndef twice(y): return helper(y)", "✓ right: 1.4 twice"),
        ("def twice(y, *, n=2): return n * y if y % 1 == 0 else n + twice(y - 1)", "✓ right: 1.4 twice"),
    ],
)
def test_an_answer_does_not_see_the_names_of_the_check(shown, answer, verdict):
    names = {"exercise": exercise}
    linecache.cache["answer.py"] = len(answer), None, answer.splitlines(keepends=True), "answer.py"
    exec(compile(answer, "answer.py", "exec"), names)
    own = names["twice"]
    check = "with exercise('1.4 twice'):\n    x = 5\n    two = 3\n    assert twice(x) == 10, '2 * 5 is 10'"
    exec(compile(check, "check.py", "exec"), names)
    assert [data["text/plain"] for data in shown] == [verdict]
    assert names["twice"] is own


@pytest.mark.parametrize(("value", "size"), [(None, "full"), ("", "full"), ("1", "smoke")])
def test_the_environment_decides_the_size(monkeypatch, value, size):
    monkeypatch.delenv("MINIDBP_SMOKE", raising=False)
    if value is not None:
        monkeypatch.setenv("MINIDBP_SMOKE", value)
    assert sized("full", "smoke") == size


@pytest.mark.parametrize("in_a_notebook", [True, False])
def test_without_asserts_nothing_is_right(monkeypatch, in_a_notebook):
    said = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: said.append(data["text/plain"]))
    monkeypatch.setattr("IPython.get_ipython", lambda: object() if in_a_notebook else None)
    names = {"__name__": "exercises"}
    source = Path(exercises.__file__).read_text(encoding="utf-8")
    exec(compile(source, "exercises.py", "exec", optimize=1), names)  # as under PYTHONOPTIMIZE=1
    assert said == [f"✗ not checked: {exercises.NO_CHECKS}"] * in_a_notebook
    exec(compile("with exercise('1.1 twice'):\n    assert 2 + 2 == 5", "cell", "exec", optimize=1), names)
    assert said[in_a_notebook:] == [f"✗ not checked: 1.1 twice: {exercises.NO_CHECKS}"]

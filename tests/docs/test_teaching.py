"""docs/teaching.md: its minutes are counted from the notebooks, and its mistakes are those that the checks name."""

import re
from pathlib import Path

import pytest
from notebook_exercises import LESSONS, exercises
from reading_time import table

TEXT = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "name", "times"), [(i, *row) for i, row in enumerate(table(), start=1)])
def test_the_minutes_are_those_that_the_script_counts(number, name, times):
    (row,) = re.findall(rf"(?m)^\| {number} {name[3:].replace('_', ' ')} \|.*", TEXT)
    count, short, whole = (int(cell) for cell in row.strip("|").split("|")[2:])
    assert count == len(exercises(name))
    assert abs(short - times.short) <= 3  # a line more or less need not change the page
    assert abs(whole - times.whole) <= 3


def test_the_hours_are_those_of_the_table():
    rows = re.findall(r"(?m)^\| (\d) [a-z ]+ \| .* \| (\d+) \| (\d+) \|$", TEXT)
    assert len(rows) == len(LESSONS)
    path, whole = re.search(r"takes\s+([\d.]+) hours, and all nine notebooks take ([\d.]+) hours", TEXT).groups()
    assert path == f"{sum(int(short) for number, short, _ in rows if number in '12456') / 60:.1f}"
    assert whole == f"{sum(int(minutes) for *_, minutes in rows) / 60:.1f}"


def test_the_mistakes_are_named_by_the_checks():
    named = [(e.title.split()[0], says) for name in LESSONS for e in exercises(name) for _, says in e.wrong]
    rows = re.findall(r'(?m)^\| (\d\.\d+) \| .* \| "(.*)" \|$', TEXT)
    assert len(rows) >= 10
    for number, part in rows:
        assert any(number == n and part in says for n, says in named), f"no check of {number} says {part!r}"

"""How long the notebooks take to read and solve: `python docs/site/reading_time.py` prints it for docs/teaching.md.

Counted, not timed with people: WORDS of text and LINES of unfolded code a minute, EXERCISE minutes for an exercise.
"""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

from minidbp.teaching.notebooks import read_lessons, student_version
from minidbp.teaching.pages import is_folded

WORDS, LINES = 200, 20  # a minute
EXERCISE = 6  # minutes
BLOCK = 10  # words that a formula in a line of its own takes the time of; one in the text counts as a word


@dataclass(frozen=True)
class Times:
    """Minutes for the short path (all sections that are not marked as further) and for the whole notebook."""

    short: float
    whole: float


def times(source: NotebookNode) -> Times:
    minutes = {True: 0.0, False: 0.0}  # by whether the section is marked as further
    further = False
    for cell in student_version(source).cells:
        if cell.cell_type == "code" and not is_folded(cell):
            minutes[further] += sum(bool(line.strip()) for line in cell.source.splitlines()) / LINES
        elif cell.cell_type == "markdown":
            for section in re.split(r"(?m)^(?=## )", cell.source):
                if section.startswith("## "):
                    further = "(further)" in section.splitlines()[0]
                minutes[further] += words(section) / WORDS + EXERCISE * section.count("### Exercise")
    return Times(minutes[False], minutes[False] + minutes[True])


def words(markdown: str) -> int:
    blocks, text = re.subn(r"(?s)\$\$.*?\$\$", " ", markdown)[::-1]
    return BLOCK * blocks + len(re.sub(r"\$[^$]*\$", "formula", text).split())


def table() -> list[tuple[str, Times]]:
    return [(name, times(source)) for name, source in read_lessons().items()]


if __name__ == "__main__":
    for name, t in table():
        print(f"{name:30} short path {t.short:4.0f} minutes, whole {t.whole:4.0f}")
    for first, last in (1, 6), (7, 9):
        part = [t for name, t in table() if first <= int(name[:2]) <= last]
        short, whole = sum(t.short for t in part) / 60, sum(t.whole for t in part) / 60
        print(f"{first} to {last}: short path {short:.1f} hours, whole {whole:.1f}")

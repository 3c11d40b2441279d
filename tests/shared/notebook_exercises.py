"""What the tests know of an exercise: its cells, and the wrong answers that its check must tell apart."""

import ast
import copy
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from minidbp.teaching import notebooks as nb

SOURCES = nb.read_sources()
LESSONS = nb.read_lessons()
WRONG_ANSWERS = Path(__file__).parents[1] / "notebooks" / "wrong_answers"
LARGE = 3  # operations of an expression: `(V @ W.T) * m` has three, `mdb.robust.fgsm(model, x, y, eps)` one
OPERATIONS = ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Subscript, ast.comprehension


@dataclass(frozen=True)
class Exercise:
    """The title as in `with exercise("6.1 the pass down")`, the cells, and (answer, part of the check's sentence)."""

    title: str
    heading: NotebookNode
    solution: NotebookNode
    check: NotebookNode
    wrong: tuple[tuple[str, str], ...]


def exercises(name: str) -> list[Exercise]:
    """The exercises of a notebook, in order."""
    cells = LESSONS[name].cells
    file = WRONG_ANSWERS / f"{name}.toml"
    wrong = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found = []
    for position, cell in enumerate(cells):
        for title in titles(cell):
            answers = tuple((entry["answer"], entry["says"]) for entry in wrong.pop(title, ()))
            found.append(Exercise(title, *cells[position - 2 : position + 1], answers))
    assert not wrong, f"{file.name}: there is no exercise {list(wrong)}"
    return found


def titles(cell: NotebookNode) -> Iterator[str]:
    """The names in `with exercise("..."):` of a cell."""
    if cell.cell_type == "code":
        for node in ast.walk(ast.parse(cell.source.replace("%matplotlib", "# %matplotlib"))):
            if isinstance(node, ast.With):
                call = node.items[0].context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "exercise":
                    yield ast.literal_eval(call.args[0])


def shared_code(exercise: Exercise, checks: Iterable[NotebookNode]) -> list[str]:
    """The expressions of the solution, of LARGE operations or more, that a check contains too, whatever the names."""
    trees = [ast.walk(ast.parse(check.source)) for check in checks]
    in_checks = {_shape(node) for tree in trees for node in tree if isinstance(node, ast.expr)}
    lines, inside = set(), False
    for number, line in enumerate(exercise.solution.source.splitlines(), start=1):
        inside = (inside or nb.BEGIN in line) and nb.END not in line
        lines |= {number} if inside else set()
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(exercise.solution.source))
        if isinstance(node, ast.expr) and node.lineno in lines and _size(node) >= LARGE and _shape(node) in in_checks
    ]


def _size(node: ast.expr) -> int:
    parts = list(ast.walk(node))
    transposes = sum(isinstance(part, ast.Attribute) and part.attr == "T" for part in parts)
    return transposes + sum(isinstance(part, OPERATIONS) for part in parts)


def _shape(node: ast.expr) -> str:
    """The expression with all names alike; attributes, such as np.sign, and constants keep theirs."""
    return ast.dump(_SameNames().visit(copy.deepcopy(node)))


class _SameNames(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("_", node.ctx)

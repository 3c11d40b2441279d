"""docs/inspection.md: its code gives its output."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "inspection.md"
ROUNDING = re.compile(r"\d\.\de-1\d")  # errors that are nothing but rounding differ between machines


def test_the_page_shows_what_its_code_gives(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 3
    names: dict[str, Any] = {}
    for (_, code), (_, text) in zip(blocks[::2], blocks[1::2], strict=True):
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(PAGE), "exec"), names)
        if last is not None:  # as a notebook shows it
            print(repr(eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names)))
        assert ROUNDING.sub("tiny", capsys.readouterr().out) == ROUNDING.sub("tiny", text)
        if code == blocks[0][1]:
            drawn = (PAGE.parent / "pictures" / "trace.svg").read_text(encoding="utf-8")
            assert drawn == names["t"].graph()._repr_svg_(), "draw it again: t.graph().save(...)"

"""docs/derivatives.md: its code runs and raises the errors that it shows, and its tables are complete and true."""

import ast
import copy
import math
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.special

import minidbp as mdb

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "derivatives.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROUNDING = re.compile(r"error (at most|of up to) [\d.e+-]+")  # which differs between machines


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def steps(code: str) -> list[tuple[str, str]]:
    """The statements of a block, each with the error that the comment below it shows."""
    lines = code.splitlines()
    statements = ast.parse(code).body
    ends = [s.lineno - 1 for s in statements[1:]] + [len(lines)]
    result = []
    for statement, end in zip(statements, ends, strict=True):
        comment = " ".join(line[2:] for line in lines[statement.end_lineno : end] if line.startswith("# "))
        result.append((ast.unparse(statement), comment))
    return result


def test_the_code_does_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    shown = 0
    for statement, error in [step for code in CODE for step in steps(code)]:
        if not error:
            exec(statement, names)
            continue
        with pytest.raises((mdb.GradcheckError, ValueError)) as caught:
            exec(statement, names)
        raised = f"{type(caught.value).__name__}: {caught.value}"
        assert ROUNDING.sub("", raised) == ROUNDING.sub("", error)
        shown += 1
    assert shown == len(re.findall(r"^# \w+Error: ", "".join(CODE), re.MULTILINE)) == 4


def test_every_operation_is_in_the_table_of_functions() -> None:
    listed = (DOCS / "api" / "engine.md").read_text(encoding="utf-8").split("## Operations\n")[1].split("\n## ")[0]
    functions = re.findall(r"autofunction:: (\w+)", listed)
    assert "relu" in functions
    table = set(re.findall(r"`(\w+)(?:\(.*?\))?`", section("The functions")))
    assert {name for name in functions if name not in table} == set()


ROWS = [row.strip("| ").split(" | ") for row in re.findall(r"^\| `.*", section("What a Tensor refuses, and why"), re.M)]
REFUSED, INSTEAD = ([code for row in ROWS for code in re.findall(r"`(.*?)`", row[k])] for k in (0, 1))
ON_PURPOSE = re.findall(r"`(.*?)`", section("What a Tensor refuses, and why").split("What asks for")[1])


def names_of_the_table() -> dict[str, Any]:
    s, t = (mdb.Tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
    modules = {"mdb": mdb, "np": np, "math": math, "copy": copy, "pickle": pickle, "scipy": scipy}
    return {"s": s, "t": t, "w": np.ones(3), "b": np.zeros(5), "net": SimpleNamespace(rows=[s, t]), **modules}


@pytest.mark.parametrize("code", REFUSED)
def test_a_tensor_refuses(code: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        exec(code, names_of_the_table())


@pytest.mark.parametrize("code", INSTEAD + [code for code in ON_PURPOSE if "." in code or " " in code])
def test_what_the_page_offers_works(code: str) -> None:
    names = names_of_the_table()
    if code == "np.testing":
        np.testing.assert_array_equal(names["s"], names["t"])
    else:
        exec(code, names)

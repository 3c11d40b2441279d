"""Every public name is on the pages of names, and none that is not public."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import minidbp

PAGES = Path(__file__).parents[2] / "docs" / "api"
CONSTANT = re.compile(r"py:data:: (\S+)\n(?:   :value: (.*)\n)?\n   \w")  # and the beginning of a sentence
PARTS = "nn", "robust", "data", "training", "kernels", "teaching"


def directives(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^\.\. (auto\w+|py:\w+):: ([\w.]+)", (PAGES / f"{page}.md").read_text(), re.MULTILINE)


def public(module: ModuleType) -> set[str]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return {name for name in names if not isinstance(getattr(module, name), ModuleType)}


def test_the_engines_names_are_listed() -> None:
    listed = [name for directive, name in directives("engine") if directive != "automodule"]
    assert sorted(listed) == sorted(public(minidbp))  # none missing, gone or twice: else mend docs/api/engine.md


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_names_are_found_by_their_docstrings_or_listed(part: str) -> None:
    module = importlib.import_module(f"minidbp.{part}")
    directive, *constants = directives(part)
    assert directive == ("automodule", f"minidbp.{part}")
    assert not any(kind == "autodata" for kind, _ in constants)  # it would show the docstring of dict or of str
    undocumented = {  # autodoc passes over these
        name
        for name in public(module)
        if not (inspect.isroutine(value := getattr(module, name)) or inspect.isclass(value)) or not value.__doc__
    }
    assert sorted(name.removeprefix(f"minidbp.{part}.") for _, name in constants) == sorted(undocumented)


@pytest.mark.parametrize("part", PARTS)
def test_every_constant_has_a_sentence_and_its_value(part: str) -> None:
    text = (PAGES / f"{part}.md").read_text()
    for name, value in CONSTANT.findall(text):
        actual = getattr(importlib.import_module(f"minidbp.{part}"), name.split(".")[-1])
        assert value in (repr(actual), ""), name
    assert len(CONSTANT.findall(text)) == text.count("py:data::")


def test_every_part_has_a_page_in_the_list() -> None:
    listed = re.search(r"```{toctree}\n:maxdepth: 2\n(.*?)```", (PAGES / "index.md").read_text(), re.DOTALL)
    assert listed
    assert listed[1].split() == ["engine", *PARTS]

"""README, CITATION.cff, CHANGELOG.md, and what every page says of files, names and commands."""

import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import minidbp
from minidbp.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "notebooks").glob("*.ipynb"),
    ROOT / "data" / "README.md",
    ROOT / "results" / "README.md",
]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what is gone
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def test_the_readme_has_at_most_900_words() -> None:
    assert len(README.split()) <= 900  # as `wc -w` counts


def test_the_readmes_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["J"].shape == (8, 10, 28, 28, 1)
    assert [g.shape for g in names["gradients"]] == [p.shape for p in names["model"].parameters()]
    assert "3., -6." in capsys.readouterr().out  # 6 a


def test_the_operation_in_contributing_is_the_engines() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert textwrap.dedent(example) in (ROOT / "minidbp" / "autodiff" / "elementwise.py").read_text(encoding="utf-8")


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # which the format requires
    assert citation["version"] == minidbp.__version__
    assert citation["references"][0]["year"] == 2019


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == minidbp.__version__
    assert versions == sorted(versions, reverse=True)


@page
def test_the_python_files_that_a_page_names_are_there(path: Path) -> None:
    files = [
        f"/{file.relative_to(ROOT)}"
        for top in ("minidbp", "tests", "docs", "benchmarks")
        for file in (ROOT / top).rglob("*.py")
    ]
    named = set(re.findall(r"(?<![\w/.])(?:[\w-]+/)*[\w-]+\.py\b", path.read_text(encoding="utf-8")))
    assert {name for name in named if not any(file.endswith(f"/{name}") for file in files)} == set()


@page
def test_the_names_that_a_page_takes_from_the_package_are_there(path: Path) -> None:
    for name in set(re.findall(r"\b(?:mdb|minidbp)((?:\.[A-Za-z_]\w*)+)(?![\w/])", path.read_text(encoding="utf-8"))):
        value: Any = minidbp
        module = "minidbp"
        for part in name.split(".")[1:]:
            module += f".{part}"
            value = getattr(value, part) if hasattr(value, part) else importlib.import_module(module)


def test_nothing_is_installed_by_a_name_that_is_not_registered() -> None:
    files = [*PAGES, *(ROOT / "minidbp").rglob("*.py")]
    assert [path for path in files if re.search(r"pip install \W*minidbp", path.read_text(encoding="utf-8"))] == []


@page
def test_the_commands_and_options_that_a_page_gives_are_there(path: Path) -> None:
    group: Any = typer.main.get_command(app)
    text = path.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    inline = re.findall(r"`minidbp ([a-z][^`]*)`", text)
    for line in inline + re.findall(r"(?:bin/|^)minidbp ([a-z].*)", blocks, re.MULTILINE):
        words = line.split("#")[0].split("&&")[0].split()
        command = group.commands[words[0]]
        rest = words[1:]
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options, line

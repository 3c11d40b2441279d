"""minidbp gradcheck and doctor."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import minidbp
from minidbp.checking import matrix as catalogue
from minidbp.cli import app, checks

runner = CliRunner()


def test_one_operation_as_json() -> None:
    result = runner.invoke(app, ["gradcheck", "--op", "softmax", "--json"])
    assert result.exit_code == 0
    cells = json.loads(result.stdout)
    assert [(c["operation"], c["outcome"]) for c in cells] == [("softmax", "verified")] * 6
    assert {(c["dtype"], c["order"]) for c in cells} == {(d, o) for d in catalogue.DTYPES for o in catalogue.ORDERS}


def test_a_table_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{checks.BEGIN}\nold\n{checks.END}\nafter\n", encoding="utf-8")
    result = runner.invoke(app, ["gradcheck", "--op", "sign", "--page", str(page)])
    assert result.exit_code == 0
    assert result.stdout.count("raises") == 6
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("raises") == 6


def test_an_unknown_operation() -> None:
    result = runner.invoke(app, ["gradcheck", "--op", "cosh"])
    assert result.exit_code == 2
    assert "unknown operation 'cosh': choose one of abs" in result.stderr


def test_a_wrong_derivative_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue.elementwise, "exp", lambda x: catalogue.elementwise.multiply(x, x.detach()))
    result = runner.invoke(app, ["gradcheck", "--op", "exp"])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "likely cause" in result.stderr


# -- the matrix ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_is_not_stale() -> None:
    keys = itertools.product(catalogue.samples(), catalogue.ORDERS, catalogue.DTYPES)
    cells = [catalogue.verify(*key) for key in keys]
    page = (Path(__file__).parents[2] / "docs" / "derivatives.md").read_text(encoding="utf-8")
    shown = page.split(checks.BEGIN)[1].split(checks.END)[0].strip()
    assert shown == checks.markdown(cells).strip(), "renew it: minidbp gradcheck --page docs/derivatives.md"


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    result = runner.invoke(app, ["gradcheck", "--op", "sign", "--page", str(page)])
    assert result.exit_code == 2
    assert "no place for the matrix" in result.stderr
    assert page.read_text() == "no marks"


def test_a_failed_cell_is_shown() -> None:
    assert checks.markdown([catalogue.Cell("exp", 1, "float64", "failed", "")]).count("FAILED") == 1


# -- doctor ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_doctor_says_that_all_is_well(command: Callable[..., Any]) -> None:
    result = command("doctor")
    assert result.exit_code == 0
    for word in (minidbp.__version__, np.__version__, "BLAS", "60000"):
        assert word in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "swapped"])
def test_doctor_finds_bad_data(
    damage: str, tmp_path: Path, command: Callable[..., Any], with_damage: Callable[[Path, str], tuple[Path, str]]
) -> None:
    folder, name = with_damage(tmp_path / "mnist", damage)
    result = command("doctor", "--data", folder)
    assert result.exit_code == 1
    assert name in result.output
    assert damage in result.output
    as_json = command("doctor", "--data", folder, "--json")
    assert as_json.exit_code == 1
    assert name in json.loads(as_json.stdout)["problems"][0]


@pytest.mark.slow
def test_a_real_doctor_prints_pure_json(real_command: Callable[..., Any]) -> None:
    result = real_command("doctor", "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert found["problems"] == []
    assert np.__version__ in found["facts"]["packages"]

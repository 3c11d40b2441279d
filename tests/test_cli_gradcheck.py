"""minidbp gradcheck."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minidbp.autodiff import catalogue
from minidbp.cli import app
from minidbp.experiments import matrix

runner = CliRunner()


def test_one_operation_as_json() -> None:
    result = runner.invoke(app, ["gradcheck", "--op", "softmax", "--json"])
    assert result.exit_code == 0
    cells = json.loads(result.stdout)
    assert [(c["operation"], c["outcome"]) for c in cells] == [("softmax", "verified")] * 6
    assert {(c["dtype"], c["order"]) for c in cells} == {(d, o) for d in catalogue.DTYPES for o in catalogue.ORDERS}


def test_a_table_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n", encoding="utf-8")
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
    monkeypatch.setattr(catalogue.el, "exp", lambda x: catalogue.el.multiply(x, x.detach()))
    result = runner.invoke(app, ["gradcheck", "--op", "exp"])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "likely cause" in result.stderr

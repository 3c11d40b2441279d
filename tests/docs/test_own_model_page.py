"""docs/own_model.md: its blocks are one script, which gives the figures of the page."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from minidbp.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "own_model.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
FIGURES = re.compile(r"lambda ([\d.]+): clean ([\d.]+)%, under PGD ([\d.]+)%")


def test_the_page_has_as_many_lines_as_it_says() -> None:
    assert 35 <= sum(bool(line.strip()) for line in CODE.splitlines()) < 45
    assert "some 40 lines" in PAGE


@pytest.mark.slow
def test_the_code_gives_the_figures_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within some points, as the rounding of another processor leads the training elsewhere."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(CODE, "docs/own_model.md", "exec"), names)
    found, stated = (
        [[float(figure) for figure in line] for line in FIGURES.findall(text)]
        for text in (capsys.readouterr().out, PAGE)
    )
    assert [lam for lam, *_ in found] == [lam for lam, *_ in stated] == [0, 0.01]
    for (_, clean, attacked), (_, stated_clean, stated_attacked) in zip(found, stated, strict=True):
        assert clean == pytest.approx(stated_clean, abs=3)
        assert attacked == pytest.approx(stated_attacked, abs=12)
    assert list(names["model"].named_parameters()) == ["conv.w", "conv.b", "head.w", "head.b"]
    assert {path.name for path in tmp_path.iterdir()} == {"lines.npz", "lines.safetensors"}


def test_the_commands_have_the_options_of_the_page() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines():
        _, name, *words = line.split()
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options

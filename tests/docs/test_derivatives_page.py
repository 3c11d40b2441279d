"""docs/derivatives.md: its code runs, and raises the error that it shows."""

import re
from pathlib import Path
from typing import Any

import pytest

import minidbp as mdb

PAGE = Path(__file__).parents[2] / "docs" / "derivatives.md"


def test_the_code_does_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    *right, wrong = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for code in right:
        exec(code, names)
    with pytest.raises(mdb.GradcheckError) as caught:
        exec(wrong, names)
    shown = " ".join(line.removeprefix("# ") for line in wrong.splitlines() if line.startswith("# "))
    assert shown == f"GradcheckError: {caught.value}"

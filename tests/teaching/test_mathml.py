import re

import pytest
from docutils.utils.math import MathError

from minidbp.teaching.mathml import to_mathml


def test_formulas_become_mathml() -> None:
    assert "<mfrac>" in to_mathml(r"\frac{\partial f}{\partial x}")
    assert 'display="block"' in to_mathml(r"J = \nabla f \tag{eq. 3}", as_block=True)
    assert '<mo stretchy="false">‖' in to_mathml(r"\lVert J\rVert_1")  # and not as tall as its index is low
    assert "…" in to_mathml(r"1, \dots, n")
    for half in to_mathml(r"\tfrac12 x"), to_mathml(r"\tfrac{1}{2} x"):  # not 12 over x
        assert re.sub(r"\s", "", half).endswith("<mn>1</mn><mn>2</mn></mfrac><mi>x</mi></math>")
    assert "(eq. 3)" in to_mathml(r"J \tag{eq. 3}").replace("\xa0", " ")


def test_a_formula_that_cannot_be_converted_is_an_error() -> None:
    with pytest.raises(MathError):
        to_mathml(r"\nosuchcommand{x}")


@pytest.mark.parametrize(
    ("tex", "label"),
    [
        (r"\underbrace{a_1 + b}_{\text{two}}", "munder"),
        (r"\overbrace{a}^{n}", "mover"),
        (r"x_{\underbrace{a}_b}", "munder"),
        (r"\underbrace{\max(a, b) > 0}_{c}", "munder"),
    ],
)
def test_what_is_said_of_a_brace_is_at_the_brace(tex, label):
    braced = re.sub(r"\s", "", to_mathml(tex))
    assert f"<{label}><{label}" in braced
    assert braced.startswith('<mathxmlns="http://www.w3.org/1998/Math/MathML"')
    assert braced.count("<msub>") == tex.count("_") - (label == "munder")

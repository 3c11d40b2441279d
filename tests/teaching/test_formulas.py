import re

import pytest
from bs4 import BeautifulSoup
from docutils.utils.math import MathError

from minidbp.teaching.formulas import FENCES, to_mathml


def test_formulas_become_mathml() -> None:
    assert "<mfrac>" in to_mathml(r"\frac{\partial f}{\partial x}")
    assert 'display="block"' in to_mathml(r"J = \nabla f \tag{eq. 3}", as_block=True)
    assert "…" in to_mathml(r"1, \dots, n")
    for half in to_mathml(r"\tfrac12 x"), to_mathml(r"\tfrac{1}{2} x"):  # not 12 over x
        assert re.sub(r"\s", "", half).endswith("<mn>1</mn><mn>2</mn></mfrac><mi>x</mi></math>")
    assert "(eq. 3)" in to_mathml(r"J \tag{eq. 3}").replace("\xa0", " ")


@pytest.mark.parametrize(
    ("tex", "grow"),
    [
        (r"\lVert J\rVert_1", False),  # or one bar would be as tall as the index is low
        (r"\|J\|_1 + |a|", False),
        (r"\langle g, \underbrace{a}_b\rangle", False),
        (r"\left\lVert\frac{a}{b}\right\rVert_1", True),
        (r"\left|\frac{a}{b}\right|", True),
    ],
)
def test_bars_grow_where_latex_says_so(tex, grow):
    fences = [mo for mo in BeautifulSoup(to_mathml(tex), "html.parser")("mo") if mo.string in FENCES]
    assert len(fences) >= 2
    assert all((mo.get("stretchy") != "false") == grow for mo in fences)


@pytest.mark.parametrize(
    ("tex", "before", "behind"),
    [
        (r"\varepsilon\operatorname{sign}(g)", 1, 0),
        (r"\log e^x", 0, 1),
        (r"a = \log (x)\log x", 1, 1),
        (r"\log", 0, 0),
        (r"\log\bigl(x\bigr)", 0, 0),
    ],
)
def test_the_name_of_a_function_stands_apart(tex, before, behind):
    formula = BeautifulSoup(to_mathml(tex), "html.parser")
    assert len(formula("mspace")) == before
    assert len(formula("mo", rspace="0.17em")) == behind


@pytest.mark.parametrize(
    ("tex", "before", "behind"),
    [(r"y = \max(x, 0)", "0", "0"), (r"a\max_r b", "0.17em", "0.17em"), (r"\lim_{h \to 0} f", "0", "0.17em")],
)
def test_the_name_of_an_operator_stands_as_far_apart(tex, before, behind):
    for as_block in False, True:
        (name,) = [mo for mo in BeautifulSoup(to_mathml(tex, as_block), "html.parser")("mo") if mo.string.isalpha()]
        assert (name["lspace"], name["rspace"]) == (before, behind)


@pytest.mark.parametrize(
    ("tex", "prefix"), [("y = +1", True), (r"v = \pm a", True), ("x, -1", True), ("|a| - b", False)]
)
def test_a_sign_stands_close_to_its_number(tex, prefix):
    sign = BeautifulSoup(to_mathml(tex), "html.parser")("mo")[-1]
    assert (sign.get("form") == "prefix") == prefix


def test_a_fraction_in_a_line_and_a_root_are_no_wider_and_no_lower_than_in_latex():
    slash = BeautifulSoup(to_mathml("1/h"), "html.parser").mo
    assert (slash["lspace"], slash["rspace"]) == ("0", "0")
    strut = BeautifulSoup(to_mathml(r"\sqrt{-1}"), "html.parser").msqrt("mspace")[0]
    assert strut["width"] == "0"
    assert strut.find_next_sibling() is None  # behind the minus sign, which would else stand between two terms


@pytest.mark.parametrize("tex", ["p_i", r"\lVert J\rVert_1", r"\tilde y_i", r"{\tilde y}_i^2"])
def test_all_indices_stand_at_one_height(tex):
    formula = BeautifulSoup(to_mathml(tex), "html.parser")
    base, index = formula.msub.find_all(recursive=False)
    assert (base.name, base["depth"]) == ("mpadded", "0")
    assert index.string in "1i"
    assert not formula("munderover")  # the index is not under the letter


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
    assert braced.startswith("<math")
    assert braced.count("<msub>") == tex.count("_") - (label == "munder")

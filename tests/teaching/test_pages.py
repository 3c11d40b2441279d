import base64
import io
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from docutils.utils.math import MathError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from minidbp.files.page import PRINT
from minidbp.teaching import notebooks as nb
from minidbp.teaching.frames import SCRIPT
from minidbp.teaching.pages import FENCES, as_html, folded_name, to_mathml, without_widgets


@pytest.mark.slow
def test_a_page_has_descriptions_and_no_slider_that_does_nothing(tmp_path):
    cell = new_code_cell("""\
import ipywidgets
import matplotlib.pyplot as plt
from minidbp.teaching import explore

def draw(eps):
    figure, axes = plt.subplots()
    return figure, f"nothing, at <{eps}>"

explore(draw, eps=ipywidgets.FloatSlider(0.5, min=0, max=1))
""")
    executed = nb.execute(new_notebook(cells=[cell]), tmp_path)  # as in a class
    page = as_html(executed, "sliders")
    assert "(sliders where the notebook runs; the picture is for eps = 0.5)" in page
    assert 'alt="nothing, at &lt;0.5&gt;"' in page
    assert "widget-view" not in page
    assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in executed.cells[0].outputs)


def test_formulas_need_no_network():
    cells = [
        new_markdown_cell("A ratio $\\frac{a}{b}$, not `$5`, and\n\n$$\nJ = \\nabla f \\tag{eq. 3}\n$$\n\nas a block."),
        new_markdown_cell("In a line: $$ x_1 $$"),
    ]
    page = as_html(new_notebook(cells=cells), "formulas")
    assert page.count("<math") == 3
    assert len(BeautifulSoup(page, "html.parser")("math", display="block")) == 2
    assert "$5" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert "default-src 'none'" in page  # nor would a browser load anything
    (script,) = BeautifulSoup(page, "html.parser")("script")
    assert script.string == SCRIPT


def test_a_formula_in_a_heading_is_set_too():
    heading = new_markdown_cell("## 4. One number: $T(x, W, g)$")
    page = BeautifulSoup(as_html(new_notebook(cells=[heading]), "headings"), "html.parser")
    assert page.h2.math("mi")[0].string == "T"  # and not <ns0:mi>
    assert page.h2["id"] == "4.-One-number:-T(x,W,g)"


def test_no_line_begins_with_the_full_stop_behind_a_formula():
    text = new_markdown_cell("A sum (of $a$), and $b = 28$.\n\n$$c$$")
    page = BeautifulSoup(as_html(new_notebook(cells=[text]), "lines"), "html.parser")
    assert [kept.get_text() for kept in page("span", class_="together")] == ["a),", "b=28."]
    assert ".together { white-space: nowrap; }" in page.head("style")[-1].string


def test_a_page_fits_a_phone_and_paper():
    page = as_html(new_notebook(cells=[new_code_cell("f(" + "x, " * 50 + ")")]), "wide")
    assert page.count('name="viewport"') == 1
    last = BeautifulSoup(page, "html.parser").head("style")[-1].string
    assert PRINT in last  # the last style, which wins
    assert "pre { white-space: pre !important" in last  # code scrolls: no word of it is broken


def test_a_formula_that_cannot_be_set_is_named():
    with pytest.raises(ValueError, match="cannot set the formula"):
        as_html(new_notebook(cells=[new_markdown_cell("$\\nosuchcommand{x}$")]), "formulas")


def test_a_folded_cell_is_folded_on_the_page():
    folded = new_code_cell("show(draw())", metadata={"jupyter": {"source_hidden": True}})
    notebook = new_notebook(cells=[new_code_cell("compute()"), folded, new_code_cell("compute()")])
    page = BeautifulSoup(as_html(notebook, "folds"), "html.parser")
    (fold,) = page("details")
    assert "draw()" in fold.get_text()
    assert "compute()" not in fold.get_text()
    assert fold.summary.get_text() == "the code that draws"
    assert [cell.metadata.get("tags", []) for cell in without_widgets(notebook).cells] == [[], ["hide-input"], []]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('with exercise("1.1 one"):\n    show(one)', "the check"),
        ('say(f"It fell to {a}.")', "the code that writes this paragraph"),
        ("table(rows)", "the code"),
    ],
)
def test_what_is_folded_has_a_name(source, name):
    assert folded_name(new_code_cell(source)) == name


def test_a_link_to_another_notebook_leads_to_its_page():
    text = "[a](05_jacobian.ipynb) [b](05_jacobian.ipynb#top) [c](https://example.org/05.ipynb) `05.ipynb` [d](a.md)"
    page = BeautifulSoup(as_html(new_notebook(cells=[new_markdown_cell(text)]), "links"), "html.parser")
    links = ["05_jacobian.html", "05_jacobian.html#top", "https://example.org/05.ipynb", "a.md"]
    assert [link["href"] for link in page("a")] == links


@pytest.mark.parametrize("channels", [3, 4])
def test_a_picture_keeps_each_pixel_in_fewer_bytes(channels):
    pixels = np.random.default_rng(0).integers(1, 256, (20, 20, channels), np.uint8).repeat(20, 0).repeat(20, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    cell = new_code_cell(
        "draw()", outputs=[new_output("display_data", {"text/html": f'<img alt="a" src="{address}">'})]
    )
    page = BeautifulSoup(as_html(new_notebook(cells=[cell]), "picture"), "html.parser")
    kind, data = page.img["src"].split(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < len(address)
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(data))), pixels)


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

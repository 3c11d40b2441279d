import base64
import io
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from minidbp.files.page import PRINT
from minidbp.teaching import notebooks as nb
from minidbp.teaching.frames import SCRIPT
from minidbp.teaching.pages import as_html, folded_name, without_widgets


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

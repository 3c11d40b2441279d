"""The pictures of sliders, drawn beforehand: which values they have, and what a page without the script shows."""

from itertools import pairwise

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from bs4 import BeautifulSoup, Tag

from minidbp.teaching import explore, pictures
from minidbp.teaching.frames import FRAMES, all_choices, counts, spread


@pytest.mark.parametrize(
    ("control", "values", "labels", "own"),
    [
        (ipywidgets.IntSlider(3, min=1, max=4), [1, 2, 3, 4], ["1", "2", "3", "4"], 3),
        (ipywidgets.FloatSlider(0.3, min=0, max=0.5, step=0.1), [0, 0.1, 0.2, 0.3, 0.4, 0.5], None, 0.3),
        (ipywidgets.FloatSlider(0.25, min=0, max=0.5, step=0.2), [0, 0.2, 0.25, 0.4], None, 0.25),  # between two steps
        (ipywidgets.SelectionSlider(options=[("no", 0.0), ("half", 0.5)], value=0.5), [0.0, 0.5], ["no", "half"], 0.5),
        (ipywidgets.FloatSlider(0, min=0, max=0.7, step=0.4), [0, 0.4], ["0.00", "0.40"], 0),  # not 0.8
        (ipywidgets.FloatSlider(0.1 + 0.2, min=0.2, max=0.4, step=0.1), [0.2, 0.3, 0.4], None, 0.3),  # not 0.3 twice
        (ipywidgets.FloatSlider(0, min=0, max=0.3, step=0.1), [0, 0.1, 0.2, 0.3], None, 0),
        (ipywidgets.IntSlider(0, min=0, max=11, step=4), [0, 4, 8], None, 0),
        (ipywidgets.IntSlider(3, min=3, max=3), [3], ["3"], 3),
        (ipywidgets.Dropdown(options=["relu", "tanh"]), ["relu", "tanh"], ["relu", "tanh"], "relu"),
        (ipywidgets.Dropdown(options={"no": 0.0, "half": 0.5}, value=0.5), [0.0, 0.5], ["no", "half"], 0.5),
        (
            ipywidgets.Dropdown(options=[(2, 3, 2), (4, 4, 1)]),
            [(2, 3, 2), (4, 4, 1)],
            ["(2, 3, 2)", "(4, 4, 1)"],
            (2, 3, 2),
        ),
        (ipywidgets.Checkbox(True), [False, True], ["no", "yes"], True),
    ],
)
def test_the_values_of_a_control(control, values, labels, own):
    choices = all_choices(control)
    assert [value for value, _ in choices.pairs] == values
    assert labels is None or [label for _, label in choices.pairs] == labels
    assert choices.pairs[choices.at][0] == own


@pytest.mark.parametrize(
    "control",
    [
        ipywidgets.Text(),
        ipywidgets.Dropdown(options=[]),
        ipywidgets.Select(options=[1, 2], value=None),
        ipywidgets.SelectMultiple(options=[1, 2]),
        ipywidgets.IntRangeSlider(),
    ],
)
def test_what_does_not_have_one_of_some_values_is_refused(control):
    with pytest.raises(
        ValueError, match=f"a page cannot have this {type(control).__name__}: use a slider, a checkbox or"
    ):
        all_choices(control)


@pytest.mark.parametrize("own", range(40))
def test_values_are_evenly_spread_and_the_controls_own_is_among_them(own):
    choices = spread(all_choices(ipywidgets.IntSlider(own, min=0, max=39)), 14)
    values = [value for value, _ in choices.pairs]
    assert values[choices.at] == own
    assert len(values) == 14
    steps = [after - before for before, after in pairwise(values)]
    assert all(1 <= step <= 5 for step in steps)  # 3, and up to 2 more or less beside the control's own


@pytest.mark.parametrize(
    ("sizes", "taken"), [([10, 5], [6, 5]), ([40], [30]), ([7], [7]), ([2, 20, 20], [2, 5, 3]), ([1, 50], [1, 30])]
)
def test_there_are_at_most_thirty_pictures(sizes, taken):
    assert counts(sizes, 30) == taken


class Triangle:
    def _repr_svg_(self):
        return '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture
def shown(monkeypatch) -> Tag:
    """What a page gets of a slider with five values and one with two, if it may have six pictures."""
    bundles = []
    plt.close("all")  # what other tests left
    monkeypatch.setenv(FRAMES, "6")
    monkeypatch.setattr(pictures, "display", lambda data, raw: bundles.append(data))
    explore(
        lambda k, b: (Triangle() if b else plt.figure(), f"<{k}> {b}"),
        k=ipywidgets.IntSlider(4, min=1, max=5),
        b=ipywidgets.Checkbox(False, description="as a drawing"),
    )
    (bundle,) = bundles
    return BeautifulSoup(bundle["text/html"], "html.parser")


def test_each_picture_has_its_alternative_text_and_caption(shown):
    wanted = [f"<{k}> {b}" for k in (1, 4, 5) for b in (False, True)]
    assert [picture["alt"] for picture in shown("img")] == wanted
    assert [caption.get_text() for caption in shown("figcaption")] == wanted
    kinds = [picture["src"].split(";")[0] for picture in shown("img")]
    assert kinds == ["data:image/webp", "data:image/svg+xml"] * 3
    assert not plt.get_fignums()


def test_without_the_script_a_page_shows_the_picture_of_the_controls_own_values(shown):
    (figure,) = (figure for figure in shown("figure") if not figure.has_attr("hidden"))
    assert figure.img["alt"] == "<4> False"
    assert [label.get_text() for label in shown("label")] == ["k = 4", "as a drawing = no"]
    assert all(slider.has_attr("hidden") for slider in shown("input"))


def test_a_slider_says_its_name_and_value(shown):
    slider, _ = shown("input")
    assert (slider["aria-label"], slider["aria-valuetext"]) == ("k", "4")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")

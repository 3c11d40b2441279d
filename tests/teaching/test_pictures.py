import base64

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup

import minidbp as mdb
from minidbp.teaching import explore, images, pictures, show, table


class Handle:
    def __init__(self, first):
        self.shows = [first]

    def update(self, data, metadata=None, raw=False):
        assert raw
        self.shows.append((data, metadata))


@pytest.fixture
def shown(monkeypatch):
    handles = []

    def display(data, metadata=None, raw=False, display_id=False):
        handles.append(Handle((data, metadata)))
        return handles[-1]

    monkeypatch.setattr(pictures, "display", display)
    return handles


def test_a_picture_has_its_description_as_alternative_text_and_as_caption(shown):
    figure, _ = plt.subplots()
    show(figure, "a line & a dot")
    ((data, metadata),), ((caption, _),) = (handle.shows for handle in shown)
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": "a line & a dot"}}
    assert data["text/html"].startswith('<img alt="a line &amp; a dot" src="data:image/png;base64,iVBOR')
    assert caption["text/html"] == "<small><em>a line &amp; a dot</em></small>"
    assert not plt.fignum_exists(figure.number), "or the notebook would show it twice"


def test_a_drawing_is_shown_as_an_image(shown):
    with mdb.trace() as t:
        mdb.exp(mdb.Tensor([1.0]))
    show(t.graph(), "one step")
    ((data, metadata),), _ = (handle.shows for handle in shown)
    assert metadata == {"image/svg+xml": {"alt": "one step"}}
    image = BeautifulSoup(data["text/html"], "html.parser").img
    assert image["alt"] == "one step"
    drawing = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert drawing == data["image/svg+xml"]
    assert "exp" in drawing
    assert "<title>" not in drawing


def test_a_picture_without_a_description_is_refused(shown):
    with pytest.raises(ValueError, match="needs a description"):
        show(plt.figure(), " ")
    assert not shown


def test_a_change_changes_both(shown):
    page = pictures.Shown(plt.figure(), "before")
    page.change(plt.figure(), "after")
    assert [metadata["image/png"]["alt"] for _, metadata in shown[0].shows] == ["before", "after"]
    assert "after" in shown[1].shows[-1][0]["text/html"]


@pytest.mark.parametrize(("signed", "scale"), [(True, (-3, 3)), (False, (0, 3))])
def test_images_share_one_scale(signed, scale):
    figure = images(
        [np.full(784, 2.0), np.full((28, 28, 1), -3.0), np.zeros(784)], list("abc"), "J", rows=2, signed=signed
    )
    drawn = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title() for axes in drawn] == list("abc")
    assert {axes.get_images()[0].get_clim() for axes in drawn} == {scale}
    assert drawn[1].get_images()[0].get_array().shape == (28, 28)


def test_a_table_is_markdown(monkeypatch):
    said = []
    monkeypatch.setattr(pictures, "display", said.append)
    table(["a", "sum of |J|"], ["ReLU", "97.5 ± 0.3%"], ["–", 1e-5])
    table(["a", "b"])
    assert said[0].data == "| a | sum of \\|J\\| |\n| :--- | ---: |\n| ReLU | 97.5 ± 0.3% |\n| – | 1e-05 |"
    assert said[1].data.startswith("| a | b |\n| ---: | ---: |")


@pytest.fixture
def moved(monkeypatch):
    """The descriptions of all pictures, in order, and the bundles displayed."""
    said = []

    class Shown:
        def __init__(self, figure, description):
            said.append(description)

        def change(self, figure, description):
            said.append(description)

    bundles = []
    monkeypatch.setattr(pictures, "Shown", Shown)
    monkeypatch.setattr(pictures, "display", lambda data, metadata, raw: bundles.append(data))
    return said, bundles


def test_a_move_redraws_the_picture_in_its_place(moved):
    said, bundles = moved
    eps, image = ipywidgets.FloatSlider(0.5, min=0, max=1, description="ε"), ipywidgets.IntSlider(3, min=0, max=9)
    explore(lambda eps, image: (plt.figure(), f"eps {eps}, image {image}"), eps=eps, image=image)
    assert said == ["eps 0.5, image 3"]
    eps.value = 0.25
    image.value = 4
    assert said == ["eps 0.5, image 3", "eps 0.25, image 3", "eps 0.25, image 4"]
    assert bundles[0]["text/plain"] == "(sliders where the notebook runs; the picture is for ε = 0.5, image = 3)"
    assert pictures.WIDGET in bundles[0]


def test_a_picture_is_drawn_when_the_hand_lets_go(moved):
    eps = ipywidgets.FloatSlider(0.5, min=0, max=1)
    explore(lambda eps: (plt.figure(), "x"), eps=eps)
    assert eps.continuous_update is False
    assert eps.description == "eps"

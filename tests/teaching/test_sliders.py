import ipywidgets
import matplotlib.pyplot as plt
import pytest

from minidbp.teaching import explore, sliders


@pytest.fixture
def shown(monkeypatch):
    """The descriptions of all pictures, in order, and the bundles displayed."""
    said = []

    class Shown:
        def __init__(self, figure, description):
            said.append(description)

        def change(self, figure, description):
            said.append(description)

    bundles = []
    monkeypatch.setattr(sliders, "Shown", Shown)
    monkeypatch.setattr(sliders, "display", lambda data, metadata, raw: bundles.append(data))
    return said, bundles


def test_a_move_redraws_the_picture_in_its_place(shown):
    said, bundles = shown
    eps, image = ipywidgets.FloatSlider(0.5, min=0, max=1, description="ε"), ipywidgets.IntSlider(3, min=0, max=9)
    explore(lambda eps, image: (plt.figure(), f"eps {eps}, image {image}"), eps=eps, image=image)
    assert said == ["eps 0.5, image 3"]
    eps.value = 0.25
    image.value = 4
    assert said == ["eps 0.5, image 3", "eps 0.25, image 3", "eps 0.25, image 4"]
    assert bundles[0]["text/plain"] == "(sliders where the notebook runs; the picture is for ε = 0.5, image = 3)"
    assert sliders.WIDGET in bundles[0]


def test_a_picture_is_drawn_when_the_hand_lets_go(shown):
    eps = ipywidgets.FloatSlider(0.5, min=0, max=1)
    explore(lambda eps: (plt.figure(), "x"), eps=eps)
    assert eps.continuous_update is False
    assert eps.description == "eps"

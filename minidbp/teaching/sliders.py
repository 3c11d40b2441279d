"""Sliders that redraw a picture; where nothing can be moved, the picture stands as it is."""

from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from minidbp.teaching.pictures import Shown

WIDGET = "application/vnd.jupyter.widget-view+json"


def explore(draw: Callable[..., tuple[Figure, str]], **controls: ipywidgets.ValueWidget) -> None:
    """Show draw(**values), a figure and its description, and redraw it when one of the `controls` is moved.

    The picture is an ordinary output: a page that runs no widgets shows it, for the values that the controls have now.
    """
    for name, control in controls.items():
        control.description = control.description or name
        control.style.description_width = "initial"
        if hasattr(control, "continuous_update"):
            control.continuous_update = False  # a picture takes longer than a hand moves
    box = ipywidgets.VBox(list(controls.values()))
    values = ", ".join(f"{control.description} = {control.value}" for control in controls.values())
    data, metadata = _bundle(box)
    data["text/plain"] = f"(sliders where the notebook runs; the picture is for {values})"
    display(data, metadata=metadata, raw=True)
    shown = Shown(*draw(**{name: control.value for name, control in controls.items()}))

    def redraw(_: Any) -> None:
        shown.change(*draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names="value")


def _bundle(widget: ipywidgets.Widget) -> tuple[dict[str, Any], dict[str, Any]]:
    """What IPython would display for a widget, to be changed."""
    bundle = widget._repr_mimebundle_()
    return bundle if isinstance(bundle, tuple) else (dict(bundle), {})

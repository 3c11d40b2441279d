"""Pictures, sliders and tables in a notebook; every picture has a description in words."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import DisplayHandle, Markdown, display
from matplotlib.figure import Figure

from minidbp.files.plots import COLOURS

BLUE, ORANGE, GREEN, PINK, _, SKY, BLACK = COLOURS
WIDGET = "application/vnd.jupyter.widget-view+json"


def style() -> None:
    """Set matplotlib's defaults for the notebooks."""
    plt.rcParams.update(
        {"figure.dpi": 100, "font.size": 12, "figure.constrained_layout.use": True, "lines.linewidth": 2}
    )


def show(figure: Figure, description: str) -> None:
    """Show a figure, with its description as alternative text and caption. Raises ValueError if that is empty."""
    Shown(figure, description)


class Shown:
    """A figure on display with its description; `change` puts another in its place."""

    def __init__(self, figure: Figure, description: str) -> None:
        data, metadata = _picture(figure, description)
        self._picture: DisplayHandle = display(data, metadata=metadata, raw=True, display_id=True)
        self._caption: DisplayHandle = display(_caption(description), raw=True, display_id=True)

    def change(self, figure: Figure, description: str) -> None:
        data, metadata = _picture(figure, description)
        self._picture.update(data, metadata=metadata, raw=True)
        self._caption.update(_caption(description), raw=True)


def _picture(figure: Figure, description: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if not description.strip():
        raise ValueError("a figure needs a description in words for readers who cannot see it; got an empty one")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    plt.close(figure)  # otherwise the notebook shows it a second time
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    # JupyterLab shows the HTML, because it ignores the alternative text in the metadata
    page = f'<img alt="{html.escape(description)}" src="{source}" style="max-width: 100%">'
    data = {"text/html": page, "image/png": file.getvalue(), "text/plain": description}
    return data, {"image/png": {"alt": description}}


def _caption(description: str) -> dict[str, str]:
    return {"text/html": f"<small><em>{html.escape(description)}</em></small>", "text/plain": ""}


def explore(draw: Callable[..., tuple[Figure, str]], **controls: ipywidgets.ValueWidget) -> None:
    """Show `draw(**values)`, a figure and its description, and redraw it when one of the `controls` is moved.

    The picture is an ordinary output. A page without widgets shows it for the controls' first values.
    """
    for name, control in controls.items():
        control.description = control.description or name
        control.style.description_width = "initial"
        if hasattr(control, "continuous_update"):
            control.continuous_update = False  # drawing takes longer than moving the slider
    box = ipywidgets.VBox(list(controls.values()))
    values = ", ".join(f"{control.description} = {control.value}" for control in controls.values())
    bundle = box._repr_mimebundle_()  # what IPython would display
    data, metadata = bundle if isinstance(bundle, tuple) else (dict(bundle), {})
    data["text/plain"] = f"(sliders where the notebook runs; the picture is for {values})"
    display(data, metadata=metadata, raw=True)

    def drawn() -> tuple[Figure, str]:
        return draw(**{name: control.value for name, control in controls.items()})

    shown = Shown(*drawn())

    for control in controls.values():
        control.observe(lambda _: shown.change(*drawn()), names="value")


def say(text: str) -> None:
    """Show a paragraph of Markdown, such as a sentence about the results just computed."""
    display(Markdown(text))


def table(header: Sequence[Any], *rows: Sequence[Any]) -> None:
    """Show rows as a table. Cells are Markdown; `|` is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in cells)))

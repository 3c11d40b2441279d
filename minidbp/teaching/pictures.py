"""Pictures, sliders and tables in a notebook; every picture has a description in words."""

import html
import io
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import DisplayHandle, Markdown, display
from matplotlib.figure import Figure

from minidbp.teaching import frames

WIDGET = "application/vnd.jupyter.widget-view+json"
PNG, SVG = "image/png", "image/svg+xml"
NUMBER = re.compile(r"[-+−±\d.,e%×–\s]*")  # also 97.5 ± 0.3%, 1e-05 and an empty cell
TOOLTIP = re.compile(r"<title>.*?</title>|<desc>.*?</desc>", re.DOTALL)  # an <img> shows none, and a page has many


def style() -> None:
    """Set matplotlib's defaults for the notebooks."""
    plt.rcParams.update(
        {"figure.dpi": 100, "font.size": 12, "figure.constrained_layout.use": True, "lines.linewidth": 2}
    )


class Drawing(Protocol):
    """A picture that is not matplotlib's, such as `mdb.trace()`'s graph."""

    def _repr_svg_(self) -> str: ...


def show(picture: Figure | Drawing, description: str) -> None:
    """Show a picture, with its description as alternative text and caption. Raises ValueError if that is empty."""
    Shown(picture, description)


class Shown:
    """A picture on display with its description; `change` puts another in its place."""

    def __init__(self, picture: Figure | Drawing, description: str) -> None:
        data, metadata = _bundle(picture, description)
        self._picture: DisplayHandle = display(data, metadata=metadata, raw=True, display_id=True)
        self._caption: DisplayHandle = display(_caption(description), raw=True, display_id=True)

    def change(self, picture: Figure | Drawing, description: str) -> None:
        data, metadata = _bundle(picture, description)
        self._picture.update(data, metadata=metadata, raw=True)
        self._caption.update(_caption(description), raw=True)


def _bundle(picture: Figure | Drawing, description: str) -> tuple[dict[str, Any], dict[str, Any]]:
    kind, data = _encoded(picture, description)
    # JupyterLab shows the HTML, because it ignores the alternative text in the metadata
    page = f'<img alt="{html.escape(description)}" src="{frames.url(kind, data)}" style="max-width: 100%">'
    bundle = {"text/html": page, kind: data if kind == PNG else data.decode(), "text/plain": description}
    return bundle, {kind: {"alt": description}}


def _encoded(picture: Figure | Drawing, description: str) -> tuple[str, bytes]:
    """The picture's MIME type and content."""
    if not description.strip():
        raise ValueError("a figure needs a description in words for readers who cannot see it; got an empty one")
    if not isinstance(picture, Figure):
        return SVG, TOOLTIP.sub("", picture._repr_svg_()).encode()
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=picture.dpi)
    plt.close(picture)  # otherwise the notebook shows it a second time
    return PNG, file.getvalue()


def _frame(picture: Figure | Drawing, description: str) -> tuple[str, str]:
    """The address of a picture for a page with many, small; and its description."""
    kind, data = _encoded(picture, description)
    return frames.as_webp(data, frames.COLOURS) if kind == PNG else frames.url(kind, data), description


def _caption(description: str) -> dict[str, str]:
    return {"text/html": f"<small><em>{html.escape(description)}</em></small>", "text/plain": ""}


def explore(draw: Callable[..., tuple[Figure | Drawing, str]], **controls: ipywidgets.ValueWidget) -> None:
    """Show `draw(**values)`, a picture and its description, and redraw it when one of the `controls` is moved.

    For a page, which runs no Python, it draws pictures for some of the controls' values beforehand (`frames`).
    """
    for name, control in controls.items():
        control.description = control.description or name
    if most := int(os.environ.get(frames.FRAMES) or 0):
        display({"text/html": frames.as_html(lambda **values: _frame(*draw(**values)), controls, most)}, raw=True)
        return
    for control in controls.values():
        control.style.description_width = "initial"
        if hasattr(control, "continuous_update"):
            control.continuous_update = False  # drawing takes longer than moving the slider
    box = ipywidgets.VBox(list(controls.values()))
    values = ", ".join(f"{control.description} = {control.value}" for control in controls.values())
    bundle = box._repr_mimebundle_()  # what IPython would display
    data, metadata = bundle if isinstance(bundle, tuple) else (dict(bundle), {})
    data["text/plain"] = f"(sliders where the notebook runs; the picture is for {values})"
    display(data, metadata=metadata, raw=True)

    def drawn() -> tuple[Figure | Drawing, str]:
        return draw(**{name: control.value for name, control in controls.items()})

    shown = Shown(*drawn())

    for control in controls.values():
        control.observe(lambda _: shown.change(*drawn()), names="value")


def say(text: str) -> None:
    """Show a paragraph of Markdown, such as a sentence about the results just computed."""
    display(Markdown(text))


def table(header: Sequence[Any], *rows: Sequence[Any]) -> None:
    """Show rows as a table, with columns of numbers to the right. Cells are Markdown; `|` is escaped."""
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    sides = ["---:" if all(NUMBER.fullmatch(str(cell)) for cell in column) else ":---" for column in columns]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in (header, sides, *rows)]
    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in cells)))

"""Pictures and tables in a notebook: one style, and a description in words beside every picture."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import DisplayHandle, Markdown, display
from matplotlib.figure import Figure

from minidbp.files.plots import COLOURS

BLUE, ORANGE, GREEN, PINK, _, SKY, BLACK = COLOURS


def style() -> None:
    """Set matplotlib's defaults for the notebooks."""
    plt.rcParams.update(
        {"figure.dpi": 100, "font.size": 12, "figure.constrained_layout.use": True, "lines.linewidth": 2}
    )


def show(figure: Figure, description: str) -> None:
    """Show a figure with its description: as the picture's alternative text, and as a caption under it.

    Raises ValueError for an empty description.
    """
    Shown(figure, description)


class Shown:
    """A figure that is shown, with its description, and can be changed."""

    def __init__(self, figure: Figure, description: str) -> None:
        data, metadata = _picture(figure, description)
        self._picture: DisplayHandle = display(data, metadata=metadata, raw=True, display_id=True)
        self._caption: DisplayHandle = display(_caption(description), raw=True, display_id=True)

    def change(self, figure: Figure, description: str) -> None:
        """Put another figure, and its description, in the same place."""
        data, metadata = _picture(figure, description)
        self._picture.update(data, metadata=metadata, raw=True)
        self._caption.update(_caption(description), raw=True)


def _picture(figure: Figure, description: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if not description.strip():
        raise ValueError("a figure needs a description in words, for who cannot see it; got an empty one")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    plt.close(figure)  # or the notebook would show it a second time
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    # as HTML too, which JupyterLab prefers: of the metadata it reads no alternative text
    page = f'<img alt="{html.escape(description)}" src="{source}" style="max-width: 100%">'
    data = {"text/html": page, "image/png": file.getvalue(), "text/plain": description}
    return data, {"image/png": {"alt": description}}


def _caption(description: str) -> dict[str, str]:
    return {"text/html": f"<small><em>{html.escape(description)}</em></small>", "text/plain": ""}


def images(
    arrays: Sequence[np.ndarray],
    titles: Sequence[str],
    label: str,
    limit: float | None = None,
    rows: int = 1,
    signed: bool = True,
) -> Figure:
    """A figure of square images (each an array of n * n numbers) on one scale, `label` being what the numbers are.

    signed: from -limit to limit, orange to purple; else from 0 to limit, white to black.  limit: the largest value
    there is if not given.
    """
    limit = float(max(np.abs(a).max() for a in arrays)) if limit is None else limit
    n = round(np.sqrt(arrays[0].size))
    columns = -(-len(arrays) // rows)
    figure, panels = plt.subplots(
        rows, columns, figsize=(2.1 * columns + 1, 2.35 * rows + 0.3), sharex=True, sharey=True, squeeze=False
    )
    for axes in panels.flat[len(arrays) :]:
        axes.set_visible(False)
    for axes, array, title in zip(panels.flat, arrays, titles, strict=False):
        low, colours = (-limit, "PuOr") if signed else (0.0, "gray_r")
        drawn = axes.imshow(np.reshape(array, (n, n)), cmap=colours, vmin=low, vmax=limit)
        axes.set(title=title, xticks=[0, n // 2, n - 1], yticks=[0, n // 2, n - 1])
    figure.supxlabel("pixel column")
    figure.supylabel("pixel row")
    beyond = any(np.abs(a).max() > limit for a in arrays)
    extend = "neither" if not beyond else "both" if signed else "max"
    figure.colorbar(drawn, ax=panels, label=label, shrink=0.8, extend=extend, format="%.2g")
    return figure


def table(header: Sequence[Any], *rows: Sequence[Any]) -> None:
    """Show rows as a table; cells are Markdown, in which | is only itself."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in cells)))

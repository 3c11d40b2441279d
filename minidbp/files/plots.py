"""The colours of all pictures, images on one scale, and saving as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from minidbp.files.atomic import atomic_write

# Okabe and Ito's colours differ for every kind of colour vision.  Markers and dashes also differ in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#BBBBBB"
SIGNS = ListedColormap([COLOURS[4], "white", "#5E3C99"])  # -1, 0, +1: the ends of the map PuOr, which differ in print


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file)


def as_label(text: str) -> str:
    """A text from elsewhere for a figure: matplotlib takes no dollar in it for a formula, and leaves none out."""
    return text.replace("$", r"\$").replace("_", " _", text.startswith("_"))


def as_picture(image: np.ndarray) -> np.ndarray:
    """What `imshow` takes of an image (H, W, C): (H, W) where it is grey, (H, W, 3) within [0, 1] where it is RGB."""
    return image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, 1)


def image_grid(
    arrays: Sequence[np.ndarray],
    titles: Sequence[str],
    label: str,
    limit: float | None = None,
    *,
    rows: int = 1,
    signed: bool = True,
    cmap: str | Colormap | None = None,
    ticks: Sequence[float] | None = None,
) -> Figure:
    """A figure of images on one scale, each an array (H, W), or of n * n numbers in another shape.

    Args:
        label: says what the numbers are.
        limit: the end of the scale, by default the largest absolute value of all arrays.
        signed: the scale goes from -limit to limit, orange to purple; else from 0 to limit, white to black.
    """
    largest = float(max(np.abs(a).max() for a in arrays))
    limit = largest if limit is None else limit
    n = round(np.sqrt(arrays[0].size))
    height, width = arrays[0].shape if arrays[0].ndim == 2 else (n, n)
    columns = -(-len(arrays) // rows)
    figure = Figure(figsize=(2.1 * columns + 1, 2.35 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(arrays) :]:
        axes.set_visible(False)
    low, colours = (-limit, "PuOr") if signed else (0.0, "gray_r")
    for axes, array, title in zip(panels.flat, arrays, titles, strict=False):
        drawn = axes.imshow(np.reshape(array, (height, width)), cmap=cmap or colours, vmin=low, vmax=limit)
        axes.set(title=title, xticks=_ends_and_middle(width), yticks=_ends_and_middle(height))
    figure.supxlabel("pixel column")
    figure.supylabel("pixel row")
    extend = "neither" if largest <= limit else "both" if signed else "max"
    figure.colorbar(drawn, ax=panels, label=label, shrink=0.8, extend=extend, format="%.2g", ticks=ticks)
    return figure


def _ends_and_middle(n: int) -> list[int]:
    """The ticks of an axis of n pixels."""
    return [0, n // 2, n - 1]

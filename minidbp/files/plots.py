"""What all pictures share: their colours, and how they become a file."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from minidbp.files.atomic import atomic_write

# Okabe and Ito's colours keep apart for every kind of colour vision; markers and dashes do so in black and white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#BBBBBB"
SIGNS = ListedColormap([COLOURS[4], "white", "#5E3C99"])  # -1, 0, +1: the ends of the map PuOr; print keeps them apart


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file)

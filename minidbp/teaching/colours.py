"""The colours of the notebooks' pictures, which differ for every kind of colour vision."""

from minidbp.files.plots import COLOURS, GREY, SIGNS

BLUE, ORANGE, GREEN, PINK, _, SKY, BLACK = COLOURS

__all__ = ["BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SIGNS", "SKY"]

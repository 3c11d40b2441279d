"""What notebooks share: pictures with descriptions, sliders, exercises that are checked, smaller data for a trial.

Nothing here computes what is taught: that stands in the notebooks, or in the packages below.  Needs the extra
`notebook`.
"""

from minidbp.files.plots import GREY, SIGNS
from minidbp.teaching.exercises import exercise
from minidbp.teaching.pictures import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, images, show, style, table
from minidbp.teaching.size import sized
from minidbp.teaching.sliders import explore

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PINK",
    "SIGNS",
    "SKY",
    "exercise",
    "explore",
    "images",
    "show",
    "sized",
    "style",
    "table",
]

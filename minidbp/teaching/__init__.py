"""What notebooks share: pictures with descriptions, sliders, exercises with checks, and smaller sizes for a trial run.

Nothing here computes what is taught: that is in the notebooks and in the packages below. It needs the extra `notebook`.
"""

from minidbp.files.plots import image_grid as images
from minidbp.teaching.exercises import exercise, sized, solved
from minidbp.teaching.pictures import explore, say, show, style, table

__all__ = [
    "exercise",
    "explore",
    "images",
    "say",
    "show",
    "sized",
    "solved",
    "style",
    "table",
]

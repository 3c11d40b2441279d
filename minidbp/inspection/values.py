"""How a value is shown: its figures in words, its numbers on coloured ground or as pictures in notebooks; `watch`."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from operator import attrgetter
from typing import Any

import numpy as np

from minidbp.autodiff.tensor import Tensor, TensorLike, operation

MAX_CELLS = 16  # rows and columns of a table of numbers
MAX_PICTURES = 10
MAX_PIXELS = 128  # of a picture's side; the rest, to the right and below, is cut off
PICTURE_WIDTH = 84  # on the screen, in CSS pixels

POSITIVE, NEGATIVE, NOT_A_NUMBER = (0, 114, 178), (213, 94, 0), (190, 190, 190)  # Okabe and Ito's blue and vermilion
See = Callable[[str, Tensor], object]


@dataclass(frozen=True, eq=False, repr=False)
class Recorded:
    """A value that a trace or a watch recorded.

    `min`, `mean` and `max` leave NaN out (they are NaN if nothing is left). Of complex numbers, the real parts count.

    Attributes:
        label: What formulas call the value.
        order: How many backward passes deep it was made.
        tensor: The value as a constant Tensor.
    """

    label: str
    order: int
    tensor: Tensor

    value = property(attrgetter("tensor.data"), doc="The array.")
    shape = property(attrgetter("tensor.shape"), doc="The shape of the array.")
    dtype = property(attrgetter("tensor.dtype"), doc="The dtype of the array.")
    min = property(lambda self: self._statistic(np.min), doc="The smallest element.")
    mean = property(lambda self: self._statistic(np.mean), doc="The mean of the elements.")
    max = property(lambda self: self._statistic(np.max), doc="The largest element.")
    nans = property(lambda self: int(np.isnan(self.value).sum()), doc="The number of NaN.")

    def _statistic(self, statistic: Callable[[np.ndarray], np.floating]) -> float:
        numbers = self.value.real[~np.isnan(self.value)].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # the mean of inf and -inf is NaN, of huge numbers inf
            return float(statistic(numbers)) if numbers.size else float("nan")

    def statistics(self) -> tuple[str, str, str]:
        """min, mean and max in four digits; the max says how many NaN there are, if there are any."""
        nans = f" ({self.nans} NaN)" if self.nans else ""
        return f"{self.min:.4g}", f"{self.mean:.4g}", f"{self.max:.4g}{nans}"

    def figures(self) -> str:
        """dtype, shape, min, mean and max."""
        low, mean, high = self.statistics()
        return f"{self.dtype} {self.shape}, min {low}, mean {mean}, max {high}"

    def headline(self) -> str:
        """What this value is, in a line."""
        return self.label

    def __repr__(self) -> str:
        return f"{self.headline()}: {self.figures()}"

    def _repr_html_(self) -> str:
        return f"<div><b>{escape(self.headline())}</b>: {escape(self.figures())}</div>{array_html(self.value)}"


def watch(x: TensorLike, name: str, see: See = lambda name, value: print(repr(Recorded(name, 0, value)))) -> Tensor:
    """x itself, through an operation that shows it and every cotangent that reaches this place.

    `see(name, value)` is called now.  In a backward pass it is called with "grad of NAME" and the cotangent, in the
    next pass with "grad of grad of NAME", and so on.  A cotangent may have leading axes: the rows of a Jacobian come
    at once.  Values and derivatives do not change.  Use the result in place of x: only then does a gradient pass here.

    Args:
        x: The value.
        name: Its name.
        see: What to call; without it, a line is printed.
    """
    out = watched(x, name=name, see=see)
    see(name, out)
    return out


@operation
def watched(x: Tensor, *, name: str, see: See) -> Any:
    """`x seen as 'name'`."""
    return x.data, lambda g, out: watch(g, f"grad of {name}", see)


def tensor_html(t: Tensor) -> str:
    """What a notebook shows of a Tensor: name, origin, dtype, shape, min, mean, max, and the values."""
    origin = f", made by {t._node.name}" if t._node else ", requires_grad" if t.requires_grad else ""
    return Recorded(f"{t.name or 'Tensor'}{origin}", 0, t)._repr_html_()


Tensor._repr_html_ = tensor_html  # type: ignore[assignment, method-assign]  # here, so that the engine need not import this module


def array_html(array: np.ndarray) -> str:
    """A table for up to 16 x 16 numbers, pictures for images (..., H, W, 1) and larger matrices, else text."""
    if array.size and not np.iscomplexobj(array):
        if array.ndim <= 2 and max(array.shape, default=1) <= MAX_CELLS:
            return _table(np.atleast_2d(array))
        if array.ndim == 2:
            return _pictures(array[None])
        if array.ndim >= 3 and array.shape[-1] == 1 and min(array.shape[-3:-1]) > 1:
            return _pictures(array.reshape(-1, *array.shape[-3:-1]))
    return f"<pre>{escape(np.array2string(array, separator=', ', threshold=60))}</pre>"


def shades(array: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """RGB (..., 3), uint8: white at 0, blue up to the largest absolute value, vermilion down to it, grey for NaN."""
    finite = np.abs(array[np.isfinite(array)], dtype=np.float64)
    largest = finite.max(initial=0.0) or 1.0
    share = np.clip(np.nan_to_num(array.astype(np.float64) / largest, nan=0.0), -1, 1)[..., None]
    towards = np.where(share < 0, NEGATIVE, POSITIVE) - 255.0
    colours = 255.0 + strength * np.abs(share) * towards
    return np.where(np.isnan(array)[..., None], NOT_A_NUMBER, colours).round().astype(np.uint8)


def _table(array: np.ndarray) -> str:
    rows = []
    for numbers, colours in zip(array, shades(array, 0.6), strict=True):
        cells = "".join(
            f'<td style="background:rgb({r},{g},{b});color:#222;text-align:right;padding:1px 6px">{number:.4g}</td>'
            for number, (r, g, b) in zip(numbers.tolist(), colours.tolist(), strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    return f'<table style="border-collapse:collapse;font-family:monospace">{"".join(rows)}</table>'


def _pictures(images: np.ndarray) -> str:
    from PIL import Image  # slow to import, so only when a picture is shown

    shown = images[:MAX_PICTURES, :MAX_PIXELS, :MAX_PIXELS]
    parts = []
    for i, colours in enumerate(shades(shown)):
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "PNG")
        png = base64.b64encode(file.getvalue()).decode()
        low, high = np.fmin.reduce(images[i], axis=None), np.fmax.reduce(images[i], axis=None)  # of what is not NaN
        text = f"values as colours, {i + 1} of {len(images)}: from {low:.3g} to {high:.3g}"
        parts.append(
            f'<img alt="{text}" title="{text}" width="{PICTURE_WIDTH}" src="data:image/png;base64,{png}" '
            'style="image-rendering:pixelated;border:1px solid #888;margin:2px;display:inline-block">'
        )
    caption = []
    if len(shown) < len(images):
        caption.append(f"the first {len(shown)} of {len(images)}")
    if shown.shape[1:] != images.shape[1:]:
        caption.append(f"the upper left {shown.shape[1]} x {shown.shape[2]} of {images.shape[1]} x {images.shape[2]}")
    largest = np.abs(shown[np.isfinite(shown)]).max(initial=0.0)
    caption.append(f"blue is positive, vermilion negative, white 0; full colour is {largest:.3g}")
    return f"<div>{''.join(parts)}</div><small>{'; '.join(caption)}</small>"

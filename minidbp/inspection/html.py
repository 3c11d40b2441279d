"""An array in HTML, for notebooks: numbers on a ground coloured by their sign, or small pictures."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

CELLS = 16  # rows and columns of a table at most
PICTURES = 10  # at most
PIXELS = 128  # of a picture's side at most; what is further right or down is cut off
SIDE = 84  # on the screen

POSITIVE, NEGATIVE, NOT_A_NUMBER = (0, 114, 178), (213, 94, 0), (190, 190, 190)  # Okabe and Ito's blue and vermilion


def array_html(array: np.ndarray) -> str:
    """A table for up to 16 x 16 numbers; pictures for images (..., H, W, 1) and larger matrices; else text, cut."""
    if np.iscomplexobj(array) or not array.size:
        return _text(array)
    if array.ndim <= 2 and max(array.shape, default=1) <= CELLS:
        return _table(np.atleast_2d(array))
    if array.ndim == 2:
        return _pictures(array[None])
    if array.ndim >= 3 and array.shape[-1] == 1 and min(array.shape[-3:-1]) > 1:
        return _pictures(array.reshape(-1, *array.shape[-3:-1]))
    return _text(array)


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
    shown = images[:PICTURES, :PIXELS, :PIXELS]
    largest = np.abs(shown[np.isfinite(shown)]).max(initial=0.0)
    parts = []
    for i, colours in enumerate(shades(shown)):
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "PNG")
        png = base64.b64encode(file.getvalue()).decode()
        low, high = np.fmin.reduce(images[i], axis=None), np.fmax.reduce(images[i], axis=None)  # of what is not NaN
        what = f"values as colours, {i + 1} of {len(images)}: from {low:.3g} to {high:.3g}"
        parts.append(
            f'<img alt="{what}" title="{what}" width="{SIDE}" src="data:image/png;base64,{png}" '
            'style="image-rendering:pixelated;border:1px solid #888;margin:2px;display:inline-block">'
        )
    cut = []
    if len(shown) < len(images):
        cut.append(f"the first {len(shown)} of {len(images)}")
    if shown.shape[1:] != images.shape[1:]:
        cut.append(f"the upper left {shown.shape[1]} x {shown.shape[2]} of {images.shape[1]} x {images.shape[2]}")
    caption = f"blue is positive, vermilion negative, white 0; full colour is {largest:.3g}"
    return f"<div>{''.join(parts)}</div><small>{'; '.join([*cut, caption])}</small>"


def _text(array: np.ndarray) -> str:
    return f"<pre>{escape(np.array2string(array, separator=', ', threshold=60))}</pre>"

"""Sliders on a page that runs no Python: pictures drawn beforehand, of which a small script shows one."""

import base64
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
from PIL import Image

FRAMES = "MINIDBP_FRAMES"  # in the environment: at most how many pictures `explore` draws beforehand
FULL_FRAMES, SMOKE_FRAMES = 36, 4  # for one call of `explore`; in a trial run
COLOURS = 128  # of a frame
DIGITS, ROUNDING = 12, 1e-9  # of a slider's values, whose steps may not be exact: 3 * 0.1 is more than 0.3
SCRIPT = (Path(__file__).parent / "frames.js").read_text(encoding="utf-8")
STYLE = (Path(__file__).parent / "frames.css").read_text(encoding="utf-8")


@lru_cache(64)  # the student's and the teacher's page have the same pictures
def as_webp(png: bytes, colours: int | None = None) -> str:
    """The data: URL of a PNG as lossless WebP, about half as large; a fifth, if reduced to 128 `colours`."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if colours:
        picture = picture.convert("RGB").quantize(colours).convert("RGB")
    picture.save(file, format="webp", lossless=True)
    return url("image/webp", file.getvalue())


def url(kind: str, data: bytes) -> str:
    """The data: URL of a file's content."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


class Choices(NamedTuple):
    """Values of a control as (value, label) pairs, and which of them is the control's own."""

    pairs: list[tuple[Any, str]]
    at: int


def all_choices(control: ipywidgets.ValueWidget) -> Choices:
    """What a slider, a selection or a checkbox can be set to.  Raises ValueError for another control."""
    if isinstance(getattr(control, "index", None), int):  # a selection with one option selected
        return Choices([(value, label) for label, value in control._options_full], control.index)
    if isinstance(control, ipywidgets.Checkbox | ipywidgets.ToggleButton):
        return Choices([(False, "no"), (True, "yes")], int(control.value))
    if not isinstance(control, ipywidgets.IntSlider | ipywidgets.FloatSlider):
        what = f"this {type(control).__name__}"
        raise ValueError(f"a page cannot have {what}: use a slider, a checkbox or a selection with one option selected")
    steps = range(math.floor((control.max - control.min) / control.step + ROUNDING) + 1)
    kind, own = type(control.value), round(control.value, DIGITS)
    values = sorted({own, *(kind(round(control.min + k * control.step, DIGITS)) for k in steps)})
    return Choices([(value, format(value, control.readout_format)) for value in values], values.index(own))


def spread(choices: Choices, n: int) -> Choices:
    """At most n of the choices, evenly spread; the control's own is one of them."""
    last = len(choices.pairs) - 1
    chosen = [round(k * last / (n - 1)) for k in range(n)] if n > 1 else [choices.at]
    nearest = min(range(n), key=lambda k: abs(chosen[k] - choices.at))
    chosen[nearest] = choices.at
    return Choices([choices.pairs[k] for k in chosen], nearest)


def counts(sizes: Sequence[int], most: int) -> list[int]:
    """How many choices of each control to take, as equal as can be: their product is at most `most`."""
    taken = [1] * len(sizes)
    while True:
        product = math.prod(taken)
        more = [k for k, size in enumerate(sizes) if taken[k] < size and product // taken[k] * (taken[k] + 1) <= most]
        if not more:
            return taken
        taken[min(more, key=taken.__getitem__)] += 1


def as_html(picture: Callable[..., tuple[str, str]], controls: Mapping[str, ipywidgets.ValueWidget], most: int) -> str:
    """The controls, and at most `most` pictures.  `picture(**values)` gives an <img>'s source and a description."""
    every = [all_choices(control) for control in controls.values()]
    some = [spread(c, n) for c, n in zip(every, counts([len(c.pairs) for c in every], most), strict=True)]
    sliders = [_slider(control.description, c) for control, c in zip(controls.values(), some, strict=True)]
    own = tuple(c.at for c in some)
    figures = []
    for at in itertools.product(*(range(len(c.pairs)) for c in some)):
        values = {name: c.pairs[k][0] for name, c, k in zip(controls, some, at, strict=True)}
        figures.append(_figure(*picture(**values), is_shown=at == own))
    return f'<div class="frames">{"".join(sliders)}<div aria-live="polite">{"".join(figures)}</div></div>'


def _slider(name: str, choices: Choices) -> str:
    labels = [label for _, label in choices.pairs]
    name, label, all_labels = (html.escape(text) for text in (name, labels[choices.at], json.dumps(labels)))
    return (
        f"<label><span>{name} = <output>{label}</output></span>"
        f'<input type="range" min="0" max="{len(labels) - 1}" value="{choices.at}" aria-label="{name}" '
        f'aria-valuetext="{label}" data-labels="{all_labels}" hidden></label>'
    )


def _figure(source: str, description: str, is_shown: bool) -> str:
    text = html.escape(description)
    return (
        f'<figure{"" if is_shown else " hidden"}><img alt="{text}" src="{source}">'
        f'<figcaption aria-hidden="true"><small><em>{text}</em></small></figcaption></figure>'
    )

"""An explanation in the terminal: small pictures of coloured half-blocks, or of characters without colours."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from minidbp.explain.explanation import Explanation
from minidbp.explain.figures import MOST_ROWS
from minidbp.explain.report import OnPage, Picture, Table, sections, title
from minidbp.files.console import Console

SHADES = " .:-=+*#%@"  # of ink
PURPLE, WHITE, ORANGE = np.array([94, 60, 153]), np.array([255, 255, 255]), np.array([230, 159, 0])
WIDEST, SMALL = 32, 14  # columns of an image, and of five beside each other
BAR = 20  # characters of the longest bar


def has_colours(console: Console) -> bool:
    """Whether the console can show coloured half-blocks."""
    return console.color_system is not None and not console.no_color and console.encoding.startswith("utf")


def on_screen(e: Explanation, origin: str, colours: bool) -> Iterator[RenderableType]:
    """Everything to print, in order: the page's sections without their explanations. Pictures fit in 80 columns."""
    yield Text(title(e), style="bold")
    yield f"{origin} λ = {e.lam:g}, float64."
    for heading, blocks in sections(e).items():
        yield Text(f"\n{heading}", style="bold")
        for block in blocks:
            if isinstance(block, Table):
                yield _table(block)
            elif block in PICTURES:
                yield PICTURES[block](e, colours)
            elif not isinstance(block, OnPage | Picture):
                yield block


def ink(x: np.ndarray, colours: bool) -> Text:
    """An image (H, W, C) in [0, 1]: W columns or WIDEST, and two pixels above each other in one character."""
    a = shrunk(x, WIDEST)
    if colours:
        return _half_blocks(np.round(255 * np.repeat(a, 3 // a.shape[2], axis=2)).astype(int))
    return _characters(a.mean(axis=2), lambda value: SHADES[min(int(value * len(SHADES)), len(SHADES) - 1)])


def signed(a: np.ndarray, colours: bool, limit: float = 1.0) -> Text:
    """An array (H, W, C) from -limit to limit: orange below 0 and purple above, or `o` and `+` without colours."""
    share = np.clip(shrunk(a, WIDEST).mean(axis=2) / limit, -1, 1)
    if colours:
        end = np.where(share[..., None] < 0, ORANGE, PURPLE)
        return _half_blocks(np.round(WHITE + np.abs(share)[..., None] * (end - WHITE)).astype(int))
    return _characters(share, lambda value: " " if abs(value) < 0.15 else "+" if value > 0 else "o")


def shrunk(a: np.ndarray, widest: int) -> np.ndarray:
    """(H, W, C) with at most `widest` columns, each value the mean of a block, and an even number of rows."""
    height, width, channels = a.shape
    n = -(-width // widest)
    a = np.pad(a, ((0, -height % (2 * n)), (0, -width % n), (0, 0)), mode="edge")
    return a.reshape(a.shape[0] // n, n, a.shape[1] // n, n, channels).mean(axis=(1, 3))


def _half_blocks(rgb: np.ndarray) -> Text:
    """(H, W, 3) of 0 to 255, H even: each character shows one pixel in its colour and one in its background."""
    style = "rgb({},{},{}) on rgb({},{},{})"
    rows = np.concatenate([rgb[::2], rgb[1::2]], axis=2)
    return Text("\n").join(Text.assemble(*(("▀", style.format(*pair)) for pair in row)) for row in rows)


def _characters(a: np.ndarray, character: Callable[[float], str]) -> Text:
    """(H, W), H even: one character for the mean of two pixels above each other."""
    means = (a[::2] + a[1::2]) / 2
    return Text("\n".join("".join(character(value) for value in row) for row in means))


def _small(rows: np.ndarray, colours: bool, names: Sequence[str]) -> RichTable:
    """The first signed images (H, W, C), five in a row on one scale, at most SMALL characters wide."""
    small = np.stack([shrunk(row, SMALL) for row in rows[:MOST_ROWS]])
    limit = float(np.quantile(np.abs(small), 0.98)) or 1.0
    titles = [Text(name, no_wrap=True, style="bold") for name in names]
    images = [signed(a, colours, limit) for a in small]
    lines = [line[i : i + 5] for i in range(0, len(images), 5) for line in (titles, images)]
    return _grid(2, *lines)


def _grid(gap: int, *rows: Sequence[RenderableType]) -> RichTable:
    grid = RichTable.grid(padding=(0, gap))
    for row in rows:
        grid.add_row(*row)
    return grid


def _logits(e: Explanation) -> RichTable:
    """A bar for each class, of the height of its logit above the smallest; the true class is marked y."""
    f, p = e.at_x.logits, e.at_x.probabilities
    columns = (Column(name, justify="right") for name in ("class", "logit", "p"))
    table = RichTable(*columns, "", box=None, padding=(0, 1, 0, 0))
    span = float(f.max() - f.min()) or 1.0
    for k in range(len(f)):
        bar = "#" * round(BAR * float(f[k] - f.min()) / span)
        mark, style = (" y", "bold blue") if k == e.label else ("", "")
        table.add_row(f"{k}", f"{f[k]:.2f}", f"{p[k]:.3f}", bar + mark, style=style)
    return table


def _table(content: Table) -> RichTable:
    first, *others = content.header
    columns = [Column(first, overflow="fold"), *(Column(name, justify="right", overflow="fold") for name in others)]
    table = RichTable(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in content.rows:
        table.add_row(*map(Text, row))
    return table


PICTURES: dict[str, Callable[[Explanation, bool], RenderableType]] = {
    "digit.png": lambda e, colours: _grid(4, [ink(e.at_x.x, colours), _logits(e)]),
    "attack.png": lambda e, colours: _grid(4, [signed(e.v, colours), ink(e.at_x_adv.x, colours)]),
    "jacobian.png": lambda e, colours: _small(e.J, colours, [f"J{k} ‖·‖₁ {v:.1f}" for k, v in enumerate(e.rows)]),
    "signs.png": lambda e, colours: _small(e.S, colours, [f"S{k}  {np.mean(s > 0):.0%} +1" for k, s in enumerate(e.S)]),
}

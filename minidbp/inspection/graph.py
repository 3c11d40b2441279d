"""A trace as a drawing: SVG, a lane for each order.

Forward steps stand from left to right.  What a step's rule made stands below that step, in the lane of its order: so
the backward pass runs from right to left, and the backward of the backward from left to right again.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from minidbp.files.atomic import write_text
from minidbp.inspection.steps import Given, Step, order_in_words
from minidbp.inspection.table import colour, statistics

WIDTH, HEIGHT = 108, 36  # of a node, in pixels
COLUMN, ROW = 132, 66  # from one node to the next
LEFT, TOP = 28, 46  # of the first node in its lane; above it stands what the lane is called
TIP = 9  # how far a node of a backward pass points
LETTERS = 16  # of an input's name
INK, PAPER = "#222222", "#ffffff"


class Place(NamedTuple):
    """Where a step stands: the lane is its order."""

    column: int
    lane: int
    row: int


class Graph:
    """A drawing of steps: a notebook shows it, `save` writes it, its repr tells it in words."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    def save(self, path: str | Path) -> None:
        """Write the drawing to `path` as SVG, whole or not at all.  Raises OSError."""
        write_text(Path(path), self._repr_svg_())

    def __repr__(self) -> str:
        lines = [_title(self.steps)]
        for order in sorted({step.order for step in self.steps}):
            there = [f"#{step.number} {step.name}" for step in self.steps if step.order == order]
            lines.append(f"{order_in_words(order)}, {_direction(order)}: {', '.join(there)}")
        return "\n".join(lines)

    def _repr_svg_(self) -> str:
        return _svg(self.steps, repr(self))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """For notebooks, and with its words as the picture's alternative text for the pages made of them."""
        drawing = self._repr_svg_()
        page = f'<div style="overflow-x:auto">{drawing}</div>'  # a long one is scrolled, not made small
        data = {"text/html": page, "image/svg+xml": drawing, "text/plain": repr(self)}
        return data, {"image/svg+xml": {"alt": repr(self)}}


def places(steps: Sequence[Step]) -> dict[int, Place]:
    """The place of each step, by its number.

    Sweeps of one lane, such as the way back through J and the one through the cross-entropy, are one below the other.
    """
    columns, sweeps = _columns(steps), _sweeps(steps)
    found: dict[int, Place] = {}
    heights: Counter[tuple[int, int]] = Counter()  # rows taken, by lane and column
    for sweep in dict.fromkeys(sweeps.values()):
        mine = [step for step in steps if sweeps[step.number] == sweep]
        lane, across = mine[0].order, [columns[step.number] for step in mine]
        base = max(heights[lane, column] for column in range(min(across), max(across) + 1))
        for step, column in zip(mine, across, strict=True):
            row = max(base, heights[lane, column])
            found[step.number] = Place(column, lane, row)
            heights[lane, column] = row + 1
    return found


def _columns(steps: Sequence[Step]) -> dict[int, int]:
    """A column for each forward step; below it what its rule made; the rest goes on in the direction of its lane."""
    columns: dict[int, int] = {}
    forward = 0
    for step in steps:
        before = [i for i in step.inputs if isinstance(i, Step) and i.number in columns]
        near = [columns[i.number] for i in before if i.order == step.order] or [columns[i.number] for i in before]
        if step.order == 0:
            columns[step.number], forward = forward, forward + 1
        elif step.rule_of in columns:
            columns[step.number] = columns[step.rule_of]
        elif step.order % 2:  # past the beginning of the forward pass, if need be
            columns[step.number] = min(near, default=0) - 1
        else:
            columns[step.number] = max(near, default=0) + 1
    first = min(columns.values(), default=0)
    return {number: column - first for number, column in columns.items()}


def _sweeps(steps: Sequence[Step]) -> dict[int, int]:
    """Which walk through its lane a step belongs to: that of its inputs there, or of the same rule's step before."""
    sweeps: dict[int, int] = {}
    last: Step | None = None
    for step in steps:
        there = [i for i in step.inputs if isinstance(i, Step) and i.number in sweeps and i.order == step.order]
        if step.order == 0:
            sweeps[step.number] = -1
        elif there:
            sweeps[step.number] = min(sweeps[i.number] for i in there)
        elif last and last.rule_of == step.rule_of is not None and last.order == step.order:
            sweeps[step.number] = sweeps[last.number]
        else:
            sweeps[step.number] = step.number
        last = step
    return sweeps


def _title(steps: Sequence[Step]) -> str:
    orders = [step.order for step in steps]
    parts = [f"{orders.count(order)} {order_in_words(order)}" for order in sorted(set(orders))]
    return f"Drawing of {len(steps)} steps" + (f": {', '.join(parts)}" if parts else "")


def _direction(order: int) -> str:
    return "from right to left" if order % 2 else "from left to right"


def _svg(steps: Sequence[Step], words: str) -> str:
    at = places(steps)
    lanes = sorted({place.lane for place in at.values()})
    tops, y = {}, 8.0
    for lane in lanes:
        tops[lane] = y
        y += TOP + ROW * (1 + max(place.row for place in at.values() if place.lane == lane))
    width = 2 * LEFT + COLUMN * max((place.column + 1 for place in at.values()), default=1)
    height = y + 4
    corners = {
        number: (LEFT + COLUMN * place.column + 4.0, tops[place.lane] + TOP + ROW * place.row)
        for number, place in at.items()
    }
    bands = [
        _band(lane, tops[lane], [*tops.values(), y][i + 1] - tops[lane] - 6, width) for i, lane in enumerate(lanes)
    ]
    arrows = [
        _arrow(source, step, corners[source.number], corners[step.number])
        for step in steps
        for source in dict.fromkeys(step.inputs)
        if isinstance(source, Step) and source.number in corners
    ]
    nodes = [_node(step, *corners[step.number]) for step in steps]
    title = _title(steps)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" width="{width}" '
        f'height="{height:g}" viewBox="0 0 {width} {height:g}" font-family="Helvetica, Arial, sans-serif">'
        f"<title>{escape(title)}</title><desc>{escape(words)}</desc>"
        f"<defs>{''.join(map(_arrowhead, lanes))}</defs>"
        f'<rect width="100%" height="100%" fill="{PAPER}"/>{"".join([*bands, *arrows, *nodes])}</svg>\n'
    )


def _band(lane: int, top: float, height: float, width: float) -> str:
    mark, arrow = colour(lane), "←" if lane % 2 else "→"
    return (
        f'<rect x="6" y="{top:g}" width="{width - 12:g}" height="{height:g}" rx="8" fill="{_tint(lane, 0.06)}"/>'
        f'<rect x="6" y="{top:g}" width="5" height="{height:g}" fill="{mark}"/>'
        f'<text x="20" y="{top + 18:g}" font-size="13" font-weight="bold" fill="{INK}">{arrow} '
        f"{order_in_words(lane)}</text>"
    )


def _node(step: Step, x: float, y: float) -> str:
    """A rounded box forward; backward one that points to where its lane goes, dashed from order 2 on."""
    mark, right, bottom, middle = colour(step.order), x + WIDTH, y + HEIGHT, y + HEIGHT / 2
    paint = f'fill="{_tint(step.order, 0.2)}" stroke="{mark}" stroke-width="1.6"'
    if step.order == 0:
        outline = f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="9" {paint}/>'
    else:
        points = [(x, y), (right, y), (right + TIP, middle), (right, bottom), (x, bottom)]
        if step.order % 2:
            points = [(right, y), (x, y), (x - TIP, middle), (x, bottom), (right, bottom)]
        dashes = ' stroke-dasharray="5 2.5"' if step.order > 1 else ""
        outline = f'<polygon points="{" ".join(f"{a:g},{b:g}" for a, b in points)}" {paint}{dashes}/>'
    low, mean, high = statistics(step)
    told = (
        f"{step.label} {step.name}: {step.formula}\n{step.dtype} {step.shape}, {order_in_words(step.order)}"
        + (f", by the rule of #{step.rule_of}" if step.rule_of is not None else "")
        + f"\nmin {low}, mean {mean}, max {high}"
    )
    size = "×".join(map(str, step.shape)) or "a number"
    return (
        f"<g><title>{escape(told)}</title>{outline}{_given(step, x, y)}"
        f'<text x="{x + WIDTH / 2:g}" y="{y + 15:g}" text-anchor="middle" font-size="11" font-weight="bold" '
        f'fill="{INK}">{escape(step.name)}</text>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 28:g}" text-anchor="middle" font-size="10" fill="{INK}">'
        f"{step.label} · {size}</text></g>"
    )


def _given(step: Step, x: float, y: float) -> str:
    """The inputs that no step made, as small boxes on the node's upper edge."""
    boxes = []
    for given in dict.fromkeys(i for i in step.inputs if isinstance(i, Given)):
        text = given.label if len(given.label) <= LETTERS else given.label[: LETTERS - 1] + "…"
        width = 5.2 * len(text) + 8
        boxes.append(
            f'<rect x="{x + 4:g}" y="{y - 15:g}" width="{width:g}" height="13" rx="6" fill="{PAPER}" '
            f'stroke="{INK}" stroke-width="0.8"/>'
            f'<text x="{x + 4 + width / 2:g}" y="{y - 5.5:g}" text-anchor="middle" font-size="9" fill="{INK}">'
            f"{escape(text)}</text>"
        )
        x += width + 4
    return "".join(boxes)


def _arrow(source: Step, step: Step, start: tuple[float, float], end: tuple[float, float]) -> str:
    """Solid within a lane; thin and dotted from one lane to a deeper one, which uses what was computed there."""
    (x0, y0), (x1, y1) = start, end
    middle0, middle1 = y0 + HEIGHT / 2, y1 + HEIGHT / 2
    style = 'stroke-width="1.8"'
    if source.order != step.order:
        x0, y0, x1, y1 = x0 + WIDTH / 2, y0 + HEIGHT, x1 + WIDTH / 2, y1 - 3
        bend = min(60.0, (y1 - y0) / 2)
        path = f"M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}"
        style = 'stroke-width="1" stroke-dasharray="2 3" opacity="0.55"'
    elif x0 == x1 and y1 - y0 > ROW:  # around the nodes between
        x0, out = (x0 + 6, -30) if step.order % 2 else (x0 + WIDTH - 6, 30)
        bends = f"{x0 + out:g},{middle0 + 30:g} {x0 + out:g},{middle1 - 30:g}"
        path = f"M{x0:g},{y0 + HEIGHT:g} C{bends} {x0:g},{y1 - 3:g}"
    elif x0 == x1:
        path = f"M{x0 + WIDTH / 2:g},{y0 + HEIGHT:g} L{x1 + WIDTH / 2:g},{y1 - 3:g}"
    else:
        left, right = (TIP if step.order % 2 else 0), (TIP if step.order and step.order % 2 == 0 else 0)
        ahead = x1 > x0
        x0, x1 = (x0 + WIDTH + right, x1 - left - 3) if ahead else (x0 - left, x1 + WIDTH + right + 3)
        bend = max(12.0, abs(x1 - x0) / 2) * (1 if ahead else -1)
        over = ROW * 0.55 if abs(x1 - x0) > COLUMN and y0 == y1 else 0  # over the nodes between
        path = (
            f"M{x0:g},{middle0:g} C{x0 + bend:g},{middle0 - over:g} {x1 - bend:g},{middle1 - over:g} {x1:g},{middle1:g}"
        )
    mark = colour(source.order)
    return f'<path d="{path}" fill="none" stroke="{mark}" {style} marker-end="url(#{_head(source.order)})"/>'


def _head(lane: int) -> str:
    return f"minidbp-arrow-{colour(lane)[1:]}"  # the same in every drawing of a page, where ids are shared


def _arrowhead(lane: int) -> str:
    return (
        f'<marker id="{_head(lane)}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{colour(lane)}"/></marker>'
    )


def _tint(lane: int, strength: float) -> str:
    """The lane's colour, mixed into white."""
    rgb = (int(colour(lane)[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + strength * (value - 255)):02x}" for value in rgb)

"""A drawing of a trace: SVG, with a row for each order.

Forward steps stand from left to right.  The steps of a rule stand below the step whose rule it is, in the row of their
order.  So the backward pass runs from right to left, and the backward of the backward from left to right again.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from minidbp.files.atomic import write_text
from minidbp.inspection.steps import Leaf, Step, count_by_order, order_in_words
from minidbp.inspection.table import colour

# All lengths are in pixels.
BOX_WIDTH, BOX_HEIGHT = 108, 36
COLUMN, LINE = 132, 66  # from one box to the next, across and down
LEFT, TOP = 28, 46  # of the first box in its row; the row's title stands above it
POINT = 9  # how far the box of a backward pass points to the side
INK, PAPER = "#222222", "#ffffff"
PALE = 0.2  # the opacity of a step that is still to come
MAX_LABEL = 16  # letters of an input's label

Point = tuple[float, float]


class Position(NamedTuple):
    """Where a step stands: in the row of its order, which may have several lines."""

    column: int
    order: int
    line: int


class Graph:
    """A drawing of steps.  A notebook shows it, `save` writes it, and its repr describes it in words.

    If there is a current step, it is framed, steps with a higher number are pale, and the words leave these out.
    """

    def __init__(self, steps: Sequence[Step], current: int | None = None) -> None:
        self.steps, self.current = list(steps), current

    def save(self, path: str | Path) -> None:
        """Write the drawing to `path` as SVG, whole or not at all.  Raises OSError."""
        write_text(Path(path), self._repr_svg_())

    def __repr__(self) -> str:
        lines = [self._title()]
        seen = [step for step in self.steps if not self._is_later(step)]
        for order in sorted({step.order for step in seen}):
            names = [f"#{step.number} {step.name}" for step in seen if step.order == order]
            direction = "from right to left" if order % 2 else "from left to right"
            lines.append(f"{order_in_words(order)}, {direction}: {', '.join(names)}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """The drawing for notebooks; its words become the alternative text on pages that are made of them."""
        drawing = self._repr_svg_()
        page = f'<div style="overflow-x:auto">{drawing}</div>'  # a long drawing is scrolled, not made small
        data = {"text/html": page, "image/svg+xml": drawing, "text/plain": repr(self)}
        return data, {"image/svg+xml": {"alt": repr(self)}}

    def _repr_svg_(self) -> str:
        at = positions(self.steps)
        lines = {
            order: 1 + max(p.line for p in at.values() if p.order == order)
            for order in sorted({p.order for p in at.values()})
        }
        width = 2 * LEFT + COLUMN * max((p.column + 1 for p in at.values()), default=1)
        tops, bands, y = {}, [], 8.0
        for order, n in lines.items():
            tops[order], height = y, TOP + LINE * n
            bands.append(_band(order, y, width, height - 6))
            y += height
        corners = {n: (LEFT + COLUMN * p.column + 4.0, tops[p.order] + TOP + LINE * p.line) for n, p in at.items()}
        arrows = [
            self._shaded(step, _arrow(source, step, corners[source.number], corners[step.number]))
            for step in self.steps
            for source in dict.fromkeys(step.inputs)
            if isinstance(source, Step) and source.number in corners
        ]
        boxes = [self._shaded(step, _box(step, *corners[step.number])) for step in self.steps]
        frames = [_frame(*corners[step.number]) for step in self.steps if step.number == self.current]
        title = escape(self._title())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" width="{width}" '
            f'height="{y + 4:g}" viewBox="0 0 {width} {y + 4:g}" font-family="Helvetica, Arial, sans-serif">'
            f"<title>{title}</title><desc>{escape(repr(self))}</desc><defs>{''.join(map(_arrowhead, lines))}</defs>"
            f'<rect width="100%" height="100%" fill="{PAPER}"/>{"".join([*bands, *arrows, *frames, *boxes])}</svg>\n'
        )

    def _title(self) -> str:
        current = "".join(f"; now {step.headline()}" for step in self.steps if step.number == self.current)
        return f"Drawing of {count_by_order(self.steps)}{current}"

    def _is_later(self, step: Step) -> bool:
        return self.current is not None and step.number > self.current

    def _shaded(self, step: Step, drawing: str) -> str:
        return f'<g opacity="{PALE}">{drawing}</g>' if self._is_later(step) else drawing


def positions(steps: Sequence[Step]) -> dict[int, Position]:
    """The position of each step, by its number.

    The walks through one row, such as the way back through J and the one through the cross-entropy, stand one below
    the other.
    """
    columns, walks = _columns(steps), _walks(steps)
    result: dict[int, Position] = {}
    used: Counter[tuple[int, int]] = Counter()  # lines, by order and column
    for walk in dict.fromkeys(walks.values()):
        members = [step for step in steps if walks[step.number] == walk]
        order, across = members[0].order, [columns[step.number] for step in members]
        first_line = max(used[order, column] for column in range(min(across), max(across) + 1))
        for step, column in zip(members, across, strict=True):
            line = max(first_line, used[order, column])
            result[step.number] = Position(column, order, line)
            used[order, column] = line + 1
    return result


def _columns(steps: Sequence[Step]) -> dict[int, int]:
    """Each step's column: forward steps count up, a rule's steps stand below its step, others beside their inputs."""
    columns: dict[int, int] = {}
    forward = 0
    for step in steps:
        inputs = [i for i in step.inputs if isinstance(i, Step) and i.number in columns]
        near = [columns[i.number] for i in inputs if i.order == step.order] or [columns[i.number] for i in inputs]
        if step.order == 0:
            columns[step.number], forward = forward, forward + 1
        elif step.rule_of in columns:
            columns[step.number] = columns[step.rule_of]
        elif step.order % 2:  # to the left, if need be past the beginning of the forward pass
            columns[step.number] = min(near, default=0) - 1
        else:
            columns[step.number] = max(near, default=0) + 1
    first = min(columns.values(), default=0)
    return {number: column - first for number, column in columns.items()}


def _walks(steps: Sequence[Step]) -> dict[int, int]:
    """The walk through its row that each step belongs to: that of its rule's inputs in this row, or a new one."""
    walks: dict[int, int] = {}
    for (order, _), group in groupby(steps, lambda s: (s.order, ~s.number if s.rule_of is None else s.rule_of)):
        members = list(group)
        inputs = [i for step in members for i in step.inputs if isinstance(i, Step) and i.order == order]
        walk = min((walks[i.number] for i in inputs if i.number in walks), default=members[0].number)
        walks.update((step.number, walk if order else -1) for step in members)
    return walks


def _band(order: int, top: float, width: float, height: float) -> str:
    """The ground and the title of a row."""
    title = f"{'←' if order % 2 else '→'} {order_in_words(order)}"
    return (
        f'<rect x="6" y="{top:g}" width="{width - 12:g}" height="{height:g}" rx="8" fill="{_tint(order, 0.06)}"/>'
        f'<rect x="6" y="{top:g}" width="5" height="{height:g}" fill="{colour(order)}"/>'
        + _text(20, top + 18, title, 'font-size="13" font-weight="bold"')
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" {style} fill="{INK}">{escape(text)}</text>'


def _box(step: Step, x: float, y: float) -> str:
    """A step: forward a rounded box; backward one that points in the row's direction, dashed from order 2 on."""
    right, bottom, middle = x + BOX_WIDTH, y + BOX_HEIGHT, y + BOX_HEIGHT / 2
    paint = f'fill="{_tint(step.order, 0.2)}" stroke="{colour(step.order)}" stroke-width="1.6"'
    if step.order == 0:
        outline = f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="9" {paint}/>'
    else:
        points = [(x, y), (right, y), (right + POINT, middle), (right, bottom), (x, bottom)]
        if step.order % 2:
            points = [(right, y), (x, y), (x - POINT, middle), (x, bottom), (right, bottom)]
        dashes = ' stroke-dasharray="5 2.5"' if step.order > 1 else ""
        outline = f'<polygon points="{" ".join(f"{a:g},{b:g}" for a, b in points)}" {paint}{dashes}/>'
    low, mean, high = step.statistics()
    rule_of = f", by the rule of #{step.rule_of}" if step.rule_of is not None else ""
    tooltip = (
        f"{step.label} {step.name}: {step.formula}\n{step.dtype} {step.shape}, {order_in_words(step.order)}{rule_of}\n"
        f"min {low}, mean {mean}, max {high}"
    )
    size = "×".join(map(str, step.shape)) or "a number"
    name = _text(x + BOX_WIDTH / 2, y + 15, step.name, 'text-anchor="middle" font-size="11" font-weight="bold"')
    label = _text(x + BOX_WIDTH / 2, y + 28, f"{step.label} · {size}", 'text-anchor="middle" font-size="10"')
    return f"<g><title>{escape(tooltip)}</title>{outline}{_leaves(step, x, y)}{name}{label}</g>"


def _frame(x: float, y: float) -> str:
    """Around the current step, with room for what points to a side."""
    far = POINT + 3
    return (
        f'<rect x="{x - far:g}" y="{y - 5:g}" width="{BOX_WIDTH + 2 * far}" height="{BOX_HEIGHT + 10}" rx="6" '
        f'fill="none" stroke="{INK}" stroke-width="2.5"/>'
    )


def _leaves(step: Step, x: float, y: float) -> str:
    """The inputs that no step made, as small boxes on the upper edge of the step's box."""
    parts = []
    for leaf in dict.fromkeys(i for i in step.inputs if isinstance(i, Leaf)):
        text = leaf.label if len(leaf.label) <= MAX_LABEL else leaf.label[: MAX_LABEL - 1] + "…"
        width = 5.2 * len(text) + 8
        parts.append(
            f'<rect x="{x + 4:g}" y="{y - 15:g}" width="{width:g}" height="13" rx="6" fill="{PAPER}" '
            f'stroke="{INK}" stroke-width="0.8"/>'
        )
        parts.append(_text(x + 4 + width / 2, y - 5.5, text, 'text-anchor="middle" font-size="9"'))
        x += width + 4
    return "".join(parts)


def _arrow(source: Step, step: Step, start: Point, end: Point) -> str:
    """Solid within a row; thin and dotted from one row to a deeper one, which uses what was computed there."""
    (x0, y0), (x1, y1) = start, end
    style = 'stroke-width="1.8"'
    if source.order != step.order:
        x0, y0, x1, y1 = x0 + BOX_WIDTH / 2, y0 + BOX_HEIGHT, x1 + BOX_WIDTH / 2, y1 - 3
        bend = min(60.0, (y1 - y0) / 2)
        path = f"M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}"
        style = 'stroke-width="1" stroke-dasharray="2 3" opacity="0.55"'
    elif x0 != x1:
        path = _side_arrow(step.order, start, end)
    elif y1 - y0 > LINE:  # around the boxes between
        x0, out = (x0 + 6, -30) if step.order % 2 else (x0 + BOX_WIDTH - 6, 30)
        bends = f"{x0 + out:g},{y0 + BOX_HEIGHT / 2 + 30:g} {x0 + out:g},{y1 + BOX_HEIGHT / 2 - 30:g}"
        path = f"M{x0:g},{y0 + BOX_HEIGHT:g} C{bends} {x0:g},{y1 - 3:g}"
    else:
        path = f"M{x0 + BOX_WIDTH / 2:g},{y0 + BOX_HEIGHT:g} L{x1 + BOX_WIDTH / 2:g},{y1 - 3:g}"
    return (
        f'<path d="{path}" fill="none" stroke="{colour(source.order)}" {style} '
        f'marker-end="url(#{_arrow_id(source.order)})"/>'
    )


def _side_arrow(order: int, start: Point, end: Point) -> str:
    """The path from side to side of two boxes of a row, over the boxes between."""
    (x0, y0), (x1, y1) = start, end
    left, right = (POINT if order % 2 else 0), (POINT if order and order % 2 == 0 else 0)
    ahead = x1 > x0
    x0, x1 = (x0 + BOX_WIDTH + right, x1 - left - 3) if ahead else (x0 - left, x1 + BOX_WIDTH + right + 3)
    bend = max(12.0, abs(x1 - x0) / 2) * (1 if ahead else -1)
    over = LINE * 0.55 if abs(x1 - x0) > COLUMN and y0 == y1 else 0
    y0, y1 = y0 + BOX_HEIGHT / 2, y1 + BOX_HEIGHT / 2
    return f"M{x0:g},{y0:g} C{x0 + bend:g},{y0 - over:g} {x1 - bend:g},{y1 - over:g} {x1:g},{y1:g}"


def _arrow_id(order: int) -> str:
    return f"minidbp-arrow-{colour(order)[1:]}"  # the same in every drawing of a page, where ids are shared


def _arrowhead(order: int) -> str:
    return (
        f'<marker id="{_arrow_id(order)}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{colour(order)}"/></marker>'
    )


def _tint(order: int, strength: float) -> str:
    """The colour of an order, mixed into white."""
    rgb = (int(colour(order)[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + strength * (value - 255)):02x}" for value in rgb)

"""The picture of the package's rooms in docs/architecture.md, drawn from the code's own imports and docstrings.

`python docs/site/rooms.py` writes docs/pictures/rooms.svg.  A test fails if that picture is not what the code says.
"""

import ast
import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
LEFT, ROW, TOP = 330, 40, 16  # where names begin, from room to room, above the first; pixels
INK, GREY, LINE, PAPER = "#222222", "#555555", "#0072B2", "#ffffff"


def rooms() -> list[str]:
    """The folders of the package from top to bottom, in the order that the import linter holds them to."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [room for layer in layers for room in layer.split(" | ")]


def sources(room: str) -> list[str]:
    """The text of each module of a room, `__init__` first."""
    return [file.read_text(encoding="utf-8") for file in sorted((ROOT / "minidbp" / room).rglob("*.py"))]


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports from, within functions too."""
    edges: dict[str, set[str]] = {}
    for room in rooms():
        names: set[str] = set()
        for node in (node for text in sources(room) for node in ast.walk(ast.parse(text))):
            if isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        edges[room] = {name.split(".")[1] for name in names if name.startswith("minidbp.")} & set(rooms()) - {room}
    return edges


def without_shortcuts(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The edges without those that a longer path implies: if a imports b, and b imports c, then a-c is left out."""

    def reachable(room: str) -> set[str]:
        return edges[room].union(*(reachable(other) for other in edges[room]))

    return {room: {o for o in others if not any(o in reachable(p) for p in others)} for room, others in edges.items()}


def purpose(room: str) -> str:
    """The first sentence of the room's docstring."""
    return re.split(r"(?<=[.])\s", (ast.get_docstring(ast.parse(sources(room)[0])) or "") + " ")[0].replace("`", "")


def svg() -> str:
    """The rooms in a column, the highest first; an arrow leads from a room down to each room that it imports from."""
    order, edges = rooms(), without_shortcuts(imports())
    y = {room: TOP + ROW * k + ROW // 2 for k, room in enumerate(order)}
    height = 2 * TOP + ROW * len(order)
    width = LEFT + 110 + 7 * max(len(purpose(room)) for room in order)  # a letter is at most 7 pixels wide on average
    in_words = "; ".join(f"{room} imports from {', '.join(sorted(edges[room]))}" for room in order if edges[room])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
        f"<title>The rooms of minidbp and their imports</title><desc>{escape(in_words)}</desc>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    for room in order:
        for other in sorted(edges[room]):
            start, end = y[room] + 6, y[other] - 6
            reach = LEFT - 20 - min(300, 16 + (end - start) * 3 // 5)
            parts.append(
                f'<path d="M{LEFT - 12},{start} C{reach},{start} {reach},{end} {LEFT - 12},{end}" fill="none" '
                f'stroke="{LINE}" stroke-width="1.3" marker-end="url(#tip)"/>'
            )
        parts.append(
            f'<text x="{LEFT}" y="{y[room] + 5}" font-size="15" font-weight="bold" fill="{INK}">{room}</text>'
            f'<text x="{LEFT + 110}" y="{y[room] + 5}" font-size="13" fill="{GREY}">{escape(purpose(room))}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")

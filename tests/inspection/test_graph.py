"""The drawing of a trace: where each step stands, and that it is well-formed and told in words."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import minidbp as mdb
from minidbp import Tensor
from minidbp.inspection.graph import positions

SVG = "{http://www.w3.org/2000/svg}"


def toy() -> mdb.Trace:
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(4, 3)), requires_grad=True, name="x")
    w = Tensor(rng.normal(size=(3, 2)), requires_grad=True, name="W<1>")
    with mdb.trace() as t:
        (J,) = mdb.grad(mdb.relu(x @ w).sum(), x, create_graph=True)
        mdb.grad(mdb.abs(J).sum(), w)
    return t


def test_the_backward_pass_runs_to_the_left_below_and_the_next_one_to_the_right() -> None:
    """matmul, relu, sum; the rules of sum (reshape, broadcast_to), relu (masked), matmul (transpose, matmul), ..."""
    at = positions(list(toy()))
    assert [at[n][:2] for n in range(16)] == [
        (2, 0), (3, 0), (4, 0),
        (4, 1), (4, 1), (3, 1), (2, 1), (2, 1), (1, 1), (0, 1),
        (0, 2), (0, 2), (1, 2), (2, 2), (2, 2), (2, 2),
    ]  # fmt: skip
    assert [at[n].line for n in range(16)] == [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 2]
    assert len(set(at.values())) == len(at)  # no two in one place


def test_sweeps_through_one_row_do_not_mix() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    with mdb.trace() as t:
        y = mdb.exp(x).sum()
        for _ in range(2):
            mdb.grad(y, x)
    at = positions(list(t))
    first, second = [s.number for s in t[2:5]], [s.number for s in t[5:8]]
    assert max(at[n].line for n in first) < min(at[n].line for n in second)
    assert [at[n].column for n in first] == [at[n].column for n in second]


def test_a_name_of_any_characters_is_well_formed() -> None:
    with mdb.trace() as t:
        mdb.exp(Tensor([1.0, 2.0], requires_grad=True, name="a\x1b\n</svg>"))
    root = ET.fromstring(t.graph()._repr_svg_())
    assert "a??</svg>" in "".join(root.itertext())


def test_the_picture_is_well_formed_and_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    t = toy()
    graph = t.graph()
    graph.save(tmp_path / "graph.svg")
    root = ET.parse(tmp_path / "graph.svg").getroot()
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Drawing of 16 steps: 3 forward, 7 backward, 6 backward of the backward"
    titles = [e.text or "" for e in root.iter(f"{SVG}title")]
    assert len(titles) == 1 + len(t)
    assert titles[1].startswith("#0 matmul: x @ W<1>\nfloat64 (4, 2), forward\nmin ")
    assert "by the rule of #0" in titles[1 + 7]
    texts = [e.text for e in root.iter(f"{SVG}text")]
    for words in "→ forward", "← backward", "→ backward of the backward", "x", "W<1>", "#7 · 4×3", "#2 · a number":
        assert words in texts
    arrows = [e for e in root.iter(f"{SVG}path") if e.get("marker-end")]
    assert len(arrows) == len({(i.label, s.label) for s in t for i in s.inputs if i.label.startswith("#")})
    assert root.find(f"{SVG}desc").text == repr(graph)  # type: ignore[union-attr]
    assert "backward, from right to left: #3 reshape, #4 broadcast_to, #5 masked" in repr(graph)
    data, metadata = graph._repr_mimebundle_()
    assert data["image/svg+xml"] == graph._repr_svg_()
    assert graph._repr_svg_() in data["text/html"]
    assert metadata["image/svg+xml"]["alt"] == data["text/plain"] == repr(graph)


def test_a_slider_shows_one_step_after_the_other() -> None:
    t = toy()
    whole, half = (ET.fromstring(graph._repr_svg_()) for graph in (t.graph(), t.graph(upto=7)))
    assert [whole.get(name) for name in ("width", "height")] == [half.get(name) for name in ("width", "height")]
    pale = [e for e in half.iter(f"{SVG}g") if e.get("opacity")]
    boxes = ["".join(e.itertext()).split(" ")[0] for group in pale for e in group.iter(f"{SVG}g") if e is not group]
    assert boxes == [f"#{n}" for n in range(8, 16)]  # and the arrows to them
    arrows = len([e for e in whole.iter(f"{SVG}path") if e.get("marker-end")])
    assert len(pale) == len(boxes) + len([g for g in pale if g[0].tag == f"{SVG}path"])
    assert arrows == len([e for e in half.iter(f"{SVG}path") if e.get("marker-end")])
    words = repr(t.graph(upto=7))
    assert words.splitlines()[0].endswith("; now #7  matmul  #5 @ #6  (backward, by the rule of #0)")
    assert "#7 matmul" in words
    assert "#8" not in words
    assert repr(t.graph(upto=15)).splitlines()[1:] == repr(t.graph()).splitlines()[1:]


def test_a_step_that_is_not_there_is_named() -> None:
    with pytest.raises(IndexError, match="this trace has 16 steps; there is no step 16"):
        toy().graph(upto=16)


def test_shapes_and_lines_tell_the_orders_apart_without_colour() -> None:
    root = ET.fromstring(toy().graph()._repr_svg_())
    boxes = [g.find(f"{SVG}polygon") for g in root.iter(f"{SVG}g")]
    assert [box is None for box in boxes] == [True] * 3 + [False] * 13
    assert [bool(box.get("stroke-dasharray")) for box in boxes[3:] if box is not None] == [False] * 7 + [True] * 6


def test_an_empty_trace_is_an_empty_drawing() -> None:
    with mdb.trace() as t:
        pass
    assert repr(t.graph()) == "Drawing of 0 steps"
    ET.fromstring(t.graph()._repr_svg_())

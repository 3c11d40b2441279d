"""One training step taken apart, for a terminal: small pictures of half-blocks, or of characters where colours fail."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from minidbp.explain.checks import Check
from minidbp.explain.explanation import Explanation
from minidbp.explain.report import (
    CHECKED,
    PASSED,
    SPLIT,
    STEPPED,
    check_cells,
    on_the_kink,
    passed_cells,
    small,
    split_cells,
    step_rows,
    title,
    verdict,
)
from minidbp.explain.step import PROTOCOL

SHADES = " .:-=+*#%@"  # of ink
PURPLE, WHITE, ORANGE = np.array([94, 60, 153]), np.array([255, 255, 255]), np.array([230, 159, 0])
BAR = 24  # characters of the longest bar


def has_colours(console: Console) -> bool:
    """Whether pictures of coloured half-blocks will be seen as such."""
    return console.color_system is not None and not console.no_color and console.encoding.startswith("utf")


def on_screen(e: Explanation, origin: str, colours: bool) -> Iterator[RenderableType]:
    """What to print, in order: the seven steps of the page.  100 columns are enough."""
    b, x, adv = e.before, e.at_x, e.at_x_adv
    yield Text(title(e), style="bold")
    yield f"{origin} λ = {e.lam:g}, float64."

    yield _heading("1. The digit, the logits, the loss")
    yield _side_by_side([ink(x.x, colours), _logits(e)])
    yield (
        f"The model says {x.predicted}. L = {b.loss:.6f} (labels smoothed by {PROTOCOL.label_smoothing:g}), "
        f"−log p_y = {x.attacked_loss:.6f}"
    )

    yield _heading("2. Which pixels raise the loss: g = ∂(−log p_y)/∂x and FGSM's v = sign(g)")
    yield _side_by_side([signed(e.v, colours), ink(adv.x, colours)])
    yield _checks(e.checks["loss"])
    yield (
        f"ε = {PROTOCOL.eps:g}: the loss shall rise by ε‖g‖₁ = {e.promised:.4f} to first order; it rises by "
        f"{e.unclipped:.4f} at x + εv, and by {e.clipped:.4f} once that is clipped to [0, 1] (right). There the model "
        f"says {adv.predicted}."
    )

    yield _heading("3. Which pixels move which logit: J, ten rows from one pass")
    yield _ten(e.J, colours, [f"J{k} ‖·‖₁ {value:.1f}" for k, value in enumerate(e.rows)])
    yield _checks(e.checks["jacobian"])

    yield _heading("4. S = sign(J), and the penalty P, the mean of |J_ij| = S_ij J_ij")
    yield _ten(e.S, colours, [f"S{k}  {np.mean(row > 0):.0%} +1" for k, row in enumerate(e.S)])
    yield f"S has {np.sum(e.S > 0)} entries of +1, {np.sum(e.S < 0)} of −1 and {np.sum(e.S == 0)} of 0."
    yield f"P = {e.penalty:.6f}, λP = {b.weighted:.6f}, L + λP = {b.whole:.6f}"

    yield _heading("5. Two passes: V_l[k] = ∂f_k/∂z_l down from the logits, T from S up through the same masks")
    yield _table(PASSED, [passed_cells(part) for part in e.parts])
    yield _checks(e.checks["passes"])

    yield _heading("6. Each dW = dL/dW + d(λP)/dW, where d(λP)/dW_l = λ/7840 Σₖ T_(l−1)[k] ⊗ V_l[k]")
    yield _table(SPLIT, [split_cells(part) for part in e.parts])
    yield _checks(e.checks["weights"])
    yield "No bias stands in J: the penalty part of each db is exactly 0."
    yield _checks(e.checks["everywhere"])

    yield _heading("7. The step: shares of Adam's first one, and what the gradient promised")
    yield _table(STEPPED, step_rows(e))

    yield _heading("Are these numbers right?")
    yield verdict(e)
    if e.lowered:
        yield on_the_kink(e)
    yield _table(["must be equal", "relative error"], [[name, small(value)] for name, value in e.agreements.items()])


def ink(x: np.ndarray, colours: bool) -> Text:
    """An image (28, 28, 1) in [0, 1]: 28 columns, two pixels above each other in a character."""
    a = x[..., 0]
    if colours:
        return _half_blocks(np.round(255 * np.repeat(a[..., None], 3, axis=2)).astype(int))
    return _characters(a, lambda value: SHADES[min(int(value * len(SHADES)), len(SHADES) - 1)])


def signed(a: np.ndarray, colours: bool, limit: float = 1.0) -> Text:
    """An array (H, W, 1) from -limit to limit: orange below 0 and purple above; o and + where there are no colours."""
    share = np.clip(a[..., 0] / limit, -1, 1)
    if colours:
        end = np.where(share[..., None] < 0, ORANGE, PURPLE)
        return _half_blocks(np.round(WHITE + np.abs(share)[..., None] * (end - WHITE)).astype(int))
    return _characters(share, lambda value: " " if abs(value) < 0.15 else "+" if value > 0 else "o")


def _half_blocks(rgb: np.ndarray) -> Text:
    """(H, W, 3) of 0 to 255, H even: each character shows two pixels, one in its colour and one in its background."""
    text = Text()
    for top, bottom in zip(rgb[::2], rgb[1::2], strict=True):
        for over, under in zip(top, bottom, strict=True):
            text.append("▀", style=f"rgb({over[0]},{over[1]},{over[2]}) on rgb({under[0]},{under[1]},{under[2]})")
        text.append("\n")
    text.rstrip()
    return text


def _characters(a: np.ndarray, character: Any) -> Text:
    """(H, W), H even: one character for two pixels above each other, of their mean."""
    means = (a[::2] + a[1::2]) / 2
    return Text("\n".join("".join(character(value) for value in row) for row in means))


def _ten(rows: np.ndarray, colours: bool, names: Sequence[str]) -> Table:
    """Ten signed images (28, 28, 1) in two rows, each mark the mean of 2 x 2 pixels, on one scale."""
    small = rows.reshape(len(rows), 14, 2, 14, 2, 1).mean(axis=(2, 4))
    limit = float(np.quantile(np.abs(small), 0.98)) or 1.0
    grid = Table.grid(padding=(0, 2))
    for start in 0, 5:
        grid.add_row(*(_fitting(name) for name in names[start : start + 5]))
        grid.add_row(*(signed(a, colours, limit) for a in small[start : start + 5]))
    return grid


def _fitting(name: str) -> Text:
    return Text(name, no_wrap=True, style="bold")


def _side_by_side(what: Sequence[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, 4))
    grid.add_row(*what)
    return grid


def _logits(e: Explanation) -> Table:
    """A bar for each class, as long as its logit is above the smallest; the true class is marked y."""
    f, p = e.at_x.logits, e.at_x.probabilities
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in "class", "logit", "p":
        table.add_column(name, justify="right")
    table.add_column("")
    span = float(f.max() - f.min()) or 1.0
    for k in range(len(f)):
        true = k == e.label
        bar = "#" * round(BAR * float(f[k] - f.min()) / span)
        style = "bold blue" if true else ""
        table.add_row(f"{k}", f"{f[k]:.2f}", f"{p[k]:.3f}", bar + (" y" if true else ""), style=style)
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _checks(checks: Sequence[Check]) -> Table:
    return _table(CHECKED, [check_cells(check) for check in checks])

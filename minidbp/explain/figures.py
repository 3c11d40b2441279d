"""Pictures of one training step taken apart; `describe` has each in words, for who cannot see it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from minidbp.explain.explanation import Explanation
from minidbp.explain.step import norm
from minidbp.files.plots import COLOURS, GREY, SIGNS
from minidbp.nn import N_CLASSES

BLUE, ORANGE = COLOURS[0], COLOURS[4]
HEIGHTS = {"forward": 2.4, "backward": 1.2, "tangent": 0.0}
FILLS = {"forward": "white", "backward": "#CFE6F3", "tangent": "#FBE3B3"}


def digit(e: Explanation) -> Figure:
    """The image, its ten logits and its ten probabilities."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    left, *others = figure.subplots(1, 3, width_ratios=[1, 1.4, 1.4])
    _image(left, e.at_x.x, f"x: test image {e.image}, a {e.label}")
    for axes, values, name in (
        (others[0], e.at_x.logits, "logit $f_i(x)$"),
        (others[1], e.at_x.probabilities, "probability $p_i$"),
    ):
        bars = axes.bar(range(N_CLASSES), values, color=GREY, edgecolor="black")
        bars[e.label].set(facecolor=BLUE, hatch="//")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(title=name, xlabel="class $i$", ylabel=name, xticks=range(N_CLASSES))
    return figure


def attack(e: Explanation) -> Figure:
    """x, v = sign(g) and clip(x + eps v)."""
    figure = Figure(figsize=(12, 3.1), layout="constrained")
    panels = figure.subplots(1, 4)
    limit = float(np.abs(e.gradient).max()) or 1.0
    _image(panels[0], e.at_x.x, f"x: the model says {e.at_x.predicted}")
    _signed(panels[1], e.gradient, r"$g = \partial(-\log p_y)/\partial x$", limit, "PuOr", figure)
    _signed(panels[2], e.v, "v = sign(g)", 1.0, SIGNS, figure)
    _image(panels[3], e.at_x_adv.x, f"clip(x + εv): it says {e.at_x_adv.predicted}")
    return figure


def jacobian(e: Explanation) -> Figure:
    """The ten rows of J on one scale, which the few largest entries exceed."""
    limit = float(np.quantile(np.abs(e.J), 0.995)) or 1.0
    titles = [f"$\\nabla f_{k}$, norm {value:.1f}" for k, value in enumerate(e.rows)]
    return _ten(e.J, titles, r"$J_{ij}$ (logit per unit of pixel value)", limit, "PuOr")


def signs(e: Explanation) -> Figure:
    """The ten rows of S = sign(J)."""
    return _ten(e.S, [f"sign($\\nabla f_{k}$)" for k in range(N_CLASSES)], r"$S_{ij}$", 1.0, SIGNS)


def passes(e: Explanation) -> Figure:
    """A map: the image's way up, the V_l on their way down to J, the T_l up again from S, and the dW between them."""
    depth = len(e.parts)
    figure = Figure(figsize=(2.5 * depth + 2.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    lanes = {
        "forward": [("x", f"{e.at_x.x.shape}"), *((f"h{n}", "") for n in range(1, depth)), ("f", "(10,)")],
        "backward": [_boxed("J", e.J), *(_boxed(f"V{p.number}", p.V) for p in e.parts)],
        "tangent": [_boxed(f"T{p.number - 1}" + " = S" * (p.number == 1), p.T) for p in e.parts],
    }
    for lane, boxes in lanes.items():
        height = HEIGHTS[lane]
        for column, (name, shape) in enumerate(boxes):
            box = {"boxstyle": "round,pad=0.35", "facecolor": FILLS[lane], "edgecolor": "black"}
            axes.text(2 * column, height, f"{name}\n{shape}".rstrip(), ha="center", va="center", bbox=box, fontsize=9)
            if column + 1 < len(boxes):
                ends = [(2 * column + 0.62, height), (2 * column + 1.38, height)]
                to, come_from = (ends[0], ends[1]) if lane == "backward" else (ends[1], ends[0])
                axes.annotate("", to, come_from, arrowprops={"arrowstyle": "-|>", "linewidth": 1.6})
                label = f"$W_{column + 1}^T$" if lane == "backward" else f"$W_{column + 1}$"
                axes.text(2 * column + 1, height + 0.1, label, ha="center", va="bottom", fontsize=10)
        axes.text(-1.1, height, lane, ha="right", va="center", style="italic")
    for column, part in enumerate(e.parts):
        text = f"dW{part.number} from T{part.number - 1}, V{part.number}\n{part.weights.shape}"
        axes.text(2 * column + 1, -0.95, text, ha="center", va="center", fontsize=9)
    axes.text(-1.1, -0.95, "gradients", ha="right", va="center", style="italic")
    axes.annotate("", (0, 0.36), (0, 0.86), arrowprops={"arrowstyle": "-|>", "linewidth": 1.6})
    axes.text(0.1, 0.62, "sign", va="center")
    axes.set(xlim=(-2.2, 2 * depth + 0.9), ylim=(-1.3, 2.9))
    return figure


def split(e: Explanation) -> Figure:
    """For each dW the norms of its two parts and of the whole, crosses where differences say so, and the angle."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    places = [float(k) for k in range(len(e.parts))]
    series: Sequence[tuple[str, str, list[float], dict[str, Any]]] = (
        ("loss part", "‖dL/dW{}‖", [norm(p.loss_part) for p in e.parts], {"facecolor": BLUE, "hatch": "//"}),
        ("penalty part", "‖d(λP)/dW{}‖", [norm(p.penalty_part) for p in e.parts], {"facecolor": ORANGE, "hatch": ".."}),
        (
            "both together",
            "‖dW{}‖, both together",
            [norm(p.whole) for p in e.parts],
            {"facecolor": "white", "hatch": ""},
        ),
    )
    for shift, (name, quantity, values, style) in zip((-0.27, 0.0, 0.27), series, strict=True):
        axes.bar([place + shift for place in places], values, 0.25, label=name, edgecolor="black", **style)
        found = {c.quantity: c.difference for c in e.checks["weights"]}
        crosses = [found[quantity.format(p.number)] for p in e.parts]
        there = [(x + shift, value) for x, value in zip(places, crosses, strict=True) if value is not None]
        if there:
            axes.plot(
                *zip(*there, strict=True), "x", color="black", markersize=9, markeredgewidth=2,
                label="by differences" if name == "loss part" else None,
            )  # fmt: skip
    top = max(max(values) for _, _, values, _ in series) or 1.0
    for k, (place, part) in enumerate(zip(places, e.parts, strict=True)):
        height = max(values[k] for _, _, values, _ in series)
        text = "" if part.cosine is None else f"cos {part.cosine:+.2f}"
        axes.text(place, height + 0.02 * top, text, ha="center", va="bottom")
    names = [f"dW{p.number}\n{p.weights.shape}" for p in e.parts]
    axes.set_xticks(places, names)
    axes.set(xlabel="layer", ylabel="Euclidean norm of the gradient", ylim=(0, 1.12 * top))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def unit(e: Explanation) -> Figure:
    """The weights into the first layer's unit with the largest penalty part, and what each part adds, as images."""
    first, chosen = e.parts[0], strongest(e)
    side = 28 if first.weights.ndim == 2 else first.weights.shape[0]
    what = "unit" if first.weights.ndim == 2 else "filter"
    figure = Figure(figsize=(12, 3.1), layout="constrained")
    shown = (
        (first.weights, f"W1, {what} {chosen}"),
        (first.loss_part, "loss part of dW1"),
        (first.penalty_part, "penalty part of dW1"),
        (first.whole, "both together"),
    )
    for axes, (array, title) in zip(figure.subplots(1, 4), shown, strict=True):
        image = array[..., chosen].reshape(side, side)
        _signed(axes, image, title, float(np.abs(image).max()) or 1.0, "PuOr", figure)
        if what == "filter":
            axes.set(xlabel="column of the filter", ylabel="row of the filter")
    return figure


def strongest(e: Explanation) -> int:
    """The first layer's unit or filter whose weights get the largest penalty part."""
    first = e.parts[0].penalty_part
    return int(np.argmax(np.linalg.norm(first.reshape(-1, first.shape[-1]), axis=0)))


FIGURES: Mapping[str, Callable[[Explanation], Figure]] = {
    "digit.png": digit,
    "attack.png": attack,
    "jacobian.png": jacobian,
    "signs.png": signs,
    "passes.png": passes,
    "split.png": split,
    "unit.png": unit,
}


def describe(e: Explanation) -> dict[str, str]:
    """Each of FIGURES in words."""
    x, adv = e.at_x, e.at_x_adv
    order = np.argsort(-e.rows)
    up = 100 * np.mean(e.S > 0)
    parts = "; ".join(
        f"dW{p.number}: loss part {norm(p.loss_part):.3g}, penalty part {norm(p.penalty_part):.3g}, both together "
        f"{norm(p.whole):.3g}"
        for p in e.parts
    )
    what = "hidden unit" if e.parts[0].weights.ndim == 2 else "filter"
    return {
        "digit.png": f"The digit, a {e.label}, and bars of its ten logits and ten probabilities, that of the true "
        f"class blue and hatched. The largest logit is that of {x.predicted}, {x.logits.max():.2f}; the true class has "
        f"{x.logits[e.label]:.2f} and the probability {x.probabilities[e.label]:.3f}",
        "attack.png": "Four images: the digit; the loss's derivative in each pixel, purple where more ink raises it "
        "and orange where it lowers it; its sign, in these two colours only, like coarse noise; the attacked digit, "
        f"grey and speckled, of which the model says {adv.predicted}",
        "jacobian.png": "The ten rows of J as images on one scale, purple where more ink raises that logit, orange "
        f"where it lowers it. The largest norm has row {order[0]}, {e.rows[order[0]]:.1f}, the smallest row "
        f"{order[-1]}, {e.rows[order[-1]]:.1f}",
        "signs.png": f"The signs of the ten rows, in two colours only: {up:.0f}% of the entries are purple, +1, the "
        "others orange, -1, or white, 0. Large and small derivatives count alike",
        "passes.png": "A map of boxes joined by arrows. Top row, from left to right: from x through the hidden layers "
        "to the logits f. Middle row, from right to left: the V from the logits down to J. Bottom row, from left to "
        "right: the T, from S, the sign of J, up again. Under each gap the dW that comes of the T on its left and the "
        "V on its right",
        "split.png": f"Bars of the norms of each layer's gradient, with crosses by differences on top. {parts}",
        "unit.png": f"Four small images of the weights of {what} {strongest(e)} of layer 1: the weights, the loss part "
        "of their gradient, its penalty part, and both together, each on its own scale",
    }


def _boxed(name: str, array: np.ndarray) -> tuple[str, str]:
    return name, f"{array.shape}\nnorm {norm(array):.3g}"


def _image(axes: Axes, x: np.ndarray, title: str) -> None:
    axes.imshow(x[..., 0], cmap="gray_r", vmin=0, vmax=1)
    _pixels(axes, title, x.shape[0])


def _signed(axes: Axes, a: np.ndarray, title: str, limit: float, cmap: str | ListedColormap, figure: Figure) -> None:
    drawn = axes.imshow(a.reshape(a.shape[:2]), cmap=cmap, vmin=-limit, vmax=limit)
    figure.colorbar(drawn, ax=axes, shrink=0.75, ticks=[-limit, 0, limit], format="%.2g")
    _pixels(axes, title, a.shape[0])


def _pixels(axes: Axes, title: str, side: int) -> None:
    ticks = [0, side // 2, side - 1]
    axes.set_title(title, fontsize=11)
    axes.set(xlabel="pixel column", ylabel="pixel row", xticks=ticks, yticks=ticks)


def _ten(rows: np.ndarray, titles: list[str], label: str, limit: float, cmap: str | ListedColormap) -> Figure:
    figure = Figure(figsize=(12, 5.3), layout="constrained")
    panels = figure.subplots(2, 5, sharex=True, sharey=True)
    for axes, row, title in zip(panels.flat, rows, titles, strict=True):
        drawn = axes.imshow(row[..., 0], cmap=cmap, vmin=-limit, vmax=limit)
        axes.set_title(title, fontsize=11)
        axes.set(xticks=[0, 14, 27], yticks=[0, 14, 27])
    figure.supxlabel("pixel column")
    figure.supylabel("pixel row")
    beyond = "both" if np.abs(rows).max() > limit else "neither"
    figure.colorbar(drawn, ax=panels, label=label, shrink=0.8, extend=beyond, ticks=[-limit, 0, limit], format="%.2g")
    return figure

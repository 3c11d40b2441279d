"""Pictures of an explanation; `describe` has the alternative text of each."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from minidbp.explain.explanation import Explanation
from minidbp.explain.step import norm
from minidbp.files.plots import COLOURS, GREY, SIGNS, as_picture, image_grid

MOST_ROWS = 20  # of J in a picture
BLUE, ORANGE = COLOURS[0], COLOURS[4]
PASSES = {"forward": (2.4, "white"), "backward": (1.2, "#CFE6F3"), "tangent": (0.0, "#FBE3B3")}  # height and fill
PARTS = {  # of a gradient: in the legend, by its comparison, and its bar's colour and hatching
    "loss_part": ("loss part", "‖dL/dW{}‖", BLUE, "//"),
    "penalty_part": ("penalty part", "‖d(λP)/dW{}‖", ORANGE, ".."),
    "whole": ("both together", "‖dW{}‖, both together", "white", ""),
}


def digit(e: Explanation) -> Figure:
    """The image, its logits and its probabilities."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    left, *others = figure.subplots(1, 3, width_ratios=[1, 1.4, 1.4])
    _show(left, e.at_x.x, f"x: test image {e.image}, {e.named(e.label)}")
    named = {"logit $f_i(x)$": e.at_x.logits, "probability $p_i$": e.at_x.probabilities}
    for axes, (name, values) in zip(others, named.items(), strict=True):
        bars = axes.bar(range(len(values)), values, color=GREY, edgecolor="black")
        bars[e.label].set(facecolor=BLUE, hatch="//")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(title=name, xlabel="class $i$", ylabel=name)
        if len(values) <= MOST_ROWS:
            axes.set_xticks(range(len(values)))
    return figure


def attack(e: Explanation) -> Figure:
    """x, v = sign(g) and clip(x + eps v)."""
    figure = Figure(figsize=(12, 3.1), layout="constrained")
    panels = figure.subplots(1, 4)
    _show(panels[0], e.at_x.x, f"x: the model says {e.answer(e.at_x)}")
    _show(panels[1], e.gradient, r"$g = \partial(-\log p_y)/\partial x$", "PuOr")
    _show(panels[2], e.v, "v = sign(g)", SIGNS)
    _show(panels[3], e.at_x_adv.x, f"clip(x + εv): it says {e.answer(e.at_x_adv)}")
    return figure


def jacobian(e: Explanation) -> Figure:
    """The rows of J on one scale; the largest 0.5% of the entries lie beyond it."""
    limit = float(np.quantile(np.abs(e.J), 0.995)) or 1.0
    titles = [f"$\\nabla f_{{{k}}}$, norm {value:.1f}" for k, value in enumerate(e.rows[:MOST_ROWS])]
    label = r"$J_{ij}$ (logit per unit of pixel value)"
    arrays = [mean_of_channels(row) for row in e.J[:MOST_ROWS]]
    return image_grid(arrays, titles, label, limit=limit, rows=-(-len(arrays) // 5), ticks=[-limit, 0, limit])


def signs(e: Explanation) -> Figure:
    """The rows of S = sign(J)."""
    arrays = [np.sign(mean_of_channels(row)) for row in e.S[:MOST_ROWS]]
    titles = [f"sign($\\nabla f_{{{k}}}$)" for k in range(len(arrays))]
    rows = -(-len(arrays) // 5)
    return image_grid(arrays, titles, r"$S_{ij}$", limit=1.0, rows=rows, cmap=SIGNS, ticks=[-1, 0, 1])


def passes(e: Explanation) -> Figure:
    """A map: the image's way up, the V_l down from the logits to J, the T_l up again from S, and each dW."""
    depth = len(e.layers)
    figure = Figure(figsize=(2.5 * depth + 2.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    arrow = {"arrowstyle": "-|>", "linewidth": 1.6}
    rows = {
        "forward": [f"x\n{e.at_x.x.shape}", *(f"h{n}" for n in range(1, depth)), f"f\n({len(e.J)},)"],
        "backward": [_boxed("J", e.J), *(_boxed(f"V{p.number}", p.V) for p in e.layers)],
        "tangent": [_boxed(f"T{p.number - 1}" + " = S" * (p.number == 1), p.T) for p in e.layers],
    }
    for name, boxes in rows.items():
        height, fill = PASSES[name]
        axes.text(-1.1, height, name, ha="right", va="center", style="italic")
        for column, text in enumerate(boxes):
            box = {"boxstyle": "round,pad=0.35", "facecolor": fill, "edgecolor": "black"}
            axes.text(2 * column, height, text, ha="center", va="center", bbox=box, fontsize=9)
            if column + 1 < len(boxes):
                ends = [(2 * column + 0.62, height), (2 * column + 1.38, height)]
                start, end = reversed(ends) if name == "backward" else ends
                axes.annotate("", end, start, arrowprops=arrow)
                label = f"$W_{column + 1}^T$" if name == "backward" else f"$W_{column + 1}$"
                axes.text(2 * column + 1, height + 0.1, label, ha="center", va="bottom", fontsize=10)
    for column, layer in enumerate(e.layers):
        text = f"dW{layer.number} from T{layer.number - 1}, V{layer.number}\n{layer.weights.shape}"
        axes.text(2 * column + 1, -0.95, text, ha="center", va="center", fontsize=9)
    axes.text(-1.1, -0.95, "gradients", ha="right", va="center", style="italic")
    axes.annotate("", (0, 0.36), (0, 0.86), arrowprops=arrow)
    axes.text(0.1, 0.62, "sign", va="center")
    axes.set(xlim=(-2.2, 2 * depth + 0.9), ylim=(-1.3, 2.9))
    return figure


def split(e: Explanation) -> Figure:
    """For each dW the norms of its two parts and of the whole, crosses for the differences, and the cosine."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(e.layers), dtype=float)
    norms = {name: np.array([norm(getattr(g, name)) for g in e.layers]) for name in PARTS}
    differences = {c.quantity: c.difference for c in e.comparisons["weights"]}
    for shift, (name, (label, quantity, fill, hatch)) in zip((-0.27, 0.0, 0.27), PARTS.items(), strict=True):
        axes.bar(positions + shift, norms[name], 0.25, label=label, edgecolor="black", facecolor=fill, hatch=hatch)
        crosses = np.array([differences[quantity.format(g.number)] for g in e.layers], float)  # None becomes NaN
        (marks,) = axes.plot(positions + shift, crosses, "x", color="black", markersize=9, markeredgewidth=2)
        if name == "loss_part":
            marks.set_label("by differences")
    tops = np.max(list(norms.values()), axis=0)
    top = tops.max() or 1.0
    for position, height, layer in zip(positions, tops, e.layers, strict=True):
        text = "" if layer.cosine is None else f"cos {layer.cosine:+.2f}"
        axes.text(position, height + 0.02 * top, text, ha="center", va="bottom")
    axes.set_xticks(positions, [f"dW{p.number}\n{p.weights.shape}" for p in e.layers])
    axes.set(xlabel="layer", ylabel="Euclidean norm of the gradient", ylim=(0, 1.12 * top))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def unit(e: Explanation) -> Figure:
    """The weights into the first layer's unit with the largest penalty part, and what each part adds, as images."""
    first, chosen, what = e.layers[0], strongest(e), kind(e)
    figure = Figure(figsize=(12, 3.1), layout="constrained")
    titles = (f"W1, {what} {chosen}", "loss part of dW1", "penalty part of dW1", "both together")
    shown = (first.weights, first.loss_part, first.penalty_part, first.whole)
    for axes, array, title in zip(figure.subplots(1, 4), shown, titles, strict=True):
        shape = e.at_x.x.shape if what == "unit" else array.shape[:3]
        _show(axes, array[..., chosen].reshape(shape), title, "PuOr")
        if what == "filter":
            axes.set(xlabel="column of the filter", ylabel="row of the filter")
    return figure


def strongest(e: Explanation) -> int:
    """The first layer's unit or filter whose weights get the largest penalty part."""
    first = e.layers[0].penalty_part
    return int(np.argmax(np.linalg.norm(first.reshape(-1, first.shape[-1]), axis=0)))


def kind(e: Explanation) -> str:
    """What a column of the first layer's weights belongs to."""
    return "unit" if e.layers[0].weights.ndim == 2 else "filter"


FIGURES: dict[str, Callable[[Explanation], Figure]] = {
    f"{draw.__name__}.png": draw for draw in (digit, attack, jacobian, signs, passes, split, unit)
}


def describe(e: Explanation) -> dict[str, str]:
    """Each of FIGURES in words."""
    x, adv = e.at_x, e.at_x_adv
    largest, smallest = int(np.argmax(e.rows)), int(np.argmin(e.rows))
    parts = "; ".join(
        f"dW{p.number}: loss part {norm(p.loss_part):.3g}, penalty part {norm(p.penalty_part):.3g}, both together "
        f"{norm(p.whole):.3g}"
        for p in e.layers
    )
    rows = f"The {e.count} rows" if len(e.J) <= MOST_ROWS else f"The first {MOST_ROWS} of {len(e.J)} rows"
    what = {"unit": "hidden unit"}.get(kind(e), kind(e))
    return {
        "digit.png": f"The {e.thing}, {e.named(e.label)}, and bars of its {e.count} logits and probabilities. The "
        f"true class is blue and hatched. The largest logit is that of {e.answer(x)}, {x.logits.max():.2f}; the true "
        f"class has {x.logits[e.label]:.2f} and the probability {x.probabilities[e.label]:.3f}",
        "attack.png": f"Four images: the {e.thing}; the loss's derivative in each pixel, purple where more ink raises "
        "the loss and orange where it lowers the loss; the derivative's sign, in these two colours only, like coarse "
        f"noise; the attacked {e.thing}, speckled, which the model takes for {e.named(adv.predicted)}",
        "jacobian.png": f"{rows} of J as images on one scale, purple where more ink raises that logit, orange "
        f"where it lowers that logit. Row {largest} has the largest norm, {e.rows[largest]:.1f}, and row {smallest} "
        f"the smallest, {e.rows[smallest]:.1f}",
        "signs.png": f"The signs of J, in two colours only: {100 * np.mean(e.S > 0):.0f}% of the entries "
        "are purple, +1, the others orange, -1, or white, 0. Large and small derivatives count alike",
        "passes.png": "A map of boxes joined by arrows. Top row, from left to right: from x through the hidden layers "
        "to the logits f. Middle row, from right to left: the V from the logits down to J. Bottom row, from left to "
        "right: the T up again from S, the sign of J. Under each gap stands the dW made from the T on its left and "
        "the V on its right",
        "split.png": f"Bars of the norms of each layer's gradient, with crosses by differences on top. {parts}",
        "unit.png": f"Four small images of the weights of {what} {strongest(e)} of layer 1: the weights, the loss part "
        "of their gradient, its penalty part, and both together, each on its own scale",
    }


def mean_of_channels(a: np.ndarray) -> np.ndarray:
    """Signed numbers (H, W, C) as (H, W): the mean over the channels of a colour image."""
    return a.mean(axis=-1)


def _boxed(name: str, array: np.ndarray) -> str:
    return f"{name}\n{array.shape}\nnorm {norm(array):.3g}"


def _show(axes: Axes, a: np.ndarray, title: str, signed: Colormap | str | None = None) -> None:
    """An image of ink from 0 to 1, or of numbers of both signs in the colours `signed`, with a scale beside it."""
    a = mean_of_channels(a) if signed else as_picture(a)
    limit = float(np.abs(a).max()) or 1.0 if signed else 1.0
    drawn = axes.imshow(
        np.sign(a) if signed is SIGNS else a, cmap=signed or "gray_r", vmin=-limit if signed else 0, vmax=limit
    )
    if signed:
        axes.figure.colorbar(drawn, ax=axes, shrink=0.75, ticks=[-limit, 0, limit], format="%.2g")
    axes.set_title(title, fontsize=11)
    height, width = a.shape[:2]
    axes.set(
        xlabel="pixel column", ylabel="pixel row", xticks=[0, width // 2, width - 1],
        yticks=[0, height // 2, height - 1],
    )  # fmt: skip

"""Figure 1 drawn from observations: a still with four moments of the training, and a film of all observations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL import Image

from minidbp.files.atomic import atomic_write
from minidbp.files.plots import COLOURS
from minidbp.paper.figure1 import BETWEEN, MANY, Observation, Study, T, moments, steps_of

# Of the run with the penalty and the run without. Dashes and markers tell them apart in black and white too.
RUN_STYLES: Sequence[Mapping[str, Any]] = (
    {"color": COLOURS[0], "linestyle": "-", "marker": "o"},
    {"color": COLOURS[1], "linestyle": "--", "marker": "^"},
)
POINT_STYLES: Sequence[Mapping[str, Any]] = (  # of x and of x_adv
    {"marker": "o", "markerfacecolor": "white"},
    {"marker": "s", "markerfacecolor": "black"},
)
TANGENT_STYLE: Mapping[str, Any] = {"color": "black", "linestyle": (0, (4, 1.5)), "linewidth": 1.3}
NAMES = "x", "x + εv"
FORMULAS = {
    "summed_jacobian_l1": r"$\Sigma_j|\Sigma_i\,\partial f_i/\partial x_j|$",
    "jacobian_l1": r"$\|J\|_{1,1}$",
}
WRONG = "#C00000"
NUMBERS = "①②③④"
FRAME_MS, LAST_FRAME_MS = 350, 4000


def still(study: Study) -> Figure:
    """The paper's Figure 1: f_y between x and x + eps v at four moments.

    Below: Delta, both norms and the penalty at every step; after the training, the change of Delta on many images.
    """
    chosen = moments(study.observed[0].observations)
    figure = Figure(figsize=(13.33, 8), dpi=120)
    figure.suptitle(_title(study), fontsize=14, y=0.975)
    above = figure.add_gridspec(2, len(chosen), height_ratios=(1, 2.6), left=0.06, right=0.985, top=0.9, bottom=0.455)
    above.update(hspace=0.1, wspace=0.08)
    limits = _limits(chosen)
    for k, o in enumerate(chosen):
        images, axes = (figure.add_subplot(above[row, k]) for row in (0, 1))
        images.set_title(f"{NUMBERS[k]}  {_when(study, o)}", fontsize=12)
        _images(images, study, o)
        _segment(axes, o, limits, f"$\\Delta_{k + 1}$")
        axes.set_ylabel(f"logit $f_y$, y = {study.label}" if k == 0 else "")
        axes.tick_params(labelleft=k == 0)
    keys = [
        Line2D([], [], color="black", linestyle="none", **POINT_STYLES[0], label="x"),
        Line2D([], [], color="black", linestyle="none", **POINT_STYLES[1], label="x + εv, the FGSM image at this step"),
        Line2D([], [], linewidth=2.5, color=RUN_STYLES[0]["color"], label="$f_y$ on the line through both"),
        Line2D([], [], **TANGENT_STYLE, label="tangent"),
        Line2D([], [], color=WRONG, marker="x", linestyle="none", label="another class has the largest logit"),
    ]
    figure.legend(handles=keys, loc="center", bbox_to_anchor=(0.5, 0.4), ncols=len(keys), frameon=False, fontsize=10)
    ended = any(observed.ratios is not None for observed in study.observed)
    below = figure.add_gridspec(1, 4 + ended, left=0.06, right=0.985, top=0.315, bottom=0.07, wspace=0.2)
    panels = [figure.add_subplot(below[0, k]) for k in range(4 + ended)]
    if ended:
        _many(panels.pop(), study)
    for axes in _series(panels, study):
        axes.set_xlabel("training step")
        for k, o in enumerate(chosen):
            axes.axvline(o.step, color="0.7", linewidth=0.8, zorder=0)
            axes.text(o.step, 1.01, NUMBERS[k], transform=axes.get_xaxis_transform(), ha="center", va="bottom")
    return figure


def frame(study: Study, k: int) -> Figure:
    """The film's picture of observation k: f_y between x and x + eps v now, and all series up to now."""
    observations = study.observed[0].observations
    o = observations[k]
    figure = Figure(figsize=(9, 5.6), dpi=85)
    figure.suptitle(_title(study), fontsize=10, y=0.985)
    left = figure.add_gridspec(2, 1, height_ratios=(1, 2.6), left=0.075, right=0.55, top=0.87, bottom=0.09, hspace=0.1)
    images, axes = (figure.add_subplot(left[row]) for row in (0, 1))
    images.set_title(_when(study, o), fontsize=11, pad=4)
    _images(images, study, o)
    _segment(axes, o, _limits(observations), "Δ")
    axes.set_ylabel(f"logit $f_y$, y = {study.label}")
    right = figure.add_gridspec(4, 1, left=0.635, right=0.985, top=0.89, bottom=0.09, hspace=0.45)
    panels = _series([figure.add_subplot(right[row]) for row in range(4)], study, o.step)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("training step", labelpad=0)
    return figure


def film(study: Study, path: Path, done: Callable[[], None]) -> None:
    """Write one frame for each observation of the first run, as a GIF that loops and holds its last frame.

    The file appears whole or not at all. done() is called after every frame.
    """
    pictures = []
    for k in range(len(study.observed[0].observations)):
        canvas = FigureCanvasAgg(frame(study, k))
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        done()
    reduced = [picture.quantize(palette=_palette(), dither=Image.Dither.NONE) for picture in pictures]
    durations = [FRAME_MS] * (len(reduced) - 1) + [LAST_FRAME_MS]
    with atomic_write(path) as file:
        reduced[0].save(file, "GIF", save_all=True, append_images=reduced[1:], duration=durations, loop=0)


def _palette() -> Image.Image:
    """Every colour in a frame, mixed with white: the same for all frames, or they would flicker and be larger."""
    palette = Image.new("P", (1, 1))
    counts = {"black": 64, WRONG: 24, **{style["color"]: 24 for style in RUN_STYLES}}
    mixtures = [np.linspace((1, 1, 1), to_rgb(colour), count) for colour, count in counts.items()]
    palette.putpalette(np.rint(255 * np.concatenate(mixtures)).astype(np.uint8).tobytes())
    return palette


def _title(study: Study) -> str:
    run = study.observed[0].run
    p = run.protocol
    penalty = f"penalty {FORMULAS[p.penalty]}, λ = {run.lam:g}" if run.lam else "no penalty"
    training = f"adversarial training (ε = {p.eps:g}), {penalty}"
    return f"Figure 1 from a real run: model {run.model}, test image {study.image}, {training}"


def _when(study: Study, o: Observation) -> str:
    if o.step == 0:
        return "before the first step"
    return f"step {o.step:,} (epoch {o.step / steps_of(study.observed[0].run)[1]:.2g})"


def _limits(observations: Sequence[Observation]) -> tuple[float, float]:
    """The same height for every panel, so that they can be compared."""
    low, high = min(o.along.min() for o in observations), max(o.along.max() for o in observations)
    margin = 0.1 * (high - low) or 1.0
    return low - 3.5 * margin, high + margin  # room for the norms below


def _segment(axes: Axes, o: Observation, limits: tuple[float, float], delta: str) -> None:
    """f_y on the line through x and x + eps v, its tangents there, and Delta between them."""
    colour = RUN_STYLES[0]["color"]
    axes.plot(T, o.along, color=colour, linewidth=1, alpha=0.5)
    axes.plot(T[BETWEEN], o.along[BETWEEN], color=colour, linewidth=2.5)
    wrong = o.predicted_along != o.label
    crossed = wrong & ((np.arange(len(T)) % 4 == 0) | ~np.roll(wrong, 1))  # where it begins, and then every fourth
    axes.plot(T[crossed], o.along[crossed], color=WRONG, marker="x", markersize=5, linestyle="none", zorder=3)
    heights = o.logits[:, o.label]
    for t, height, slope, style in zip((0, 1), heights, o.slopes, POINT_STYLES, strict=True):
        reach = np.array([-0.22, 0.22])
        axes.plot(t + reach, height + slope * reach, zorder=3, **TANGENT_STYLE)
        axes.plot([t, 1.42], [height, height], color="0.6", linestyle=":", linewidth=1, zorder=1)
        axes.plot(t, height, color="black", markersize=8, zorder=4, **style)
    axes.plot([1.42, 1.42], heights, color="black", linewidth=1.3, marker="_", markersize=7)
    axes.text(1.51, float(np.mean(heights)), f"{delta}\n= {o.delta:.2f}", va="center", fontsize=11)
    axes.text(
        0.5, 0.025,
        f"$f_y$ spans {o.span:.2f} between x and x + εv\n"
        f"$\\|\\nabla f_y\\|_1$:  {o.norms[0]:.3g} at x,  {o.norms[1]:.3g} at x + εv",
        transform=axes.transAxes, ha="center", va="bottom", fontsize=10, zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip
    axes.set(xlim=(-0.3, 2.0), ylim=limits)
    axes.set_xticks((0, 1), NAMES)
    axes.grid(axis="y", alpha=0.3)


def _images(axes: Axes, study: Study, o: Observation) -> None:
    """x and x + eps v side by side, above their places on the segment, each with the model's prediction."""
    axes.set(xlim=(-0.3, 2.0), ylim=(0, 1))
    axes.axis("off")
    for t, image in enumerate((study.x, o.x_adv)):
        inset = axes.inset_axes((t - 0.26, 0.0, 0.46, 1.0), transform=axes.transData)
        inset.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        inset.set(xticks=[], yticks=[], anchor="W")
        right = o.predicted[t] == o.label
        text = f"{'' if right else '✗ '}class {o.predicted[t]}\n$p_y$ = {o.probabilities[t, o.label]:.2f}"
        axes.text(t + 0.22, 0.5, text, va="center", fontsize=9, color="black" if right else WRONG)


def _many(axes: Axes, study: Study) -> None:
    """For each run, the cumulative distribution of Delta after the training over Delta before, on many images."""
    for observed, style in zip(study.observed, RUN_STYLES, strict=False):
        ratios = observed.ratios
        if ratios is not None:
            share = 100 * np.arange(1, len(ratios) + 1) / len(ratios)
            label = f"{observed.label}: shrunk for {100 * np.mean(ratios < 1):.0f}%"
            kind = {"color": style["color"], "linestyle": style["linestyle"]}
            axes.step(np.sort(ratios), share, where="post", label=label, **kind)
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.set_title(f"% of {MANY:,} images below", fontsize=11, loc="left", pad=16)
    axes.set(xscale="log", ylim=(0, 100), xlabel="Δ after training / Δ before")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _series(panels: Sequence[Axes], study: Study, until: int | None = None) -> Sequence[Axes]:
    """Delta, both norms and the penalty against the step, for each run. What comes after step `until` is faint."""
    titles = {
        "delta": "Δ = |$f_y$(x + εv) − $f_y$(x)|",
        "norm_x": r"$\|\nabla f_y\|_1$ at x",
        "norm_x_adv": r"$\|\nabla f_y\|_1$ at x + εv",
        "penalty_x": f"penalty {FORMULAS[study.observed[0].run.protocol.penalty]} at x",
    }
    small = until is not None
    shape: Mapping[str, Any] = {"markersize": 3 if small else 4, "linewidth": 1.5}
    for k, (observed, style) in enumerate(zip(study.observed, RUN_STYLES, strict=False)):
        series, steps = observed.series(), observed.steps
        seen = sum(until is None or step <= until for step in steps)
        for axes, name in zip(panels, titles, strict=True):
            if small:
                axes.plot(steps, series[name], color=style["color"], alpha=0.25, linewidth=1)
            axes.plot(steps[:seen], series[name][:seen], label=observed.label, **shape, **style)
        label = "_nolegend_" if k else "dotted: span of $f_y$"  # once is enough: the colour tells the run
        panels[0].plot(steps[:seen], series["span"][:seen], color=style["color"], linestyle=":", label=label)
    last = max(observed.steps[-1] for observed in study.observed)
    for axes, title in zip(panels, titles.values(), strict=True):
        axes.set_title(title, fontsize=9 if small else 11, loc="left", pad=4 if small else 16)
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        axes.set_xlim(-0.2, 1.15 * max(last, 1))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    for axes in panels[1:3]:  # norms at both points, to be compared
        axes.set_ylim(0, 1.08 * max(float(o.norms.max()) for run in study.observed for o in run.observations))
    panels[0].legend(frameon=False, fontsize=7 if small else 9, loc="upper left", labelspacing=0.25)
    panels[0].set_ylim(top=1.45 * panels[0].get_ylim()[1])  # room for the legend
    return panels

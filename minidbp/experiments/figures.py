"""Pictures of a table: accuracy against lambda, and images with their adversarial twins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minidbp.atomic import atomic_write
from minidbp.experiments.table2 import Row
from minidbp.nn import Sequential
from minidbp.robust import fgsm
from minidbp.training import Protocol, predict
from minidbp.training.protocol import attack_reading

# Okabe and Ito's colours keep apart for every kind of colour vision; markers and dashes do so in black and white.
STYLES = {
    "clean": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "FGSM": {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    "PGD": {"color": "#009E73", "marker": "^", "linestyle": "-"},
    "FGSM, paper": {"color": "#D55E00", "marker": "s", "linestyle": ":", "markerfacecolor": "white"},
    "clean, paper": {"color": "#0072B2", "marker": "o", "linestyle": ":", "markerfacecolor": "white"},
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file)


def accuracy_against_lambda(rows: Sequence[Row]) -> Figure:
    """One panel for each model; error bars are standard deviations, dotted lines the paper's numbers."""
    models = sorted({row.model for row in rows})
    lambdas = sorted({row.lam for row in rows})
    figure = Figure(figsize=(4 * len(models) + 1.5, 4), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
        mine = [row for row in rows if row.model == model]
        ours = {"clean": [r.clean for r in mine], "FGSM": [r.fgsm for r in mine], "PGD": [r.pgd for r in mine]}
        for name, spreads in ours.items():
            _points(axes, name, [lambdas.index(r.lam) for r in mine], spreads)
        reported = [(lambdas.index(r.lam), r.paper) for r in mine if r.paper]
        _points(axes, "clean, paper", [i for i, _ in reported], [p.clean for _, p in reported])
        _points(axes, "FGSM, paper", [i for i, _ in reported], [p.fgsm for _, p in reported])
        axes.set_xticks(range(len(lambdas)), [f"{lam:g}" for lam in lambdas])
        axes.set(title=f"model {model}", xlabel="λ", ylim=(-3, 103))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _points(axes, name: str, places: Sequence[int], spreads: Sequence[Sequence[float]]) -> None:  # type: ignore[no-untyped-def]
    means = [mean for mean, _ in spreads]
    deviations = [0.0 if np.isnan(sd) else sd for _, sd in spreads]
    # shifted a little, so that error bars do not hide each other
    shift = 0.04 * (list(STYLES).index(name) - 2)
    axes.errorbar(np.add(places, shift), means, deviations, label=name, capsize=3, **STYLES[name])


def adversarial_twins(
    models: Mapping[str, Sequential], x: np.ndarray, y: np.ndarray, protocol: Protocol, columns: int = 10
) -> Figure:
    """The first image of each digit, then its FGSM twin, by the protocol, for each model in `models` (label -> model).

    Above each image stands what the model says; red and crossed where it is wrong.
    """
    first = [int(np.flatnonzero(y == digit)[0]) for digit in range(columns)]
    images, labels = x[first], y[first]
    figure = Figure(figsize=(1.05 * columns + 1.6, 1.25 * (len(models) + 1)), layout="constrained")
    panels = figure.subplots(len(models) + 1, columns, squeeze=False)
    _row(panels[0], images, "test image", labels, labels)
    for row, (label, model) in zip(panels[1:], models.items(), strict=True):
        twins = fgsm(model, images, labels, protocol.eps, **attack_reading(protocol))
        _row(row, twins, label, predict(model, twins), labels)
    figure.suptitle(f"FGSM with ε = {protocol.eps:g}: what each model says of its own adversarial images", fontsize=11)
    return figure


def _row(panels, images: np.ndarray, label: str, said: np.ndarray, true: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    panels[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, image, answer, truth in zip(panels, images, said, true, strict=True):
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        right = answer == truth
        axes.set_title(
            f"{answer}" if right else f"✗ {answer}", fontsize=9, color="black" if right else "#C00000", pad=2
        )

"""Pictures of attacks: accuracy against eps and against PGD's steps, the matrix of transfer, adversarial images."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from minidbp.data import Dataset
from minidbp.diagnosis.diagnose import Diagnosis
from minidbp.diagnosis.trials import DRAWS
from minidbp.files.plots import COLOURS, MARKERS, as_label, as_picture
from minidbp.robust.penalties import Model
from minidbp.training import Protocol, predict

CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "noise": (f"random signs, worst of {DRAWS} draws", {"color": COLOURS[3], "marker": MARKERS[3], "linestyle": "--"}),
    "fgsm": ("FGSM", {"color": COLOURS[1], "marker": MARKERS[1]}),  # as in the pictures of tables
    "pgd": ("PGD", {"color": COLOURS[2], "marker": MARKERS[2]}),
}
CHANCE_LINE: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}
DASHES = ("-", "--", "-.")
COLUMNS = 3  # panels in a row
MOST_CLASSES = 10  # with an image in the picture


def against_eps(diagnosis: Diagnosis) -> Figure:
    """One panel for each model: accuracy under noise, FGSM and PGD, the eps of the diagnosis, and chance."""
    models, eps = diagnosis.models, diagnosis.settings.eps
    columns = min(COLUMNS, len(models))
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(4 * columns + 2.2, 3.6 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (label, model) in zip(panels, models.items(), strict=False):
        for name, (legend, style) in CURVES.items():
            points = model.against_eps["eps"], model.against_eps[name]
            axes.plot(*points, label=legend, markersize=5, clip_on=False, **style)
        axes.axhline(diagnosis.settings.chance, label="chance", **CHANCE_LINE)
        axes.axvline(eps, color="0.6", linewidth=1, label=f"ε = {eps:g}")
        axes.set_title(as_label(f"{label}: {model.verdict.word}"), fontsize=10)
        axes.set(xlabel="ε (pixel units)", ylim=(0, 100))
        axes.grid(alpha=0.3)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("test accuracy (%)")
    figure.suptitle(_counts(diagnosis), fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def against_steps(diagnosis: Diagnosis) -> Figure:
    """Accuracy under PGD of one start by its number of steps, one line for each model, and chance."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for i, (label, model) in enumerate(diagnosis.models.items()):
        style: dict[str, Any] = {"color": COLOURS[i % 7], "marker": MARKERS[i % 5], "linestyle": DASHES[i % 3]}
        points = model.against_steps["steps"], model.against_steps["pgd"]
        axes.plot(*points, label=as_label(label), clip_on=False, **style)
    axes.axhline(diagnosis.settings.chance, label="chance", **CHANCE_LINE)
    steps = model.against_steps["steps"]
    axes.set_xscale("log")
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=f"steps of PGD, each 2.5 ε / steps, ε = {diagnosis.settings.eps:g} (logarithmic)", ylim=(0, 100))
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(_counts(diagnosis), fontsize=9)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    return figure


def transfer(diagnosis: Diagnosis) -> Figure:
    """The matrix of transfer, each cell with its accuracy.  Raises ValueError if the diagnosis is of one model."""
    matrix = diagnosis.transfer
    if matrix is None:
        raise ValueError("images are transferred between models, and this diagnosis is of one; give it several")
    labels, accuracy = [*map(as_label, matrix.labels)], np.array(matrix.accuracy)
    size = 0.9 * len(labels)
    figure = Figure(figsize=(size + 4, size + 2.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(accuracy, cmap="cividis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(accuracy):
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="black" if value > 50 else "white")
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="judged on", ylabel="adversarial images made on")
    axes.set_title(_counts(diagnosis), fontsize=9)
    figure.colorbar(image, label="test accuracy (%)")
    return figure


def _counts(diagnosis: Diagnosis) -> str:
    """What each value of a picture is. A model was trained once, so there are no bars."""
    s = diagnosis.settings
    return f"Each value: one trained model on {s.images:,} random test images{as_label(s.of_data)}; no bars."


def adversarial_twins(models: Mapping[str, Model], dataset: Dataset, protocol: Protocol) -> Figure:
    """The first test image of each class and, in a row for each model, the FGSM image that the protocol makes of it.

    At most MOST_CLASSES classes are shown. The predicted class stands above each image; a wrong one is red and has a
    cross. `models` maps labels to models.
    """
    classes, first = np.unique(dataset.y_test, return_index=True)
    first = first[:MOST_CLASSES]
    images, labels = dataset.x_test[first], dataset.y_test[first]
    width = 1.05 * len(first) + 1.6
    figure = Figure(figsize=(width, 1.25 * (len(models) + 1)), layout="constrained")
    panels = figure.subplots(len(models) + 1, len(first), squeeze=False)
    names = [dataset.class_name(label) for label in labels]
    _row_of_images(panels[0], images, "test image", names, names)
    for row, (label, model) in zip(panels[1:], models.items(), strict=True):
        twins = protocol.fgsm(model, images, labels)
        _row_of_images(row, twins, label, [dataset.class_name(answer) for answer in predict(model, twins)], names)
    each = "digit" if dataset.verified else "class"
    if len(classes) > len(first):
        each = f"of the classes {labels[0]} to {labels[-1]}"
    title = f"FGSM with ε = {protocol.eps:g}: the first test image of each {each}, and what each model predicts"
    figure.suptitle(textwrap.fill(title, int(11 * width)), fontsize=11)
    return figure


def _row_of_images(
    panels: Sequence[Axes], images: np.ndarray, label: str, predicted: Sequence[str], true: Sequence[str]
) -> None:
    panels[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, image, answer, truth in zip(panels, images, predicted, true, strict=True):
        axes.imshow(as_picture(image), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        text, colour = (answer, "black") if answer == truth else (f"✗ {answer}", "#C00000")
        axes.set_title(text, fontsize=9, color=colour, pad=2)

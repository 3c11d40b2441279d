"""The picture of a table: accuracy against lambda, eps or epochs; and its description in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minidbp.files.plots import COLOURS, MARKERS
from minidbp.paper.statistics import ACCURACIES
from minidbp.paper.tables import Row
from minidbp.sweeps.runs import shown

AXES = {"lambda": "λ", "eps": "ε (of training and attack, in pixel units)", "max_epochs": "epochs of training"}
SYMBOLS = {"lambda": "λ", "eps": "ε", "max_epochs": "epochs"}
LEAST_HEIGHT = 20.0  # of a panel, in percentage points: a difference of a point or two must not look larger


def accuracy_along(rows: Sequence[Row], along: str) -> Figure:
    """Test accuracy against lambda or a field of the protocol. Dotted lines are the paper's.

    There is a column for each model. Where nothing else varies, one panel has clean, FGSM and PGD. Otherwise each
    measure has a panel of its own, with a line for each combination of the rest. Error bars are standard deviations.
    Rows without results are left out.
    """
    lines = _lines(rows, along)
    models = sorted({row.model for row in rows if row.results})
    places = sorted({_place(row, along) for line in lines.values() for row in line})
    groups = list(dict.fromkeys(group for _, group in lines))
    together = len(groups) == 1
    panels_of_a_model = [list(ACCURACIES)] if together else [[measure] for measure in ACCURACIES]
    height = 0.8 + 3.2 * len(panels_of_a_model)
    figure = Figure(figsize=(3.6 * len(models) + 2.2, height), layout="constrained")
    panels = figure.subplots(len(panels_of_a_model), len(models), sharey="row", sharex=True, squeeze=False)
    for i, measures in enumerate(panels_of_a_model):
        for axes, model in zip(panels[i], models, strict=True):
            pairs = [(measure, group) for measure in measures for group in groups]
            for k, (measure, group) in enumerate(pairs):
                name = ACCURACIES[measure] if together else group
                # The shift keeps error bars apart.
                shift = (k - (len(pairs) - 1) / 2) * 0.012 * max(1, len(places) - 1)
                line = lines.get((model, group), [])
                _plot(axes, k, name, [places.index(_place(row, along)) + shift for row in line], line, measure)
            axes.set_xticks(range(len(places)), [shown(place) for place in places])
            axes.grid(alpha=0.3)
            if i == 0:
                axes.set_title(f"model {model}")
        panels[i, 0].set_ylabel("test accuracy (%)" if together else f"{ACCURACIES[measures[0]]}: test accuracy (%)")
        low, high = (-3.0, 103.0) if together else panels[i, 0].get_ylim()
        margin = max(0.0, LEAST_HEIGHT - (high - low)) / 2
        panels[i, 0].set_ylim(max(-3.0, low - margin), min(103.0, high + margin))
    for axes in panels[-1]:
        axes.set_xlabel(AXES.get(along, along))
    keys = {key: line for axes in panels.flat for line, key in zip(*axes.get_legend_handles_labels(), strict=True)}
    layout: dict[str, Any] = {"loc": "outside right center"}
    if len(keys) > 5:
        layout = {"loc": "outside lower center", "ncols": 2}
    figure.legend(keys.values(), keys.keys(), frameon=False, **layout)
    return figure


def describe(rows: Sequence[Row], along: str) -> str:
    """`accuracy_along` in words: each line's first and last point."""
    parts = []
    for (model, group), line in _lines(rows, along).items():
        ends = [line[0], line[-1]] if len(line) > 1 else line
        where = " to ".join(shown(_place(row, along)) for row in ends)
        figures = "; ".join(
            f"{word} " + " to ".join(f"{row.summary(measure).mean:.1f}%" for row in ends)
            for measure, word in ACCURACIES.items()
        )
        parts.append(f"Model {model}{', ' + group if group else ''}, {SYMBOLS.get(along, along)} {where}: {figures}")
    return f"Test accuracy against {AXES.get(along, along)}. " + ". ".join(parts) + "."


def _place(row: Row, along: str) -> Any:
    return row.lam if along == "lambda" else getattr(row.results[0].run.protocol, along)


def _lines(rows: Sequence[Row], along: str) -> dict[tuple[str, str], list[Row]]:
    """The rows with results of each line, from left to right, by model and by all that varies but `along`."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in sorted((row for row in rows if row.results), key=lambda row: row.model):
        values = row.varied if along == "lambda" else {"λ": row.lam, **row.varied}
        group = ", ".join(f"{name} = {shown(value)}" for name, value in values.items() if name != along)
        lines.setdefault((row.model, group), []).append(row)
    return {key: sorted(line, key=lambda row: _place(row, along)) for key, line in lines.items()}


def _plot(axes: Axes, k: int, name: str, places: Sequence[float], rows: Sequence[Row], measure: str) -> None:
    """The k-th line of a panel and, dotted with open markers, the paper's."""
    repeat, which = divmod(k, len(COLOURS))  # a repeated colour has another marker
    colour, marker = COLOURS[which], MARKERS[(which + repeat) % len(MARKERS)]
    ours = [(summary.mean, summary.sd) for summary in (row.summary(measure) for row in rows)]
    papers = [getattr(row.paper, measure, None) for row in rows]
    for values, label, style, face in (ours, name, "-", colour), (papers, f"{name}, paper", ":", "white"):
        points = [(place, *pair) for place, pair in zip(places, values, strict=True) if pair]
        if points:
            x, means, deviations = np.array(points, float).T
            axes.errorbar(
                x, means, np.nan_to_num(deviations), label=label, color=colour, marker=marker, markerfacecolor=face,
                linestyle=style, capsize=3,
            )  # fmt: skip

"""The picture of a table: accuracy against lambda, eps or epochs; and its description in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minidbp.files.plots import COLOURS, MARKERS
from minidbp.paper.tables import Row
from minidbp.sweeps.runs import shown

MEASURES = {"clean": "clean", "fgsm": "FGSM", "pgd": "PGD"}
AXES = {"lambda": "λ", "eps": "ε (of training and attack, in pixel units)", "max_epochs": "epochs of training"}
WIDTH = 20.0  # of a panel's vertical axis at least, in percentage points
SYMBOLS = {"lambda": "λ", "eps": "ε", "max_epochs": "epochs"}


def accuracy_along(rows: Sequence[Row], along: str) -> Figure:
    """Test accuracy against lambda or a field of the protocol; a column for each model, dotted lines the paper's.

    Where nothing else varies, one panel for each model has clean, FGSM and PGD; else each has a panel of its own,
    with a line for each combination of the rest.  Error bars are standard deviations.  A row without results is not in
    it.
    """
    rows = [row for row in rows if row.results]
    models = sorted({row.model for row in rows})
    places = sorted({_place(row, along) for row in rows})
    groups = list(dict.fromkeys(_rest(row, along) for row in rows))
    together = len(groups) == 1
    measures = [list(MEASURES)] if together else [[measure] for measure in MEASURES]
    figure = Figure(figsize=(3.6 * len(models) + 2.2, 0.8 + 3.2 * len(measures)), layout="constrained")
    panels = figure.subplots(len(measures), len(models), sharey="row", sharex=True, squeeze=False)
    for i, measures_here in enumerate(measures):
        for axes, model in zip(panels[i], models, strict=True):
            lines = [(measure, group) for measure in measures_here for group in groups]
            for k, (measure, group) in enumerate(lines):
                mine = [row for row in rows if row.model == model and _rest(row, along) == group]
                name = MEASURES[measure] if together else group
                shift = (k - (len(lines) - 1) / 2) * 0.012 * max(1, len(places) - 1)
                _lines(axes, k, shift, name, measure, mine, along, places)
            axes.set_xticks(range(len(places)), [shown(place) for place in places])
            axes.grid(alpha=0.3)
        panels[i, 0].set_ylabel("test accuracy (%)" if together else f"{MEASURES[measures_here[0]]}: test accuracy (%)")
    for axes, model in zip(panels[0], models, strict=True):
        axes.set_title(f"model {model}")
    for axes in panels[-1]:
        axes.set_xlabel(AXES.get(along, along))
    for axes in panels[:, 0]:  # shared by its row; what differs by a point or two shall not look like more
        low, high = (-3.0, 103.0) if together else axes.get_ylim()
        wider = max(0.0, WIDTH - (high - low)) / 2
        axes.set_ylim(max(-3.0, low - wider), min(103.0, high + wider))
    found = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(found) <= 5:
        figure.legend(found.values(), found.keys(), loc="outside right center", frameon=False)
    else:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def describe(rows: Sequence[Row], along: str) -> str:
    """`accuracy_along` in words: each line's first and last point."""
    rows = [row for row in rows if row.results]
    parts = []
    for model in sorted({row.model for row in rows}):
        for group in dict.fromkeys(_rest(row, along) for row in rows):
            mine = [row for row in rows if row.model == model and _rest(row, along) == group]
            mine.sort(key=lambda row: _place(row, along))
            if mine:
                ends = [mine[0], mine[-1]] if len(mine) > 1 else mine
                where = " to ".join(shown(_place(row, along)) for row in ends)
                figures = "; ".join(
                    f"{word} " + " to ".join(f"{row.summary(measure).mean:.1f}%" for row in ends)
                    for measure, word in MEASURES.items()
                )
                parts.append(
                    f"Model {model}{', ' + group if group else ''}, {SYMBOLS.get(along, along)} {where}: {figures}"
                )
    return f"Test accuracy against {AXES.get(along, along)}. " + ". ".join(parts) + "."


def _place(row: Row, along: str) -> Any:
    return row.lam if along == "lambda" else row.results[0]["protocol"][along]


def _rest(row: Row, along: str) -> str:
    """What a row's line is called: all that varies but what runs along the axis."""
    rest = dict(row.varied) if along == "lambda" else {"λ": row.lam, **row.varied}
    rest.pop(along, None)
    return ", ".join(f"{name} = {shown(value)}" for name, value in rest.items())


def _lines(
    axes: Axes, k: int, shift: float, name: str, measure: str, rows: Sequence[Row], along: str, places: Sequence[Any]
) -> None:
    """The k-th line of a panel and, dotted with open markers, the paper's, moved aside so that bars do not hide."""
    rows = sorted(rows, key=lambda row: _place(row, along))
    again, which = divmod(k, len(COLOURS))  # where colours come again they have other markers
    colour, marker = COLOURS[which], MARKERS[(which + again) % len(MARKERS)]
    summaries = [row.summary(measure) for row in rows]
    ours = [(places.index(_place(row, along)), s.mean, s.sd) for row, s in zip(rows, summaries, strict=True)]
    papers = [
        (places.index(_place(row, along)), *getattr(row.paper, measure))
        for row in rows
        if row.paper and hasattr(row.paper, measure)
    ]
    for points, label, line, face in (ours, name, "-", colour), (papers, f"{name}, paper", ":", "white"):
        if points:
            x, means, deviations = (np.array(column, float) for column in zip(*points, strict=True))
            axes.errorbar(
                x + shift, means, np.nan_to_num(deviations), label=label, color=colour, marker=marker,
                markerfacecolor=face, linestyle=line, capsize=3,
            )  # fmt: skip

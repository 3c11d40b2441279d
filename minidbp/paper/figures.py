"""The picture of a table: accuracy against lambda, eps or epochs; and its description in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from minidbp.files.plots import COLOURS, MARKERS
from minidbp.paper.readings import tracked_epochs
from minidbp.paper.statistics import Summary
from minidbp.paper.tables import Row, accuracies, span
from minidbp.sweeps.runs import RunResult, shown
from minidbp.training import Protocol

AXES = {"lambda": "λ", "eps": "ε (of training and attack, in pixel units)", "max_epochs": "epochs of training"}
SYMBOLS = {"lambda": "λ", "eps": "ε", "max_epochs": "epochs"}
SPACING = {"lambda": " (logarithmic; 0 stands apart)"}  # of the axis; all others are linear
BARS = "Points: means over runs. Bars: ± 1 standard deviation over runs (n − 1), none for one run."
EPOCHS_BARS = (
    "Lines: means over the runs that reached the epoch. Bands: from the least to the largest of them. Solid: FGSM. "
    "Dashed: PGD."
)
TRACKED: tuple[dict[str, str], ...] = (  # the figures of each row of panels, with their attacks
    {"clean": ""},
    {"fgsm": "FGSM", "pgd": "PGD"},
    {"fgsm_small": "FGSM", "pgd_small": "PGD"},
    {"jacobian_l1": ""},
)
STYLES: dict[str, Any] = {"FGSM": "-", "PGD": "--"}
PAPERS_BARS = " Open, dotted: the paper's means and deviations, after its own lengths of training."


def accuracy_along(rows: Sequence[Row], along: str) -> Figure:
    """Test accuracy against lambda or a field of the protocol, from 0 to 100%. Dotted lines are the paper's.

    There is a column for each model, with its numbers of runs and images. Where nothing else varies, one panel has
    all accuracies of the table. Otherwise each measure has a panel of its own, with a line for each combination of the
    rest. Error bars are standard deviations. Rows without results are left out.
    """
    lines = _lines(rows, along)
    models = sorted({row.model for row in rows if row.results})
    values = sorted({_value(row, along) for line in lines.values() for row in line})
    places = _places(values, along)
    groups = list(dict.fromkeys(group for _, group in lines))
    together = len(groups) == 1
    measures = accuracies(rows)
    panels_of_a_model = [measures] if together else [{name: words} for name, words in measures.items()]
    height = 1.4 + (3.2 if together else 2.6) * len(panels_of_a_model)
    figure = Figure(figsize=(3.6 * len(models) + 2.2, height), layout="constrained")
    panels = figure.subplots(len(panels_of_a_model), len(models), sharey=True, sharex=True, squeeze=False)
    for i, of_panel in enumerate(panels_of_a_model):
        for axes, model in zip(panels[i], models, strict=True):
            pairs = [(measure, group) for measure in of_panel for group in groups]
            width = (max(places.values()) - min(places.values())) or 1.0
            for k, (measure, group) in enumerate(pairs):
                # The shift keeps error bars apart.
                shift = (k - (len(pairs) - 1) / 2) * 0.012 * width
                line = lines.get((model, group), [])
                x = [places[_value(row, along)] + shift for row in line]
                _plot(axes, k, measures[measure] if together else group, x, [row.summary(measure) for row in line])
            _plot_the_papers(axes, lines, model, of_panel, along, places)
            axes.set_xticks(list(places.values()), list(map(shown, places)))
            axes.grid(alpha=0.3)
            if i == 0:
                axes.set_title(f"model {model}\n{_counts(rows, model)}", fontsize=10)
        panels[i, 0].set_ylabel("test accuracy (%)" if together else f"{', '.join(of_panel.values())}: accuracy (%)")
        panels[i, 0].set_ylim(0, 100)
    for axes in panels[-1]:
        axes.set_xlabel(AXES.get(along, along) + SPACING.get(along, ""))
    figure.suptitle(BARS + PAPERS_BARS * any(row.paper for row in rows if row.results), fontsize=9, wrap=True)
    _add_legend(figure, {})
    return figure


def describe(rows: Sequence[Row], along: str) -> str:
    """`accuracy_along` in words: each line's first and last point."""
    parts = []
    for (model, group), line in _lines(rows, along).items():
        ends = [line[0], line[-1]] if len(line) > 1 else line
        where = " to ".join(shown(_value(row, along)) for row in ends)
        figures = "; ".join(
            f"{word} " + " to ".join(f"{row.summary(measure).mean:.1f}%" for row in ends)
            for measure, word in accuracies(rows).items()
        )
        parts.append(f"Model {model}{', ' + group if group else ''}, {SYMBOLS.get(along, along)} {where}: {figures}")
    return f"Test accuracy against {AXES.get(along, along)}. " + ". ".join(parts) + "."


def along_epochs(rows: Sequence[Row]) -> Figure:
    """Accuracy on the tracked test images and mean ||J||_1,1 after every epoch: means over runs, bands to the extremes.

    A column for each model; a row for clean accuracy, one for each size of attack, and one for the Jacobian. A line
    for each lambda and each combination of what varies, with a colour and a marker that no other line has. A training
    of fixed length is the beginning of a longer one with the same seed, so only the longest has a line.
    """
    rows = _longest(rows)
    groups = list(dict.fromkeys(map(_group, rows)))
    models = sorted({row.model for row in rows})
    height = 9.6 + 0.2 * len(groups)  # a long legend stands below the panels
    figure = Figure(figsize=(3.6 * len(models) + 2.2, height), layout="constrained")
    panels = figure.subplots(4, len(models), sharex="col", sharey="row", squeeze=False)
    for column, model in zip(panels.T, models, strict=True):
        for row in (row for row in rows if row.model == model):
            group = _group(row)
            colour, marker = _look(groups.index(group))
            look = {"color": colour, "marker": marker, "label": group}
            for axes, figures in zip(column, TRACKED, strict=True):
                for name, attack in figures.items():
                    _plot_epochs(axes, row.results, name, linestyle=STYLES.get(attack, "-"), **look)
        column[0].set_title(f"model {model}\n{_counts(rows, model, tracked=True)}", fontsize=10)
        column[-1].set_xlabel("epoch")
        column[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    sizes = {name: _range_of(rows, name) for name in ("eps", "small_eps")}
    labels = ("clean", f"ε = {sizes['eps']}", f"ε = {sizes['small_eps']}")
    for axes, label in zip(panels[:, 0], labels, strict=False):
        axes.set_ylabel(f"{label}: accuracy (%)")
        axes.set_ylim(0, 100)
    panels[-1, 0].set(ylabel="‖J‖₁,₁, mean (logarithmic)", yscale="log")
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    figure.suptitle(EPOCHS_BARS, fontsize=9, wrap=True)
    _add_legend(figure, {name: Line2D([], [], color="black", linestyle=style) for name, style in STYLES.items()})
    return figure


def describe_epochs(rows: Sequence[Row]) -> str:
    """`along_epochs` in words: accuracy under FGSM after the first and after the last epoch of each line."""
    parts = []
    for row in _longest(rows):
        first, last = (np.mean([tracked_epochs(r)[k].fgsm for r in row.results]) for k in (0, -1))
        parts.append(f"Model {row.model}, {_group(row)}: FGSM {first:.1f}% to {last:.1f}%")
    return f"Accuracy and the Jacobian's norm after every epoch. {'. '.join(parts)}."


def _add_legend(figure: Figure, more: Mapping[str, Artist]) -> None:
    """Name each line of the panels once, and what `more` has; at the right, or below the panels if that is long."""
    pairs = (pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    keys = {label: handle for handle, label in pairs} | dict(more)
    layout: dict[str, Any] = {"loc": "outside right center"}
    if len(keys) > 5:
        widest = 0.6 + 0.09 * max(map(len, keys))  # inches
        layout = {"loc": "outside lower center", "ncols": max(1, int(figure.get_figwidth() / widest))}
    figure.legend(keys.values(), keys.keys(), frameon=False, **layout)


def _longest(rows: Sequence[Row]) -> list[Row]:
    """The rows with results, of those that differ in max_epochs alone the longest; with a stop rule all of them."""
    longest: dict[tuple[str, float, Protocol], Row] = {}
    for row in (row for row in rows if row.results):
        p = row.condition.protocol
        key = row.model, row.lam, replace(p, max_epochs=1) if p.stop_rule == "none" else p
        longest[key] = max(longest.get(key, row), row, key=lambda row: row.condition.protocol.max_epochs)
    return list(longest.values())


def _group(row: Row) -> str:
    return ", ".join(f"{name} = {shown(value)}" for name, value in {"λ": row.lam, **row.varied}.items())


def _plot_epochs(axes: Axes, results: Sequence[RunResult], figure: str, **style: Any) -> None:
    """The mean of a tracked figure over the runs that have reached each epoch, and a band from least to largest."""
    series = [[getattr(tracked, figure) for tracked in tracked_epochs(result)] for result in results]
    by_epoch = [[run[k] for run in series if len(run) > k] for k in range(max(map(len, series)))]
    epochs = range(1, len(by_epoch) + 1)
    every = 1 + len(by_epoch) // 10  # so many markers that a line is told from others, and no more
    axes.plot(epochs, [np.mean(values) for values in by_epoch], markersize=4, markevery=every, **style)
    axes.fill_between(
        epochs, list(map(min, by_epoch)), list(map(max, by_epoch)), color=style["color"], alpha=0.15, lw=0
    )


def _range_of(rows: Sequence[Row], field: str) -> str:
    """'0.3', or '0.05 to 0.3': the values of a field of the protocol."""
    values = sorted({getattr(result.run.protocol, field) for row in rows for result in row.results})
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


def _value(row: Row, along: str) -> Any:
    return row.lam if along == "lambda" else getattr(row.results[0].run.protocol, along)


def _places(values: Sequence[Any], along: str) -> dict[Any, float]:
    """Where each value stands on the axis: lambda by its logarithm, 0 half a decade below the smallest; else itself."""
    if along != "lambda":
        return {value: float(value) if isinstance(value, int | float) else i for i, value in enumerate(values)}
    logarithms = {lam: math.log10(lam) for lam in values if lam > 0}
    zero = min(logarithms.values(), default=0.0) - 0.5
    return {lam: logarithms.get(lam, zero) for lam in values}


def _counts(rows: Sequence[Row], model: str, tracked: bool = False) -> str:
    """'n = 2 to 3 runs; 1,000 test images': those that are judged, or tracked."""
    done = [row for row in rows if row.model == model and row.results]
    runs = span(len(row.results) for row in done)
    protocols = [result.run.protocol for row in done for result in row.results]
    images = span(p.n_tracked if tracked else p.n_test for p in protocols)
    return f"n = {runs} run{'s' * (runs != '1')}; {images} test images"


def _lines(rows: Sequence[Row], along: str) -> dict[tuple[str, str], list[Row]]:
    """The rows with results of each line, from left to right, by model and by all that varies but `along`."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in sorted((row for row in rows if row.results), key=lambda row: row.model):
        values = row.varied if along == "lambda" else {"λ": row.lam, **row.varied}
        group = ", ".join(f"{name} = {shown(value)}" for name, value in values.items() if name != along)
        lines.setdefault((row.model, group), []).append(row)
    return {key: sorted(line, key=lambda row: _value(row, along)) for key, line in lines.items()}


def _plot(axes: Axes, k: int, label: str, x: Sequence[float], summaries: Sequence[Summary]) -> None:
    """The k-th of our lines in a panel."""
    colour, marker = _look(k)
    points = [(place, s.mean, s.sd) for place, s in zip(x, summaries, strict=True)]
    _errorbar(axes, points, label=label, color=colour, marker=marker, linestyle="-")


def _plot_the_papers(
    axes: Axes,
    lines: Mapping[tuple[str, str], Sequence[Row]],
    model: str,
    measures: Mapping[str, str],
    along: str,
    places: Mapping[Any, float],
) -> None:
    """The paper's lines of a panel, dotted with open markers, each once.

    A label names what the paper varied, the measure or lambda, and never our protocol: the same numbers of the paper
    may stand beside several of our variants, or beside trainings of another length.
    """
    papers: dict[tuple[str, tuple], list[int]] = {}
    groups = list(dict.fromkeys(group for _, group in lines))
    for m, measure in enumerate(measures):
        for g, group in enumerate(groups):
            line = [row for row in lines.get((model, group), []) if getattr(row.paper, measure, None)]
            points = tuple((places[_value(row, along)], *getattr(row.paper, measure)) for row in line)
            label = f"{measures[measure]}, paper" if len(groups) == 1 else "paper"
            if along != "lambda":
                label += f", λ = {shown(line[0].lam)}" if line else ""
            if points:
                papers.setdefault((label, points), []).append(m * len(groups) + g)
    for i, ((label, points), ks) in enumerate(papers.items()):
        # Numbers that stand beside one line of ours have its colour; those of several lines are black.
        alone = len(ks) == 1 and label != "paper"
        colour, marker = _look(ks[0]) if alone else ("black", "o" if label == "paper" else MARKERS[i % len(MARKERS)])
        _errorbar(axes, points, label=label, color=colour, marker=marker, markerfacecolor="white", linestyle=":")


def _look(k: int) -> tuple[str, str]:
    """Colour and marker; a repeated colour has another marker."""
    repeat, which = divmod(k, len(COLOURS))
    return COLOURS[which], MARKERS[(which + repeat) % len(MARKERS)]


def _errorbar(axes: Axes, points: Sequence[tuple[float, float, float]], **style: Any) -> None:
    """Points (place, mean, deviation). Markers at 0 or 100% are drawn in full."""
    if points:
        x, means, deviations = np.array(points, float).T
        container = axes.errorbar(x, means, np.nan_to_num(deviations), capsize=3, **style)
        container.lines[0].set_clip_on(False)

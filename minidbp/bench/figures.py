"""Pictures of the measurements: the roofline, and time against size."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from minidbp.bench.kernel_times import PASSES

# Okabe and Ito's colours for layers, a marker for each pass
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = dict(zip(PASSES.values(), ("o", "v", "s", "^", "D", "P"), strict=True))


def roofline(result: dict[str, Any]) -> Figure:
    """What `time_kernels` found, as a roofline (Williams, Waterman and Patterson 2009): one point for each product.

    Below the slope a product waits for memory, below the flat roof for arithmetic.  A point's area is its share of the
    step's time.  Rates count every unit: a product that leaves out units that are off may stand above the roof.
    """
    peak, slope = result["gemm_gflops_per_s"], result["copy_gb_per_s"]
    found = [row for row in result["rows"] if row["layer"]]
    layers = list(dict.fromkeys(row["layer"] for row in found))
    intensity = [row["flop_per_byte"] for row in found]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    x = np.geomspace(min(*intensity, peak / slope) / 2, max(*intensity, peak / slope) * 2, 200)
    axes.plot(x, np.minimum(peak, slope * x), color="black", linewidth=1.2)
    axes.annotate(
        f"SGEMM, one thread: {peak:.0f} GFLOP/s", (x[-1], peak), ha="right", va="bottom", fontsize=9,
        xytext=(0, 3), textcoords="offset points",
    )  # fmt: skip
    axes.annotate(
        f"copying memory: {slope:.0f} GB/s", (x[0], slope * x[0]), va="center", fontsize=9,
        xytext=(14, 0), textcoords="offset points",
    )  # fmt: skip
    for row in found:
        colour = COLOURS[layers.index(row["layer"]) % len(COLOURS)]
        size = 25 + 1500 * row["share"]
        axes.scatter(
            row["flop_per_byte"], row["gflops_per_s"], s=size, color=colour, marker=MARKERS[row["pass"]], alpha=0.75,
            edgecolor="white", linewidth=0.8,
        )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte of operands and result", ylabel="GFLOP/s, every unit counted",
        title=f"model {result['model']}, {result['penalty']}, batch {result['batch']}, one thread: "
        f"{result['step_ms']:.0f} ms a step",
    )  # fmt: skip
    for axis in axes.xaxis, axes.yaxis:
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", linestyle="", label=layer)
        for i, layer in enumerate(layers)
    ]
    used = {row["pass"] for row in found}
    handles += [
        Line2D([], [], color="gray", marker=m, linestyle="", label=way) for way, m in MARKERS.items() if way in used
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def scaling(result: dict[str, Any]) -> Figure:
    """What `time_scaling` found: four panels, the first three with the straight line through their points."""
    labels = {
        "batch": ("images in the batch", "ms a step"),
        "classes": ("classes (rows of the Jacobian)", "ms a step"),
        "lambdas": ("lambdas, one run after the other", f"ms for {result['steps']} steps of each"),
        "active": ("share of hidden units that are on", "ms a step"),
    }
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    for axes, (key, (xlabel, ylabel)), colour in zip(figure.subplots(1, 4), labels.items(), COLOURS, strict=False):
        series = result[key]
        x = np.array([p["at"] for p in series["points"]])
        if "slope" in series:
            ends = np.array([0, x.max()])
            axes.plot(ends, series["intercept"] + series["slope"] * ends, color="gray", linestyle="--", linewidth=1)
            axes.set_title(f"{series['intercept']:.3g} + {series['slope']:.3g} n, R² = {series['r2']:.4f}", fontsize=10)
        ms = [p["ms"] for p in series["points"]]
        axes.plot(x, ms, color=colour, marker="o", linestyle="")
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, None), ylim=(0, 1.1 * max(ms)))
        axes.grid(alpha=0.3)
    threads = f"{result['threads']} thread{'s' * (result['threads'] != 1)}"
    figure.suptitle(f"model {result['model']}, exact penalty, {threads}", fontsize=11)
    return figure

"""Measurements as tables for a terminal."""

from typing import Any

from rich import box
from rich.table import Table


def kernels_on_screen(result: dict[str, Any]) -> Table:
    """What `time_kernels` found, in the order of the layers; then the other kernels, and the rest of the step."""
    table = Table(
        title=f"model {result['model']}, {result['penalty']}, batch {result['batch']}, one thread: "
        f"{result['step_ms']:.1f} ms a step; SGEMM {result['gemm_gflops_per_s']:.0f} GFLOP/s",
        box=box.SIMPLE_HEAD,
    )
    for header in "layer", "pass or kernel":
        table.add_column(header)
    for header in "calls", "ms", "% of step", "GFLOP/s", "FLOP/byte":
        table.add_column(header, justify="right")
    for row in result["rows"]:
        rate = (f"{row['gflops_per_s']:.1f}", f"{row['flop_per_byte']:.1f}") if row["layer"] else ("", "")
        numbers = f"{row['calls']:.0f}", f"{row['ms']:.2f}", f"{100 * row['share']:.1f}", *rate
        table.add_row(row["layer"] or "", row["pass"], *numbers)
    share = 100 * result["other_ms"] / result["step_ms"]
    table.add_row("", "rest: Python, NumPy", "", f"{result['other_ms']:.2f}", f"{share:.1f}", "", "")
    return table


def scaling_on_screen(result: dict[str, Any]) -> Table:
    """What `time_scaling` found: each series with the straight line through it."""
    table = Table(title=f"model {result['model']}, exact penalty, {result['threads']} threads", box=box.SIMPLE_HEAD)
    for header in "against", "ms at each size", "straight line", "R²":
        table.add_column(header)
    for key in "batch", "classes", "lambdas":
        series = result[key]
        points = ", ".join(f"{p['at']}: {p['ms']:.1f}" for p in series["points"])
        table.add_row(key, points, f"{series['intercept']:.3g} + {series['slope']:.3g} n", f"{series['r2']:.4f}")
    points = ", ".join(f"{p['at']:.2f}: {p['ms']:.1f}" for p in result["active"]["points"])
    table.add_row("active share", points, "", "")
    return table

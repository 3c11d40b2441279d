"""The figures of peers.py as tables: for the screen, and for a page of the documentation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minidbp.bench.machine import contention_warning
from minidbp.files.markdown import markdown_table
from minidbp.files.page import put_between

BEGIN, END = "<!-- peers: made by benchmarks/peers.py --page -->", "<!-- end of peers -->"
TITLES = {
    "exact": "training step with the exact penalty (eq. 3)",
    "plain": "plain training step",
    "fgsm": "accuracy of 10,000 images under FGSM",
    "evaluate": "accuracy of 10,000 images",
}
Rows = list[list[str]]


def tables(results: dict[str, Any]) -> Iterator[tuple[str, list[str], Rows]]:
    """Title, header and rows of each table."""
    models, peers = results["models"], list(results["peers"])
    for task, title in TITLES.items():
        rows = [_row(name, found[task], peers) for name, found in models.items() if task in found]
        if rows:
            versions = [f"{peer} {results['peers'][peer]}" for peer in peers]
            yield title, ["model", "minidbp", *versions, *(f"{peer} / minidbp" for peer in peers)], rows
    pairs = [[name, f["processes"]] for name, f in models.items() if "processes" in f]
    if pairs:
        rows = [[name, f"{p['one_ms']:.1f} ms", _spread(p["throughput"])] for name, p in pairs]
        yield "two single-thread trainings at once", ["model", "a step alone", "throughput of two over one"], rows
    header = ["model", "training steps before", "active share of each ReLU layer", "GFLOP, plain", "GFLOP, exact"]
    yield (
        "the models when timed",
        header,
        [
            [
                name,
                str(f["warm"]),
                " / ".join(f"{s:.2f}" for s in f["active_share"]),
                f"{f['gflop']['plain']:.2f}",
                f"{f['gflop']['exact']:.1f}",
            ]
            for name, f in models.items()
        ],
    )
    here = results["environment"]
    rates = ", ".join(f"{rate:.0f} GFLOP/s on {n}" for n, rate in results["gemm_gflops_per_s"].items())
    yield (
        "the machine",
        ["processor", "BLAS", "SGEMM 2048, by threads"],
        [[f"{here['processor']}, {here['cores']} cores", results["blas"], rates]],
    )


def _row(name: str, task: dict[str, Any], peers: list[str]) -> list[str]:
    """A model's time, each peer's, and each peer's over minidbp's."""
    found = task["peers"]
    times = [f"{found[p]['ms']:.4g} ms ({found[p]['variant']})" if p in found else "not run" for p in peers]
    ratios = [_spread(found[p]["ratio"]) if p in found else "" for p in peers]
    return [name, f"{task['minidbp_ms']:.4g} ms", *times, *ratios]


def _spread(quartiles: list[float]) -> str:
    low, median, high = quartiles
    return f"{median:.2f}" if low == high else f"{median:.2f} ({low:.2f} to {high:.2f})"


def has_place(page: Path) -> bool:
    """Does the page exist, with the marks between which `write` writes?"""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return BEGIN in text and END in text.partition(BEGIN)[2]


def write(page: Path, results: dict[str, Any]) -> None:
    """Put the tables between the page's marks.  Raises ValueError if it has none."""
    parts = [f"**{title[0].upper()}{title[1:]}**\n\n{markdown_table(h, rows)}" for title, h, rows in tables(results)]
    parts.append(f"Made by `{results['made_by']}`: batch {results['batch']}, {results['threads']} threads, float32.\n")
    tasks = [found[task] for found in results["models"].values() for task in TITLES if task in found]
    warning = contention_warning(max((task.get("others_share") or 0.0 for task in tasks), default=0.0))
    if warning:
        parts.append(f"These times are unreliable: {warning}.\n")
    put_between(page, BEGIN, END, "\n".join(parts), "the figures of the peers")

"""Where a training step spends its time: each product of each layer in each pass, as numbers, table and roofline."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from minidbp import kernels
from minidbp.bench.machine import Advance, blas_name, copy_gb_per_s, gemm_gflops_per_s, ignore
from minidbp.bench.step import Product, StepSettings, Trainer, active_shares, batches_of, products
from minidbp.data import Dataset
from minidbp.files.plots import COLOURS
from minidbp.nn import build_model
from minidbp.training import workers

# A product is identified by its result: the layer's output, the gradient in its input or in its weights, each once for
# the loss (False) and once for the rows of the Jacobian (True).
PASSES = {
    ("output", False): "forward",
    ("input", False): "adjoint",
    ("weights", False): "weights",
    ("input", True): "J reverse",
    ("output", True): "J tangent",
    ("weights", True): "J weights",
}
RESULTS = {"conv2d": "output", "conv2d_transpose": "input", "conv2d_weight_grad": "weights"}
PRODUCTS = (*RESULTS, "matmul")
ELEMENTWISE = ("absolute", "adam", "masked")
MARKERS = dict(zip(PASSES.values(), ("o", "v", "s", "^", "D", "P"), strict=True))
OnCall = Callable[[str, list[np.ndarray], np.ndarray, float], None]  # kernel, array operands, result, seconds


@contextmanager
def timed_calls(on_call: OnCall) -> Iterator[None]:
    """While this context lasts, on_call receives every call of the kernels in PRODUCTS and ELEMENTWISE.

    The functions are replaced in the module `kernels`, so this is for one thread only.
    """

    def timed(name: str) -> Callable[..., Any]:
        function = getattr(kernels, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            seconds = time.perf_counter() - started
            arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
            on_call(name, arrays, result[0] if isinstance(result, tuple) else result, seconds)
            return result

        return call

    replacements: dict[str, Any] = {name: timed(name) for name in (*PRODUCTS, *ELEMENTWISE)}
    with patch.multiple(kernels, **replacements):
        yield


@dataclass
class CallTotals:
    """Calls, seconds, GFLOP and GB by layer and pass; the layer is "" for a kernel that is no product of a layer."""

    layers: Sequence[Product]
    images: set[bytes]  # those of the batch, by which the calls of the forward pass are recognised
    totals: dict[tuple[str, str], np.ndarray]
    shard_images: int = 0

    def add(self, name: str, operands: list[np.ndarray], result: np.ndarray, seconds: float) -> None:
        """Add a call to the total of its layer and pass."""
        key, gflop = ("", name), 0.0
        if product := self._product(name, operands, result):
            layer, gives = product
            rows = result.size // (layer.n_in if gives == "input" else layer.n_out)
            if gives == "weights":  # summed over the rows of the first operand: inputs, or a transposed matrix
                rows = operands[0].size // (result.shape[-2] if name == "matmul" else layer.n_in)
            if layer is self.layers[0] and gives == "output" and any(map(self._begins_with_image, operands)):
                self.shard_images = rows  # a call with more rows than images belongs to the Jacobian
            key, gflop = (layer.name, PASSES[gives, rows > self.shard_images]), 2e-9 * rows * layer.multiply_adds
        gb = 1e-9 * sum(a.nbytes for a in (*operands, result))
        self.totals[key] = self.totals.get(key, np.zeros(4)) + np.array([1, seconds, gflop, gb])

    def _begins_with_image(self, array: np.ndarray) -> bool:  # by its values, because the engine may have copied it
        return array.ravel()[: self.layers[0].n_in].tobytes() in self.images

    def _product(self, name: str, operands: list[np.ndarray], result: np.ndarray) -> tuple[Product, str] | None:
        """The layer whose weights are an operand or have the result's shape, and what the product gives."""
        if name in ELEMENTWISE:
            return None
        for layer in self.layers:
            if any(np.may_share_memory(a, layer.weights.data) for a in operands):
                forward = operands[1].shape[-2:] == layer.weights.shape[-2:]  # no layer of ours is square
                return layer, RESULTS.get(name) or ("output" if forward else "input")
        for layer in self.layers:
            shape = layer.weights.shape
            if result.shape[-2:] in (shape[-2:], shape[:-3:-1]) and result.size % layer.weights.size == 0:
                return layer, "weights"  # or their transpose, from the rows of the Jacobian
        return None


@dataclass(frozen=True)
class KernelTime:
    """One layer in one pass, per step; `layer` is None for a kernel that is no product, such as Adam."""

    layer: str | None
    pass_: str  # or the kernel's name
    calls: float
    ms: float
    share: float  # of the step's time
    gflop: float
    gflops_per_s: float | None  # None without a layer
    flop_per_byte: float | None


@dataclass(frozen=True, kw_only=True)
class KernelTimes(StepSettings):
    """The settings of a measurement and the time of each kernel, per step.

    GFLOP count every unit, also inactive ones.  Bytes are those of the operands and the result, each once.  `other_ms`
    is the time outside all kernels: Python, and NumPy's own loops.
    """

    blas: str
    active_share: list[float]
    gemm_gflops_per_s: float
    copy_gb_per_s: float
    step_ms: float
    other_ms: float
    rows: list[KernelTime]


def time_kernels(settings: StepSettings, mnist: Dataset, advance: Advance = ignore) -> KernelTimes:
    """Train on one thread for `settings.warm` steps, but at least one, then time the kernels of `settings.steps` steps.

    advance() is called after each step.  Raises ValueError for a batch that is larger than MNIST.
    """
    model = build_model(settings.model, settings.seed)
    layers = products(model, mnist.x_train[0])
    kernels.warm_up()
    totals: dict[tuple[str, str], np.ndarray] = {}
    total = 0.0
    with workers(1) as pool:
        trainer = Trainer(model, settings.lam, settings.protocol, batches_of(mnist, settings.batch), pool)
        trainer.seconds(max(1, settings.warm), advance)  # the first step touches fresh memory
        for _ in range(settings.steps):
            images = {image.tobytes() for image in trainer.next_batch[0]}
            with timed_calls(CallTotals(layers, images, totals).add):
                total += sum(trainer.seconds(1, advance))
    names, passes = [layer.name for layer in layers], list(PASSES.values())
    of_layers = sorted((k for k in totals if k[0]), key=lambda k: (names.index(k[0]), passes.index(k[1])))
    others = sorted((k for k in totals if not k[0]), key=lambda k: -totals[k][1])
    step_seconds = total / settings.steps
    rows = [_kernel_time(key, totals[key] / settings.steps, step_seconds) for key in (*of_layers, *others)]
    return KernelTimes(
        **asdict(replace(settings, threads=1)),
        blas=blas_name(),
        active_share=active_shares(model, mnist.x_test[:512]),
        gemm_gflops_per_s=gemm_gflops_per_s(1),
        copy_gb_per_s=copy_gb_per_s(),
        step_ms=1e3 * step_seconds,
        other_ms=1e3 * step_seconds - sum(row.ms for row in rows),
        rows=rows,
    )


def _kernel_time(key: tuple[str, str], totals: np.ndarray, step_seconds: float) -> KernelTime:
    calls, seconds, gflop, gb = map(float, totals)
    rates = (gflop / seconds, gflop / gb) if gflop else (None, None)
    return KernelTime(key[0] or None, key[1], calls, 1e3 * seconds, seconds / step_seconds, gflop, *rates)


def title(times: KernelTimes) -> str:
    return f"model {times.model}, {times.penalty}, batch {times.batch}, one thread: {times.step_ms:.1f} ms per step"


def table(times: KernelTimes) -> list[list[str]]:
    """A header, a row for each product and for each other kernel, the rest of the step."""
    rows = [["layer", "pass or kernel", "calls", "ms", "% of step", "GFLOP/s", "FLOP/byte"]]
    for row in times.rows:
        rates = [f"{row.gflops_per_s:.1f}", f"{row.flop_per_byte:.1f}"] if row.layer else []
        rows.append([row.layer or "", row.pass_, f"{row.calls:.0f}", f"{row.ms:.2f}", f"{100 * row.share:.1f}", *rates])
    rest = [f"{times.other_ms:.2f}", f"{100 * times.other_ms / times.step_ms:.1f}"]
    return [*rows, ["", "rest: Python, NumPy", "", *rest]]


ABOVE_THE_ROOF = """Above the roof: the kernel skips inactive units, but the rate counts every unit;
or other programs slowed the SGEMM that was timed.
Above the slope: operands stay in the cache; the slope is that of copying memory.
Area of a point: its share of the step's time."""


def roofline(times: KernelTimes) -> Figure:
    """A roofline (Williams, Waterman and Patterson 2009) with one point for each product.

    Below the slope a product waits for memory, below the flat roof for arithmetic.  The area of a point is its share of
    the step's time.  Rates count every unit, so a product that skips inactive units may lie above the roof. A product
    whose operands stay in the cache may lie above the slope. The figure says so.
    """
    peak, slope = times.gemm_gflops_per_s, times.copy_gb_per_s
    rows = [row for row in times.rows if row.layer]
    colours = dict(zip(dict.fromkeys(row.layer for row in rows), COLOURS, strict=False))
    rates = {row: (row.flop_per_byte or 0.0, row.gflops_per_s or 0.0) for row in rows}
    intensity = [x for x, _ in rates.values()]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    x = np.geomspace(min(*intensity, peak / slope) / 2, max(*intensity, peak / slope) * 2, 200)
    axes.plot(x, np.minimum(peak, slope * x), color="black", linewidth=1.2)
    label: dict[str, Any] = {"fontsize": 9, "textcoords": "offset points"}
    axes.annotate(f"SGEMM, one thread: {peak:.0f} GFLOP/s", (x[-1], peak), (0, 3), ha="right", va="bottom", **label)
    axes.annotate(f"copying memory: {slope:.0f} GB/s", (x[0], slope * x[0]), (14, 0), va="center", **label)
    for row in rows:
        axes.scatter(
            *rates[row], s=25 + 1500 * row.share, color=colours[row.layer],
            marker=MARKERS[row.pass_], alpha=0.75, edgecolor="white", linewidth=0.8,
        )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte of operands and result", ylabel="GFLOP/s, every unit counted",
        title=title(times),
    )  # fmt: skip
    axes.set_ylim(top=1.5 * max(peak, *(rate for _, rate in rates.values())))  # room for what is written on the roof
    figure.supxlabel(ABOVE_THE_ROOF, fontsize=9)
    for axis in axes.xaxis, axes.yaxis:
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    used = {row.pass_ for row in rows}
    legend = [(layer, colour, "o") for layer, colour in colours.items()]
    legend += [(name, "gray", marker) for name, marker in MARKERS.items() if name in used]
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, c, m in legend]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure

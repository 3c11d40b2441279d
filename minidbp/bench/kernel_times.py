"""Where a training step spends its time: each product of each layer, in each pass."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidbp import kernels
from minidbp.bench.counts import Product, active_shares, products
from minidbp.bench.gemm import blas_name, copy_gb_per_s, gemm_gflops_per_s
from minidbp.bench.setting import Done, Trainer, batches_of, nothing
from minidbp.bench.step import NO_PENALTY, protocol_of
from minidbp.data import Mnist
from minidbp.nn import build_model
from minidbp.training import workers

# A product is told by what it gives: the layer's output, its input or its weights; once for the loss, and once for the
# rows of the Jacobian.
PASSES = {
    ("output", False): "forward",
    ("input", False): "adjoint",
    ("weights", False): "weights",
    ("input", True): "J reverse",
    ("output", True): "J tangent",
    ("weights", True): "J weights",
}


GIVES = {"conv2d": "output", "conv2d_transpose": "input", "conv2d_weight_grad": "weights"}
ELEMENTWISE = ("absolute", "adam", "masked")


@dataclass(frozen=True)
class Call:
    """One call of a kernel: its name, its array operands, what it returned, and the seconds it took."""

    name: str
    operands: tuple[np.ndarray, ...]
    result: np.ndarray
    seconds: float


@contextmanager
def watched(on_call: Callable[[Call], None]) -> Iterator[None]:
    """While this lasts, tell of every call of the kernels in GIVES and ELEMENTWISE.

    The functions are replaced by name, whatever their arguments.  For one thread.
    """

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.perf_counter()
            result = function(*args)
            seconds = time.perf_counter() - started
            first = result[0] if isinstance(result, tuple) else result
            on_call(Call(name, tuple(a for a in args if isinstance(a, np.ndarray)), first, seconds))
            return result

        return call

    originals = {name: getattr(kernels, name) for name in (*GIVES, *ELEMENTWISE)}
    try:
        for name, function in originals.items():
            setattr(kernels, name, watch(name, function))
        yield
    finally:
        for name, function in originals.items():
            setattr(kernels, name, function)


@dataclass
class Sorter:
    """Adds up calls by layer and pass.  `images` is the batch that the step is given."""

    layers: Sequence[Product]
    images: np.ndarray
    sums: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)  # calls, seconds, GFLOP, GB
    samples: int = 0  # of the shard that is under way

    def __post_init__(self) -> None:
        self._known = {image.tobytes() for image in self.images}

    def add(self, call: Call) -> None:
        """Count this call where it belongs: ("", its name) if it is no product with a layer's weights or for them."""
        layer, gives = self._layer(call), GIVES.get(call.name, "")
        key, gflop = ("", call.name), 0.0
        if layer:
            rows = len(call.operands[0]) if gives == "weights" else len(call.result)
            if layer is self.layers[0] and gives == "output" and self._begins(call):
                self.samples = rows  # what has more rows than the shard has images belongs to the Jacobian
            key, gflop = (layer.name, PASSES[gives, rows > self.samples]), 2e-9 * rows * layer.multiply_adds
        gb = 1e-9 * sum(a.nbytes for a in (*call.operands, call.result))
        self.sums[key] = self.sums.get(key, np.zeros(4)) + np.array([1, call.seconds, gflop, gb])

    def _layer(self, call: Call) -> Product | None:
        """Whose weights are an operand, or have the result's shape."""
        if call.name not in GIVES:
            return None
        for layer in self.layers:
            if any(np.may_share_memory(a, layer.weights.data) for a in call.operands):
                return layer
        sizes = [layer for layer in self.layers if call.result.shape[-2:] == layer.weights.shape[-2:]]
        return next((layer for layer in sizes if call.result.size == layer.weights.size), None)

    def _begins(self, call: Call) -> bool:
        """Is an operand a shard of images?  (By their values: the engine may have copied them.)"""
        size = self.images[0].size
        return any(a.ravel()[:size].tobytes() in self._known for a in call.operands)


def time_kernels(
    name: str, penalty: str, lam: float, batch: int, steps: int, warm: int, mnist: Mnist, done: Done = nothing
) -> dict[str, Any]:
    """`warm` steps on one thread, then `steps` that are watched: milliseconds, GFLOP/s and FLOP per byte by product.

    `rows` is a list with a dict for each layer and pass (layer is None for kernels that are no product), per step.
    GFLOP count every unit, also those that are off; bytes are those of the operands and the result, each once.
    `other_ms` is what no kernel accounts for: Python, and NumPy's own loops.  Raises ValueError as `time_step` does.
    """
    protocol = protocol_of(penalty, batch)
    lam = 0.0 if penalty == NO_PENALTY else lam
    batches, model = batches_of(mnist, batch), build_model(name)
    layers = products(model, mnist.x_train[0])
    kernels.warm_up()
    sums: dict[tuple[str, str], np.ndarray] = {}
    total = 0.0
    with workers(1) as team:
        trainer = Trainer(model, lam, protocol, batches, team)
        trainer.seconds(max(1, warm), done)  # the first step touches fresh memory
        for _ in range(steps):
            sorter = Sorter(layers, trainer.next_batch[0], sums)
            with watched(sorter.add):
                total += sum(trainer.seconds(1, done))
    order = [layer.name for layer in layers]
    ways = list(PASSES.values())
    keys = sorted((k for k in sums if k[0]), key=lambda k: (order.index(k[0]), ways.index(k[1])))
    keys += sorted((k for k in sums if not k[0]), key=lambda k: -sums[k][1])
    rows = [_row(key, sums[key] / steps, total / steps) for key in keys]
    return {
        "model": name,
        "penalty": penalty if lam else NO_PENALTY,
        "lam": lam,
        "batch": batch,
        "threads": 1,
        "blas": blas_name(),
        "warm": warm,
        "steps": steps,
        "active_share": active_shares(model, mnist.x_test[:512]),
        "gemm_gflops_per_s": gemm_gflops_per_s(1),
        "copy_gb_per_s": copy_gb_per_s(),
        "step_ms": 1e3 * total / steps,
        "other_ms": 1e3 * total / steps - sum(row["ms"] for row in rows),
        "rows": rows,
    }


def _row(key: tuple[str, str], sums: np.ndarray, step: float) -> dict[str, Any]:
    calls, seconds, gflop, gb = map(float, sums)
    return {
        "layer": key[0] or None,
        "pass": key[1],
        "calls": calls,
        "ms": 1e3 * seconds,
        "share": seconds / step,
        "gflop": gflop,
        "gflops_per_s": gflop / seconds if gflop else None,
        "flop_per_byte": gflop / gb if gflop else None,
    }

"""What each operation computes, as a line of text with places for its inputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minidbp.autodiff.tensor import Tensor

# {0}, {1}: the inputs; {shape}: the result's shape; other names: what `record` was given with `again`.  Of several,
# the first that has all it needs.
FORMULAS: dict[str, tuple[str, ...]] = {
    "abs": ("|{0}|",),
    "add": ("{0} + {1}",),
    "astype": ("{0} as {dtype}",),
    "broadcast_to": ("{0} repeated to {shape}",),
    "conv2d": ("conv2d({0}, {1}{form})",),
    "conv2d_transpose": ("conv2d_transpose({0}, {1}{form})",),
    "conv2d_weight_grad": ("conv2d_weight_grad({0}, {1}{form})",),
    "divide": ("{0} / {1}",),
    "exp": ("exp({0})",),
    "getitem": ("{0}[{index}]",),
    "log": ("log({0})",),
    "logsumexp": ("log(sum(exp({0}){axis}))",),
    "masked": ("{0} where on, else 0",),
    "matmul": ("{0} @ {1}",),
    "max": ("max({0}{axis})",),
    "maximum": ("max({0}, {1})",),
    "multiply": ("{0} * {1}",),
    "negative": ("-{0}",),
    "power": ("{0} ** {p}", "{0} ** {1}"),
    "put": ("zeros{shape} with {0} added at [{index}]",),
    "relu": ("max({0}, 0)",),
    "reshape": ("{0} as {shape}",),
    "sign": ("sign({0})",),
    "subtract": ("{0} - {1}",),
    "sum": ("sum({0}{axis})",),
    "transpose": ("{0} with axes {axes}",),
    "watch": ("{0} seen as {name!r}",),
}
ADJOINTS = {"_conv_transpose": "{0} @ {1}.T", "_weight_grad": "{0}.T @ {1}"}  # of a matrix product, which are ones too


def formula(name: str, inputs: Sequence[str], shape: tuple[int, ...], again: Callable[..., Tensor] | None) -> str:
    """The operation's formula with `inputs` in their places; "name(inputs)" for one that is not in FORMULAS."""
    arguments = dict(again.keywords) if isinstance(again, partial) else {}
    if name == "matmul" and isinstance(again, partial) and again.func.__name__ in ADJOINTS:
        return ADJOINTS[again.func.__name__].format(*inputs)
    said = {word: _said(word, value) for word, value in arguments.items()} | {"shape": shape}
    for template in FORMULAS.get(name, ()):
        try:
            return template.format(*inputs, **said)
        except (KeyError, IndexError):
            continue
    return f"{name}({', '.join(inputs)})"


def _said(word: str, value: Any) -> Any:
    """An argument as it stands in a formula; what is usual is left out."""
    if word == "axis":
        return f", axis={value[0] if len(value) == 1 else value}"
    if word == "form":
        stride, pad = value.geometry.stride, value.geometry.pad
        return f"{f', stride={stride}' if stride != (1, 1) else ''}{f', pad={pad}' if pad != (0, 0) else ''}"
    if word == "index":
        return ", ".join(map(_index, value))
    if word == "dtype":
        return np.dtype(value)
    return value


def _index(part: Any) -> str:
    if isinstance(part, slice):
        start, stop, step = ("" if n is None else str(n) for n in (part.start, part.stop, part.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if isinstance(part, np.ndarray):
        return str(part.tolist()) if part.size <= 4 else f"an array of shape {part.shape}"
    return str(part)

"""What a trace records: each operation as a Step, and each input that no step made as a Leaf."""

import inspect
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidbp.autodiff.tensor import Node, Tensor, from_array
from minidbp.files.reading import printable
from minidbp.inspection.values import Recorded
from minidbp.kernels import ConvGeometry

ORDERS = ("forward", "backward", "backward of the backward")


def order_in_words(order: int) -> str:
    """0 is "forward", 1 "backward", 2 "backward of the backward", then "order 3" and so on."""
    return ORDERS[order] if order < len(ORDERS) else f"order {order}"


def count_by_order(steps: Sequence["Step"]) -> str:
    """How many steps there are, in all and of each order, in words."""
    counts = Counter(step.order for step in steps)
    parts = [f"{counts[order]} {order_in_words(order)}" for order in sorted(counts)]
    return f"{len(steps)} steps" + (f": {', '.join(parts)}" if parts else "")


class Leaf(Recorded):
    """A parameter, image or constant.  Its label is its tensor's name, its only value, or its kind and shape."""

    @classmethod
    def of(cls, t: Tensor) -> "Leaf":
        if t.name:
            label = printable(t.name)  # XML can hold no other characters
        elif t._node:
            label = f"earlier {t._node.name} {t.shape}"
        elif t.requires_grad:
            label = f"leaf {t.shape}"
        else:
            label = f"{t.item():.6g}" if t.size == 1 and t.dtype.kind == "f" else f"const {t.shape}"
        return cls(label, 0, from_array(t.data))


@dataclass(frozen=True, eq=False, repr=False)
class Step(Recorded):
    """One operation, with the attributes of every recorded value and these.

    Attributes:
        number: Its number in the trace.
        node: The operation as the graph has it: `node.function(*node.inputs, **node.static)` runs it again.
        inputs: The Steps and Leaves that it was computed from.
        rule_of: The number of the step whose derivative rule made this one, or None.
    """

    number: int
    node: Node
    inputs: tuple[Recorded, ...]
    rule_of: int | None

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.node.name

    @property
    def formula(self) -> str:
        """The formula at the beginning of the operation's docstring, with labels and static arguments in their places.

        A static argument that stands after a comma, `sum(x, axis)`, is shown by name, or left out if it is None.
        "name(inputs)" for an operation whose docstring does not begin with a formula.
        """
        labels = [i.label for i in self.inputs]
        formula = re.match(r"\s*`([^`]+)`", self.node.function.__doc__ or "")
        if not formula:
            return f"{self.name}({', '.join(labels)})"
        parameters = inspect.signature(self.node.function).parameters
        for i, p in enumerate(parameters.values()):
            if p.kind is p.VAR_POSITIONAL:  # *xs stands for all that are left
                labels[i:] = [", ".join(labels[i:])]
        operands = dict(zip(parameters, labels, strict=False))
        static = {name: p.default for name, p in parameters.items()} | self.node.static

        def fill_in(match: re.Match[str]) -> str:
            before, name = match[1] or "", match[2]
            if name in operands or name not in static:
                return before + operands.get(name, name)
            value = static[name]
            if before == ", ":
                return _keyword(name, value)
            return before + (", ".join(map(_text, value)) if before == "[" else _text(value))

        return re.sub(r"(, |\[)?\b([A-Za-z_]\w*)", fill_in, formula[1])

    def headline(self) -> str:
        rule_of = f", by the rule of #{self.rule_of}" if self.rule_of is not None else ""
        return f"{self.label}  {self.name}  {self.formula}  ({order_in_words(self.order)}{rule_of})"


def _keyword(name: str, value: Any) -> str:
    """A static argument behind a comma; of a geometry, the stride and the padding that are not the default."""
    if isinstance(value, ConvGeometry):
        stride = f", stride={value.stride}" if value.stride != (1, 1) else ""
        return stride + (f", pad={value.pad}" if value.pad != (0, 0) else "")
    return "" if value is None else f", {name}={_text(value)}"


def _text(value: Any) -> str:
    """A static argument inside a formula: an index as it is written, an array as its dtype and shape."""
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.ndim <= 1 and value.size <= 4 else f"{value.dtype} {value.shape}"
    if isinstance(value, slice):
        start, stop, step = ("" if n is None else str(n) for n in (value.start, value.stop, value.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return str(value)

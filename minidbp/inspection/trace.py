"""trace: every operation of a computation, in order, to be shown, drawn and checked.

    with mdb.trace() as t:
        loss = mdb.nn.cross_entropy(model(x), y) + lam * mdb.robust.jacobian_l1(model, x)
        gradients = mdb.grad(loss, model.parameters())
    t.table()

The order of a step is the number of backward passes that it is deep.  A forward step has order 0.  A step in a rule of
a forward step, or computed from what such a rule returned, has order 1.  A step in a rule of a step of order 1 has
order 2.  So in the gradient of CE + lam |J| the way back through CE has order 1.  The way back through |J| has order 2,
because |J| itself was made by a backward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

import numpy as np

from minidbp.autodiff.tensor import Node, Tensor, from_array, traced_by
from minidbp.inspection.graph import Graph
from minidbp.inspection.replay import ReplayReport, replay
from minidbp.inspection.steps import Leaf, Step, count_by_order, order_in_words
from minidbp.inspection.table import Table
from minidbp.inspection.values import Recorded


@contextmanager
def trace() -> "Iterator[Trace]":
    """Record every operation of this block, in this thread, in a Trace; under `no_grad` too.

    Traces may be nested: each records.  What was computed before the block counts as order 0.  A trace keeps every
    array of the block until it is dropped.
    """
    t = Trace()
    with traced_by(t):
        yield t


class Trace:
    """The steps of a computation: `t[step]` (also `t[-1]`, and `t[3:9]`, a list), `len(t)`, `for step in t`."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        # Tensors and arrays by their id.  They are kept, so that no other object gets the same id.
        self._tensors: dict[int, tuple[Tensor, int, Recorded]] = {}
        self._arrays: dict[int, tuple[np.ndarray, Step]] = {}  # a detached tensor has the array of its step
        self._rules: list[tuple[int, int | None]] = [(0, None)]  # order and step of the rules that are being computed

    def add(self, node: Node, out: Tensor) -> None:
        """Record one more operation; the engine calls this."""
        inputs = tuple(self._recorded(t) for t in node.inputs)
        order, rule_of = self._rules[-1]
        order = max([order, *(i.order for i in inputs)])
        number = len(self._steps)
        value = from_array(out.data)  # not copied: a leaf that is given new data gets another array
        step = Step(f"#{number}", order, value, number, node, inputs, rule_of)
        self._steps.append(step)
        self._tensors[id(out)] = out, out._version, step
        self._arrays[id(out.data)] = out.data, step

    def enter(self, t: Tensor) -> None:
        """From here on a rule of t's operation is computed; the engine calls this."""
        recorded = self._recorded(t)
        self._rules.append((1 + recorded.order, recorded.number if isinstance(recorded, Step) else None))

    def leave(self) -> None:
        """That rule is done; the engine calls this."""
        self._rules.pop()

    def _recorded(self, t: Tensor) -> Recorded:
        """The step that made t, or a Leaf."""
        if id(t) in self._tensors:
            _, version, recorded = self._tensors[id(t)]
            if version == t._version:
                return recorded
        recorded = self._arrays[id(t.data)][1] if id(t.data) in self._arrays else Leaf.of(t)
        self._tensors[id(t)] = t, t._version, recorded
        return recorded

    def table(self) -> Table:
        """A row for each step: number, operation, formula, shape, order, whose rule made it, min, mean, max."""
        columns = ("step", "operation", "formula", "shape", "order", "rule of", "min", "mean", "max")
        rows = []
        for s in self:
            rule_of = "" if s.rule_of is None else f"#{s.rule_of}"
            rows.append((s.label, s.name, s.formula, str(s.shape), order_in_words(s.order), rule_of, *s.statistics()))
        return Table(columns, rows, [s.order for s in self])

    def graph(self, upto: int | None = None) -> Graph:
        """A drawing with a row for each order and arrows from inputs; pointing at a step shows its figures.

        With `upto`, the number of a step, that step is framed and later ones are pale: so a slider shows one step after
        the other.  Raises IndexError if there is no such step.
        """
        return Graph(self._steps, upto if upto is None else self[upto].number)

    def check(self, seed: int = 0) -> ReplayReport:
        """Compare each step's rules with finite differences of its operation, and its value with one in float64.

        Every rule is called with random cotangents (from `seed`) and compared along one direction for each input.  The
        differences are taken in float64 at the inputs that the step had.  A derivative may be wrong by 1e-6 of its size
        along a random direction, by 1e-4 in a trace of float32.  A value may differ by 1e-9 (1e-4) of the largest.
        Elements that lie on a kink at 0 are left out, and counted.  Nothing is raised: the report has a row for each
        step, and `ok` for all.  A step that could not be checked does not count as wrong.
        """
        return replay(self._steps, seed)

    @overload
    def __getitem__(self, step: int) -> Step: ...
    @overload
    def __getitem__(self, step: slice) -> list[Step]: ...
    def __getitem__(self, step: int | slice) -> Step | list[Step]:
        try:
            return self._steps[step]
        except IndexError:
            raise IndexError(f"this trace has {len(self)} steps; there is no step {step}") from None

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __repr__(self) -> str:
        return f"Trace of {count_by_order(self._steps)}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

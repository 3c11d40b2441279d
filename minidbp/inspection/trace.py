"""trace: every operation of a computation, in order, to be looked at, drawn and checked.

    with mdb.trace() as t:
        loss = mdb.nn.cross_entropy(model(x), y) + lam * mdb.robust.jacobian_l1(model, x)
        gradients = mdb.grad(loss, model.parameters())
    t.table()

The order of a step is the number of backward passes that it is deep: 0 forward; 1 in a rule of a forward step, or made
from what such a rule returned; 2 in a rule of a step of order 1.  So in the gradient of CE + lam |J| the way back
through CE has order 1, and the way back through |J|, which was made by a backward pass itself, has order 2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import overload

import numpy as np

from minidbp.autodiff.tensor import Rule, Tensor, traced_by
from minidbp.inspection.graph import Graph
from minidbp.inspection.replay import ReplayReport, check_steps
from minidbp.inspection.steps import Leaf, Step, count_by_order, order_in_words
from minidbp.inspection.table import Table
from minidbp.inspection.values import Recorded


@contextmanager
def trace() -> "Iterator[Trace]":
    """A Trace of the operations in this block, in this thread, under `no_grad` too; of traces in each other, all hear.

    What was computed before the block counts as order 0.  A trace keeps every array of the block until it is dropped.
    """
    t = Trace()
    with traced_by(t):
        yield t


class Trace:
    """The steps of a computation: `t[step]` (also t[-1], and t[3:9], a list), `len(t)`, `for step in t`."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        # by the id of a tensor, which is kept so that it lives
        self._known: dict[int, tuple[Tensor, int, Recorded]] = {}
        self._arrays: dict[int, tuple[np.ndarray, Step]] = {}  # so are arrays: a detached tensor has the step's own
        self._loose: list[tuple[Tensor, Step]] = []  # whose array becomes another when somebody looks at it
        self._within: list[tuple[int, int | None]] = [(0, None)]  # order and step of the rules that are being computed

    def add(
        self,
        name: str,
        out: Tensor,
        inputs: Sequence[Tensor],
        rules: Sequence[Rule],
        inside: "Sequence[Rule | None] | None",
        again: Callable[..., Tensor] | None,
    ) -> None:
        """One more operation: `record` tells."""
        places = [self._place(t) for t in inputs]
        order, rule_of = self._within[-1]
        order = max([order, *(p.order for p in places)])
        inside = inside or (None,) * len(rules)
        step = Step(len(self._steps), name, out, inputs, places, order, rule_of, rules, inside, again)
        self._steps.append(step)
        self._known[id(out)] = out, out._version, step
        self._arrays[id(out._data)] = out._data, step
        if out._loose:
            self._loose.append((out, step))

    def enter(self, t: Tensor) -> None:
        """From here on t's rule is computed."""
        place = self._place(t)
        self._within.append((1 + place.order, place.number if isinstance(place, Step) else None))

    def leave(self) -> None:
        """That rule is done."""
        self._within.pop()

    def _place(self, t: Tensor) -> Recorded:
        if id(t) in self._known:
            _, version, place = self._known[id(t)]
            if version == t._version:
                return place
        self._arrays |= {id(out._data): (out._data, step) for out, step in self._loose if not out._loose}
        self._loose = [(out, step) for out, step in self._loose if out._loose]
        place = self._arrays[id(t._data)][1] if id(t._data) in self._arrays else Leaf(t)
        self._known[id(t)] = t, t._version, place
        return place

    def table(self) -> Table:
        """Every step in a line: number, operation, formula, shape, order, whose rule, min, mean, max."""
        columns = ("step", "operation", "formula", "shape", "order", "rule of", "min", "mean", "max")
        rows = [
            (
                step.label,
                step.name,
                step.formula,
                str(step.shape),
                order_in_words(step.order),
                "" if step.rule_of is None else f"#{step.rule_of}",
                *step.statistics(),
            )
            for step in self._steps
        ]
        return Table(columns, rows, [step.order for step in self._steps])

    def graph(self) -> Graph:
        """A drawing with a row for each order, arrows from inputs, and for each step its figures when pointed at."""
        return Graph(self._steps)

    def check(self, seed: int = 0) -> ReplayReport:
        """Each step's rules against finite differences of its operation; one line for each step, `ok` for all.

        Every rule that the steps were recorded with is called with random cotangents (from `seed`) and compared, along
        one direction for each input, with differences in float64 at the inputs that the step had: a derivative may be
        off by 1e-6 of what it is along a random direction, by 1e-4 in a trace of float32.  The value, run again in
        float64, may differ by 1e-9 (1e-4) of the largest.  Elements that stand on a kink at 0 are left out, and
        counted.  A wrong rule is shown, not raised; what could not be checked is named, and does not count as wrong.
        """
        return check_steps(self._steps, seed)

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

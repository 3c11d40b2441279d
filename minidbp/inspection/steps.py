"""What a trace keeps: each operation as a Step, and what no step made (parameters, images, constants) as a Leaf."""

from collections import Counter
from collections.abc import Callable, Sequence

from minidbp.autodiff.tensor import Rule, Tensor
from minidbp.inspection.formulas import formula
from minidbp.inspection.values import Recorded, snapshot

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
    """An input that no step of the trace made: called by its tensor's name, its only value, or its kind and shape."""

    def __init__(self, t: Tensor) -> None:
        tensor = snapshot(t)
        if t.name:
            label = t.name
        elif t._operation:
            label = f"earlier {t._operation.name} {t.shape}"
        elif t.requires_grad:
            label = f"leaf {t.shape}"
        else:
            label = f"{tensor.data.item():.6g}" if t.size == 1 else f"const {t.shape}"
        super().__init__(label, 0, tensor)


class Step(Recorded):
    """One operation.

    Attributes, beside those of every value: `number` (its place in the trace), `name`, `inputs` (Steps and Leaves),
    `formula`, `rule_of` (the number of the step whose rule made this one, or None).  For the check: `rules`, `inside`
    and `again` as `record` has them, `tensors` (the inputs themselves and which version of their data was used).
    """

    def __init__(
        self,
        number: int,
        name: str,
        out: Tensor,
        inputs: Sequence[Tensor],
        places: Sequence[Recorded],
        order: int,
        rule_of: int | None,
        rules: Sequence[Rule],
        inside: "Sequence[Rule | None]",
        again: Callable[..., Tensor] | None,
    ) -> None:
        super().__init__(f"#{number}", order, snapshot(out))
        self.number, self.name, self.inputs, self.rule_of = number, name, tuple(places), rule_of
        self.tensors = tuple((t, t._version) for t in inputs)
        self.rules, self.inside, self.again = tuple(rules), tuple(inside), again

    @property
    def formula(self) -> str:
        return formula(self.name, [i.label for i in self.inputs], self.shape, self.again)

    def headline(self) -> str:
        made = f", by the rule of #{self.rule_of}" if self.rule_of is not None else ""
        return f"{self.label}  {self.name}  {self.formula}  ({order_in_words(self.order)}{made})"

"""What a trace keeps: each operation as a Step, and what no step made (parameters, images, constants) as a Given."""

from collections.abc import Callable, Sequence

import numpy as np

from minidbp.autodiff.formulas import formula
from minidbp.autodiff.tensor import Rule, Tensor, wrap

ORDERS = ("forward", "backward", "backward of the backward")


def order_in_words(order: int) -> str:
    """0 is "forward", 1 "backward", 2 "backward of the backward", then "order 3" and so on."""
    return ORDERS[order] if order < len(ORDERS) else f"order {order}"


def kept(t: Tensor) -> Tensor:
    """A constant with the values that t has now, not copied: t may be given others later."""
    same = wrap(t._data)
    same.support, same._loose = t.support, t._loose
    return same


class Recorded:
    """A value that a trace knows.

    Attributes: `label` (what formulas call it), `order` (how many backward passes deep it was made), `tensor` (the
    values as a constant Tensor), `value` (the same as a read-only array), `shape`, `dtype`; computed when asked for:
    `min`, `mean` and `max` of what is not NaN (NaN if there is nothing; real parts of complex numbers), `nans`.
    """

    def __init__(self, label: str, order: int, tensor: Tensor) -> None:
        self.label, self.order, self.tensor = label, order, tensor

    @property
    def value(self) -> np.ndarray:
        return self.tensor.data

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        return self.tensor.dtype

    @property
    def min(self) -> float:
        return self._of_numbers(np.min)

    @property
    def mean(self) -> float:
        return self._of_numbers(np.mean)

    @property
    def max(self) -> float:
        return self._of_numbers(np.max)

    @property
    def nans(self) -> int:
        return int(np.isnan(self.value).sum())

    def _of_numbers(self, statistic: Callable[[np.ndarray], np.floating]) -> float:
        numbers = self.value.real[~np.isnan(self.value)].astype(np.float64)
        with np.errstate(invalid="ignore"):  # the mean of inf and -inf is NaN
            return float(statistic(numbers)) if numbers.size else float("nan")


class Given(Recorded):
    """An input that no step of the trace made: called by its tensor's name, its only value, or its kind and shape."""

    def __init__(self, t: Tensor) -> None:
        tensor = kept(t)
        if t.name:
            label = t.name
        elif t._operation:
            label = f"earlier {t._operation.name} {t.shape}"
        elif t.requires_grad:
            label = f"leaf {t.shape}"
        else:
            label = f"{tensor.data.item():.6g}" if t.size == 1 else f"const {t.shape}"
        super().__init__(label, 0, tensor)
        self.name, self.requires_grad = t.name, t.requires_grad

    def __repr__(self) -> str:
        return f"{self.label}: {self.dtype} {self.shape}"


class Step(Recorded):
    """One operation.

    Attributes, beside those of every value: `number` (its place in the trace), `name`, `inputs` (Steps and Givens),
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
        super().__init__(f"#{number}", order, kept(out))
        self.number, self.name, self.inputs, self.rule_of = number, name, tuple(places), rule_of
        self.tensors = tuple((t, t._version) for t in inputs)
        self.rules, self.inside, self.again = tuple(rules), tuple(inside), again

    @property
    def formula(self) -> str:
        return formula(self.name, [i.label for i in self.inputs], self.shape, self.again)

    def __repr__(self) -> str:
        made = f", by the rule of #{self.rule_of}" if self.rule_of is not None else ""
        nans = f", {self.nans} NaN" if self.nans else ""
        return (
            f"#{self.number}  {self.name}  {self.formula}  ({order_in_words(self.order)}{made}): {self.dtype} "
            f"{self.shape}, min {self.min:.4g}, mean {self.mean:.4g}, max {self.max:.4g}{nans}"
        )

"""A value as it is shown: its figures in words, and in notebooks its numbers or a picture."""

from collections.abc import Callable
from html import escape

import numpy as np

from minidbp.autodiff.tensor import Tensor, wrap


def kept(t: Tensor) -> Tensor:
    """A constant with the values that t has now, not copied: t may be given others later."""
    same = wrap(t._data)
    same.support, same._loose = t.support, t._loose
    return same


class Recorded:
    """A value that a trace or a watch has seen.

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
        with np.errstate(invalid="ignore", over="ignore"):  # the mean of inf and -inf is NaN, of huge numbers inf
            return float(statistic(numbers)) if numbers.size else float("nan")

    def headline(self) -> str:
        """What this value is, in a line."""
        return self.label

    def figures(self) -> str:
        """dtype, shape, min, mean, max and, if there are any, how many NaN."""
        nans = f", {self.nans} NaN" if self.nans else ""
        return f"{self.dtype} {self.shape}, min {self.min:.4g}, mean {self.mean:.4g}, max {self.max:.4g}{nans}"

    def __repr__(self) -> str:
        return f"{self.headline()}: {self.figures()}"

    def _repr_html_(self) -> str:
        from minidbp.inspection.html import array_html  # imports Pillow

        return f"<div><b>{escape(self.headline())}</b>: {escape(self.figures())}</div>{array_html(self.value)}"


def tensor_html(t: Tensor) -> str:
    """How a notebook shows a Tensor: name and origin, dtype, shape, min, mean, max, and the values."""
    origin = f", made by {t._operation.name}" if t._operation else ", requires_grad" if t.requires_grad else ""
    return Recorded(f"{t.name or 'Tensor'}{origin}", 0, t)._repr_html_()


Tensor._repr_html_ = tensor_html  # type: ignore[assignment, method-assign]

"""The function under test at its inputs: what its rules give, and what messages say about it."""

from collections.abc import Sequence

import numpy as np

from minidbp.autodiff.differentiate import constant_operands, grad, operation_names
from minidbp.autodiff.tensor import NotDifferentiableError, Tensor, from_array
from minidbp.checking.causes import IN_PLACE, NARROW, likely_cause
from minidbp.checking.errors import GradcheckError
from minidbp.checking.noise import rounding_noise, tiny_direction
from minidbp.checking.points import Functions, largest, moved

ORDINALS = {1: "first", 2: "second", 3: "third"}


class Subject:
    """The function f at xs.  Its first derivatives are the `order`-th ones of the function that the user gave.

    Attributes:
        leaves, ys: The inputs as Tensors, and the outputs.
        largest: The largest absolute value of an input or output, at least 1.
        operations: The names of the operations in the graph.
    """

    def __init__(self, f: Functions, xs: list[np.ndarray], order: int, rtol: float, rng: np.random.Generator) -> None:
        self.f, self.xs, self.order, self.rtol, self.rng = f, xs, order, rtol, rng
        self.leaves = named_leaves(xs)
        self.ys = f(self.leaves)
        self.largest = max(1.0, largest(xs), largest([y.data for y in self.ys]))
        self.operations = operation_names(self.ys)
        names = " -> ".join([*self.operations[:8], *(["..."] if len(self.operations) > 8 else [])])
        self.name = names or "f, which left no graph,"
        self.derivative = f"the {ORDINALS.get(order, f'{order}th')} derivative of {self.name}"

    def pull(self, y: Tensor, leaves: list[Tensor], v: np.ndarray) -> list[np.ndarray]:
        """The cotangents of the leaves for the cotangent v of y."""
        v = np.asarray(v)  # arithmetic on arrays of shape () gives scalars
        cotangent = from_array(v.view() if 0 in v.strides else v.copy(order="K"))  # a broadcast v keeps its strides
        try:
            pulled = [g.data for g in grad(y, leaves, cotangent, allow_unused=True)]
        except NotDifferentiableError:
            raise
        except Exception as error:
            if not (notes := getattr(error, "__notes__", [])):  # the engine's own message names the operation
                raise
            raise self.error(f"{type(error).__name__}: {error}; {' '.join(notes)}", 0) from error
        if not np.array_equal(cotangent.data, v):
            raise self.error("a rule changed the cotangent that was passed to it", 0, IN_PLACE)
        for i, (x, leaf) in enumerate(zip(self.xs, leaves, strict=True)):  # the leaves hold copies
            if not np.array_equal(x, leaf.data):
                raise self.error(f"input {i} was changed by the computation", i, IN_PLACE)
        return pulled

    def cause(self, *comparison: np.ndarray) -> str:
        """The likely cause: from the graph if it shows there, else from the numbers (see `likely_cause`).

        The graph shows it if one of its constants changes when the inputs move.
        """
        further = self.f(named_leaves(moved(self.xs, tiny_direction(self.xs, self.rng), 1.0)))
        for (name, here), (_, there) in zip(constant_operands(self.ys), constant_operands(further), strict=False):
            if here.shape == there.shape and not np.array_equal(here, there):
                return f"{name} was given a constant that depends on the inputs: a raw array, or a detached value"
        if cause := likely_cause(*comparison, order=self.order):
            return cause
        noise = rounding_noise(self.f, self.xs, self.rng).closest
        accuracy = max(largest([e]) / (largest([y.data]) or 1.0) for e, y in zip(noise, self.ys, strict=True))
        return NARROW if accuracy > 1e-10 else ""

    def error(self, message: str, i: int, cause: str = "") -> GradcheckError:
        return GradcheckError(message, self.order, self.operations, i, cause)


def named_leaves(xs: Sequence[np.ndarray]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True, name=f"input {i}") for i, x in enumerate(xs)]

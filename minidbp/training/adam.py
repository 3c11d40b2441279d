"""Adam."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minidbp import kernels
from minidbp.autodiff import Tensor


@dataclass(eq=False)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on a list of parameters; `step` takes their gradients in that order.

    Raises:
        ValueError: learning_rate or eps is negative or not finite, or beta1 or beta2 is outside [0, 1).
        TypeError: a parameter is no Tensor.
    """

    parameters: Sequence[Tensor]
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_numbers("Adam", learning_rate=self.learning_rate, eps=self.eps)
        check_shares("Adam", beta1=self.beta1, beta2=self.beta2)
        self.parameters, self.t = checked_parameters("Adam", self.parameters), 0
        self.m = [np.zeros_like(p.data) for p in self.parameters]
        self.v = [np.zeros_like(p.data) for p in self.parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Give every parameter its new value.

        Raises ValueError, before anything changes, if the gradients do not fit the parameters, and TypeError if they
        are Tensors: `step` takes their arrays.
        """
        check_gradients("Adam", self.parameters, gradients)
        self.t += 1
        settings = {"lr": self.learning_rate, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            p.set_data(kernels.adam(p.data, g, m, v, self.t, **settings))


def checked_parameters(optimiser: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list.  Raises TypeError for anything else than Tensors, such as the model itself."""
    listed = list(parameters) if isinstance(parameters, Iterable) else [parameters]
    for p in listed:
        if not isinstance(p, Tensor):
            raise TypeError(
                f"{optimiser} takes a list of Tensors, such as model.parameters(); got a {type(p).__name__}"
            )
    return listed


def check_numbers(optimiser: str, **values: float) -> None:
    """Raise ValueError unless every value is a finite number of at least 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{optimiser}: {name} must be a number of at least 0; got {value}")


def check_shares(optimiser: str, **values: float) -> None:
    """Raise ValueError unless every value lies in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{optimiser}: {name} must lie in [0, 1); got {value}")


def check_gradients(optimiser: str, parameters: Sequence[Tensor], gradients: Sequence[np.ndarray]) -> None:
    """Raise unless there is one gradient for each parameter, an array (TypeError) of its shape and dtype."""
    if len(gradients) != len(parameters):
        raise ValueError(f"{optimiser}: there must be {len(parameters)} gradients; got {len(gradients)}")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if isinstance(g, Tensor):  # as `grad` returns them
            raise TypeError(f"{optimiser}: a gradient must be an array; got a Tensor: pass [g.data for g in gradients]")
        if (g.shape, g.dtype) != (p.shape, p.dtype):
            name = p.name or f"parameter {i}"
            raise ValueError(
                f"{optimiser}: the gradient of {name} must be {p.dtype} {p.shape}; got {g.dtype} {g.shape}"
            )

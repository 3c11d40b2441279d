"""Checks of what an optimiser is given: parameters, settings, gradients."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from minidbp.autodiff import Tensor


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

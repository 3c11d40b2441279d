"""Stochastic gradient descent with momentum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidbp import kernels
from minidbp.autodiff import Tensor
from minidbp.training.checks import check_gradients, check_numbers, check_shares, checked_parameters


@dataclass(eq=False)
class SGD:
    """`v = momentum v + g`, `p = p - learning_rate v`, with v = 0 before the first step: PyTorch's SGD with momentum.

    `step` takes the gradients of the parameters in their order, as Adam's does.

    Raises:
        ValueError: learning_rate is negative or not finite, or momentum is outside [0, 1).
        TypeError: a parameter is no Tensor.
    """

    parameters: Sequence[Tensor]
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        self._check_settings()
        self.parameters = checked_parameters("SGD", self.parameters)
        self.v = [np.zeros_like(p.data) for p in self.parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Give every parameter its new value.

        Raises ValueError, before anything changes, if the gradients do not fit the parameters or a setting was changed
        to a wrong one, and TypeError if they are Tensors: `step` takes their arrays.
        """
        self._check_settings()
        check_gradients("SGD", self.parameters, gradients)
        for p, g, v in zip(self.parameters, gradients, self.v, strict=True):
            new = kernels.empty_like(p.data)  # with the memory layout of the old values
            with np.errstate(under="ignore"):  # a momentum dies out
                v *= self.momentum
                v += g
                np.subtract(p.data, self.learning_rate * v, out=new)
            p.set_data(new)

    def _check_settings(self) -> None:
        check_numbers("SGD", learning_rate=self.learning_rate)
        check_shares("SGD", momentum=self.momentum)

"""Adam."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidbp import kernels
from minidbp.autodiff import Tensor
from minidbp.training.checks import check_gradients, check_numbers, check_shares, checked_parameters


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
        self._check_settings()
        self.parameters, self.t = checked_parameters("Adam", self.parameters), 0
        self.m = [np.zeros_like(p.data) for p in self.parameters]
        self.v = [np.zeros_like(p.data) for p in self.parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Give every parameter its new value.

        Raises ValueError, before anything changes, if the gradients do not fit the parameters or a setting was changed
        to a wrong one, and TypeError if they are Tensors: `step` takes their arrays.
        """
        self._check_settings()
        check_gradients("Adam", self.parameters, gradients)
        self.t += 1
        settings = {"lr": self.learning_rate, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            p.set_data(kernels.adam(p.data, g, m, v, self.t, **settings))

    def _check_settings(self) -> None:
        check_numbers("Adam", learning_rate=self.learning_rate, eps=self.eps)
        check_shares("Adam", beta1=self.beta1, beta2=self.beta2)

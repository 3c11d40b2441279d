"""Layers with their ReLU in one operation (PyTorch's intrinsic.LinearReLU and ConvReLU2d): the same values, faster."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from minidbp.autodiff import Tensor, conv2d_relu, linear_relu
from minidbp.nn.layers import Conv2d, Linear, ReLU, Sequential

Model = TypeVar("Model")


class LinearReLU(Linear):
    """`max(x W + b, 0)`; shares the parameters of `layer`."""

    def __init__(self, layer: Linear) -> None:
        self.w, self.b = layer.w, layer.b

    def __call__(self, x: Tensor) -> Tensor:
        return linear_relu(x, self.w, self.b)


class Conv2dReLU(Conv2d):
    """`max(conv2d(x, W) + b, 0)`; shares the parameters of `layer`."""

    def __init__(self, layer: Conv2d) -> None:
        self.w, self.b, self.stride, self.padding = layer.w, layer.b, layer.stride, layer.padding

    def __call__(self, x: Tensor) -> Tensor:
        return conv2d_relu(x, self.w, self.b, self.stride, self.padding)


FUSED: dict[type, Callable] = {Linear: LinearReLU, Conv2d: Conv2dReLU}


def fuse(model: Model) -> Model:
    """A copy of a Sequential on the same parameters, with each Linear or Conv2d before a ReLU fused with it.

    The products then skip what the ReLU turned off. Outputs and derivatives of every order are the model's to rounding.
    Sequentials inside are fused too; other layers, and a model of another class, are returned as they are. A layer of
    your own may hold a fused Sequential: `self.body = nn.fuse(Sequential(...))`.
    """
    if not isinstance(model, Sequential) or type(model) is not Sequential:  # a subclass may call its layers otherwise
        return model
    layers: list[Any] = []
    for layer in map(fuse, model.layers):
        if type(layer) is ReLU and layers and type(layers[-1]) in FUSED:
            layers[-1] = FUSED[type(layers[-1])](layers[-1])
        else:
            layers.append(layer)
    fused = copy.copy(model)  # Sequential(...) would rename the shared parameters
    fused.layers = layers
    return fused

"""What every layer has: a call, parameters with names, two modes, and copies of another dtype."""

import copy
import typing
from collections import UserList, deque
from collections.abc import Iterator, Mapping, Sequence, Set
from types import NoneType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from minidbp.autodiff import Tensor, no_grad
from minidbp.autodiff.tensor import DTYPES

Own = TypeVar("Own", bound="Layer")
PLAIN = {int, float, bool, str, NoneType, np.ndarray, np.random.Generator}  # not searched for parameters


class TrainableModel(typing.Protocol):
    """What can be trained: a function of a Tensor (N, ...) -> (N, c) that lists its parameters, always in one order."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def parameters(self) -> Sequence[Tensor]:
        """The leaves that training moves, each once."""
        ...


class Layer:
    """The base of every layer and model: a function of a Tensor (N, ...), with the parameters among its attributes.

    A parameter is a leaf that requires a gradient: `Tensor(array, requires_grad=True)`. The attributes may be
    Tensors and layers, or lists, tuples and dicts of them, at any depth. Sets and other containers of them raise
    TypeError in `parameters()`, and so does a class with `__slots__`. `self.training` says which mode is on.

    A subclass defines `__call__`. It need not call `super().__init__()`.
    """

    training = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__dict__.get("__slots__"):
            raise TypeError(f"{cls.__name__}: a Layer is searched for parameters in its __dict__; leave __slots__ out")

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} needs a method __call__(self, x) that returns a Tensor")

    def parameters(self) -> list[Tensor]:
        """The values of `named_parameters()`: each parameter once. A stored activation is not one of them."""
        return [parameter for _, parameter in self._own_parameters({id(self)})]

    def named_parameters(self) -> dict[str, Tensor]:
        """Each parameter by its name, which is its path: "w", "conv.w", "blocks.0.w" (item 0 of the list `blocks`).

        A parameter that several layers share has the first of its names. `p.data = array` gives it a new value.

        Raises:
            ValueError: Two parameters have one name, such as those of the dict `{1: ..., "1": ...}`.
        """
        return named_parameters(self)

    def train(self: Own, mode: bool = True) -> Own:
        """Set `training` of this layer and of all layers in it, such as Dropout; returns this layer itself."""
        for layer in _layers_in(self, set()):
            if hasattr(layer, "training"):
                layer.training = mode
        return self

    def eval(self: Own) -> Own:
        """`train(False)`, for evaluation: Dropout then changes nothing."""
        return self.train(False)

    def astype(self: Own, dtype: DTypeLike) -> Own:
        """A copy with parameters of this dtype, such as float64 for comparison with finite differences.

        Constant Tensors are converted too. Layers that share a parameter share its copy. The copy's numpy Generators
        are its own: its Dropouts draw the same masks as the model's from then on.

        Raises:
            TypeError: The dtype is neither float32 nor float64.
        """
        if np.dtype(dtype) not in DTYPES:
            raise TypeError(f"a model's dtype is float32 or float64; got {np.dtype(dtype)}")
        return _converted(self, np.dtype(dtype), {})

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample's result, from the shape of one sample, both without N.

        `(width,) = features.output_shape((28, 28, 1))` is what the first Linear after a Flatten needs. The layer is
        called with one sample of zeros, for which a Dropout in training draws a mask.
        """
        dtype = next((p.dtype for p in self.parameters()), np.dtype(np.float32))
        with no_grad():
            return self(Tensor(np.zeros((1, *input_shape), dtype))).shape[1:]

    def _own_parameters(self, seen: set[int]) -> list[tuple[str, Tensor]]:
        """The names and parameters, without the layers and Tensors whose ids are in `seen`; what is listed is added."""
        return _of_items(vars(self), seen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def named_parameters(model: TrainableModel) -> dict[str, Tensor]:
    """`Layer.named_parameters` of any model; one that is no Layer has the names "0", "1", ... for its parameters."""
    named: dict[str, Tensor] = {}
    for name, parameter in parameters_in(model, set()):
        if name in named:
            raise ValueError(f"two parameters of {type(model).__name__} have the name {name!r}: rename an attribute")
        named[name] = parameter
    return named


def parameters_in(value: Any, seen: set[int]) -> list[tuple[str, Tensor]]:
    """The parameters in a layer, list, tuple or dict, with their paths.

    seen: The ids of what is left out. What is listed is added, so that everything is listed once.
    """
    if id(value) in seen:
        return []
    if isinstance(value, Layer) and type(value).parameters is Layer.parameters:
        seen.add(id(value))
        return value._own_parameters(seen)
    if isinstance(value, dict):
        return _of_items(value, seen)
    if isinstance(value, list | tuple):
        return _of_items(dict(enumerate(value)), seen)
    if is_layer(value):
        seen.add(id(value))
        return _of_items(dict(enumerate(value.parameters())), seen)
    if isinstance(value, Set | Mapping | deque | UserList):
        for item in value.values() if isinstance(value, Mapping) else value:
            if is_layer(item) or isinstance(item, Tensor):
                raise TypeError(
                    f"parameters are found in lists, tuples and dicts; got a {type(item).__name__} in a "
                    f"{type(value).__name__}"
                )
    return []


def _of_items(items: dict[Any, Any], seen: set[int]) -> list[tuple[str, Tensor]]:
    """The parameters among the values of a dict, and in them; its keys begin their paths."""
    listed = []
    for key, value in list(items.items()):  # a list, as another thread may store an activation meanwhile
        if isinstance(value, Tensor):
            if value._requires_grad and value._node is None and id(value) not in seen:
                seen.add(id(value))
                listed.append((str(key), value))
        elif type(value) not in PLAIN:
            listed += [(f"{key}.{path}", parameter) for path, parameter in parameters_in(value, seen)]
    return listed


def is_layer(value: Any) -> bool:
    """Whether `value` is a Layer, or another object with a method `parameters`."""
    if isinstance(value, Layer):
        return True
    return callable(getattr(value, "parameters", None)) and not isinstance(value, type)


def _layers_in(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every layer in `value` once, itself included."""
    if isinstance(value, list | tuple | dict):
        items = list(value.values() if isinstance(value, dict) else value)
    elif is_layer(value) and id(value) not in seen:
        seen.add(id(value))
        yield value
        items = list(getattr(value, "__dict__", {}).values())
    else:
        return
    for item in items:
        yield from _layers_in(item, seen)


def _converted(value: Any, dtype: np.dtype, copied: dict[int, Any]) -> Any:
    """A copy of a layer, list, tuple or dict with its Tensors in this dtype; anything else is `value` itself.

    copied: `deepcopy`'s memory of what it has copied. What is shared stays shared.
    """
    if id(value) in copied:
        return copied[id(value)]
    twin = value
    if isinstance(value, Tensor):
        if value._node is None:  # a stored activation stays
            twin = Tensor(value.data.astype(dtype), value.requires_grad, value.name)
    elif isinstance(value, np.random.Generator):
        return copy.deepcopy(value, copied)
    elif isinstance(value, tuple):
        items = [_converted(item, dtype, copied) for item in value]
        twin = value._make(items) if hasattr(value, "_make") else tuple(items)
    elif isinstance(value, list | dict) or is_layer(value):
        twin = copied[id(value)] = copy.copy(value)  # first, as a layer may lead back to itself
        contents = twin if isinstance(twin, list | dict) else getattr(twin, "__dict__", {})
        for key, item in list(contents.items() if isinstance(contents, dict) else enumerate(contents)):
            contents[key] = _converted(item, dtype, copied)
    copied[id(value)] = twin
    return twin

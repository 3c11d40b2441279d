"""Tensor, an array with the record of how it was made, and `operation`, which declares every operation.

An operation is a function of Tensors that returns its value, an array, and one rule for each Tensor:

    @operation
    def product(a, b):
        "`a * b`; `d = b da + a db`."
        return a.data * b.data, lambda g, out: g * b, lambda g, out: g * a

The words used here:

    cotangent         of a value: the gradient of the final result in that value (PyTorch's grad_output)
    rule              turns g, the cotangent of the output, into the cotangent of one input: a vector-Jacobian product
    leading axes      extra axes in front of g's own, which a rule carries over to its result: the ten rows of a
                      Jacobian of logits (N, 10) are one cotangent of shape (10, N, 10)
    leaf              a Tensor that no operation made
    static argument   an argument that is no Tensor: an axis, a shape, a mask
    locally constant  an array that keeps its value when an input moves a little, such as a ReLU's mask

Rules are written in operations on Tensors.  So a derivative is itself a graph of Tensors and can be differentiated
again, to any order.  This module computes no derivative: see `differentiate.py`.
"""

import functools
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minidbp import kernels
from minidbp.autodiff import conversions

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
# complex128 is allowed inside, for a check of derivatives (`complex_step_hvp`).  There the imaginary part is a tiny
# step, so that an operation with a kink looks at the real part only.
COMPLEX = np.dtype(np.complex128)

# rule(g, out): the closure holds the inputs.  The output `out` is an argument, because a closure that held it would
# make a reference cycle.
Rule: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class NotDifferentiableError(ValueError):
    """A derivative was asked for at a kink, too close to one, or through an operation that has none (sign)."""


class Tensor:
    """An array of float32 or float64 in a graph of derivatives.

    Operators: `+ - * / ** @`, `abs` and indexing.  Comparisons are elementwise and return Boolean arrays, as NumPy's.
    Methods: reshape, transpose, squeeze, sum, mean, max, min, clip, dot, astype, copy, numpy, item, tolist, detach,
    backward.

    Leaves and constants can be deep-copied and pickled.  What would lose a derivative without a word raises TypeError
    or ValueError: `float(t)`, a deep copy of a result, a Tensor assigned to elements of a NumPy array.

    Args:
        array: the values.  They are copied, so that nobody can change what a graph still needs.  Integers, Booleans
            and Python numbers become float64.
        requires_grad: True for a leaf that derivatives will be taken with respect to.  A result has True if it
            depends on such a leaf.  Only a leaf's can be changed afterwards.
        name: what messages and traces call this tensor.

    Attributes:
        grad: the gradient that `backward` computed, or None.

    Raises:
        TypeError: for any other dtype (float16, complex numbers, strings, objects), for a list of Tensors, and for a
            Tensor that requires a gradient: the new one would be a constant.
    """

    __slots__ = ("__weakref__", "_data", "_node", "_requires_grad", "_unrecorded", "_version", "grad", "name")
    __array_ufunc__ = None  # so that ndarray * Tensor is left to Tensor.__rmul__

    _data: np.ndarray
    _node: "Node | None"  # how this tensor was made; None for a leaf and for a constant
    _version: int  # how often this leaf was given new data
    _unrecorded: bool  # whether it was computed from what requires a gradient while nothing was recorded
    _requires_grad: bool
    name: str | None
    grad: "Tensor | None"

    def __init__(self, array: ArrayLike, requires_grad: bool = False, name: str | None = None) -> None:
        if isinstance(array, Tensor) and array._requires_grad:
            raise TypeError(
                f"{array._label()} is a Tensor that requires a gradient already: use it as it is, or its .detach()"
            )
        data = _frozen(array)
        if data.dtype.kind in "biu":
            data = _frozen(data.astype(np.float64))
        if data.dtype not in DTYPES:
            raise TypeError(f"Tensor holds float32 or float64; got {data.dtype}")
        self._data, self._node, self._version, self._unrecorded = data, None, 0, False
        self._requires_grad, self.name, self.grad = bool(requires_grad), name, None

    def set_data(self, array: np.ndarray) -> None:
        """`t.data = array` without a copy, for an array that nobody else will write to."""
        array = _native(array)
        self._check_new_data(array)
        array.flags.writeable = False
        self._data = array
        self._version += 1  # a graph made with the old values refuses to be differentiated

    def _set_copy(self, array: ArrayLike) -> None:
        array = _native(array._data if isinstance(array, Tensor) else np.asarray(array))
        self._check_new_data(array)
        copy = kernels.empty_like(self._data)  # with the memory layout of the old values
        copy[...] = array
        self.set_data(copy)

    def _set_requires_grad(self, value: bool) -> None:
        if self._node is not None and not value:  # derivatives would lack the paths through it
            raise ValueError(
                f"requires_grad of {self._label()} cannot be changed, because {self._node.name} made it: "
                "use .detach() for a constant"
            )
        self._requires_grad = bool(value)

    def _check_new_data(self, array: np.ndarray) -> None:
        if self._node is not None:
            raise ValueError(f"only a leaf can be given new data; {self._label()} was made by {self._node.name}")
        if (array.shape, array.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"new data for {self._label()} must be {self.dtype} of shape {self.shape}; "
                f"got {array.dtype} of shape {array.shape}"
            )

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array, without a copy."""
        return self._data

    def item(self) -> float:
        """The only value, as a Python float.  Raises ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one value; this one has shape {self.shape}")
        return float(self._data.reshape(())[()])

    def tolist(self) -> Any:
        """The values as a list of lists of Python floats, or as a float if there is no axis."""
        return self._data.tolist()

    def detach(self) -> "Tensor":
        """The same values as a constant: no derivative goes through."""
        return from_array(self._data)

    def __copy__(self) -> "Tensor":
        if self._node is not None:
            return self.copy()
        leaf = Tensor(self._data, self.requires_grad, self.name)
        leaf.grad, leaf._unrecorded = self.grad, self._unrecorded
        return leaf

    def __reduce__(self) -> tuple[Any, ...]:  # for deepcopy and pickle
        if self._node is not None:  # a copied graph would still refer to the old inputs
            raise ValueError(
                f"only leaves can be deep-copied or pickled; {self._label()} was made by {self._node.name}: "
                "use .detach() for its values"
            )
        # NumPy writes an array in C or Fortran order only, so it is handed over in its order in memory
        order = kernels.axes_in_memory(self._data)
        arguments = self._data.transpose(order), order, self.requires_grad, self.name
        return _leaf, arguments, (None, {"grad": self.grad, "_unrecorded": self._unrecorded})

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if self._requires_grad:
            self._check_conversion(conversions.array_is_meant(sys._getframe(1), self, copy))
        return np.array(self._data, dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if conversions.only_looks(sys._getframe(1)):
            return function(*_arrays(args), **_arrays(kwargs))
        # np.stack([a, b]) would work, and lose both derivatives without a word
        raise TypeError(f"numpy.{function.__name__} does not know Tensors: use minidbp's functions, or t.numpy()")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Tensor of shape () has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self != 0)  # a comparison, and so a kink

    def __float__(self) -> float:
        if self._requires_grad:  # math.sqrt(t) and array[0] = t call this
            self._check_conversion(conversions.only_looks(sys._getframe(1)))
        return self.item()

    def _check_conversion(self, is_meant: bool) -> None:
        if not is_meant:
            raise TypeError(
                f"{self._label()} requires a gradient, which this conversion would lose: "
                "use minidbp's functions, or t.item() or t.numpy() for the values"
            )

    def __format__(self, spec: str) -> str:
        if spec and self.size != 1:
            raise TypeError(f"the format {spec!r} needs a tensor of one value; this one has shape {self.shape}")
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        values = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=60)
        made = f", made by {self._node.name}" if self._node else ""
        leaf = ", requires_grad=True" if self.requires_grad and not made else ""
        name = f", name={self.name!r}" if self.name else ""
        return f"Tensor({values}, {self.dtype}{made}{leaf}{name})"

    def _label(self) -> str:
        """What messages call this tensor."""
        return repr(self.name) if self.name else f"a tensor of shape {self.shape}"

    if TYPE_CHECKING:

        @property
        def data(self) -> np.ndarray: ...
        @data.setter
        def data(self, array: ArrayLike) -> None: ...
        @property
        def requires_grad(self) -> bool: ...
        @requires_grad.setter
        def requires_grad(self, value: bool) -> None: ...

        shape: tuple[int, ...]
        ndim: int
        size: int
        dtype: np.dtype

        # operators.py sets these: each is the operation of the same name
        @property
        def T(self) -> "Tensor": ...
        def __add__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __radd__(self, other: ArrayLike) -> "Tensor": ...
        def __sub__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __rsub__(self, other: ArrayLike) -> "Tensor": ...
        def __mul__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __rmul__(self, other: ArrayLike) -> "Tensor": ...
        def __truediv__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __rtruediv__(self, other: ArrayLike) -> "Tensor": ...
        def __pow__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __rpow__(self, other: ArrayLike) -> "Tensor": ...
        def __matmul__(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def __rmatmul__(self, other: ArrayLike) -> "Tensor": ...
        def __neg__(self) -> "Tensor": ...
        def __pos__(self) -> "Tensor": ...
        def __abs__(self) -> "Tensor": ...
        def __eq__(self, other: object) -> Any: ...
        def __ne__(self, other: object) -> Any: ...
        def __lt__(self, other: "Tensor | ArrayLike") -> Any: ...
        def __le__(self, other: "Tensor | ArrayLike") -> Any: ...
        def __gt__(self, other: "Tensor | ArrayLike") -> Any: ...
        def __ge__(self, other: "Tensor | ArrayLike") -> Any: ...
        def __contains__(self, value: object) -> bool: ...
        def __hash__(self) -> int: ...
        def __getitem__(self, index: Any) -> "Tensor": ...
        def __iter__(self) -> "Iterator[Tensor]": ...
        def reshape(self, *shape: Any) -> "Tensor": ...
        def transpose(self, *axes: Any) -> "Tensor": ...
        def astype(self, dtype: DTypeLike) -> "Tensor": ...
        def copy(self) -> "Tensor": ...
        def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def clip(self, low: ArrayLike | None = None, high: ArrayLike | None = None) -> "Tensor": ...
        def dot(self, other: "Tensor | ArrayLike") -> "Tensor": ...
        def squeeze(self, axis: int | tuple[int, ...] | None = None) -> "Tensor": ...
        def backward(self, grad_output: "Tensor | ArrayLike | None" = None) -> None: ...
        def _repr_html_(self) -> str: ...  # inspection sets this one

    else:  # the array's own attributes, read without a call of Python code: operations on small arrays stay quick
        data = property(attrgetter("_data"), _set_copy, doc="The array, read-only. `t.data = array` renews a leaf.")
        requires_grad = property(attrgetter("_requires_grad"), _set_requires_grad, doc="Whether derivatives reach it.")
        shape = property(attrgetter("_data.shape"), doc="The shape, a tuple.")
        ndim = property(attrgetter("_data.ndim"), doc="The number of axes.")
        size = property(attrgetter("_data.size"), doc="The number of elements.")
        dtype = property(attrgetter("_data.dtype"), doc="float32 or float64.")


TensorLike: TypeAlias = Tensor | ArrayLike


def _leaf(data: np.ndarray, order: list[int], requires_grad: bool, name: str | None) -> Tensor:
    """A leaf or a constant, from its data with the axes in the order `order`."""
    return Tensor(data.transpose(np.argsort(order)), requires_grad, name)


def _native(array: np.ndarray) -> np.ndarray:
    """`array` in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _frozen(array: ArrayLike) -> np.ndarray:
    """A read-only copy of `array` in this machine's byte order: nobody else can write to it."""
    _refuse_nested_tensors(array)
    given = _native(np.asarray(array))
    if given.dtype.hasobject:  # the caller refuses these
        return given
    data = kernels.empty_like(given)
    data[...] = given
    data.flags.writeable = False
    return data


def _refuse_nested_tensors(value: Any) -> None:
    """Raise TypeError for a list, or any other sequence, that holds Tensors, at any depth."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, memoryview)):
        for v in value:
            if isinstance(v, Tensor):
                raise TypeError("a list of Tensors is not a Tensor, and their derivatives would be lost: use stack")
            _refuse_nested_tensors(v)


def _arrays(value: Any) -> Any:
    """`value` with an array in place of each Tensor, at any depth."""
    if isinstance(value, (list, tuple)):
        arrays = map(_arrays, value)
        return list(arrays) if isinstance(value, list) else tuple(arrays)
    if isinstance(value, dict):
        return {key: _arrays(v) for key, v in value.items()}
    return value._data if isinstance(value, Tensor) else value


def from_array(data: np.ndarray) -> Tensor:
    """A constant Tensor around `data`, without a copy.  The array must not change afterwards."""
    data.flags.writeable = False
    tensor = Tensor.__new__(Tensor)
    tensor._data, tensor._node, tensor._version, tensor._unrecorded = data, None, 0, False
    tensor._requires_grad, tensor.name, tensor.grad = False, None, None
    return tensor


def as_tensor(value: TensorLike, dtype: np.dtype | None = None) -> Tensor:
    """`value` itself if it is a Tensor, else a constant, in `dtype` if that is given."""
    if isinstance(value, Tensor):
        return value
    if dtype is not None and type(value) in (int, float):
        return from_array(np.asarray(value, dtype))
    _refuse_nested_tensors(value)
    array = np.asarray(value)
    if dtype is None or array.dtype.kind not in "biuf":  # Tensor refuses what is not a real number
        return Tensor(array)
    return from_array(array.astype(dtype))


def as_operands(name: str, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
    """The inputs of an operation as Tensors of one dtype.

    Constants that are not Tensors take the Tensors' dtype: an operation never changes the dtype it was given.  Without
    a Tensor, the arrays decide.  Raises TypeError if two Tensors differ in dtype, or, without a Tensor, two arrays.
    """
    first = values[0] if values else None
    for v in values:
        if not isinstance(v, Tensor) or v._data.dtype is not first._data.dtype:  # type: ignore[union-attr]
            break
    else:  # mostly, there is nothing to convert
        return values  # type: ignore[return-value]
    tensors = [v for v in values if isinstance(v, Tensor)]
    if len(tensors) == 1:
        return tuple([as_tensor(v, tensors[0].dtype) for v in values])
    typed: list[Any] = tensors or [v for v in values if isinstance(v, np.ndarray) and v.dtype in DTYPES]
    dtypes = {v.dtype for v in typed}
    if dtypes == {np.dtype(np.float64), COMPLEX}:  # a constant in a function that takes a complex step
        dtypes = {COMPLEX}
    if len(dtypes) > 1:
        given = " and ".join(str(v.dtype) for v in typed)
        raise TypeError(f"{name}: operands must have one dtype; got {given} (convert one with .astype)")
    dtype = dtypes.pop() if dtypes else None
    return tuple([as_tensor(v, dtype) for v in values])


class Node:
    """How a Tensor was made: the operation, its inputs and static arguments, and its rules.

    `function(*inputs, **static)` runs the operation again.
    """

    __slots__ = ("_versions", "function", "inputs", "rules", "static")

    def __init__(
        self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...], static: dict[str, Any], rules: list[Rule]
    ) -> None:
        self.function, self.inputs, self.static, self.rules = function, inputs, static, rules
        # the complement, which is negative, for an input that required no gradient: the graph lacks its derivative
        self._versions = [x._version if x._requires_grad else ~x._version for x in inputs]

    @property
    def name(self) -> str:
        return self.function.__name__

    def changed_inputs(self) -> list[Tensor]:
        """The inputs whose data was replaced after this node was made.

        Rules read the inputs' data, so `grad` refuses a node that has any.
        """
        return [x for x, v in zip(self.inputs, self._versions, strict=True) if x._version != max(v, ~v)]

    def had_constant(self, i: int) -> bool:
        """Whether input i required no gradient when this node was made."""
        return self._versions[i] < 0

    def vjp(self, i: int, g: Tensor, out: Tensor) -> Tensor:
        """The cotangent of input i, for a cotangent g of `out` that may have extra leading axes."""
        x, leading = self.inputs[i], g.shape[: g.ndim - out.ndim]
        try:
            gx = self.rules[i](g, out)
        except Exception as error:
            error.add_note(
                f"This was raised in the rule of {self._operand(i)} of shape {x.shape}, for a cotangent of shape "
                f"{g.shape}: leading axes {leading} and the output's shape {out.shape}."
            )
            raise
        if not isinstance(gx, Tensor):
            kind = type(gx).__name__
            raise TypeError(f"grad: the rule of {self._operand(i)} returned {kind}; a rule must return a Tensor")
        expected = leading + x.shape
        if gx.shape != expected or gx.dtype != x.dtype:
            hint = "; an operand that broadcasts needs unbroadcast" if gx.shape == g.shape != expected else ""
            raise ValueError(
                f"grad: the rule of {self._operand(i)} must return {x.dtype} of shape {expected}, "
                f"leading axes {leading} and the input's shape {x.shape}, for a cotangent of shape {g.shape}; "
                f"it returned {gx.dtype} of shape {gx.shape}{hint}"
            )
        return gx

    def _operand(self, i: int) -> str:
        """What messages call operand i: "multiply for its operand b", "stack for its operand tensors[2]"."""
        first, *others = inspect.signature(self.function).parameters.values()
        name = f"{first.name}[{i}]" if first.kind is first.VAR_POSITIONAL else [first, *others][i].name
        return f"{self.name} for its operand {name}"


Pattern = list[tuple[str, np.ndarray]]


class Tracer(typing.Protocol):
    """Its methods are called for every operation inside a `traced_by` block, recorded or not."""

    def add(self, node: Node, out: Tensor) -> None: ...
    def enter(self, t: Tensor) -> None: ...  # from here on, operations belong to a rule of t's operation
    def leave(self) -> None: ...


class _State(threading.local):
    recording = True  # whether operations are recorded in the graph
    pattern: Pattern | None = None  # what `locally_constant` declares, where somebody collects it
    tracers: tuple[Tracer, ...] = ()


state = _State()  # each thread has its own


def operation(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make an operation of a function that returns its value and one rule for each Tensor.

    The parameters before a `*` that have no default are operands: Tensors, or what becomes one.  The others are static:
    numbers, axes, shapes, masks.  They can be given by name or by position, those after the `*` too.  A parameter `*xs`
    stands for any number of operands, each with a rule; the static arguments are then given by name.

    The value is an array, computed from the operands' arrays (`x.data`).  A rule uses the operands as Tensors, so that
    it can be differentiated again.  An array that a rule uses as it is, and not as a Tensor, must be
    `locally_constant`; a static argument is constant anyway.

    The docstring begins with the formula in backticks, in the parameters' names: a trace shows it.

    No operation is recorded under `no_grad`, or if no operand requires a gradient.

    A call of the operation raises TypeError if the operands differ in dtype. It raises ValueError if there is not one
    rule for each operand, or the value is not float32 or float64.
    """
    parameters = list(inspect.signature(function).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    operands = [p.name for p in parameters if p.default is p.empty and p.kind in kinds]
    n, static_names = len(operands), [p.name for p in parameters[len(operands) :]]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    last = None if variadic else n  # all positional arguments are operands, or the first n
    name = function.__name__.lstrip("_")  # a public function checks its arguments first, and calls _name

    @functools.wraps(function)
    def apply(*args: Any, **static: Any) -> Tensor:
        if len(args) != n and not variadic:
            args += tuple(static.pop(operand) for operand in operands[len(args) :] if operand in static)
            if not n <= len(args) <= n + len(static_names):
                raise TypeError(f"{name} takes {', '.join(operands + static_names)}; got {len(args)} arguments")
            for key, value in zip(static_names, args[n:], strict=False):
                if key in static:
                    raise TypeError(f"{name} got {key} twice, by position and by name")
                static[key] = value
        for key, value in static.items():
            if isinstance(value, Tensor):
                raise TypeError(f"{name}: {key} is a static argument and cannot be a Tensor; make it an operand")
            if isinstance(value, np.ndarray) and (value.flags.writeable or not value.dtype.isnative):
                static[key] = _frozen(value)  # nobody can change what a rule still needs
        inputs = as_operands(name, args[:last])
        pattern = state.pattern
        start = len(pattern) if pattern is not None else 0
        try:
            result = function(*inputs, **static)
        except FloatingPointError:  # np.errstate(all="raise") meets an underflow, and a result of 0 is right
            if pattern is not None:
                del pattern[start:]
            with np.errstate(under="ignore"):
                result = function(*inputs, **static)
        except MemoryError as error:
            raise MemoryError(_too_large(name, inputs)) from error
        value, *rules = result if isinstance(result, tuple) else (result,)
        if pattern is not None:  # name the arrays that `function` declared locally constant
            pattern[start:] = [(name, array) for _, array in pattern[start:]]
        if type(value) is not np.ndarray:
            value = np.asarray(value)  # NumPy turns what it computes from arrays of shape () into scalars
        if len(rules) != len(inputs) or value.dtype.char not in "fdD":  # D: see COMPLEX
            raise ValueError(
                f"{name} needs a rule for each of its {len(inputs)} operands and a value of float32 or float64; "
                f"got {len(rules)} rules and {value.dtype}"
            )
        out = from_array(value)
        for x in inputs:
            if x._requires_grad and state.recording:
                out._requires_grad = True
                out._node = Node(apply, inputs, static, rules)
                break
            if x._requires_grad or x._unrecorded:
                out._unrecorded = True
        for tracer in state.tracers:  # tracers also get operations that are not recorded
            tracer.add(out._node or Node(apply, inputs, static, rules), out)
        return out

    apply.__name__ = name
    return apply


def _too_large(name: str, inputs: tuple[Tensor, ...]) -> str:
    """One sentence about an operation whose result does not fit into memory."""
    shapes = ", ".join(str(x.shape) for x in inputs)
    return f"{name}: there is not enough memory for operands of shape {shapes}: take fewer samples at a time"


def locally_constant(array: np.ndarray) -> np.ndarray:
    """Declare that, for almost every input, `array` keeps its value when the input moves a little.  Makes it read-only.

    A rule may use an array as it is only if it was declared so: a ReLU's mask, the signs of an absolute value, the
    index of a maximum.  Any other array would drop a term from the second derivative without a word.  Operations call
    this when they compute their value, so that `recorded_pattern` sees on which side of its kinks an operation is.
    """
    array = np.asarray(array)
    array.flags.writeable = False
    if state.pattern is not None:
        state.pattern.append(("", array))
    return array


@contextmanager
def _switched(name: str, value: Any) -> Iterator[None]:
    """Within this block, in this thread, the state's attribute `name` is `value`."""
    before = getattr(state, name)
    setattr(state, name, value)
    try:
        yield
    finally:
        setattr(state, name, before)


def recording(on: bool) -> AbstractContextManager[None]:
    """A context in which operations are recorded, or not: `with recording(False): ...` (this thread only)."""
    return _switched("recording", on)


def no_grad() -> AbstractContextManager[None]:
    """A context in which operations are not recorded, for evaluation: `with no_grad(): ...` (this thread only)."""
    return recording(False)


@contextmanager
def recorded_pattern() -> Iterator[Pattern]:
    """A list that collects each locally constant array of this block, in this thread, with its operation's name.

    Two points with the same pattern lie on one smooth piece of a function: there is no kink between them.
    """
    pattern: Pattern = []
    with _switched("pattern", pattern):
        yield pattern


def traced_by(tracer: Tracer | None) -> AbstractContextManager[None]:
    """Report the operations of this block to `tracer` besides the tracers already open; with None, to no tracer."""
    return _switched("tracers", () if tracer is None else (*state.tracers, tracer))

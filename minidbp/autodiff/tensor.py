"""Tensor: an array that remembers how it was made.

A Tensor made by an operation keeps that operation's inputs and, for each input, one rule: the vector-Jacobian product
(vjp) that turns the cotangent of the output into the cotangent of that input.  Rules are written in differentiable
operations, so a derivative is itself a graph of Tensors and can be differentiated again, to any order.

Nothing here computes a derivative: see `differentiate.py`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from minidbp import kernels

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
COMPLEX = np.dtype(np.complex128)  # only for `complex_step_hvp`: kinks then go by the real part

# rule(g, out) -> the cotangent of one input.  g is the cotangent of the output `out` and may have extra leading axes;
# the inputs are captured by the closure.  `out` is passed in: capturing it would make a reference cycle.
Rule: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class NotDifferentiableError(ValueError):
    """A derivative was asked for where there is none: on a kink or too close to one, or of a rule that says so."""


class Operation(NamedTuple):
    """What a Tensor remembers of how it was made."""

    name: str
    inputs: "tuple[Tensor, ...]"
    rules: tuple[Rule, ...]
    inside: "tuple[Rule | None, ...]"
    versions: tuple[int, ...]


class Tensor:
    """An array of float32 or float64 in a graph of derivatives.

    Tensor(array, requires_grad=False, name=None) copies `array`, so that nobody can change what a graph still needs.
    Integers, booleans and Python numbers become float64.  `requires_grad` marks a leaf: a value that derivatives will
    be taken with respect to.  `name` is used in messages.

    Attributes: `data` (a read-only array), `grad` (what `backward` found, or None), `shape`, `ndim`, `size`, `dtype`,
    `support` (where an operation knows that the values are 0 elsewhere: a mask of the last axes, or None).
    Operators: + - * / ** @, indexing; methods: reshape, transpose, sum, mean, T, and `numpy`, `item`, `detach`.

    Raises TypeError for any other dtype (complex numbers, strings, objects).
    """

    __slots__ = ("__weakref__", "_data", "_loose", "_operation", "_version", "grad", "name", "requires_grad", "support")
    __array_ufunc__ = None  # so that ndarray * Tensor is left to Tensor.__rmul__

    def __init__(self, array: ArrayLike, requires_grad: bool = False, name: str | None = None) -> None:
        data = _frozen(array)
        if data.dtype.kind in "biu":
            data = _frozen(data.astype(np.float64))
        if data.dtype not in DTYPES:
            raise TypeError(f"Tensor holds float32 or float64; got {data.dtype}")
        self._data = data
        self.requires_grad = requires_grad
        self.name = name
        self.grad: Tensor | None = None
        self.support: np.ndarray | None = None  # a mask, of the last axes: the values are 0 where it is False
        self._loose = False
        self._operation: Operation | None = None
        self._version = 0

    @property
    def data(self) -> np.ndarray:
        """The values, read-only.  A leaf can be given new ones of the same shape and dtype: `t.data = array`."""
        if self._loose and self.support is not None:
            data = kernels.masked(self._data, self.support)
            data.flags.writeable = False
            self._data, self._loose = data, False
        return self._data

    @data.setter
    def data(self, array: ArrayLike) -> None:
        copy = kernels.empty_like(self._data)  # in the same order in memory, whichever the new values had
        values = np.asarray(array)
        self._check_new(values)
        copy[...] = values
        self.adopt(copy)

    def adopt(self, array: np.ndarray) -> None:
        """`data = array` without a copy, for an array that nobody else will write to."""
        self._check_new(array)
        array.flags.writeable = False
        self._data, self.support, self._loose = array, None, False
        self._version += 1  # graphs made with the old values will say so

    def _check_new(self, values: np.ndarray) -> None:
        if self._operation is not None:
            raise ValueError(f"only a leaf can be given new data; {self._label()} was made by {self._operation.name}")
        if (values.shape, values.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"new data for {self._label()} must be {self.dtype} of shape {self.shape}; "
                f"got {values.dtype} of shape {values.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array, without a copy."""
        return self.data

    def item(self) -> float:
        """The only value, as a Python float.  Raises ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one value; this one has shape {self.shape}")
        return float(self.data.reshape(())[()])

    def detach(self) -> "Tensor":
        """The same values as a constant: no derivative goes through."""
        return wrap(self.data)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        # np.stack([a, b]) would work, and lose both derivatives without a word
        raise TypeError(f"numpy.{function.__name__} does not know Tensors: use minidbp's functions, or t.numpy()")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Tensor of shape () has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return self.item()

    def __repr__(self) -> str:
        values = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=60)
        made = f", made by {self._operation.name}" if self._operation else ""
        leaf = ", requires_grad=True" if self.requires_grad and not made else ""
        name = f", name={self.name!r}" if self.name else ""
        return f"Tensor({values}, {self.dtype}{made}{leaf}{name})"

    def _label(self) -> str:
        """How messages call this tensor."""
        return repr(self.name) if self.name else f"a tensor of shape {self.shape}"

    if TYPE_CHECKING:  # bound in operators.py, where each is the function of the same name

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
        def __getitem__(self, index: Any) -> "Tensor": ...
        def __iter__(self) -> "Iterator[Tensor]": ...
        def reshape(self, *shape: Any) -> "Tensor": ...
        def transpose(self, *axes: Any) -> "Tensor": ...
        def astype(self, dtype: DTypeLike) -> "Tensor": ...
        def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Tensor": ...
        def backward(self, grad_output: "Tensor | ArrayLike | None" = None) -> None: ...
        def _repr_html_(self) -> str: ...


TensorLike: TypeAlias = Tensor | ArrayLike


def _frozen(array: ArrayLike) -> np.ndarray:
    """A read-only copy of `array`: nobody else can write to it."""
    given = np.asarray(array)
    data = np.array(given) if given.dtype.hasobject else kernels.empty_like(given)
    data[...] = given
    data.flags.writeable = False
    return data


def wrap(data: np.ndarray) -> Tensor:
    """A constant Tensor around an array that nobody will write to any more; not copied."""
    tensor = Tensor.__new__(Tensor)
    data.flags.writeable = False
    tensor._data, tensor._loose = data, False
    tensor.requires_grad = False
    tensor.name = tensor.grad = tensor.support = tensor._operation = None
    tensor._version = 0
    return tensor


def record(
    name: str,
    data: np.ndarray,
    inputs: Sequence[Tensor],
    rules: Sequence[Rule],
    support: np.ndarray | None = None,
    inside: "Sequence[Rule | None] | None" = None,
    loose: bool = False,
    again: "Callable[..., Tensor] | None" = None,
) -> Tensor:
    """The Tensor of an operation's result: `data`, made from `inputs`, with one rule for each input.

    rule(g, out) returns the cotangent of its input, given the cotangent g of the result `out`.  g has out's shape
    with any number of extra leading axes, which the rule must carry over to what it returns.  It is written in
    operations on Tensors (so that it can be differentiated); an array may be used raw only if `locally_constant`.

    support: a locally constant mask outside of which the result is 0 and the rules do not look at their cotangent.
    loose: what `data` holds outside the support does not count; it is put to 0 when somebody looks.
    inside: for each input None, or a rule that may be cheaper, to take where the input has a support and was not
    itself asked for: what it returns need be right inside the support only, as nobody looks outside.
    again: the operation itself as a function of its inputs, for a trace to check the rules with; further arguments
    are bound by name (`functools.partial`), and the trace shows them.

    Nothing is remembered under `no_grad`, or if no input requires a gradient.
    """
    if loose and support is None:
        raise ValueError(f"record: {name} can be loose only outside a support; got none")
    out = wrap(np.asarray(data))
    out.support, out._loose = support, loose
    if len(rules) != len(inputs) or out.dtype not in (*DTYPES, COMPLEX):
        raise ValueError(
            f"record: {name} needs a rule for each of its {len(inputs)} inputs and a result of float32 or float64; "
            f"got {len(rules)} rules and {out.dtype}"
        )
    if _mode.recording and any(t.requires_grad for t in inputs):
        out.requires_grad = True
        within = tuple(inside) if inside else (None,) * len(rules)
        out._operation = Operation(name, tuple(inputs), tuple(rules), within, tuple(t._version for t in inputs))
    for tracer in _mode.tracers:
        tracer.add(name, out, inputs, rules, inside, again)
    return out


def locally_constant(array: np.ndarray, operation: str) -> np.ndarray:
    """Declare that `array` does not change in a neighbourhood of the input, almost everywhere; read-only from now on.

    The only way for a rule to save an array that is not a Tensor: a ReLU's mask, the sign of J, the place of a
    maximum.  Anything else saved raw would drop a term from the second derivative without a word.  Called on the way
    forward, so that `recorded_pattern` sees on which side of its kinks the `operation` is.
    """
    array = np.asarray(array)  # NumPy turns what it computes from arrays of shape () into scalars
    array.flags.writeable = False
    if _mode.pattern is not None:
        _mode.pattern.append((operation, array))
    return array


def as_tensor(value: TensorLike, dtype: np.dtype | None = None) -> Tensor:
    """`value` itself if it is a Tensor, else a constant, in `dtype` if given."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        raise TypeError("a list of Tensors is not a Tensor: their derivatives would be lost")
    array = np.asarray(value)
    if dtype is None or array.dtype.kind not in "biuf":  # Tensor refuses what is not a real number
        return Tensor(array)
    if array.dtype == dtype and not array.flags.writeable:  # what `locally_constant` keeps
        return wrap(array.view())
    return wrap(array.astype(dtype))


def operands(name: str, *values: TensorLike) -> tuple[Tensor, ...]:
    """The inputs of an operation as Tensors of one dtype.

    Constants that are not Tensors take the Tensors' dtype: an operation never changes the dtype it was given.  Where
    there is no Tensor, arrays decide.  Raises TypeError if two that decide differ.
    """
    typed = [v for v in values if isinstance(v, Tensor)]
    typed = typed or [v for v in values if isinstance(v, np.ndarray) and v.dtype in DTYPES]  # type: ignore[misc]
    dtypes = {v.dtype for v in typed}
    if dtypes == {np.dtype(np.float64), COMPLEX}:  # a constant in a function that takes a complex step
        dtypes = {COMPLEX}
    if len(dtypes) > 1:
        given = " and ".join(str(v.dtype) for v in typed)
        raise TypeError(f"{name}: operands must have one dtype; got {given} (convert one with .astype)")
    dtype = dtypes.pop() if dtypes else None
    return tuple(as_tensor(v, dtype) for v in values)


Pattern = list[tuple[str, np.ndarray]]


class Tracer(Protocol):
    """Who hears of every operation, recorded in the graph or not, while `traced_by` is open: see `trace.py`."""

    def add(
        self,
        name: str,
        out: Tensor,
        inputs: Sequence[Tensor],
        rules: Sequence[Rule],
        inside: "Sequence[Rule | None] | None",
        again: Callable[..., Tensor] | None,
    ) -> None: ...
    def enter(self, t: Tensor) -> None: ...  # from here on, what is computed is t's rule
    def leave(self) -> None: ...


class _Mode(threading.local):
    recording = True
    pattern: Pattern | None = None
    tracers: tuple[Tracer, ...] = ()


_mode = _Mode()


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Operations in this block, in this thread, are remembered or not."""
    before, _mode.recording = _mode.recording, on
    try:
        yield
    finally:
        _mode.recording = before


@contextmanager
def recorded_pattern() -> Iterator[Pattern]:
    """A list that collects every mask, sign and place of a maximum in this block, in this thread, with its operation.

    Two points with the same pattern lie on one smooth piece of a function: nothing between them was crossed.
    """
    before, _mode.pattern = _mode.pattern, []
    try:
        yield _mode.pattern
    finally:
        _mode.pattern = before


@contextmanager
def traced_by(tracer: Tracer | None) -> Iterator[None]:
    """`tracer` too hears of the operations in this block, in this thread; with None nobody does."""
    before = _mode.tracers
    _mode.tracers = () if tracer is None else (*before, tracer)
    try:
        yield
    finally:
        _mode.tracers = before


def in_rule_of(t: Tensor) -> AbstractContextManager[None]:
    """What is computed in this block is the derivative of t's operation: tracers are told so."""
    return _told(t) if _mode.tracers else _NOBODY


_NOBODY = nullcontext()


@contextmanager
def _told(t: Tensor) -> Iterator[None]:
    tracers = _mode.tracers
    for tracer in tracers:
        tracer.enter(t)
    try:
        yield
    finally:
        for tracer in tracers:
            tracer.leave()


def is_recording() -> bool:
    """Whether operations are remembered now, in this thread: False under `no_grad`."""
    return _mode.recording


def no_grad() -> Any:
    """A context in which operations are not remembered, for evaluation: `with no_grad(): ...` (this thread only)."""
    return recording(False)

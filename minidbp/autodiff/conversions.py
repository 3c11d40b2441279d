"""Whether whoever turns a Tensor into plain numbers means it: `np.asarray(t)` does, `w.dot(t)` does not.

NumPy calls `t.__array__` or `t.__float__` for both.  Only the caller's frame and the arguments of the call differ:

    whose code        NumPy, SciPy and this engine compute with what they convert: refused.  matplotlib and
                      numpy.testing only look at it: allowed.
    the instruction   In other code, calls are allowed, and loops over `map(np.asarray, ts)`.  Assignments and operators
                      are refused: `b[0:3] = t`, `w * [t, t]`, `w < [t, t]`.
    the arguments     A call with a list or a tuple written out is refused: `np.array([t, t])`.
    a second time     A call that converts t twice is refused: `w.dot(t)` does so, first without a dtype, to learn t's
                      own, and then in the common dtype.

Some calls look like `np.asarray(t)` and are allowed too: `np.array(rows)` with a list of Tensors in a variable, and
NumPy's methods that convert once, such as `rng.normal(t)`.
"""

import dis
import functools
import threading
from types import CodeType, FrameType
from typing import Any

COMPUTING = ("numpy.", "scipy.", "minidbp.autodiff.")
# These packages look at values and compute no result that a derivative could be wanted of.
ONLY_LOOKING = ("matplotlib.", "mpl_toolkits.", "numpy.testing.")


class _Last(threading.local):
    place: tuple[int, int, int] | None = None  # where np.array(t), or the first half of w.dot(t), was called


_last = _Last()


def only_looks(caller: FrameType) -> bool:
    """Whether a package that only looks at values called, be it through functions of NumPy or SciPy."""
    frame: FrameType | None = caller
    while frame:
        module = _module(frame)
        if module.startswith(ONLY_LOOKING) or not module.startswith(COMPUTING):
            return module.startswith(ONLY_LOOKING)
        frame = frame.f_back
    return False


def array_is_meant(caller: FrameType, t: Any, dtype: Any, copy: bool | None) -> bool:
    """Whether a call of `t.__array__(dtype, copy)` comes from an explicit `np.asarray(t)` or `np.array(t)`."""
    place = (id(t), id(caller), caller.f_lasti)
    is_second = _last.place == place and dtype is not None and copy is None
    _last.place = place if dtype is None and copy else None
    if only_looks(caller):
        return True
    if is_second or _module(caller).startswith(COMPUTING):
        return False
    opcode = dis.opname[caller.f_code.co_code[caller.f_lasti]]
    if opcode in ("CALL", "CALL_KW"):
        return not _takes_a_list(caller.f_code, caller.f_lasti)
    return not opcode.startswith(("STORE_", "BINARY_", "COMPARE_", "CONTAINS_"))


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


@functools.lru_cache(1000)
def _takes_a_list(code: CodeType, offset: int) -> bool:
    """Whether a list or a tuple is written out among the arguments of the call at `offset`, as in f([x, y], z)."""
    before = [i for i in dis.get_instructions(code) if i.offset <= offset]
    call = before.pop()
    while before and before[-1].opname in ("PRECALL", "KW_NAMES"):
        before.pop()
    pushed = 0  # onto the stack, by the instructions that were passed, for arguments that are still to come
    for _ in range((call.arg or 0) + (call.opname == "CALL_KW")):  # from the last argument to the first
        if not pushed and before and before[-1].opname.startswith(("BUILD_LIST", "BUILD_TUPLE", "LIST_")):
            return True
        while before and pushed < 1:  # the instructions that compute an argument leave one value on the stack
            instruction = before.pop()
            pushed += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        pushed -= 1
    return False

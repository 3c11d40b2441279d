"""Whether whoever turns a Tensor into plain numbers means it: `np.asarray(t)` does, `w.dot(t)` does not.

NumPy calls `t.__array__` or `t.__float__` for both, and for the items of a list.  Only the caller tells them apart:

    whose code        NumPy, SciPy and this engine compute with what they convert: refused.  matplotlib and
                      numpy.testing only look at it: allowed.
    the instruction   In other code, a call of `np.asarray`, `np.array` or their kin with t itself is allowed, or a loop
                      over `map(np.asarray, ts)`.  All else is refused: `w.dot(t)`, `b[0:3] = t`, `w * [t, t]`,
                      `np.array([t, t])`, and `np.array(rows)` with a list of Tensors in a variable.

Two calls are judged wrongly.  `np.asarray(net.rows)` is allowed, although the expression gives a list of Tensors.
`np.asarray(t if a else b)` is refused.
"""

import dis
import functools
from types import CodeType, FrameType
from typing import Any

COMPUTING = ("numpy.", "scipy.", "minidbp.autodiff.")
# These packages look at values and compute no result that a derivative could be wanted of.
ONLY_LOOKING = ("matplotlib.", "mpl_toolkits.", "numpy.testing.")

# These functions convert, and are called to do so.
CONVERTING = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")


def only_looks(caller: FrameType) -> bool:
    """Whether a package that only looks at values called, be it through functions of NumPy or SciPy."""
    frame: FrameType | None = caller
    while frame:
        module = _module(frame)
        if module.startswith(ONLY_LOOKING) or not module.startswith(COMPUTING):
            return module.startswith(ONLY_LOOKING)
        frame = frame.f_back
    return False


def array_is_meant(caller: FrameType, t: Any, copy: bool | None) -> bool:
    """Whether a call of `t.__array__(copy=copy)` comes from an explicit `np.asarray(t)` or `np.array(t)`."""
    if only_looks(caller):
        return True
    if _module(caller).startswith(COMPUTING):
        return False
    opcode = dis.opname[caller.f_code.co_code[caller.f_lasti]]
    if opcode not in ("CALL", "CALL_KW", "PRECALL"):  # 3.11 stops at PRECALL once it has specialised the call
        return opcode.startswith(("FOR_ITER", "UNPACK_", "LIST_EXTEND"))  # for a in map(np.asarray, ts)
    function, argument = _call(caller.f_code, caller.f_lasti)
    called = _variable(caller, function) if _is_variable(function) else function.argval
    name = called if isinstance(called, str) else getattr(called, "__name__", "")
    if name in ("list", "tuple"):  # list(map(np.asarray, ts))
        return True
    if name not in CONVERTING or argument is None or (name == "array" and copy is None):  # None for the items of a list
        return False
    return not _is_variable(argument) or _variable(caller, argument) is t


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_variable(instruction: dis.Instruction) -> bool:
    variables = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "STORE_FAST_LOAD_FAST")
    return instruction.opname.startswith(variables)


def _variable(frame: FrameType, instruction: dis.Instruction) -> Any:
    """The value of the variable that this instruction loads, or its name if it is a built-in function's."""
    name = instruction.argval
    if isinstance(name, tuple):  # Python 3.13: two loads, the first of which is meant, or a store and a load
        name = name[instruction.opname.startswith("STORE")]
    return frame.f_locals.get(name, frame.f_globals.get(name, name))


@functools.lru_cache(1000)
def _call(code: CodeType, offset: int) -> tuple[dis.Instruction, dis.Instruction | None]:
    """The instructions that load the function of the call at `offset`, and its first argument: None for a list."""
    before = [i for i in dis.get_instructions(code) if i.offset <= offset]
    call = before.pop()
    while before[-1].opname in ("PRECALL", "KW_NAMES"):
        before.pop()
    argument: dis.Instruction | None = None
    pushed = 0  # onto the stack, by the instructions that were passed, for arguments that are still to come
    for _ in range((call.arg or 0) + (call.opname == "CALL_KW")):  # from the last argument to the first
        if not pushed:
            argument = None if _makes_a_list([i.opname for i in before[-3:]]) else before[-1]
        while before and pushed < 1:  # the instructions that compute an argument leave one value on the stack
            instruction = before.pop()
            pushed += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        pushed -= 1
    while before and before[-1].opname == "PUSH_NULL":
        before.pop()
    return before[-1] if before else call, argument


def _makes_a_list(last: list[str]) -> bool:
    """Whether instructions end in `[x, y]`, in `(x, y)` or in a comprehension, which is a call in Python 3.11."""
    ends = ("BUILD_LIST", "BUILD_TUPLE", "LIST_", "STORE_FAST")  # later, a comprehension restores its loop variable
    return last[-1].startswith(ends) or last == ["GET_ITER", "PRECALL", "CALL"]

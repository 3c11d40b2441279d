"""The check seen from outside: what a stranger gets wrong is caught, or called undecided, and mostly named."""

import functools

import pytest
from planted_faults import FAULTS, Fault

from minidbp.autodiff.tensor import NotDifferentiableError
from minidbp.checking import GradcheckError, UndecidedError, check_derivatives

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of exp(710), log(0), 0 / 0

BY_NAME = {fault.name: fault for fault in FAULTS}
NAMED = 0.83  # the share of the messages that name the mistake: 30 of 36


@functools.cache
def judged(name: str) -> tuple[Exception | None, bool]:
    """What the check raises, if anything, and whether the message names the mistake."""
    fault = BY_NAME[name]
    try:
        check_derivatives(fault.f, fault.inputs, fault.order)
    except Exception as error:
        message = " ".join([str(error), *getattr(error, "__notes__", [])]).lower()
        return error, any(word.lower() in message for word in fault.words)
    return None, False


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name, marks=[pytest.mark.slow] * f.slow) for f in FAULTS])
def test_a_planted_fault_does_not_pass(fault: Fault) -> None:
    error, named = judged(fault.name)
    assert error, "the check passes it"
    if isinstance(error, NotDifferentiableError):
        assert fault.kink, f"there is no kink here: {error}"
    elif isinstance(error, GradcheckError):
        assert error.order <= fault.order
    elif not isinstance(error, UndecidedError):
        assert named, f"{type(error).__name__}: {error}"  # of the engine or of NumPy: it must say where


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in FAULTS if f.order > 1 and not f.slow])
def test_the_orders_below_are_right(fault: Fault) -> None:
    assert check_derivatives(fault.f, fault.inputs, fault.order - 1)


@pytest.mark.slow
def test_most_messages_name_the_mistake() -> None:
    quick = [fault for fault in FAULTS if not fault.slow]
    unnamed = [fault.name for fault in quick if not judged(fault.name)[1]]
    share = 1 - len(unnamed) / len(quick)
    print(f"\n{share:.0%} of {len(quick)} messages name the mistake; not so: {unnamed}")  # for docs/derivatives.md
    assert share >= NAMED, unnamed

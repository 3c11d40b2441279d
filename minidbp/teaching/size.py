"""A trial run of a notebook computes everything, on less."""

import os
from typing import TypeVar

T = TypeVar("T")

SMOKE = "MINIDBP_SMOKE"


def sized(full: T, smoke: T) -> T:
    """`full`, or `smoke` where the environment sets MINIDBP_SMOKE: steps, images or seeds of what takes long."""
    return smoke if os.environ.get(SMOKE) else full

"""Every operation of the table in conftest.py has right derivatives of order 1, 2 and 3."""

from typing import Any

import minidbp as mdb
from minidbp.checking.gradcheck import check_order


def test_first_order(op: Any) -> None:
    assert mdb.gradcheck(op.f, op.inputs, rtol=1e-10 if op.linear else 1e-6)


def test_second_order(op: Any) -> None:
    assert mdb.gradgradcheck(op.f, op.inputs)


def test_third_order(op: Any) -> None:
    assert check_order(op.f, op.inputs, 3)

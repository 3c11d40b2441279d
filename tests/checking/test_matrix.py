"""The matrix of every operation by order: complete, verified, and the one in the docs."""

from types import ModuleType

import pytest

from minidbp import autodiff
from minidbp.checking import matrix as catalogue
from minidbp.checking.matrix import DTYPES, ORDERS, Cell, samples, verify

# Public names that are not operations on Tensors.
NOT_OPERATIONS = {
    "NotDifferentiableError", "Tensor", "TensorLike", "as_tensor", "full_jacobian", "grad", "hessian", "hvp",
    "jacobian", "jacobian_of", "jvp", "locally_constant", "no_grad", "operation", "unbroadcast", "value_and_grad",
    "vjp",
}  # fmt: skip
OPERATORS = {"add", "subtract", "multiply", "divide", "power", "negative", "getitem", "copy"}


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [verify(op, order, dtype) for op in samples() for dtype in DTYPES for order in ORDERS]


def test_every_public_operation_is_in_it() -> None:
    public = {name for name, value in vars(autodiff).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert set(samples()) == (public - NOT_OPERATIONS) | OPERATORS


@pytest.mark.slow
def test_every_cell_is_verified_or_raises_what_is_documented(cells: list[Cell]) -> None:
    assert len(cells) == len(samples()) * 6
    assert [c for c in cells if c.outcome == "failed"] == []
    assert {c.operation for c in cells if c.outcome == "raises"} == set(catalogue.DOCUMENTED_ERRORS)


def test_samples_depend_on_the_seed_alone() -> None:
    one, same, other = (samples(seed)["exp"][0].inputs[0].tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("cell", "message"),
    [(("cosh", 1, "float64"), "unknown operation 'cosh'"), (("exp", 4, "float64"), "unknown order 4"),
     (("exp", 1, "float16"), "unknown dtype 'float16'")],
)  # fmt: skip
def test_unknown_cells(cell: tuple[str, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify(*cell)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_broken_rule_fails_its_cell(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = catalogue.elementwise.exp
    monkeypatch.setattr(catalogue.elementwise, "exp", lambda x: honest(x) * (1 if x.dtype == "float64" else 1.01))
    if dtype == "float64":
        monkeypatch.setattr(catalogue.elementwise, "exp", lambda x: honest(x) + x.detach())
    cell = verify("exp", 1, dtype)
    assert cell.outcome == "failed"


def test_sign_that_lets_a_gradient_through_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue.elementwise, "sign", lambda x: x * 0)
    assert verify("sign", 1, "float64").outcome == "failed"

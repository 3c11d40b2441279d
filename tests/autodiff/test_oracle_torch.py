"""The functions against PyTorch in float64: values and derivatives of order 1 and 2, also at kinks and extremes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidbp as mdb

torch = pytest.importorskip("torch")

X, Y = np.random.default_rng(0).standard_normal((2, 3, 4))
POSITIVE = np.abs(X) + 0.1
CONDITION = X[:, :1] > 0
EXTREMES = np.array([-800.0, -40.0, -20.0, -1.0, 0.0, 1.0, 20.0, 40.0, 800.0])
TIES = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, 0.0, -1.0, 5.0]])
EDGES = np.array([-2.0, -1.0, 0.0, 0.5, 3.0])


class Case:
    """Our function, PyTorch's, and the arrays they are compared at."""

    def __init__(self, ours: Callable[..., mdb.Tensor], theirs: Callable[..., Any], *arrays: np.ndarray) -> None:
        self.ours, self.theirs, self.arrays = ours, theirs, arrays


CASES = {
    "sqrt": Case(mdb.sqrt, torch.sqrt, POSITIVE),
    "sin": Case(mdb.sin, torch.sin, X),
    "cos": Case(mdb.cos, torch.cos, X),
    "tanh": Case(mdb.tanh, torch.tanh, X),
    "tanh, extremes": Case(mdb.tanh, torch.tanh, EXTREMES),
    "sigmoid": Case(mdb.sigmoid, torch.sigmoid, X),
    "softplus": Case(mdb.softplus, lambda x: torch.nn.functional.softplus(x, threshold=50), X),
    "softplus, far out": Case(mdb.softplus, lambda x: torch.nn.functional.softplus(x, threshold=50), EXTREMES[1:-1]),
    "where": Case(
        lambda x, y: mdb.where(CONDITION, x, y),
        lambda x, y: torch.where(torch.tensor(CONDITION), x, y),
        X,
        Y[0],
    ),
    "minimum": Case(mdb.minimum, torch.minimum, X, Y),
    "minimum, ties": Case(mdb.minimum, torch.minimum, TIES, TIES[::-1].copy()),
    "maximum, ties": Case(mdb.maximum, torch.maximum, TIES, TIES[::-1].copy()),
    "min": Case(mdb.min, torch.min, X),
    "min over an axis": Case(lambda x: mdb.min(x, 1), lambda x: torch.amin(x, 1), X),
    "min, ties": Case(lambda x: mdb.min(x, 1), lambda x: torch.amin(x, 1), TIES),
    "max, ties": Case(lambda x: mdb.max(x, 1), lambda x: torch.amax(x, 1), TIES),
    "clip": Case(lambda x: mdb.clip(x, -1, 0.5), lambda x: torch.clamp(x, -1, 0.5), X),
    "clip, at the ends": Case(lambda x: mdb.clip(x, -1, 0.5), lambda x: torch.clamp(x, -1, 0.5), EDGES),
    "clip below": Case(lambda x: mdb.clip(x, low=0.0), lambda x: torch.clamp(x, min=0.0), EDGES),
    "clip above": Case(lambda x: mdb.clip(x, high=0.0), lambda x: torch.clamp(x, max=0.0), EDGES),
    "clip between arrays": Case(
        lambda x: mdb.clip(x, EDGES - 0.5, EDGES[::-1]),
        lambda x: torch.clamp(x, torch.tensor(EDGES - 0.5), torch.tensor(EDGES[::-1].copy())),
        EDGES,
    ),
    "clip, low above high": Case(lambda x: mdb.clip(x, 0.5, -1), lambda x: torch.clamp(x, 0.5, -1), EDGES),
    "concatenate": Case(lambda x, y: mdb.concatenate([x, y, x], 1), lambda x, y: torch.cat([x, y, x], 1), X, Y[:, :2]),
    "stack": Case(lambda x, y: mdb.stack([x, y], -1), lambda x, y: torch.stack([x, y], -1), X, Y),
    "squeeze": Case(mdb.squeeze, torch.squeeze, X[:, None, :, None]),
    "expand_dims": Case(lambda x: mdb.expand_dims(x, -1), lambda x: x.unsqueeze(-1), X),
    "moveaxis": Case(lambda x: mdb.moveaxis(x, 0, -1), lambda x: torch.moveaxis(x, 0, -1), X[None]),
    "dot": Case(mdb.dot, lambda x, y: torch.einsum("ij,kjl->ikl", x, y), X, np.stack([Y.T, X.T])),
    **{
        f"einsum {s}": Case(lambda *xs, s=s: mdb.einsum(s, *xs), lambda *xs, s=s: torch.einsum(s, *xs), *arrays)
        for s, *arrays in [
            ("ij,kj->ik", X, Y),
            ("ij,ij->i", X, Y[:, :1]),
            ("ij,jk,k", X, Y.T, Y[:, 0]),
            ("ij->", X),
            ("ba", X),
            ("aij,aj->ia", np.stack([X, Y]), np.stack([X[0], Y[0]])),
        ]
    },
    "norm": Case(mdb.norm, torch.linalg.vector_norm, X),
    "norm over an axis": Case(lambda x: mdb.norm(x, 0), lambda x: torch.linalg.vector_norm(x, dim=0), X),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_are_pytorchs(name: str) -> None:
    case = CASES[name]
    rng = np.random.default_rng(1)
    ours = [mdb.Tensor(x, requires_grad=True) for x in case.arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in case.arrays]
    y, z = case.ours(*ours), case.theirs(*theirs)
    same(y, z)
    u = rng.standard_normal(y.shape)
    # the square of x beside it, so that there is a second derivative to ask for where f has none
    first = mdb.grad([y, *(x**2 for x in ours)], ours, [u, *case.arrays], create_graph=True)
    expected = torch.autograd.grad(
        [z, *(x**2 for x in theirs)], theirs, [torch.tensor(u), *map(torch.tensor, case.arrays)], create_graph=True
    )
    vs = [rng.standard_normal(x.shape) for x in case.arrays]
    for a, b in zip(first, expected, strict=True):
        same(a, b)
    second = mdb.grad(first, ours, vs)
    expected = torch.autograd.grad(expected, theirs, list(map(torch.tensor, vs)))
    for a, b in zip(second, expected, strict=True):
        same(a, b)


def same(ours: mdb.Tensor, theirs: Any) -> None:
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours.data, expected, rtol=1e-12, atol=1e-13)

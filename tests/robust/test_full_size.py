"""The paper's models at full size: the gradient of the whole loss, on real images, in every parameter tensor."""

import math

import numpy as np
import pytest

import minidbp as mdb
from minidbp.autodiff import Tensor
from minidbp.checking.gradcheck import check_order
from minidbp.robust import Objective

N_IMAGES = 2
LAM = 50.0  # the paper's largest, as the mean over classes and pixels


def model_with_biases(name: str, dtype: str) -> mdb.nn.Sequential:
    """A fresh model has zero biases, and over a blank corner that is exactly a kink of every first unit."""
    model, rng = mdb.nn.build_model(name, seed=0, dtype="float64"), np.random.default_rng(1)
    for bias in model.parameters()[1::2]:
        bias.data = rng.normal(0, 0.02, bias.shape)
    if dtype == "float32":
        narrow = mdb.nn.build_model(name, seed=0, dtype="float32")
        for p, q in zip(narrow.parameters(), model.parameters(), strict=True):
            p.data = q.data.astype(np.float32)
        return narrow
    return model


def digits(mnist: mdb.data.Dataset, dtype: str, n: int = N_IMAGES) -> tuple[np.ndarray, np.ndarray]:
    return mnist.x_train[:n].astype(dtype), mnist.y_train[:n]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), [("A", "logits"), ("C", "softmax")])  # B has no other operation
def test_the_gradient_of_the_paper_s_loss(name: str, of: str, mnist: mdb.data.Dataset) -> None:
    """Relative error below 1e-6 in every parameter, along directions whose steps flip no mask and no sign of J."""
    model, (x, y) = model_with_biases(name, "float64"), digits(mnist, "float64")
    owners = [layer for layer in model.layers if layer.parameters()]

    def loss(*parameters: Tensor) -> Tensor:
        for layer, w, b in zip(owners, parameters[::2], parameters[1::2], strict=True):
            layer.w, layer.b = w, b  # type: ignore[attr-defined]
        return Objective(LAM, of=of, label_smoothing=0.1)(model, x, y).total

    assert check_order(loss, tuple(p.data for p in model.parameters()), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_float32_trains_with_the_float64_gradient(name: str, mnist: mdb.data.Dataset) -> None:
    """Each parameter's gradient in float32 is the float64 one to 2e-3 of its norm.

    Rounding alone gives about 1e-6.  But an entry of J within 1e-7 of zero may take the other sign in float32, and
    each such flip moves the penalty's gradient by a whole term 2 lambda / (N c d) dJ_ij / dW; of 8 x 7,840 entries a
    few do, and moves of random direction add up like their square root.
    """
    (x, y), gradients = digits(mnist, "float64", 8), {}
    for dtype in ("float64", "float32"):
        model = model_with_biases(name, dtype)
        loss = Objective(LAM, label_smoothing=0.1)(model, x.astype(dtype), y).total
        gradients[dtype] = [g.data for g in mdb.grad(loss, model.parameters())]
    for wide, narrow in zip(gradients["float64"], gradients["float32"], strict=True):
        assert narrow.dtype == np.float32
        assert np.linalg.norm(wide - narrow) <= 2e-3 * np.linalg.norm(wide)
        assert math.isfinite(float(narrow.sum()))

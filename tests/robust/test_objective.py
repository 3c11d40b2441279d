"""The objective: its parts, its words, its lambda.  Its values are compared with HIPS in test_penalties.py."""

import math
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import nn
from minidbp.robust import PENALTIES, Objective, jacobian_l1, loss_gradient_penalty, summed_jacobian_l1

RNG = np.random.default_rng(0)
MODEL = nn.Sequential([nn.Linear(6, 5, RNG, "float64"), nn.ReLU(), nn.Linear(5, 3, RNG, "float64")])
X, Y = RNG.uniform(0, 1, (4, 6)), np.array([0, 1, 2, 1])

SEPARATE = {
    "jacobian_l1": lambda of, reduction, s: jacobian_l1(MODEL, X, of, reduction),
    "summed_jacobian_l1": lambda of, reduction, s: summed_jacobian_l1(MODEL, X, of, reduction),
    "loss_gradient_l2": lambda of, reduction, s: loss_gradient_penalty(MODEL, X, Y, 2, s),
    "loss_gradient_l1": lambda of, reduction, s: loss_gradient_penalty(MODEL, X, Y, 1, s),
}


def test_every_penalty_is_in_the_table_above() -> None:
    assert set(SEPARATE) == set(PENALTIES)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("of", ["logits", "softmax"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_sum_of_its_parts(penalty: str, of: str, reduction: str, smoothing: float) -> None:
    lam = 2.5
    loss = Objective(lam, penalty, of, reduction, smoothing)(MODEL, X, Y)
    assert loss.penalty is not None
    assert loss.penalty.item() == SEPARATE[penalty](of, reduction, smoothing).item()
    assert loss.cross_entropy.item() == nn.cross_entropy(MODEL(X), Y, smoothing).item()
    assert loss.total.item() == pytest.approx(loss.cross_entropy.item() + lam * loss.penalty.item(), rel=1e-14)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_one_forward_pass_is_enough(penalty: str) -> None:
    calls = []

    def counted(x: mdb.Tensor) -> mdb.Tensor:
        calls.append(x.shape)
        return MODEL(x)

    for lam in (0, 1):
        Objective(lam, penalty)(counted, X, Y)
    assert calls == [X.shape] * 2


@pytest.mark.parametrize("penalty", PENALTIES)
def test_lambda_zero_is_plain_training(penalty: str) -> None:
    loss = Objective(0.0, penalty, label_smoothing=0.1)(MODEL, X, Y)
    plain = nn.cross_entropy(MODEL(X), Y, 0.1)
    assert loss.penalty is None
    assert loss.total.item() == loss.cross_entropy.item() == plain.item()
    ours, expected = (mdb.grad(total, MODEL.parameters()) for total in (loss.total, plain))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("lam", [-1, -1e-9, math.nan, math.inf, -math.inf])
def test_lambda_must_be_a_number_of_at_least_0(lam: float) -> None:
    with pytest.raises(ValueError) as caught:
        Objective(lam)
    assert "lambda" in str(caught.value)
    assert str(lam) in str(caught.value)


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        ({"penalty": "l1"}, PENALTIES),
        ({"of": "probabilities"}, ("logits", "softmax")),
        ({"reduction": "median"}, ("sum", "mean")),
    ],
)
def test_an_unknown_word_is_answered_with_the_choices(words: dict[str, Any], choices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Objective(1.0, **words)
    for word in (*choices, *words.values()):
        assert word in str(caught.value)


def test_an_unknown_penalty_is_an_error_at_lambda_zero_too() -> None:
    with pytest.raises(ValueError, match="jacobian_l1"):
        Objective(0.0, "l1")


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_label_smoothing_is_checked_at_once(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing must lie in \[0, 1\]; got {smoothing}"):
        Objective(1.0, label_smoothing=smoothing)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_an_empty_batch_has_no_mean(penalty: str, reduction: str) -> None:
    none = r"^there must be at least one sample; got none$"
    for lam in 0.0, 1.0:
        with pytest.raises(ValueError, match=none):
            Objective(lam, penalty, reduction=reduction)(MODEL, X[:0], Y[:0])
    separate = {
        "jacobian_l1": lambda x, y: jacobian_l1(MODEL, x, reduction=reduction),
        "summed_jacobian_l1": lambda x, y: summed_jacobian_l1(MODEL, x, reduction=reduction),
        "loss_gradient_l2": lambda x, y: loss_gradient_penalty(MODEL, x, y),
        "loss_gradient_l1": lambda x, y: loss_gradient_penalty(MODEL, x, y, 1),
    }
    with pytest.raises(ValueError, match=none):
        separate[penalty](X[:0], Y[:0])
    with pytest.raises(ValueError, match=none):
        nn.cross_entropy(MODEL(X[:0]), Y[:0])
    assert nn.sample_cross_entropy(MODEL(X[:0]), Y[:0]).shape == (0,)
    assert mdb.jacobian(MODEL, X[:0]).shape == (0, 3, 6)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_images_in_bytes_are_refused_by_their_dtype(penalty: str) -> None:
    x = (255 * X).astype(np.uint8)
    for lam in 0.0, 1.0:
        with pytest.raises(TypeError, match=r"got uint8: divide bytes by 255, as in x\.astype\('float32'\) / 255$"):
            Objective(lam, penalty)(lambda t: MODEL(t), x, Y)
    with pytest.raises(TypeError, match="got uint8"):
        SEPARATE_OF_X[penalty](x)


SEPARATE_OF_X: dict[str, Any] = {
    "jacobian_l1": lambda x: jacobian_l1(MODEL, x),
    "summed_jacobian_l1": lambda x: summed_jacobian_l1(MODEL, x),
    "loss_gradient_l2": lambda x: loss_gradient_penalty(MODEL, x, Y),
    "loss_gradient_l1": lambda x: loss_gradient_penalty(MODEL, x, Y, 1),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(penalty: str, bad: float) -> None:
    x = X.copy()
    x[2, 1] = bad
    for images in x, mdb.Tensor(x, requires_grad=True):
        with pytest.raises(ValueError, match=rf"^images must be finite; got {bad} at index \(2, 1\)$"):
            SEPARATE_OF_X[penalty](images)
        for lam in 0.0, 1.0:  # the objective looks at the images once its loss is not finite
            message = rf"^images must be finite; got {bad} at index \(2, 1\)$"
            with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
                Objective(lam, penalty)(MODEL, images, Y)
    with pytest.raises(TypeError, match=r"^images must be float32 or float64; got int64$"):
        SEPARATE_OF_X[penalty](np.zeros((4, 6), np.int64))

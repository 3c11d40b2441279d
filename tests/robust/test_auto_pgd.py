"""APGD against the paper's algorithm written for one image, closed forms, and its own promises."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from small_models import linear, right, small_net

import minidbp as mdb
from minidbp.robust import apgd, pgd
from minidbp.robust.auto_pgd import checkpoints
from minidbp.robust.losses import dlr, loss_gradient, margin

RNG = np.random.default_rng(11)
X = RNG.uniform(0, 1, (40, 8))
NET = small_net()
Y = np.argmax(NET(X).data, axis=1)
EPS = 0.1
LOSS = pytest.mark.parametrize("loss", ["ce", "dlr"])
NAMES = {"ce": "cross_entropy", "dlr": "dlr"}


def loss_at(x: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    return loss_gradient(NET, x, y, loss=NAMES[loss])[1]


# -- the algorithm --------------------------------------------------------------------------------------------------


def test_the_checkpoints_are_the_paper_s() -> None:
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99: section 3.1 of Croce and Hein 2020."""
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(50)) == [11, 21, 29, 35, 40, 44, 47, 50]
    assert checkpoints(1) == {1}


def algorithm_1(x: np.ndarray, start: np.ndarray, y: int, eps: float, loss: str, steps: int) -> list[np.ndarray]:
    """The points that Algorithm 1 of the paper visits for one image x, until the model is wrong."""

    def project(point: np.ndarray) -> np.ndarray:
        return np.clip(np.clip(point, x - eps, x + eps), 0, 1)

    points: list[np.ndarray] = []
    gradients: list[np.ndarray] = []
    values: list[float] = []
    point, before, eta, halved, best_then, last = start, start, 2 * eps, False, -np.inf, 0
    for k in range(steps + 1):
        g, value, predicted = (out[0] for out in loss_gradient(NET, point[None], np.array([y]), loss=NAMES[loss]))
        points.append(point)
        gradients.append(g)
        values.append(value)
        if predicted != y:
            break
        if k in checkpoints(steps):
            rises = sum(b > a for a, b in pairwise(values[last : k + 1]))
            halved = rises < 0.75 * (k - last) or (not halved and max(values) == best_then)
            if halved:
                eta, point, g = eta / 2, points[int(np.argmax(values))], gradients[int(np.argmax(values))]
            best_then, last = max(values), k
        z = project(point + eta * np.sign(g))
        onward = z if k == 0 else project(point + 0.75 * (z - point) + 0.25 * (point - before))
        point, before = onward, point
    return points


@LOSS
def test_the_points_visited_are_those_of_the_paper_s_algorithm(loss: str) -> None:
    lengths = []
    for i, (x, y) in enumerate(zip(X[:20], Y[:20], strict=True)):
        visited: list[np.ndarray] = []

        def recorded(t: mdb.Tensor, visited: list[np.ndarray] = visited) -> mdb.Tensor:
            visited.append(t.data[0].copy())
            return NET(t)

        apgd(recorded, x[None], [y], EPS, loss, 40, seed=i)
        start = np.clip(x + np.random.default_rng(i).uniform(-EPS, EPS, (1, 8))[0], 0, 1)
        expected = [x, *algorithm_1(x, start, y, EPS, loss, 40)]
        np.testing.assert_allclose(np.array(visited), np.array(expected), rtol=0, atol=1e-12)
        lengths.append(len(visited))
    assert lengths.count(1 + 41) > 3  # images that withstand the attack: all checkpoints were passed
    assert min(lengths) < 10


@LOSS
def test_an_image_is_attacked_as_if_it_were_alone(loss: str) -> None:
    """Fooled images leave the batch, and each image has its own step size: the others do not notice."""
    starts = np.clip(X + np.random.default_rng(0).uniform(-EPS, EPS, X.shape), 0, 1)
    x_adv = apgd(NET, X, Y, EPS, loss, 40)
    for x, start, y, found in zip(X[:20], starts[:20], Y[:20], x_adv[:20], strict=True):
        points = np.array([x, *algorithm_1(x, start, y, EPS, loss, 40)])
        losses = loss_at(points, np.full(len(points), y), loss)
        wrong = ~right(NET, points, np.full(len(points), y))
        np.testing.assert_allclose(found, points[-1 if wrong[-1] else losses.argmax()], rtol=0, atol=1e-12)


# -- closed forms ---------------------------------------------------------------------------------------------------


@LOSS
@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_on_a_linear_model_of_two_classes_apgd_finds_the_best_point(loss: str, clip: Any) -> None:
    """The best point is the corner `x - eps sign(w_y - w_other)`, clipped: the first step reaches it."""
    w = RNG.normal(size=(8, 2))
    y = np.argmax(X @ w, axis=1)
    corner = X - 0.02 * np.sign(w[:, y] - w[:, 1 - y]).T
    corner = corner if clip is None else np.clip(corner, *clip)
    sure = np.argmax(corner @ w, axis=1) == y
    assert sure.sum() >= 10
    for steps in (1, 2, 30):
        x_adv = apgd(linear(w), X, y, 0.02, loss, steps, clip=clip)
        np.testing.assert_allclose(x_adv[sure], corner[sure], rtol=0, atol=1e-15)
        assert not right(linear(w), x_adv[~sure], y[~sure]).any()


def test_on_a_linear_model_the_ratio_breaks_what_can_be_broken() -> None:
    """Within the ball, `w_i x - w_y x` rises by `eps |w_i - w_y|_1` at most."""
    w, eps = np.random.default_rng(0).normal(size=(8, 4)), 0.05
    y = np.argmax(X @ w, axis=1)
    rise = eps * np.array([np.abs(w - w[:, [label]]).sum(axis=0) for label in y])
    best = X @ w - np.take_along_axis(X @ w, y[:, None], 1) + rise
    can_be_broken = (np.where(np.eye(4, dtype=bool)[y], -np.inf, best) > 0).any(axis=1)
    x_adv = apgd(linear(w), X, y, eps, "dlr", 20, restarts=10, clip=None)
    broken = ~right(linear(w), x_adv, y)
    assert 5 < can_be_broken.sum() < 35
    np.testing.assert_array_equal(broken, can_be_broken)


# -- the ratio of logits --------------------------------------------------------------------------------------------


def test_the_ratio_is_its_formula() -> None:
    z, y = RNG.normal(size=(50, 6)), RNG.integers(0, 6, 50)
    expected = []
    for row, label in zip(z, y, strict=True):
        first, _, third, *_ = sorted(row, reverse=True)
        expected.append((max(np.delete(row, label)) - row[label]) / (first - third))
    np.testing.assert_allclose(dlr(mdb.Tensor(z), y).data, expected, rtol=1e-9)
    assert mdb.gradcheck(lambda t: dlr(t, y), [z])


def test_the_ratio_of_three_classes_and_of_two() -> None:
    """-z_y + max z_i is the whole distance of three wrong logits; two classes have the margin in its place."""
    z = mdb.Tensor([[3.0, 1.0, -1.0], [3.0, 1.0, -1.0]])
    np.testing.assert_allclose(dlr(z, np.array([0, 2])).data, [-0.5, 1.0], rtol=1e-9)
    pair = mdb.Tensor(RNG.normal(size=(5, 2)))
    labels = np.array([0, 1, 0, 1, 0])
    np.testing.assert_array_equal(dlr(pair, labels).data, margin(pair, labels).data)


def test_equal_logits_have_no_ratio_but_a_finite_one() -> None:
    z = mdb.Tensor(np.ones((3, 4)), requires_grad=True)
    ratio = dlr(z, np.array([0, 1, 2]))
    np.testing.assert_array_equal(ratio.data, 0)
    assert np.isfinite(mdb.grad(ratio.sum(), z)[0].data).all()


def test_the_ratio_does_not_saturate_and_knows_no_scale() -> None:
    """Logits of 1e6 leave the cross-entropy of a right answer a gradient of exactly 0."""
    net = small_net("float32")
    x = X.astype(np.float32)
    y = np.argmax(net(x).data, axis=1)

    def scaled(t: mdb.Tensor) -> mdb.Tensor:
        return net(t) * 2.0**20

    ce, ratio = (right(net, apgd(scaled, x, y, EPS, loss, 30), y) for loss in ("ce", "dlr"))
    assert ce.mean() > 0.85
    assert ratio.mean() < 0.7
    np.testing.assert_array_equal(apgd(scaled, x, y, EPS, "dlr", 30), apgd(net, x, y, EPS, "dlr", 30))


# -- promises -------------------------------------------------------------------------------------------------------


@LOSS
def test_apgd_is_decided_by_its_seed(loss: str) -> None:
    def attacked(seed: Any) -> np.ndarray:
        return apgd(NET, X, Y, EPS, loss, 10, restarts=2, seed=seed)

    np.testing.assert_array_equal(attacked(5), attacked(5))
    np.testing.assert_array_equal(attacked(5), attacked(np.random.default_rng(5)))
    assert not np.array_equal(attacked(5), attacked(6))


@LOSS
def test_more_restarts_never_help_the_defender(loss: str) -> None:
    worst = [apgd(NET, X, Y, 0.08, loss, 5, restarts=r) for r in (1, 2, 4, 8)]
    for fewer, more in pairwise(worst):
        held, still_held = right(NET, fewer, Y), right(NET, more, Y)
        assert not (still_held & ~held).any()  # image by image
        assert (loss_at(more, Y, loss) >= loss_at(fewer, Y, loss) - 1e-12)[still_held].all()


@LOSS
def test_more_steps_leave_fewer_images(loss: str) -> None:
    held = [right(NET, apgd(NET, X, Y, 0.08, loss, steps), Y).sum() for steps in (1, 10, 100)]
    assert held == sorted(held, reverse=True)


@LOSS
def test_apgd_is_at_least_as_strong_as_pgd(loss: str) -> None:
    by_pgd = right(NET, pgd(NET, X, Y, EPS, 0.01, 100, restarts=5), Y)
    assert right(NET, apgd(NET, X, Y, EPS, loss, 100, restarts=5), Y).sum() <= by_pgd.sum() < len(X)


def test_wrong_images_come_back_as_they_are() -> None:
    y = (Y + (np.arange(len(Y)) % 2)) % 4
    wrong = ~right(NET, X, y)
    np.testing.assert_array_equal(apgd(NET, X, y, EPS)[wrong], X[wrong])


def test_the_predicted_label_needs_no_labels() -> None:
    np.testing.assert_array_equal(apgd(NET, X, None, EPS, label="predicted"), apgd(NET, X, Y, EPS))


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_image_without_a_finite_gradient_becomes_nan() -> None:
    """As under FGSM: whoever counts images under attack sees that nothing was proven."""
    x_adv = apgd(lambda t: NET(t) + 0 * mdb.sqrt(t - t).sum(axis=1).reshape(len(t), 1), X[:3], Y[:3], EPS, steps=3)
    assert np.isnan(x_adv).any()


def test_what_apgd_cannot_use_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss must be one of ce, dlr; got 'margin'"):
        apgd(NET, X, Y, EPS, "margin")
    for counts in ({"steps": 0}, {"steps": 2.5}, {"restarts": 0}):
        (name, value), *_ = counts.items()
        with pytest.raises(ValueError, match=rf"^apgd: {name} must be a whole number of at least 1; got {value}$"):
            apgd(NET, X, Y, EPS, **counts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"logits must have the axes \(N, c\); got shape \(40,\)"):
        apgd(lambda t: t.sum(axis=1), X, Y, EPS, "dlr")

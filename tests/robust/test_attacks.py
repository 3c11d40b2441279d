"""FGSM and PGD against closed forms and their own promises; every attack: its budget, its result, bad input."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from small_models import linear, right, small_net

import minidbp as mdb
from minidbp import nn
from minidbp.robust import apgd, fgsm, pgd, pgd_from, random_noise, square

Attack = Callable[..., Any]


RNG = np.random.default_rng(7)
X = RNG.uniform(0, 1, (40, 8))
NET = small_net()
Y = np.argmax(NET(X).data, axis=1)  # right on every image, so that an attack has something to do
Y[::10] = (Y[::10] + 1) % 4  # but some

run_pgd: Attack = lambda model, x, y, eps, **rest: pgd(model, x, y, eps, step=eps / 4, steps=6, **rest)  # noqa: E731
run_apgd: Attack = lambda model, x, y, eps, **rest: apgd(model, x, y, eps, steps=6, **rest)  # noqa: E731
run_square: Attack = lambda model, x, y, eps, **rest: square(model, x, y, eps, queries=20, **rest)  # noqa: E731
run_pgd_from: Attack = lambda model, x, y, eps, **rest: pgd_from(  # noqa: E731
    model, x, y, eps, eps / 4, 6, start=np.full(getattr(x, "shape", ()), 0.5), **rest
)
NAMES = ["fgsm", "pgd", "pgd_from", "apgd", "square"]
EVERY = pytest.mark.parametrize("attack", [fgsm, run_pgd, run_pgd_from, run_apgd, run_square], ids=NAMES)


def losses(model: nn.Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return nn.sample_cross_entropy(model(x), y).data


# -- FGSM -----------------------------------------------------------------------------------------------------------


def test_clip_and_label_of_fgsm_may_be_positional() -> None:
    images, named = fgsm(NET, X, None, 0.3, (-0.5, 2.0), "predicted"), {"clip": (-0.5, 2.0), "label": "predicted"}
    assert images.tobytes() == fgsm(NET, X, None, 0.3, **named).tobytes()
    assert images.min() < 0  # the clip was heeded


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("clip", [(0.0, 1.0), (-0.5, 2.0), None])
@pytest.mark.parametrize("label", ["true", "predicted"])
def test_fgsm_is_its_formula(smoothing: float, clip: Any, label: str) -> None:
    """For softmax regression dL/dx = W (p - y): no autodiff of ours, nor any other."""
    w, b = RNG.normal(size=(8, 4)), RNG.normal(size=4)
    p = np.exp(X @ w + b)
    p /= p.sum(1, keepdims=True)
    attacked = Y if label == "true" else np.argmax(p, axis=1)
    targets = (1 - smoothing) * np.eye(4)[attacked] + smoothing / 4
    expected = X + 0.3 * np.sign((p - targets) @ w.T)
    if clip is not None:
        expected = np.clip(expected, *clip)
    x_adv = fgsm(linear(w, b), X, Y, 0.3, clip=clip, label=label, label_smoothing=smoothing)
    np.testing.assert_array_equal(x_adv, expected)


def test_smoothed_labels_turn_fgsm_round_where_the_model_is_sure() -> None:
    """The smoothed loss falls as p_y grows only until p_y = 1 - s + s/c; beyond, its gradient points the other way.

    Therefore a network trained with smoothed labels looks robust to this attack without being so.
    """
    w = np.array([[1.0, -1.0], [-1.0, 1.0]])
    model = linear(w)
    x, y = np.array([[0.9, 0.1], [5.0, -5.0]]), np.array([0, 0])  # p_y = 0.83 and 1: below and above 0.95
    plain, smoothed = (fgsm(model, x, y, 0.1, clip=None, label_smoothing=s) - x for s in (0.0, 0.1))
    np.testing.assert_allclose(plain, [[-0.1, 0.1]] * 2, rtol=1e-12)
    np.testing.assert_allclose(smoothed, [[-0.1, 0.1], [0.1, -0.1]], rtol=1e-12)


def test_the_predicted_label_needs_no_labels() -> None:
    said = np.argmax(NET(X).data, axis=1)
    assert (said != Y).any()
    predicted = fgsm(NET, X, None, 0.1, label="predicted")
    np.testing.assert_array_equal(predicted, fgsm(NET, X, said, 0.1))
    np.testing.assert_array_equal(predicted, fgsm(NET, X, Y, 0.1, label="predicted"))  # given, but not used
    assert not np.array_equal(predicted, fgsm(NET, X, Y, 0.1))


def test_a_pixel_without_gradient_stays() -> None:
    w = np.zeros((8, 4))
    w[3] = [1, 2, 3, 4]
    moved = fgsm(linear(w), X, Y, 0.1, clip=None) != X
    assert moved[:, 3].all()
    assert moved.sum() == len(X)


# -- every attack ------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_what_comes_back_is_of_the_kind_that_went_in(attack: Attack, dtype: str, as_tensor: bool) -> None:
    pixels = X.astype(dtype)
    x = mdb.Tensor(pixels, requires_grad=True) if as_tensor else pixels
    x_adv = attack(small_net(dtype), x, Y, 0.2)
    assert type(x_adv) is type(x)
    assert (x_adv.shape, x_adv.dtype) == (x.shape, np.dtype(dtype))
    np.testing.assert_array_equal(np.asarray(x), X.astype(dtype))
    if as_tensor:
        np.testing.assert_array_equal(x_adv.data, attack(small_net(dtype), pixels, Y, 0.2))


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [(0.0, 1.0), (-0.25, 1.25), None])
@pytest.mark.parametrize("eps", [0.01, 0.3, 1.0])
def test_the_ball_and_the_range_are_kept(attack: Attack, dtype: str, clip: Any, eps: float) -> None:
    x = X.astype(dtype)
    x[0, :4], x[1, :4] = 0, 1  # at the edges, as MNIST's blank border
    x_adv = attack(small_net(dtype), x, Y, eps, clip=clip)
    rounding = 4 * np.finfo(dtype).eps
    assert np.abs(x_adv - x).max() <= eps * (1 + rounding) + rounding
    low, high = clip or (-np.inf, np.inf)
    assert (x_adv >= low).all()
    assert (x_adv <= high).all()
    if clip is None:
        assert x_adv.min() < 0  # there was something to clip


@EVERY
@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_eps_zero_changes_nothing(attack: Attack, clip: Any) -> None:
    np.testing.assert_array_equal(attack(NET, X, Y, 0, clip=clip), X)


@EVERY
def test_any_shape_of_image_and_any_function(attack: Attack) -> None:
    w = mdb.Tensor(RNG.normal(size=(6, 3)))
    x = RNG.uniform(0, 1, (5, 2, 3))
    x_adv = attack(lambda t: t.reshape(len(t), 6) @ w, x, np.zeros(5, int), 0.1)
    assert x_adv.shape == x.shape


@EVERY
def test_under_no_grad_too(attack: Attack) -> None:
    with mdb.no_grad():
        x_adv = attack(NET, X, Y, 0.2)
    np.testing.assert_array_equal(x_adv, attack(NET, X, Y, 0.2))


@EVERY
def test_the_model_is_left_as_it_was(attack: Attack) -> None:
    before = [p.data for p in NET.parameters()]
    attack(NET, X, Y, 0.2)
    assert all(p.data is b and p.grad is None for p, b in zip(NET.parameters(), before, strict=True))


@EVERY
def test_the_attacks_attack(attack: Attack) -> None:
    assert right(NET, X, Y).mean() == 0.9
    assert right(NET, attack(NET, X, Y, 0.3), Y).mean() < 0.6


# -- PGD ------------------------------------------------------------------------------------------------------------


def test_pgd_is_decided_by_its_seed() -> None:
    def attacked(seed: Any) -> np.ndarray:
        return pgd(NET, X, Y, 0.1, 0.02, 3, restarts=2, seed=seed)

    np.testing.assert_array_equal(attacked(5), attacked(5))
    np.testing.assert_array_equal(attacked(5), attacked(np.random.default_rng(5)))
    assert not np.array_equal(attacked(5), attacked(6))


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_on_a_linear_model_of_two_classes_pgd_finds_the_best_point(loss: str) -> None:
    """The loss rises along -sign(w_y - w_other) from everywhere: the worst point is that corner, clipped."""
    w = RNG.normal(size=(8, 2))
    x = RNG.uniform(0, 1, (30, 8))
    y = np.argmax(x @ w, axis=1)
    margin = np.take_along_axis(w, np.array([[0, 1]] * 8), 1) @ np.array([1.0, -1.0])
    corner = np.clip(x - 0.02 * np.sign(np.where(y[:, None] == 0, margin, -margin)), 0, 1)
    sure = np.argmax(corner @ w, axis=1) == y  # on the others PGD stops at the first point that does
    assert sure.sum() >= 10
    x_adv = pgd(linear(w), x, y, 0.02, 0.011, 6, loss=loss)
    np.testing.assert_allclose(x_adv[sure], corner[sure], rtol=0, atol=1e-15)
    assert not right(linear(w), x_adv[~sure], y[~sure]).any()


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_pgd_returns_the_worst_point_it_has_visited(clip: Any) -> None:
    """Every point shown to the model is recorded; nobody is fooled at this eps, so all rows are the batch's."""
    sure = np.flatnonzero(right(NET, X, Y))
    margins = np.sort(NET(X[sure]).data, axis=1)
    sure = sure[np.argsort(margins[:, -1] - margins[:, -2])[-12:]]
    x, y, visited = X[sure], Y[sure], []

    def recorded(t: mdb.Tensor) -> mdb.Tensor:
        visited.append(t.data.copy())
        return NET(t)

    x_adv = pgd(recorded, x, y, 0.02, 0.01, 5, restarts=3, clip=clip)
    assert len(visited) == 1 + 3 * (5 + 1)  # the images themselves, then three paths
    assert right(NET, x_adv, y).all()
    seen = np.array([losses(NET, point, y) for point in visited])
    np.testing.assert_array_equal(losses(NET, x_adv, y), seen.max(axis=0))
    assert len(set(seen.argmax(axis=0))) > 1  # not the same pass for all
    for point in visited:
        assert np.abs(point - x).max() <= 0.02 + 1e-15


def test_an_image_once_fooled_stays_fooled() -> None:
    visited_wrong = np.zeros(len(X), bool)

    def recorded(t: mdb.Tensor) -> mdb.Tensor:
        z = NET(t)
        for point, said in zip(t.data, z.data.argmax(1), strict=True):
            owner = np.abs(X - point).max(axis=1).argmin()
            visited_wrong[owner] |= said != Y[owner]
        return z

    x_adv = pgd(recorded, X, Y, 0.1, 0.02, 10, restarts=2)
    assert 0 < visited_wrong.sum() < len(X)
    np.testing.assert_array_equal(right(NET, x_adv, Y), ~visited_wrong)


def test_the_first_point_that_is_wrong_is_returned_though_others_have_a_larger_loss() -> None:
    """With three classes a right answer can cost log 3 = 1.10, a wrong one log 2: what counts is to be wrong."""
    z = [[0.1, 0, 0], [0, 0.01, -20], [0.001, 0, 0]]  # right, loss 1.03; wrong, 0.70; right, 1.10
    visited: list[np.ndarray] = []

    def model(t: mdb.Tensor) -> mdb.Tensor:
        visited.append(t.data.copy())
        return t @ np.full((8, 3), 1e-9) * np.arange(3) + np.array(z[min(len(visited) - 1, 2)])

    x_adv = pgd(model, X[:1], [0], 0.1, 0.02, 4, restarts=3)
    assert len(visited) == 2  # nothing is left to attack
    assert not np.array_equal(visited[0], visited[1])
    np.testing.assert_array_equal(x_adv, visited[1])


@pytest.mark.parametrize("seed", range(3))
def test_more_restarts_never_help_the_defender(seed: int) -> None:
    held = [right(NET, pgd(NET, X, Y, 0.1, 0.03, 2, restarts=r, seed=seed), Y) for r in (1, 2, 4, 8)]
    for fewer, more in pairwise(held):
        assert not (more & ~fewer).any()  # image by image
    assert held[-1].sum() < held[0].sum()


@pytest.mark.parametrize("seed", range(3))
def test_pgd_is_at_least_as_strong_as_where_it_starts(seed: int) -> None:
    visited: list[np.ndarray] = []

    def recorded(t: mdb.Tensor) -> mdb.Tensor:
        visited.append(t.data.copy())
        return NET(t)

    x_adv = pgd(recorded, X, Y, 0.05, 0.02, 4, seed=seed)
    images, start = visited[:2]
    attacked, still_right = right(NET, X, Y), right(NET, x_adv, Y)
    assert (images == X).all()
    assert (start != X[attacked]).all()  # a random point of the ball, not the image
    assert (x_adv[~attacked] == X[~attacked]).all()  # what was wrong already is left alone
    x_adv, y, still_right = x_adv[attacked], Y[attacked], still_right[attacked]
    assert right(NET, start, y)[still_right].all()
    assert (losses(NET, x_adv, y) >= losses(NET, start, y))[still_right].all()


def test_more_steps_than_one_are_worth_it() -> None:
    one = right(NET, fgsm(NET, X, Y, 0.12), Y).sum()
    assert right(NET, pgd(NET, X, Y, 0.12, 0.03, 20, restarts=3), Y).sum() <= one


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_pgd_from_takes_every_step_and_returns_the_last_point(clip: Any) -> None:
    """Also where the model is wrong already, as it is on some images of Y: the formula of softmax regression."""
    w, b = RNG.normal(size=(8, 4)), RNG.normal(size=4)
    start = X + RNG.uniform(-0.4, 0.4, X.shape)  # partly outside the ball
    low, high = (X - 0.2, X + 0.2) if clip is None else (np.clip(X - 0.2, *clip), np.clip(X + 0.2, *clip))
    point = np.clip(start, low, high)
    for steps in range(1, 5):
        p = np.exp(point @ w + b)
        p /= p.sum(1, keepdims=True)
        point = np.clip(point + 0.07 * np.sign((p - np.eye(4)[Y]) @ w.T), low, high)
        images = pgd_from(linear(w, b), X, Y, 0.2, 0.07, steps, start=start, clip=clip)
        np.testing.assert_allclose(images, point, rtol=0, atol=1e-15)


def test_pgd_from_a_start_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start must have the shape of x, \(40, 8\); got \(39, 8\)"):
        pgd_from(NET, X, Y, 0.1, 0.1, 1, start=X[1:])


# -- PGD on the margin ----------------------------------------------------------------------------------------------


def margins(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """max_{i != y} z_i - z_y, written with a sort."""
    return np.array([np.sort(np.delete(row, label))[-1] - row[label] for row, label in zip(z, y, strict=True)])


def test_on_a_linear_model_the_margin_reaches_its_closed_form() -> None:
    """Within the ball, w_i x - w_y x rises by eps |w_i - w_y|_1 at most; the margin can reach the largest over i."""
    w = RNG.normal(size=(8, 4))
    y = np.argmax(X @ w, axis=1)
    eps = 0.02
    rise = eps * np.array([np.abs(w - w[:, [label]]).sum(axis=0) for label in y])
    best = margins(X @ w + rise, y)
    sure = best < 0
    x_adv = pgd(linear(w), X, y, eps, 0.011, 6, restarts=4, clip=None, loss="margin")
    assert 10 < sure.sum() < len(X)
    reached = margins(x_adv @ w, y)
    assert (reached <= best + 1e-12)[sure].all()
    assert np.isclose(reached, best, rtol=0, atol=1e-12)[sure].mean() > 0.9  # a path may climb to another class
    assert not right(linear(w), x_adv[~sure], y[~sure]).any()


def test_the_margin_has_a_gradient_where_softmax_is_saturated() -> None:
    """Logits of 1e6 leave cross-entropy a gradient of exactly 0; the margin of a linear model knows no scale."""
    w = (RNG.normal(size=(8, 2)) * 1e6).astype(np.float32)
    x = X.astype(np.float32)
    y = np.argmax(x @ w, axis=1)
    model = linear(w)
    np.testing.assert_array_equal(fgsm(model, x, y, 0.3), x)
    x_adv = pgd(model, x, y, 0.3, 0.05, 20, clip=None, loss="margin")
    gap = np.abs((x @ w) @ [1.0, -1.0])
    can_be_fooled = gap < 0.29 * np.abs(w @ [1.0, -1.0]).sum()
    assert can_be_fooled.sum() > 10
    assert not right(model, x_adv, y)[can_be_fooled].any()


def test_going_on_returns_the_wrong_point_with_the_largest_loss() -> None:
    visited: list[np.ndarray] = []

    def recorded(t: mdb.Tensor) -> mdb.Tensor:
        visited.append(t.data.copy())
        return NET(t)

    x_adv = pgd(recorded, X, Y, 0.1, 0.03, 5, restarts=2, loss="margin", go_on=True)
    assert len(visited) == 1 + 2 * (5 + 1)  # all images on all paths
    seen = np.array([margins(NET(points).data, Y) for points in visited])
    wrong = np.array([~right(NET, points, Y) for points in visited])
    expected = np.where(wrong.any(axis=0), np.where(wrong, seen, -np.inf).max(axis=0), seen.max(axis=0))
    np.testing.assert_allclose(margins(NET(x_adv).data, Y), expected, rtol=0, atol=1e-12)
    stopped = pgd(NET, X, Y, 0.1, 0.03, 5, restarts=2, loss="margin")
    fooled = ~right(NET, stopped, Y)
    assert (margins(NET(x_adv).data, Y) > margins(NET(stopped).data, Y))[fooled].mean() > 0.5


# -- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_noise_is_uniform_and_signs_are_corners(dtype: str) -> None:
    x = np.full((2000, 10), 0.5, dtype)
    noise, signs = (random_noise(x, 0.2, np.random.default_rng(3), kind=kind) - x for kind in ("uniform", "sign"))
    assert noise.dtype == signs.dtype == np.dtype(dtype)
    # U(-eps, eps): variance eps^2 / 3, and its fourth moment eps^4 / 5; 5 standard errors each
    assert abs(noise.mean()) < 5 * 0.2 / math.sqrt(3 * noise.size)
    assert noise.var() == pytest.approx(0.04 / 3, abs=5 * math.sqrt((0.0016 / 5 - 0.0016 / 9) / noise.size))
    np.testing.assert_allclose(np.abs(signs), 0.2, rtol=1e-6)
    assert abs(signs.mean()) < 5 * 0.2 / math.sqrt(signs.size)


@pytest.mark.parametrize("kind", ["uniform", "sign"])
def test_noise_keeps_to_ball_and_range_and_to_its_generator(kind: str) -> None:
    def noisy(seed: int, x: Any = X, **how: Any) -> Any:
        return random_noise(x, 0.3, np.random.default_rng(seed), kind=kind, **how)

    assert np.abs(noisy(0) - X).max() <= 0.3 + 1e-15
    assert (noisy(0).min(), noisy(0).max()) == (0, 1)
    assert noisy(0, clip=None).min() < 0
    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert not np.array_equal(noisy(1), noisy(2))
    assert isinstance(noisy(1, mdb.Tensor(X)), mdb.Tensor)


def test_noise_refuses_what_it_cannot_use() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"uniform, sign; got 'normal'"):
        random_noise(X, 0.1, rng, kind="normal")
    with pytest.raises(ValueError, match=r"eps must .* got -0.1"):
        random_noise(X, -0.1, rng)
    with pytest.raises(ValueError, match=r"1\.5"):
        random_noise(pixel(1.5), 0.1, rng)


# -- bad input ------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("eps", [-0.1, -1e-12, math.nan, math.inf, -math.inf])
def test_eps_must_be_a_number_of_at_least_0(attack: Attack, eps: float) -> None:
    with pytest.raises(ValueError, match=rf"^eps must .* got {eps}$"):
        attack(NET, X, Y, eps)


@EVERY
@pytest.mark.parametrize(
    ("eps", "clip", "message"),
    [
        (
            8,
            (0.0, 1.0),
            r"^eps must be at most 1, as pixels lie within \[0, 1\]; got 8 \(divide a size in bytes by 255\)$",
        ),
        (1.01, (0, 1), "got 1.01 "),
        (2.5, (-1.0, 1.0), r"^eps must be at most 2, as pixels lie within \[-1, 1\]; got 2.5 "),
    ],
)
def test_eps_is_at_most_the_range_of_the_pixels(attack: Attack, eps: float, clip: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(NET, X, Y, eps, clip=clip)


@pytest.mark.parametrize(("eps", "clip"), [(1.0, (0.0, 1.0)), (0.3, (0.4, 0.7)), (8, (0, 255)), (8, None)])
def test_eps_of_the_whole_range_is_taken_and_without_a_range_any(eps: float, clip: Any) -> None:
    x = 0.4 + 0.2 * X
    for x_adv in fgsm(NET, x, Y, eps, clip=clip), random_noise(x, eps, np.random.default_rng(0), clip=clip):
        assert np.abs(x_adv - x).max() <= eps + 1e-12
    if clip is not None:
        with pytest.raises(ValueError, match="eps must be at most"):
            random_noise(x, eps * 1.001 + clip[1] - clip[0], np.random.default_rng(0), clip=clip)


@EVERY
@pytest.mark.parametrize("clip", [(1.0, 0.0), (0.0, math.nan), (0.0, math.inf), (0.0,), 1.0])
def test_clip_must_be_a_range(attack: Attack, clip: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^clip must be the lowest and the highest valid pixel, such as \(0, 1\), or None; got"
    ):
        attack(NET, X, Y, 0.1, clip=clip)


@EVERY
def test_no_images_stay_no_images(attack: Attack) -> None:
    assert attack(NET, X[:0], Y[:0], 0.1).shape == (0, 8)


@pytest.mark.parametrize("step", [-0.1, math.nan, math.inf])
def test_step_must_be_a_number_of_at_least_0(step: float) -> None:
    with pytest.raises(ValueError, match=rf"^step must .* got {step}$"):
        pgd(NET, X, Y, 0.1, step, 3)


@pytest.mark.parametrize("counts", [{"steps": 0}, {"steps": -1}, {"steps": 2.5}, {"steps": 2, "restarts": 0}])
def test_steps_and_restarts_must_be_at_least_1(counts: dict[str, Any]) -> None:
    name, value = list(counts.items())[-1]
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of at least 1; got {value}"):
        pgd(NET, X, Y, 0.1, 0.1, **counts)


def test_an_unknown_loss_and_a_smoothed_margin_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cross_entropy, margin; got 'dlr'"):
        pgd(NET, X, Y, 0.1, 0.1, 1, loss="dlr")
    with pytest.raises(ValueError, match=r"label_smoothing belongs .* got 0.1"):
        pgd(NET, X, Y, 0.1, 0.1, 1, loss="margin", label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3; got 4"):
        pgd(NET, X, np.full(len(X), 4), 0.1, 0.1, 1, loss="margin")


def pixel(value: float) -> np.ndarray:
    x = X.copy()
    x[3, 2] = value
    return x


@EVERY
@pytest.mark.parametrize(
    ("x", "error", "named"),
    [
        (pixel(1.5), ValueError, "1.5"),
        (pixel(-0.25), ValueError, "-0.25"),
        (pixel(math.nan), ValueError, "nan"),
        (pixel(math.inf), ValueError, "inf"),
        ((X * 255).astype(np.uint8), TypeError, "uint8"),
        (X.astype(int), TypeError, "int64"),
        (X[:, :5], ValueError, "(40, 5)"),
        (np.array(0.5), ValueError, "single number"),
    ],
    ids=["above", "below", "nan", "inf", "uint8", "int", "shape", "number"],
)
def test_images_are_checked(attack: Attack, x: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error) as caught:
        attack(NET, x, Y, 0.1)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_without_clip_images_must_still_be_finite(attack: Attack, bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        attack(NET, pixel(bad), Y, 0.1, clip=None)


@EVERY
@pytest.mark.parametrize(
    ("y", "error", "named"),
    [
        ([*Y[:-1], 4], ValueError, "4"),
        ([*Y[:-1], -1], ValueError, "-1"),
        (Y.astype(float), TypeError, "float64"),
        (Y[:-1], ValueError, "39"),
        (np.eye(4, dtype=int)[Y], ValueError, "(40, 4)"),
        (None, ValueError, "None"),
    ],
    ids=["above", "below", "float", "length", "one-hot", "none"],
)
def test_labels_are_checked(attack: Attack, y: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error) as caught:
        attack(NET, X, y, 0.1)
    assert "label" in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("attack", [fgsm, run_pgd], ids=NAMES[:2])
@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_label_smoothing_is_checked(attack: Attack, smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing .* {smoothing}"):
        attack(NET, X, Y, 0.1, label_smoothing=smoothing)


@EVERY
def test_an_unknown_label_is_answered_with_the_choices(attack: Attack) -> None:
    with pytest.raises(ValueError, match=r"true, predicted.*'smoothed'"):
        attack(NET, X, Y, 0.1, label="smoothed")

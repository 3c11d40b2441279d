"""Square Attack against closed forms, the paper's schedule, and models that mask their gradients."""

from typing import Any

import numpy as np
import pytest
from small_models import linear, right, small_net

import minidbp as mdb
from minidbp.robust import apgd, pgd, square
from minidbp.robust.losses import margin

RNG = np.random.default_rng(13)
X = RNG.uniform(0, 1, (40, 8))
NET = small_net()
Y = np.argmax(NET(X).data, axis=1)
EPS = 0.1


def visited(x: np.ndarray, queries: int, **options: Any) -> np.ndarray:
    """The points of an attack on a model whose margin never changes: the stripes, and each window in them."""
    points: list[np.ndarray] = []

    def constant(t: mdb.Tensor) -> mdb.Tensor:
        points.append(t.data.copy())
        return t.reshape(len(t), -1) @ np.zeros((x[0].size, 2)) + np.array([1.0, 0.0])

    square(constant, x, np.zeros(len(x), int), EPS, queries, **options)
    np.testing.assert_array_equal(points[0], x)
    return np.array(points[1:])


# -- the algorithm --------------------------------------------------------------------------------------------------


def test_the_search_begins_with_vertical_stripes() -> None:
    x = RNG.uniform(0, 1, (50, 6, 9, 2))
    stripes = visited(x, 1, clip=None)[0] - x
    np.testing.assert_allclose(np.abs(stripes), EPS, rtol=1e-12)
    assert (np.sign(stripes) == np.sign(stripes[:, :1])).all()  # along a column
    assert 0.4 < (stripes[:, 0] > 0).mean() < 0.6
    for axis in (0, 1, 2):  # over images, columns and channels
        assert len(np.unique(np.sign(stripes[:, 0]), axis=axis)) > 1


def test_the_windows_shrink_as_the_paper_says() -> None:
    """Of 10,000 queries p halves after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000; here are 1,000."""
    x = RNG.uniform(0, 1, (4, 28, 28, 1))
    points = visited(x, 1000, clip=None)
    sides = {1: 25, 2: 18, 5: 18, 6: 13, 20: 13, 21: 9, 50: 9, 51: 6, 100: 6, 101: 4, 200: 4, 201: 3, 400: 3, 401: 2}
    for query, side in {**sides, 800: 2, 801: 1, 999: 1}.items():
        for image, stripes in zip(points[query], points[0], strict=True):
            changed = (image != stripes)[..., 0]
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            assert len(rows) == np.ptp(rows) + 1 == side  # every query changes something
            assert 1 <= np.ptp(columns) + 1 <= side  # the other columns had the window's sign already
            assert len(np.unique(np.sign((image - x[0])[changed]))) <= 2


def test_windows_reach_every_pixel_and_have_one_sign_for_each_channel() -> None:
    x = np.full((40, 5, 7, 2), 0.5)
    points = visited(x, 400, seed=3)
    changed = points != points[0]
    assert changed.any(axis=(0, 1)).all()
    for image, where in zip(points[1:].reshape(-1, 5, 7, 2), changed[1:].reshape(-1, 5, 7, 2), strict=True):
        for channel in range(2):
            assert len(np.unique(image[..., channel][where[..., channel]])) <= 1


def test_windows_of_vectors_are_intervals() -> None:
    x = np.full((5, 100), 0.5)
    points = visited(x, 1000)
    spans = [np.ptp(np.flatnonzero(image != stripes)) + 1 for image, stripes in zip(points[1], points[0], strict=True)]
    assert 60 < max(spans) <= 80  # 80% of 100
    assert ((points[900:] != points[0]).sum(axis=2) == 1).all()


def test_an_update_is_kept_only_if_the_margin_grows() -> None:
    x, y = X[:1], Y[:1]
    points: list[np.ndarray] = []

    def recorded(t: mdb.Tensor) -> mdb.Tensor:
        points.append(t.data.copy())
        return NET(t)

    eps = 0.01
    x_adv = square(recorded, x, y, eps, 200)
    margins = np.array([margin(NET(point), y).data[0] for point in points])
    assert len(points) == 201
    best = 1
    for query in range(2, len(points)):
        rest = points[query] == points[best]
        assert rest.any()  # one window of the best point
        best = query if margins[query] > margins[best] else best
    np.testing.assert_array_equal(x_adv, points[int(np.argmax(margins))])


# -- closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_on_a_linear_model_of_two_classes_square_finds_the_best_point(clip: Any) -> None:
    """Each pixel's sign counts by itself, so random search ends in the best corner `x - eps sign(w_y - w_other)`."""
    w = RNG.normal(size=(8, 2))
    y = np.argmax(X @ w, axis=1)
    corner = X - 0.02 * np.sign(w[:, y] - w[:, 1 - y]).T
    corner = corner if clip is None else np.clip(corner, *clip)
    sure = np.argmax(corner @ w, axis=1) == y
    x_adv = square(linear(w), X, y, 0.02, 400, clip=clip)
    assert sure.sum() >= 10
    np.testing.assert_allclose(x_adv[sure], corner[sure], rtol=0, atol=1e-15)
    assert not right(linear(w), x_adv[~sure], y[~sure]).any()


def test_on_a_linear_model_of_images_too() -> None:
    x = RNG.uniform(0, 1, (20, 4, 5, 2))
    w = RNG.normal(size=(40, 2))
    y = np.argmax(x.reshape(20, 40) @ w, axis=1)
    corner = (x.reshape(20, 40) - 0.002 * np.sign(w[:, y] - w[:, 1 - y]).T).reshape(x.shape)
    sure = np.argmax(corner.reshape(20, 40) @ w, axis=1) == y
    x_adv = square(lambda t: t.reshape(len(t), 40) @ w, x, y, 0.002, 1500, clip=None)
    assert sure.sum() >= 10
    assert np.isclose(x_adv, corner, rtol=0, atol=1e-15)[sure].mean() > 0.99


# -- masked gradients -----------------------------------------------------------------------------------------------


def binary_first_layer(t: mdb.Tensor) -> mdb.Tensor:
    """Bits of the pixels: no gradient passes them, and a leak in the logits gives one that leads nowhere."""
    bits = mdb.sign(t.detach() - 0.5)
    return bits @ np.random.default_rng(2).normal(size=(8, 3)) + 1e-6 * (
        t @ np.random.default_rng(3).normal(size=(8, 3))
    )


def test_a_quantised_first_layer_stops_pgd_but_not_square() -> None:
    x = RNG.uniform(0, 1, (200, 8))
    y = np.argmax(binary_first_layer(mdb.Tensor(x)).data, axis=1)
    by_pgd = right(binary_first_layer, pgd(binary_first_layer, x, y, EPS, 0.02, 40), y)
    by_apgd = right(binary_first_layer, apgd(binary_first_layer, x, y, EPS), y)
    by_square = right(binary_first_layer, square(binary_first_layer, x, y, EPS, 500), y)
    # In the truth, each pixel within eps of 0.5 may take either sign: try all corners.
    corners = np.stack(np.meshgrid(*[[-EPS, EPS]] * 8, indexing="ij"), -1).reshape(-1, 8)
    truth = [
        all(right(binary_first_layer, np.clip(corners + a, 0, 1), np.full(256, b))) for a, b in zip(x, y, strict=True)
    ]
    assert by_square.sum() == np.sum(truth) < by_apgd.sum() - 5
    assert np.sum(truth) < by_pgd.sum() - 5


def test_a_saturated_softmax_stops_pgd_but_not_square() -> None:
    """Logits of 1e6 leave the cross-entropy a gradient of exactly 0."""
    net = small_net("float32")
    x = X.astype(np.float32)
    y = np.argmax(net(x).data, axis=1)

    def saturated(t: mdb.Tensor) -> mdb.Tensor:
        return net(t) * 1e6

    by_pgd = right(saturated, pgd(saturated, x, y, EPS, 0.02, 40), y)
    by_square = right(saturated, square(saturated, x, y, EPS, 500), y)
    without_mask = right(net, pgd(net, x, y, EPS, 0.02, 40, restarts=10), y)
    assert by_square.sum() <= without_mask.sum() < by_pgd.sum() - 5


def test_square_asks_for_no_gradient() -> None:
    """A model that no derivative can pass: it computes with arrays."""
    x_adv = square(lambda t: mdb.Tensor(NET(t.data).data), X, Y, EPS, 100)
    np.testing.assert_array_equal(x_adv, square(NET, X, Y, EPS, 100))


# -- promises -------------------------------------------------------------------------------------------------------


def test_square_is_decided_by_its_seed() -> None:
    def attacked(seed: Any) -> np.ndarray:
        return square(NET, X, Y, EPS, 50, seed=seed)

    np.testing.assert_array_equal(attacked(5), attacked(5))
    np.testing.assert_array_equal(attacked(5), attacked(np.random.default_rng(5)))
    assert not np.array_equal(attacked(5), attacked(6))


def test_more_queries_leave_fewer_images() -> None:
    held = [right(NET, square(NET, X, Y, 0.08, queries), Y).sum() for queries in (1, 10, 100, 1000)]
    assert held == sorted(held, reverse=True)
    assert held[-1] < held[0]


def test_an_image_gets_no_better_than_it_was() -> None:
    x_adv = square(NET, X, Y, 0.01, 1)  # stripes alone often raise nothing
    before, after = (margin(NET(points), Y).data for points in (X, x_adv))
    assert (after >= before).all()
    assert (x_adv == X).all(axis=1).any()
    assert not (x_adv == X).all()


def test_wrong_images_come_back_as_they_are() -> None:
    y = (Y + (np.arange(len(Y)) % 2)) % 4
    wrong = ~right(NET, X, y)
    np.testing.assert_array_equal(square(NET, X, y, EPS, 20)[wrong], X[wrong])


@pytest.mark.parametrize("shape", [(5,), (5, 8), (5, 4, 2), (5, 2, 2, 2), (5, 2, 2, 2, 1)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    x = RNG.uniform(0, 1, shape)
    w = RNG.normal(size=(x[0].size, 3))
    x_adv = square(lambda t: t.reshape(len(t), -1) @ w, x, np.zeros(5, int), EPS, 20)
    assert x_adv.shape == shape
    assert np.abs(x_adv - x).max() <= EPS + 1e-15


@pytest.mark.parametrize("queries", [0, -1, 2.5])
def test_queries_must_be_at_least_1(queries: Any) -> None:
    with pytest.raises(ValueError, match=rf"^square: queries must be a whole number of at least 1; got {queries}$"):
        square(NET, X, Y, EPS, queries)

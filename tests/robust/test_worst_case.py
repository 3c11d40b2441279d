"""The strongest attacks together: only what stands is attacked, and each finds what the others miss."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from small_models import right, small_net

import minidbp as mdb
from minidbp import nn
from minidbp.robust import STRONGEST, apgd, square, strongest
from minidbp.training import workers
from minidbp.training.evaluate import attacked

RNG = np.random.default_rng(17)
X = RNG.uniform(0, 1, (60, 8))
NET = small_net()
Y = np.argmax(NET(X).data, axis=1)
Y[::10] = (Y[::10] + 1) % 4
EPS = 0.1
FEW: dict[str, int] = {"steps": 10, "restarts": 1, "queries": 50}


def test_the_worst_case_is_that_of_each_image() -> None:
    found = strongest(NET, X, Y, EPS, **FEW)
    assert list(found.right) == ["clean", *STRONGEST]
    np.testing.assert_array_equal(found.right["clean"], right(NET, X, Y))
    np.testing.assert_array_equal(found.broken, ~right(NET, found.images, Y))
    for before, after in pairwise(found.right.values()):
        assert not (after & ~before).any()
    assert found.accuracy == {name: 100 * of_attack.mean() for name, of_attack in found.right.items()}
    assert np.abs(found.images - X).max() <= EPS + 1e-15
    assert 0 <= found.images.min() <= found.images.max() <= 1


def test_each_attack_gets_only_what_stands() -> None:
    rng = np.random.default_rng(4)
    found = strongest(NET, X, Y, EPS, seed=4, **FEW)
    standing = found.right["clean"]
    np.testing.assert_array_equal(found.images[~standing], X[~standing])
    for name, attack in {
        "apgd_ce": lambda x, y: apgd(NET, x, y, EPS, "ce", 10, seed=rng),
        "apgd_dlr": lambda x, y: apgd(NET, x, y, EPS, "dlr", 10, seed=rng),
        "square": lambda x, y: square(NET, x, y, EPS, 50, seed=rng),
    }.items():
        x_adv = attack(X[standing], Y[standing])
        withstood = right(NET, x_adv, Y[standing])
        np.testing.assert_array_equal(found.images[standing][~withstood], x_adv[~withstood])
        standing = standing.copy()
        standing[standing] = withstood
        np.testing.assert_array_equal(found.right[name], standing)
    np.testing.assert_array_equal(found.images[standing], x_adv[withstood])


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_one_mask_does_not_hide_a_model(scale: float) -> None:
    """Saturation stops the cross-entropy; the ratio and Square go on."""
    net = small_net("float32")
    x, y = X.astype(np.float32), np.argmax(net(X.astype(np.float32)).data, axis=1)
    found = strongest(lambda t: net(t) * scale, x, y, EPS, steps=40, queries=200)
    assert found.accuracy["square"] < 60
    assert (found.accuracy["apgd_ce"] > found.accuracy["square"] + 20) == (scale > 1)


def test_a_model_without_a_useful_gradient_is_left_to_square() -> None:
    def binary(t: mdb.Tensor) -> mdb.Tensor:
        bits = mdb.sign(t.detach() - 0.5)
        return bits @ np.random.default_rng(2).normal(size=(8, 3)) + 1e-6 * (t @ np.ones((8, 3)))

    y = np.argmax(binary(mdb.Tensor(X)).data, axis=1)
    accuracy = strongest(binary, X, y, EPS, restarts=1, queries=300).accuracy
    assert accuracy["square"] < accuracy["apgd_dlr"] - 5


def test_two_classes_are_enough() -> None:
    w = RNG.normal(size=(8, 2))
    y = np.argmax(X @ w, axis=1)
    corner = np.clip(X - 0.05 * np.sign(w[:, y] - w[:, 1 - y]).T, 0, 1)
    found = strongest(lambda t: t @ w, X, y, 0.05, **FEW)
    np.testing.assert_array_equal(found.broken, np.argmax(corner @ w, axis=1) != y)


def test_the_worst_case_is_decided_by_its_seed() -> None:
    def attacked(seed: Any) -> np.ndarray:
        return strongest(NET, X, Y, 0.02, seed=seed, **FEW).images

    np.testing.assert_array_equal(attacked(5), attacked(5))
    np.testing.assert_array_equal(attacked(5), attacked(np.random.default_rng(5)))
    assert not np.array_equal(attacked(5), attacked(6))


def test_one_thread_and_two_give_the_same_bits(mnist: mdb.data.Dataset) -> None:
    """Shards of images run in threads, each with its own generator, on the fused model."""
    model = nn.build_model("C", seed=0)
    x, y = mnist.x_test[:260], np.argmax(model(mnist.x_test[:260]).data, axis=1)

    def attack(model: nn.Sequential, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return strongest(model, x, y, 0.02, seed=rng, **FEW).images

    made = []
    for threads in (1, 2):
        with workers(threads) as pool:
            made.append(attacked(model, x, y, pool, attack))
    np.testing.assert_array_equal(*made)
    assert not right(model, made[0], y).all()


def test_tensors_and_no_images_will_do() -> None:
    found = strongest(NET, mdb.Tensor(X), Y, EPS, **FEW)
    np.testing.assert_array_equal(found.images, strongest(NET, X, Y, EPS, **FEW).images)
    assert strongest(NET, X, (np.argmax(NET(X).data, 1) + 1) % 4, EPS).accuracy["square"] == 0  # nothing to attack


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_image_without_a_finite_gradient_is_not_called_broken() -> None:
    def model(t: mdb.Tensor) -> mdb.Tensor:
        return NET(t) + 0 * mdb.sqrt(t - t).sum(axis=1).reshape(len(t), 1)

    found = strongest(model, X, Y, EPS, **FEW)
    no_image = np.isnan(found.images).any(axis=1)
    assert no_image.any()
    assert not found.broken[no_image].any()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^eps must .* got -0.1$"):
        strongest(NET, X, Y, -0.1)
    with pytest.raises(ValueError, match="apgd: steps"):
        strongest(NET, X, Y, 0.1, steps=0)

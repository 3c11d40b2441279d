"""Accuracies, against counting the right answers by hand."""

import numpy as np
import pytest
from own_models import OWN

from minidbp import Tensor, nn
from minidbp.data import Dataset
from minidbp.diagnosis.diagnose import diagnose
from minidbp.diagnosis.trials import LabelledImages
from minidbp.robust import fgsm, pgd
from minidbp.training import (
    DivergenceError,
    Protocol,
    TrainingState,
    accuracy,
    batch_gradient,
    check_fits,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
    predict,
    quickly_trained,
    track,
    training_step,
    workers,
)
from minidbp.training.evaluate import jacobian_norms

N = 600  # more than two shards


@pytest.fixture(scope="module")
def model(mnist: Dataset) -> nn.Sequential:
    """Model C with one layer fitted by least squares, so that it is right on some images and wrong on others."""
    model = nn.build_model("C", seed=3)
    *body, last = model.layers
    h = nn.Sequential(body)(mnist.x_train[:3000]).data
    fitted = np.linalg.lstsq(h, 5 * np.eye(10, dtype=np.float32)[mnist.y_train[:3000]], rcond=None)[0]
    last.parameters()[0].data = fitted.astype(np.float32)
    return model


@pytest.fixture(scope="module")
def images(mnist: Dataset) -> tuple[np.ndarray, np.ndarray]:
    return mnist.x_test[:N], mnist.y_test[:N]


def share_right(model: nn.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    return 100 * float(np.mean(np.argmax(model(x).data, axis=1) == y))


def test_predict_is_the_largest_logit(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    said = predict(model, images[0])
    np.testing.assert_array_equal(said, np.argmax(model(images[0]).data, axis=1))
    assert len(set(said)) == 10


@pytest.mark.parametrize("threads", [1, 2])
def test_accuracy(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray], threads: int) -> None:
    with workers(threads) as pool:
        percentage = accuracy(model, *images, pool)
        one = [accuracy(model, images[0][:1], label, pool) for label in (images[1][:1], images[1][:1] + 1)]
    assert percentage == pytest.approx(share_right(model, *images), abs=1e-12)
    assert 60 < percentage < 100
    assert sorted(one) in ([0.0, 100.0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("reading", "arguments"),
    [
        ({}, {"eps": 0.3}),
        ({"eps": 0.05}, {"eps": 0.05}),
        ({"eps": 0.1, "clip": False}, {"eps": 0.1, "clip": None}),
        ({"eps": 0.1, "attack_label": "predicted"}, {"eps": 0.1, "label": "predicted"}),
        ({"eps": 0.1, "attack_label": "smoothed"}, {"eps": 0.1, "label_smoothing": 0.1}),
        ({"eps": 0.1, "attack_label": "smoothed", "label_smoothing": 0.4}, {"eps": 0.1, "label_smoothing": 0.4}),
    ],
)
def test_fgsm_reads_the_protocol(
    model: nn.Sequential, images: tuple[np.ndarray, np.ndarray], reading: dict, arguments: dict
) -> None:
    x, y = images
    with workers(2) as pool:
        percentage = percent(correct_under_fgsm(model, x, y, Protocol(**reading), pool))
        expected = share_right(model, fgsm(model, x, y, **arguments), y)
    assert percentage == pytest.approx(expected, abs=100 / N * 1.01)  # one image may stand on the border by rounding


def test_pgd_reads_the_protocol(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (array[:100] for array in images)
    protocol = Protocol(eps=0.05, pgd_steps=4, pgd_step=0.02, pgd_restarts=2)
    rng = np.random.default_rng([7, 0])
    with workers(2) as pool:
        percentage = percent(correct_under_pgd(model, x, y, protocol, pool, seed=7))
        expected = share_right(model, pgd(model, x, y, 0.05, 0.02, 4, restarts=2, seed=rng), y)
        assert percentage == pytest.approx(expected, abs=1e-12)
        assert percentage <= percent(correct_under_fgsm(model, x, y, protocol, pool)) + 5
        assert percentage < accuracy(model, x, y, pool)


def test_the_number_of_threads_changes_nothing(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    protocol, results = Protocol(eps=0.1, pgd_steps=2), []
    for threads in (1, 2, 3):
        with workers(threads) as pool:
            results.append(
                (
                    accuracy(model, *images, pool),
                    percent(correct_under_fgsm(model, *images, protocol, pool)),
                    percent(correct_under_pgd(model, *images, protocol, pool, seed=1)),
                )
            )
    assert results[0] == results[1] == results[2]


def test_done_counts_every_image_once(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    protocol, counted = Protocol(eps=0.1, pgd_steps=1), []
    with workers(1) as pool:
        for judge in (
            lambda done: correct(model, *images, pool, done),
            lambda done: correct_under_fgsm(model, *images, protocol, pool, done),
            lambda done: correct_under_pgd(model, *images, protocol, pool, done=done),
        ):
            calls: list[int] = []
            judge(calls.append)
            counted.append(sum(calls))
            assert len(calls) > 1
    assert counted == [N, N, N]


def test_an_error_of_done_ends_an_attack_in_its_midst(
    model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]
) -> None:
    calls: list[int] = []

    def done(n: int) -> None:  # raises after the third of some 200 passes, as a progress bar does after Ctrl-C
        calls.append(n)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with workers(1) as pool, pytest.raises(KeyboardInterrupt):
        correct_under_pgd(model, images[0][:5], images[1][:5], Protocol(pgd_steps=100), pool, done=done)
    assert calls == [0, 0, 0]


@pytest.mark.parametrize("kind", OWN)
def test_a_model_of_ones_own_is_evaluated_and_attacked(kind: str, images: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (array[:90] for array in images)
    own = OWN[kind]()
    if isinstance(own, nn.Layer):
        own.eval()
    protocol = Protocol(eps=0.1, small_eps=0.05, pgd_steps=2)
    with workers(2) as pool:
        tracked = track(own, x, y, protocol, pool)
        bare = track(lambda t: own(t), x, y, protocol, pool)  # a function does not even need parameters
    assert tracked == bare
    said = np.argmax(own(Tensor(x)).data, axis=1)
    assert tracked.clean == pytest.approx(100 * float(np.mean(said == y)), abs=1e-12)
    x_adv = fgsm(own, x, y, 0.1)
    assert tracked.fgsm == pytest.approx(100 * float(np.mean(predict(own, x_adv) == y)), abs=2)
    assert tracked.jacobian_l1 > 0


def test_no_images(model: nn.Sequential) -> None:
    with workers(1) as pool, pytest.raises(ValueError, match=r"^there must be at least one sample; got none$"):
        accuracy(model, np.zeros((0, 28, 28, 1), np.float32), np.zeros(0, int), pool)
    with pytest.raises(ValueError, match=r"^there must be at least one sample; got none$"):
        percent(np.zeros(0, bool))


def test_labels_that_do_not_fit(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    with workers(1) as pool, pytest.raises(ValueError, match=r"^there must be one label per image; got 2 labels for 3"):
        accuracy(model, images[0][:3], images[1][:2], pool)


def test_images_in_bytes(model: nn.Sequential) -> None:
    x, y = np.zeros((3, 28, 28, 1), np.uint8), np.zeros(3, int)
    with workers(1) as pool:
        for judge in (
            lambda: accuracy(model, x, y, pool),
            lambda: track(lambda t: model(t), x, y, Protocol(), pool),
            lambda: batch_gradient(model, x, y, 1.0, Protocol(), pool),
            lambda: predict(model, x),
        ):
            with pytest.raises(TypeError, match="got uint8: divide bytes by 255"):
                judge()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(model: nn.Sequential, mnist: Dataset, bad: float) -> None:
    x, y = np.zeros((300, 28, 28, 1), np.float32), np.zeros(300, int)
    x[280, 3, 4, 0] = bad  # in the second shard
    p = Protocol(pgd_steps=1)
    with workers(1) as pool:
        state = TrainingState(model, 0.0, p, np.random.default_rng(0))
        for judge in (
            lambda: accuracy(model, x, y, pool),
            lambda: correct_under_fgsm(model, x, y, p, pool),
            lambda: correct_under_pgd(model, x, y, p, pool),
            lambda: track(model, x, y, p, pool),
            lambda: jacobian_norms(model, x, pool),
            lambda: predict(model, x),
            lambda: quickly_trained("C", x, y, 1),
            lambda: diagnose({"it": model}, LabelledImages(x, y, pool), p, mnist),
        ):
            with pytest.raises(ValueError, match=rf"^images must be finite.*; got {bad} at index \(280, 3, 4, 0\)$"):
                judge()
        for step in (
            lambda: batch_gradient(model, x[270:], y[270:], 1.0, p, pool),
            lambda: training_step(state, x[270:], y[270:], pool),
        ):
            with pytest.raises(ValueError, match=rf"^images must be finite; got {bad} at index"):
                step()
        with pytest.raises(TypeError, match=r"^images must be float32 or float64; got int64$"):
            accuracy(model, np.zeros((3, 28, 28, 1), np.int64), y[:3], pool)


def test_percent_by_class_against_counting(model: nn.Sequential, images: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = images
    with workers(2) as pool:
        is_correct = correct(model, x, y, pool)
    said = np.argmax(model(x).data, axis=1)
    for label, share in enumerate(percent_by_class(is_correct, y, 10)):
        of_class = [s == t for s, t in zip(said, y, strict=True) if t == label]
        assert share == pytest.approx(100 * sum(of_class) / len(of_class), abs=1e-12)
    assert percent_by_class(np.array([True]), np.array([3]), 5) == [None] * 3 + [100.0, None]


def test_a_jacobian_that_is_not_finite_is_a_divergence() -> None:
    """FGSM and PGD need only signs, so they may be finite: their images are. A history holds finite numbers alone."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(40, 10, rng)
    layer.parameters()[0].data = np.where(rng.random((40, 10)) < 0.5, -2e38, 2e38).astype(np.float32)
    x, y = np.zeros((4, 40), np.float32), np.arange(4)
    with workers(1) as pool, pytest.raises(DivergenceError, match="Jacobian"):
        track(nn.Sequential([layer]), x, y, Protocol(eps=0.0, small_eps=0.0, pgd_steps=1), pool)


def test_data_that_do_not_fit_a_model_are_named() -> None:
    y = np.arange(6) % 3
    data = [Dataset.from_arrays(np.zeros((6, *shape)), y, name="mine") for shape in ((8, 8), (8, 8, 3))]
    model = nn.build_model("C", dtype="float64", input_shape=(8, 8, 1), n_classes=3)
    check_fits(model, data[0], "w.safetensors")
    with pytest.raises(
        ValueError,
        match=r"^w is for images of 8x8 in 3 classes, and mine has images of 8x8x3 in 3 classes: give the data",
    ):
        check_fits(model, data[1], "w")
    with pytest.raises(ValueError, match=r"^w is for images of 8x8 in 4 classes, and mine has images of 8x8 in 3"):
        check_fits(nn.build_model("C", input_shape=(8, 8, 1), n_classes=4), data[0], "w")

"""Training: when it stops, what it keeps, what it says, and that it learns MNIST."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from own_models import OWN, Foreign, OwnLayer

from minidbp import Tensor, nn, no_grad
from minidbp.data import Dataset, Split, split_train_validation
from minidbp.robust import PENALTIES
from minidbp.training import (
    DivergenceError,
    Epoch,
    Protocol,
    TrainingState,
    accuracy,
    predict,
    quickly_trained,
    train,
    training_step,
    workers,
)


@pytest.fixture(scope="module")
def split(mnist: Dataset) -> Split:
    x, y = mnist.x_train, mnist.y_train
    return Split(x[:320], y[:320], x[1000:1200], y[1000:1200])


def small_model(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential([nn.Flatten(), nn.Linear(784, 16, rng), nn.ReLU(), nn.Linear(16, 10, rng)])


def run(model: nn.TrainableModel, split: Split, lam: float = 0.0, threads: int = 1, **protocol: Any) -> list[Epoch]:
    settings = {"stop_rule": "none", "max_epochs": 2, "batch_size": 64, **protocol}
    calls = {name: settings.pop(name, None) for name in ("on_step", "on_epoch")}
    with workers(threads) as pool:
        return train(TrainingState(model, lam, Protocol(**settings), np.random.default_rng(1)), split, pool, **calls)


def test_dropout_is_on_in_the_steps_and_off_for_the_accuracy(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential([nn.Flatten(), nn.Dropout(0.5, rng), nn.Linear(784, 10, rng)])
    seen: list[tuple[str, bool]] = []

    def accuracy_(*args: Any) -> float:
        seen.append(("accuracy", model.layers[1].training))
        return accuracy(*args)

    monkeypatch.setattr("minidbp.training.loop.accuracy", accuracy_)
    model.eval()
    run(model, split, on_step=lambda *_: seen.append(("step", model.layers[1].training)))
    assert seen == ([("step", True)] * 5 + [("accuracy", False)]) * 2
    assert not model.layers[1].training


# -- a model of one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_model_of_ones_own_is_trained(kind: str, penalty: str, split: Split) -> None:
    model = OWN[kind]()
    before = [p.data for p in model.parameters()]
    history = run(model, split, 0.1, threads=2, penalty=penalty, max_epochs=3, keep="best", learning_rate=0.01)
    assert history[-1].loss < history[0].loss
    assert history[-1].validation_accuracy > 50
    moved = [(p.data != old).any() for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [True] * len(moved) if kind == "no Layer" else [True] * 6 + [False] * 2  # `unused` stays


@pytest.mark.parametrize("kind", OWN)
def test_a_model_of_ones_own_trains_on_adversarial_images(kind: str, split: Split) -> None:
    run(
        OWN[kind](), split, 0.1, max_epochs=1, adversarial_training=True, training_attack="pgd", training_attack_steps=2
    )


def test_modes_of_a_layer_of_ones_own(split: Split) -> None:
    model = OwnLayer()
    seen: list[bool] = []
    run(model, split, on_step=lambda *_: seen.append(model.dropout.training), max_epochs=1)
    assert set(seen) == {True}
    assert not model.dropout.training


def test_the_threads_change_nothing_in_a_model_of_ones_own(split: Split) -> None:
    models = [Foreign(), Foreign()]
    for threads, model in enumerate(models, start=1):
        run(model, split, 0.1, threads=threads)
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        assert p.data.tobytes() == q.data.tobytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("n_x", "n_y", "n_validation", "message"),
    [
        (0, 0, 5, "there must be at least one sample; got none"),
        (20, 20, 0, "there must be at least one sample; got none"),
        (20, 19, 5, "there must be one label per image; got 19 labels for 20 images"),
    ],
)
def test_data_that_cannot_be_trained_on(n_x: int, n_y: int, n_validation: int, message: str, split: Split) -> None:
    x, y = split.x_train, split.y_train
    with pytest.raises(ValueError, match=f"^{message}$"):
        run(small_model(), Split(x[:n_x], y[:n_y], x[:n_validation], y[:n_validation]))


def test_what_cannot_be_trained() -> None:
    protocol, rng = Protocol(), np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"^a model must be a Layer or have a method parameters\(\); got function$"):
        TrainingState(lambda x: x, 0.0, protocol, rng)  # type: ignore[type-var]
    weights = nn.Linear(2, 2, rng).parameters()
    for listed in iter(weights), {"w": weights[0]}, [weights[0].data], [Tensor(weights[0].data)]:
        own = type("Own", (), {"__call__": lambda self, x: x, "parameters": lambda self, listed=listed: listed})()
        with pytest.raises(
            TypeError, match=r"^parameters\(\) of Own must return a list of Tensors that require a grad"
        ):
            TrainingState(own, 0.0, protocol, rng)
    with pytest.raises(ValueError, match=r"^there is nothing to train, because this Flatten has no parameters$"):
        TrainingState(nn.Flatten(), 0.0, protocol, rng)


# -- when to stop ---------------------------------------------------------------------------------------------------


@pytest.fixture
def validation(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Give the epochs these validation accuracies, whatever the model says; the last one for ever."""

    def give(values: list[float]) -> None:
        left = list(values)
        monkeypatch.setattr("minidbp.training.loop.accuracy", lambda *_: left.pop(0) if len(left) > 1 else left[0])

    return give


RISING = [50.0 + i for i in range(12)]


@pytest.mark.parametrize(
    ("values", "protocol", "epochs"),
    [
        # the paper's: not before min_epochs are over, then at the first change below the tolerance
        ([90.0], {"stop_rule": "absolute", "min_epochs": 3}, 4),
        ([90.0], {"stop_rule": "absolute", "min_epochs": 1}, 2),
        ([90.0], {"stop_rule": "absolute", "min_epochs": 3, "max_epochs": 3}, 3),
        ([*RISING, RISING[-1]], {"stop_rule": "absolute", "min_epochs": 1}, 13),
        ([50, 50, 60, 70, 70, 80], {"stop_rule": "absolute", "min_epochs": 3}, 5),  # the early rest does not count
        # 0.0001 is of the share, 0.01 of a percent: one image of 5,000 is twice that
        ([90.0, 90.02, 90.04, 90.02, 90.02], {"stop_rule": "absolute", "min_epochs": 1}, 5),
        ([90.0, 90.009], {"stop_rule": "absolute", "min_epochs": 1}, 2),
        ([90.0, 89.991], {"stop_rule": "absolute", "min_epochs": 1}, 2),
        ([90.0, 95.0, 96.0], {"stop_rule": "absolute", "min_epochs": 1, "stop_tolerance": 0.02}, 3),
        # a fall is a change, but not a rise
        ([90.0, 80.0, 85.0, 70.0, 70.0], {"stop_rule": "absolute", "min_epochs": 1}, 5),
        ([90.0, 80.0], {"stop_rule": "signed", "min_epochs": 1}, 2),
        ([*RISING, 10.0], {"stop_rule": "signed", "min_epochs": 1}, 13),
        ([90.0, 80.0, 70.0, 60.0, 50.0], {"stop_rule": "signed", "min_epochs": 4}, 5),
        # no rule
        ([90.0], {"stop_rule": "none", "min_epochs": 1, "max_epochs": 6}, 6),
        ([*RISING], {"stop_rule": "none", "min_epochs": 9, "max_epochs": 1}, 1),
    ],
)
def test_stop_rules(
    split: Split, validation: Callable[[list[float]], None], values: list[float], protocol: dict, epochs: int
) -> None:
    validation(values)
    tiny = Split(split.x_train[:8], split.y_train[:8], split.x_validation[:2], split.y_validation[:2])
    history = run(small_model(), tiny, **{"max_epochs": 20, **protocol})
    assert [e.number for e in history] == list(range(1, epochs + 1))
    padded = values + values[-1:] * epochs
    assert [e.validation_accuracy for e in history] == padded[:epochs]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_which_weights_are_kept(split: Split, validation: Callable[[list[float]], None], keep: str) -> None:
    validation([50.0, 80.0, 80.0, 60.0])
    model, seen = small_model(), []
    run(
        model, split, max_epochs=4, keep=keep,
        on_epoch=lambda e: seen.append([p.data.copy() for p in model.parameters()]),
    )  # fmt: skip
    assert len(seen) == 4
    wanted = seen[3 if keep == "last" else 1]  # of two equally good epochs, the first
    for p, values in zip(model.parameters(), wanted, strict=True):
        np.testing.assert_array_equal(p.data, values)
    assert not np.array_equal(seen[3][0], seen[1][0])


# -- what it says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "batch", "steps"), [(320, 64, 5), (320, 100, 4), (320, 320, 1), (7, 2, 4)])
def test_every_step_and_every_epoch_is_told(split: Split, images: int, batch: int, steps: int) -> None:
    part = Split(split.x_train[:images], split.y_train[:images], split.x_validation, split.y_validation)
    said: list[Any] = []
    history = run(
        small_model(), part, batch_size=batch, max_epochs=3,
        on_step=lambda *numbers: said.append(numbers), on_epoch=said.append,
    )  # fmt: skip
    expected: list[Any] = []
    for epoch in (1, 2, 3):
        expected += [(epoch, step, steps) for step in range(1, steps + 1)] + [history[epoch - 1]]
    assert said == expected


@pytest.mark.parametrize("lam", [0.0, 3.0])
def test_an_epoch_says_what_it_did(split: Split, lam: float) -> None:
    """With a learning rate of 0 every epoch sees the same model: the means can be computed outside."""
    model = small_model()
    history = run(model, split, lam, learning_rate=0.0, batch_size=100)  # the last batch is smaller
    plain = nn.cross_entropy(model(split.x_train), split.y_train, 0.1).item()
    for epoch in history:
        assert epoch.cross_entropy == pytest.approx(plain, rel=1e-5)
        assert epoch.loss == pytest.approx(epoch.cross_entropy + lam * epoch.penalty, rel=1e-5)
        assert (epoch.penalty > 0) == (lam > 0)
        right = predict(model, split.x_validation) == split.y_validation
        assert epoch.validation_accuracy == pytest.approx(100 * right.mean())
        assert epoch.seconds > 0


def test_training_lowers_the_loss_and_the_penalty_lowers_the_jacobian(split: Split) -> None:
    from minidbp.robust import jacobian_l1

    slope = {}
    for lam in (0.0, 100.0):
        model = small_model()
        history = run(model, split, lam, max_epochs=8)
        assert history[-1].loss < 0.9 * history[0].loss
        slope[lam] = jacobian_l1(model, split.x_validation).item()
    assert slope[100.0] < 0.5 * slope[0.0]


# -- the same bits --------------------------------------------------------------------------------------------------


PGD = {"adversarial_training": True, "training_attack": "pgd", "training_attack_steps": 2}


@pytest.mark.parametrize(("lam", "protocol"), [(0.0, {}), (10.0, {}), (0.0, PGD)])
def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads(
    split: Split, lam: float, protocol: dict[str, Any]
) -> None:
    results = []
    for threads in (1, 2, 2):
        model = nn.build_model("C", seed=4)
        history = run(model, split, lam, threads, **protocol)
        numbers = [(e.loss, e.cross_entropy, e.penalty, e.validation_accuracy) for e in history]
        results.append((numbers, [p.data.tobytes() for p in model.parameters()]))
    assert results[0] == results[1] == results[2]


def test_the_order_of_the_images_comes_from_the_generator(split: Split) -> None:
    weights = []
    for seed in (1, 1, 2):
        model = small_model()
        with workers(1) as pool:
            protocol = Protocol(stop_rule="none", max_epochs=1)
            train(TrainingState(model, 0.0, protocol, np.random.default_rng(seed)), split, pool)
        weights.append(model.parameters()[0].data.tobytes())
    assert weights[0] == weights[1] != weights[2]


def test_only_pgd_draws_from_the_generator(split: Split) -> None:
    """The order of the images stays what it was in every other training; the starts differ from step to step."""
    drawn = {}
    for attack in ("fgsm", "pgd"):
        protocol = Protocol(adversarial_training=True, training_attack=attack, learning_rate=0.0)
        state = TrainingState(small_model(), 0.0, protocol, np.random.default_rng(1))
        with workers(1) as pool:
            losses = [training_step(state, split.x_train[:8], split.y_train[:8], pool).loss for _ in range(2)]
        drawn[attack] = state.rng.random() != np.random.default_rng(1).random()
        assert (losses[0] != losses[1]) == drawn[attack]
    assert drawn == {"fgsm": False, "pgd": True}


# -- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.0, 2.5])
def test_a_divergence_says_epoch_step_and_lambda(split: Split, lam: float) -> None:
    with pytest.raises(DivergenceError) as caught:
        run(nn.build_model("C"), split, lam, learning_rate=1e9)
    message = str(caught.value)
    assert "epoch 1" in message
    assert "step 2" in message  # the first step is finite, its weights are not
    assert f"lambda {lam:g}" in message
    assert "\n" not in message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_ends_the_run_where_it_appears(split: Split, bad: float) -> None:
    model = small_model()

    def spoil(epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == (2, 3):
            w = model.parameters()[2]
            w.data = np.where(np.arange(w.size).reshape(w.shape) == 5, bad, w.data).astype(w.dtype)

    with pytest.raises(DivergenceError, match=r"epoch 2.*step 4"):
        run(model, split, on_step=spoil)


def test_a_gradient_that_is_no_number_is_noticed_even_if_the_loss_is_one(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minidbp.training import loop

    honest = loop.batch_gradient

    def spoiled(*arguments: Any, **options: Any) -> Any:
        batch = honest(*arguments, **options)
        gradients = [g.copy() for g in batch.gradients]
        gradients[-1][3] = np.nan
        return dataclasses.replace(batch, gradients=gradients)

    monkeypatch.setattr(loop, "batch_gradient", spoiled)
    model = small_model()
    before = [p.data for p in model.parameters()]
    with pytest.raises(DivergenceError, match=r"epoch 1.*step 1"):
        run(model, split)
    assert all(p.data is b for p, b in zip(model.parameters(), before, strict=True))  # no step was made


# -- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_five_epochs_without_a_penalty_reach_97_percent(mnist: Dataset) -> None:
    """Model C, the full protocol (55,000 images, label smoothing 0.1), all 10,000 test images.  About 20 s."""
    rng = np.random.default_rng(0)
    split = split_train_validation(mnist.x_train, mnist.y_train, 5000, "random", rng)
    model = nn.build_model("C", seed=0)
    assert len(split.x_train) == 55_000
    with workers() as pool:
        history = train(TrainingState(model, 0.0, Protocol(stop_rule="none", max_epochs=5), rng), split, pool)
        assert len(history) == 5
        assert accuracy(model, mnist.x_test, mnist.y_test, pool) >= 97


# -- a short training for lessons ------------------------------------------------------------------------------------


def test_knows_its_digits_after_some_steps(mnist: Dataset) -> None:
    model = quickly_trained("C", mnist.x_train, mnist.y_train, steps=60)
    with no_grad():
        said = np.argmax(model(mnist.x_test[:500]).data, axis=1)
    assert np.mean(said == mnist.y_test[:500]) > 0.75


def test_same_seed_same_bits_and_the_wider_model_has_the_same_weights(mnist: Dataset) -> None:
    x, y = mnist.x_train[:200], mnist.y_train[:200]
    ticks = []
    first = quickly_trained("C", x, y, steps=2, lam=1.0, seed=3, on_step=lambda: ticks.append(1))
    again = quickly_trained("C", x, y, steps=2, lam=1.0, seed=3, dtype="float64")
    other = quickly_trained("C", x, y, steps=2, lam=1.0, seed=4)
    assert len(ticks) == 2
    for p, q, r in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert (p.dtype, q.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(p.data, q.data)
        assert p.size < 200 or not np.array_equal(p.data, r.data)


def test_the_protocol_counts(mnist: Dataset) -> None:
    x, y = mnist.x_train[:100], mnist.y_train[:100]
    plain, smoothed = (quickly_trained("C", x, y, steps=2, protocol=Protocol(label_smoothing=s)) for s in (0.0, 0.5))
    assert any(
        not np.array_equal(p.data, q.data) for p, q in zip(plain.parameters(), smoothed.parameters(), strict=True)
    )


def test_no_steps_are_refused(mnist: Dataset) -> None:
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        quickly_trained("C", mnist.x_train, mnist.y_train, steps=0)
    with pytest.raises(ValueError, match="there must be at least one sample; got none"):
        quickly_trained("C", mnist.x_train[:0], mnist.y_train[:0], steps=1)

"""The counts are the layers', and the timed step is the step that `minidbp train` repeats."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from minidbp.bench.step import StepSettings, Trainer, active_shares, batches_of, products, step_gflop, time_step
from minidbp.data import Dataset
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, ReLU, build_model
from minidbp.robust import PENALTIES
from minidbp.training import Protocol, TrainingState, available_cores, training_step, workers

IMAGE = np.zeros(IMAGE_SHAPE, np.float32)
pytestmark = pytest.mark.usefixtures("rates_of_no_machine")


@pytest.mark.parametrize(
    ("name", "multiply_adds", "exact", "plain"),
    [("A", 8_586_496, 72.3, 6.4), ("B", 14_748_928, 124.4, 11.1), ("C", 566_528, 4.7, 0.33)],
)
def test_operations_of_the_papers_models(name: str, multiply_adds: int, exact: float, plain: float) -> None:
    model = build_model(name)
    assert sum(p.multiply_adds for p in products(model, IMAGE)) == multiply_adds
    assert step_gflop(model, IMAGE, 128, N_CLASSES) == pytest.approx(exact, abs=0.05)
    assert step_gflop(model, IMAGE, 128, 0) == pytest.approx(plain, abs=0.05)
    assert step_gflop(model, IMAGE, 256, 3) == pytest.approx(2 * step_gflop(model, IMAGE, 128, 3))


def test_a_convolution_multiplies_at_every_output_position() -> None:
    first = products(build_model("B"), IMAGE)[0]
    assert (first.name, first.n_in, first.n_out) == ("conv 1", 28 * 28, 28 * 28 * 128)
    assert first.multiply_adds == 28 * 28 * 9 * 128


def test_active_shares_count_units_above_zero(mnist: Dataset) -> None:
    model, x = build_model("C", seed=1), mnist.x_test[:20]
    shares = active_shares(model, x)
    assert len(shares) == sum(isinstance(layer, ReLU) for layer in model.layers) == 3
    hidden = x.reshape(20, -1) @ model.layers[1].parameters()[0].data
    assert shares[0] == pytest.approx(np.mean(hidden > 0))


def test_the_step_that_is_timed_is_the_step_that_train_takes(mnist: Dataset) -> None:
    protocol, batches = Protocol(batch_size=16), batches_of(mnist, 16)[:2]
    timed, trained = build_model("C", 3), build_model("C", 3)
    with workers(1) as pool:
        Trainer(timed, 10.0, protocol, batches, pool).seconds(3)
        state = TrainingState(trained, 10.0, protocol, np.random.default_rng(0))
        for x, y in (*batches, batches[0]):
            training_step(state, x, y, pool)
    for p, q in zip(timed.parameters(), trained.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_timing_holds_its_settings_and_consistent_rates(mnist: Dataset) -> None:
    steps: list[int] = []
    settings = StepSettings(lam=10.0, batch=8, steps=3, warm=2, threads=1)
    timing = time_step(settings, mnist, lambda: steps.append(1))
    assert len(steps) == 5
    assert 0 < timing.min_ms <= timing.median_ms
    assert timing.gflop == pytest.approx(step_gflop(build_model("C"), IMAGE, 8, 10))
    assert timing.gflops_per_s == pytest.approx(timing.gflop / (timing.median_ms / 1e3))
    assert timing.efficiency == pytest.approx(timing.gflops_per_s / 100)
    assert len(timing.active_share) == 3
    values = asdict(timing)
    assert asdict(settings).items() <= values.items()
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(("penalty", "lam"), [("none", 5.0), ("jacobian_l1", 0.0)])
def test_no_penalty_and_lambda_zero_are_the_same(penalty: str, lam: float, mnist: Dataset) -> None:
    timing = time_step(StepSettings(penalty=penalty, lam=lam, batch=8, steps=1, warm=0), mnist)
    assert (timing.penalty, timing.lam, timing.threads) == ("none", 0.0, available_cores())
    assert timing.gflop == pytest.approx(step_gflop(build_model("C"), IMAGE, 8, 0))


@pytest.mark.parametrize("penalty", [p for p in PENALTIES if p != "jacobian_l1"])
def test_the_other_penalties_have_one_row(penalty: str, mnist: Dataset) -> None:
    timing = time_step(StepSettings(penalty=penalty, lam=1.0, batch=4, steps=1, warm=0, threads=1), mnist)
    assert timing.gflop == pytest.approx(step_gflop(build_model("C"), IMAGE, 4, 1))


def test_bad_settings(mnist: Dataset) -> None:
    with pytest.raises(ValueError, match=r"penalty must be one of jacobian_l1, .*, none; got 'l0'"):
        StepSettings(penalty="l0")
    with pytest.raises(ValueError, match="unknown model 'D'"):
        StepSettings(model="D")
    with pytest.raises(ValueError, match="lambda must be a number of at least 0"):
        StepSettings(lam=-1.0)
    for size in 0, 60_001:
        with pytest.raises(ValueError, match=f"batch_size must be from 1 to 60000; got {size}"):
            batches_of(mnist, size)

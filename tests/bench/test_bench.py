"""What `minidbp bench` measures: the counts are the layers', the times are of the steps that train takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp import kernels
from minidbp.autodiff import Tensor
from minidbp.bench import contention, figures, kernel_times, report, scaling, startup, step
from minidbp.bench.counts import active_shares, products, step_gflop
from minidbp.bench.gemm import blas_name, copy_gb_per_s, gemm_gflops_per_s, rates
from minidbp.bench.kernel_times import Call, time_kernels, watched
from minidbp.bench.setting import Trainer, batches_of
from minidbp.bench.step import peak_rss_mb, protocol_of, time_step
from minidbp.data import Mnist
from minidbp.files.plots import save
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, ReLU, build_model
from minidbp.robust import PENALTIES
from minidbp.training import Protocol, TrainingState, available_cores, training_step, workers

IMAGE = np.zeros(IMAGE_SHAPE, np.float32)


@pytest.fixture(scope="module", autouse=True)
def rates_of_no_machine() -> Iterator[None]:
    """Nothing here depends on how fast the machine is, and measuring that takes longer than everything else."""
    with pytest.MonkeyPatch.context() as patch:
        for module in step, kernel_times:
            patch.setattr(module, "gemm_gflops_per_s", lambda threads: 100.0)
        patch.setattr(kernel_times, "copy_gb_per_s", lambda: 10.0)
        yield


@pytest.fixture(scope="module")
def watched_step(mnist: Mnist, rates_of_no_machine: None) -> dict[str, Any]:
    return time_kernels("C", "jacobian_l1", 10.0, batch=32, steps=1, warm=1, mnist=mnist)


# -- counts -----------------------------------------------------------------------------------------------------------


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


def test_a_convolutions_operations_are_those_of_its_places() -> None:
    first = products(build_model("B"), IMAGE)[0]
    assert (first.name, first.n_in, first.n_out) == ("conv 1", 28 * 28, 28 * 28 * 128)
    assert first.multiply_adds == 28 * 28 * 9 * 128


def test_active_shares_count_units_above_zero(mnist: Mnist) -> None:
    model, x = build_model("C", seed=1), mnist.x_test[:20]
    shares = active_shares(model, x)
    assert len(shares) == sum(isinstance(layer, ReLU) for layer in model.layers) == 3
    hidden = x.reshape(20, -1) @ model.layers[1].parameters()[0].data
    assert shares[0] == pytest.approx(np.mean(hidden > 0))


# -- the step ---------------------------------------------------------------------------------------------------------


def test_the_step_that_is_timed_is_the_step_that_train_takes(mnist: Mnist) -> None:
    protocol, batches = Protocol(batch_size=16), batches_of(mnist, 16)[:2]
    mine, other = build_model("C", 3), build_model("C", 3)
    with workers(1) as pool:
        Trainer(mine, 10.0, protocol, batches, pool).seconds(3)
        state = TrainingState(other, 10.0, protocol, np.random.default_rng(0))
        for x, y in (*batches, batches[0]):
            training_step(state, x, y, pool)
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_timed_step_says_what_it_was(mnist: Mnist) -> None:
    done: list[int] = []
    found = time_step("C", "jacobian_l1", 10.0, 8, 3, 2, 1, mnist, done=lambda: done.append(1))
    assert len(done) == 5
    assert 0 < found["min_ms"] <= found["median_ms"]
    assert found["gflop"] == pytest.approx(step_gflop(build_model("C"), IMAGE, 8, 10))
    assert found["gflops_per_s"] == pytest.approx(found["gflop"] / (found["median_ms"] / 1e3))
    assert found["efficiency"] == pytest.approx(found["gflops_per_s"] / 100)
    assert len(found["active_share"]) == 3
    assert {"model": "C", "penalty": "jacobian_l1", "lam": 10.0, "batch": 8, "threads": 1, "warm": 2}.items() <= (
        found.items()
    )
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("penalty", "lam", "rows"), [("none", 5.0, 0), ("jacobian_l1", 0.0, 0)])
def test_without_a_penalty_lambda_is_zero(penalty: str, lam: float, rows: int, mnist: Mnist) -> None:
    found = time_step("C", penalty, lam, 8, 1, 0, None, mnist)
    assert (found["penalty"], found["lam"], found["threads"]) == ("none", 0.0, available_cores())
    assert found["gflop"] == pytest.approx(step_gflop(build_model("C"), IMAGE, 8, rows))


@pytest.mark.parametrize("penalty", [p for p in PENALTIES if p != "jacobian_l1"])
def test_the_other_penalties_have_one_row(penalty: str, mnist: Mnist) -> None:
    found = time_step("C", penalty, 1.0, 4, 1, 0, 1, mnist)
    assert found["gflop"] == pytest.approx(step_gflop(build_model("C"), IMAGE, 4, 1))


def test_bad_settings(mnist: Mnist) -> None:
    with pytest.raises(ValueError, match=r"the penalty must be one of jacobian_l1, .*, none; got 'l0'"):
        protocol_of("l0", 128)
    with pytest.raises(ValueError, match="unknown model 'D'"):
        time_step("D", "none", 0.0, 8, 1, 0, 1, mnist)
    for size in 0, 60_001:
        with pytest.raises(ValueError, match=f"1 to 60000 images; got {size}"):
            batches_of(mnist, size)


def test_rates_and_memory() -> None:
    assert gemm_gflops_per_s(1, n=64, repeats=2) > 0
    assert copy_gb_per_s(megabytes=1, repeats=1) > 0
    assert list(rates(1, 64)["gflops_per_s"]) == ["1"]
    assert list(rates(2, 64)["gflops_per_s"]) == ["1", "2"]
    assert len(blas_name().split()) >= 2
    assert peak_rss_mb() is None or 20 < peak_rss_mb() < 1e6  # type: ignore[operator]


def test_what_others_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([100.0, 101.5])
    monkeypatch.setattr(contention, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(contention, "_my_seconds", lambda: 7.0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    mine = contention.Contention()
    monkeypatch.setattr("time.perf_counter", lambda start=mine._started: start + 3)
    assert mine.share() == pytest.approx(0.5)
    assert "took 50% of this machine" in str(contention.warning(0.5))
    assert contention.warning(0.01) is None
    assert contention.warning(None) is None


def test_a_system_that_does_not_say_what_others_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contention, "STAT", tmp_path / "none")
    assert contention.Contention().share() is None


# -- kernels ----------------------------------------------------------------------------------------------------------


def test_every_product_of_an_exact_step_finds_its_layer_and_pass(watched_step: dict[str, Any]) -> None:
    found = {(row["layer"], row["pass"]): row for row in watched_step["rows"]}
    layers = {p.name: p for p in products(build_model("C"), IMAGE)}
    for i, (name, layer) in enumerate(layers.items()):
        for way in "weights", "adjoint":
            if (i, way) != (0, "adjoint"):  # nobody asks for the loss's gradient in the pixels
                assert found[name, way]["gflop"] == pytest.approx(2e-9 * 32 * layer.multiply_adds)
        for way in "J reverse", "J tangent", "J weights":
            if (i, way) != (3, "J tangent"):  # the Jacobian's rows begin as constants
                assert found[name, way]["gflop"] == pytest.approx(2e-9 * 320 * layer.multiply_adds)
    assert ("", "matmul") not in found  # none was left over
    assert (None, "matmul") not in found
    assert found[None, "masked"]["gflops_per_s"] is None
    assert sum(row["ms"] for row in watched_step["rows"]) + watched_step["other_ms"] == pytest.approx(
        watched_step["step_ms"]
    )


def test_convolutions_find_their_layer_and_pass_too(mnist: Mnist) -> None:
    found = time_kernels("A", "jacobian_l1", 10.0, batch=2, steps=1, warm=0, mnist=mnist)
    passes = {(row["layer"], row["pass"]) for row in found["rows"]}
    for name in "conv 2", "conv 3":
        for way in "forward", "adjoint", "weights", "J reverse", "J tangent", "J weights":
            assert (name, way) in passes


def test_a_plain_step_has_no_jacobian(mnist: Mnist) -> None:
    found = time_kernels("C", "none", 10.0, batch=4, steps=1, warm=0, mnist=mnist)
    assert found["penalty"] == "none"
    assert {row["pass"] for row in found["rows"] if row["layer"]} == {"forward", "adjoint", "weights"}


def test_watching_ends_and_a_kernel_inside_a_kernel_is_counted_once() -> None:
    calls: list[Call] = []
    before = kernels.masked, kernels.conv2d, np.matmul
    x, w = np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    geometry = kernels.ConvGeometry.of((3, 3), (2, 2), 1, "valid")
    with pytest.raises(RuntimeError), watched(calls.append):  # noqa: PT012
        kernels.conv2d(x, w, geometry)
        raise RuntimeError
    assert [call.name for call in calls] == ["conv2d"]
    assert (kernels.masked, kernels.conv2d, np.matmul) == before


# -- scaling ----------------------------------------------------------------------------------------------------------


def test_scaling_has_four_series(monkeypatch: pytest.MonkeyPatch, mnist: Mnist) -> None:
    for name, sizes in ("BATCHES", (2, 4)), ("CLASSES", (2, 12)), ("LAMBDAS", (1, 2)), ("ACTIVE", (0.1, 1.0)):
        monkeypatch.setattr(scaling, name, sizes)
    done: list[int] = []
    found = scaling.time_scaling("C", 10.0, 1, 1, mnist, lambda: done.append(1))
    assert len(done) == scaling.points() == 8
    assert [p["at"] for p in found["classes"]["points"]] == [2, 12]
    assert all(p["ms"] > 0 for key in ("batch", "classes", "lambdas", "active") for p in found[key]["points"])
    assert json.loads(json.dumps(found)) == found
    assert "lambdas" in "".join(map(str, report.scaling_on_screen(found).columns[0].cells))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_model_with_a_given_active_share(share: float, mnist: Mnist) -> None:
    x = mnist.x_test[:100]
    assert active_shares(scaling.with_active_share("C", share, x), x) == pytest.approx([share] * 3, abs=0.02)
    convolutional = active_shares(scaling.with_active_share("A", share, x), x)
    assert all(share - 0.02 < found < share + 0.25 for found in convolutional)


def test_a_straight_line_is_found() -> None:
    assert scaling.line([(1, 5.0), (2, 7.0), (4, 11.0)]) == pytest.approx({"slope": 2, "intercept": 3, "r2": 1})
    assert scaling.line([(0, 0.0), (1, 1.0), (2, 0.0)])["r2"] == pytest.approx(0)


def test_a_model_with_other_classes() -> None:
    model = scaling.with_classes("B", 3)
    assert model(Tensor(IMAGE[None])).shape == (1, 3)
    assert model.parameters()[0].name == "W1"


# -- startup ----------------------------------------------------------------------------------------------------------


def test_startup_is_measured_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_STEP", "print(0.5)")
    monkeypatch.setattr(startup, "COMPILE", "import os; print(len(os.listdir(os.environ['NUMBA_CACHE_DIR'])))")
    found = startup.time_startup(1)
    assert found["first_step_s"] == 0.5
    assert found["compile_s"] == 0.0  # an empty folder
    assert 0 < found["import_s"] < found["help_s"] + 60


def test_the_programs_of_startup_run() -> None:
    for program in startup.FIRST_STEP, startup.COMPILE:
        assert startup._inside(program) > 0


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(OSError, match="failed: ValueError: no"):
        startup._inside("raise ValueError('no')")


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_a_roofline_has_a_point_for_each_product(watched_step: dict[str, Any], tmp_path: Path) -> None:
    figure = figures.roofline(watched_step)
    assert len(figure.axes[0].collections) == sum(row["layer"] is not None for row in watched_step["rows"])
    save(figure, tmp_path / "roofline.png")
    assert len(report.kernels_on_screen(watched_step).rows) == len(watched_step["rows"]) + 1


def test_a_picture_of_scaling(tmp_path: Path) -> None:
    series = {"points": [{"at": 1, "ms": 1.0}, {"at": 2, "ms": 2.0}], "slope": 1.0, "intercept": 0.0, "r2": 1.0}
    same = dict.fromkeys(("batch", "classes", "lambdas"), series) | {"active": {"points": series["points"]}}
    figure = figures.scaling({"model": "C", "threads": 1, "steps": 1, **same})
    assert len(figure.axes) == 4
    save(figure, tmp_path / "scaling.png")

"""Each kernel's call is counted once, for the right layer and pass."""

from pathlib import Path

import numpy as np
import pytest

from minidbp import kernels
from minidbp.bench.kernel_times import KernelTimes, roofline, table, time_kernels, timed_calls
from minidbp.bench.step import StepSettings, products
from minidbp.data import Dataset
from minidbp.files.plots import save
from minidbp.nn import IMAGE_SHAPE, build_model

IMAGE = np.zeros(IMAGE_SHAPE, np.float32)
pytestmark = pytest.mark.usefixtures("rates_of_no_machine")


@pytest.fixture(scope="module")
def exact_step(mnist: Dataset, rates_of_no_machine: None) -> KernelTimes:
    return time_kernels(StepSettings(batch=32, steps=1, warm=1), mnist)


@pytest.mark.slow
def test_every_product_of_an_exact_step_finds_its_layer_and_pass(exact_step: KernelTimes) -> None:
    found = {(row.layer, row.pass_): row for row in exact_step.rows}
    layers = {p.name: p for p in products(build_model("C"), IMAGE)}
    for i, (name, layer) in enumerate(layers.items()):
        for way in "weights", "adjoint":
            if (i, way) != (0, "adjoint"):  # nobody asks for the loss's gradient in the pixels
                assert found[name, way].gflop == pytest.approx(2e-9 * 32 * layer.multiply_adds)
        for way in "J reverse", "J tangent", "J weights":
            if (i, way) != (3, "J tangent"):  # the Jacobian's rows begin as constants
                assert found[name, way].gflop == pytest.approx(2e-9 * 320 * layer.multiply_adds)
    assert ("", "matmul") not in found  # none was left over
    assert (None, "matmul") not in found
    assert found[None, "masked"].gflops_per_s is None
    assert sum(row.ms for row in exact_step.rows) + exact_step.other_ms == pytest.approx(exact_step.step_ms)


def test_convolutions_find_their_layer_and_pass_too(mnist: Dataset) -> None:
    found = time_kernels(StepSettings(model="A", batch=2, steps=1, warm=0), mnist)
    passes = {(row.layer, row.pass_) for row in found.rows}
    for name in "conv 2", "conv 3":
        for way in "forward", "adjoint", "weights", "J reverse", "J tangent", "J weights":
            assert (name, way) in passes


def test_a_plain_step_has_no_jacobian(mnist: Dataset) -> None:
    found = time_kernels(StepSettings(penalty="none", batch=4, steps=1, warm=0), mnist)
    assert found.penalty == "none"
    assert {row.pass_ for row in found.rows if row.layer} == {"forward", "adjoint", "weights"}


def test_timing_calls_ends_and_a_kernel_inside_a_kernel_is_counted_once() -> None:
    calls: list[str] = []
    before = kernels.masked, kernels.conv2d, np.matmul
    x, w = np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    geometry = kernels.ConvGeometry.of((3, 3), (2, 2), 1, "valid")
    with pytest.raises(RuntimeError), timed_calls(lambda name, *_: calls.append(name)):  # noqa: PT012
        kernels.conv2d(x, w, geometry)
        raise RuntimeError
    assert calls == ["conv2d"]
    assert (kernels.masked, kernels.conv2d, np.matmul) == before


def test_a_roofline_has_a_point_for_each_product(exact_step: KernelTimes, tmp_path: Path) -> None:
    figure = roofline(exact_step)
    assert len(figure.axes[0].collections) == sum(row.layer is not None for row in exact_step.rows)
    assert "Above the roof: the kernel skips inactive units" in figure.get_supxlabel()
    save(figure, tmp_path / "roofline.png")
    assert len(table(exact_step)) == len(exact_step.rows) + 2  # with a header and the rest of the step

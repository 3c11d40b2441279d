"""The gradient of a batch, cut into chunks and shards, is the gradient of the batch."""

import sys
from typing import Any

import numpy as np
import pytest

import minidbp as mdb
from minidbp import nn
from minidbp.data import Dataset
from minidbp.kernels.fast import buffers
from minidbp.robust import PENALTIES, Objective
from minidbp.training import Protocol, TrainingState, batch_gradient, training_step, workers
from minidbp.training.workers import SHARD_BYTES, shard_size


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    rng = np.random.default_rng(0)
    layers = [
        nn.Conv2d(1, 3, 3, rng, 2, "same", dtype="float64"), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 8, rng, "float64"), nn.ReLU(), nn.Linear(8, 10, rng, "float64"),
    ]  # fmt: skip
    return nn.Sequential(layers)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a shard without a penalty, one with ten rows: every chunk has several, and an uneven last one."""
    module = sys.modules["minidbp.training.workers"]  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "SHARD_BYTES", 3 * data(1)[0].nbytes)


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(0, 1, (n, 7, 7, 1)), rng.integers(0, 10, n)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("penalty_target", ["logits", "softmax"])
@pytest.mark.parametrize("lam", [0.0, 0.5])
@pytest.mark.parametrize("n", [1, 3, 29])
@pytest.mark.usefixtures("small_shards")
def test_it_is_the_gradient_of_the_whole_batch(
    model: nn.Sequential, penalty: str, penalty_target: str, lam: float, n: int
) -> None:
    x, y = data(n)
    protocol = Protocol(penalty=penalty, penalty_target=penalty_target, reduction="sum", label_smoothing=0.1)
    with workers(2) as pool:
        batch = batch_gradient(model, x, y, lam, protocol, pool)
    whole = Objective(lam, penalty, penalty_target, "sum", 0.1)(model, x, y)
    assert batch.loss == pytest.approx(whole.total.item(), rel=1e-12)
    assert batch.cross_entropy == pytest.approx(whole.cross_entropy.item(), rel=1e-12)
    # sum_i f_i of softmax is constant: its derivative is rounding alone
    assert batch.penalty == pytest.approx(whole.penalty.item() if whole.penalty else 0.0, rel=1e-10, abs=1e-13)
    expected = mdb.grad(whole.total, model.parameters())
    for gradient, theirs in zip(batch.gradients, expected, strict=True):
        assert np.linalg.norm(gradient - theirs.data) <= 1e-10 * np.linalg.norm(theirs.data)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("clip", "label"), [(True, "true"), (False, "true"), (True, "predicted"), (True, "smoothed")])
@pytest.mark.usefixtures("small_shards")
def test_adversarial_training_adds_the_fgsm_image_of_each_image(
    model: nn.Sequential, penalty: str, clip: bool, label: str
) -> None:
    x, y = data(7)
    protocol = Protocol(penalty=penalty, adversarial_training=True, eps=0.2, clip=clip, attack_label=label)
    with workers(2) as pool:
        batch = batch_gradient(model, x, y, 0.5, protocol, pool)
        (g,) = mdb.grad(mdb.nn.cross_entropy(model(variable := mdb.Tensor(x, True)), attacked(model, x, y, label),
                                             0.1 if label == "smoothed" else 0.0), variable)  # fmt: skip
    twins = x + 0.2 * np.sign(g.data)
    both = np.concatenate([x, np.clip(twins, 0, 1) if clip else twins])
    whole = Objective(0.5, penalty, label_smoothing=0.1)(model, both, np.concatenate([y, y]))
    assert batch.loss == pytest.approx(whole.total.item(), rel=1e-12)
    for gradient, theirs in zip(batch.gradients, mdb.grad(whole.total, model.parameters()), strict=True):
        assert np.linalg.norm(gradient - theirs.data) <= 1e-10 * np.linalg.norm(theirs.data)


@pytest.mark.parametrize("lam", [0.0, 0.5])
@pytest.mark.parametrize(("steps", "step", "clip"), [(1, 0.3, True), (5, 0.06, True), (5, 0.06, False)])
@pytest.mark.usefixtures("small_shards")
def test_pgd_training_is_that_of_pytorch(lam: float, steps: int, step: float, clip: bool) -> None:
    """The whole batch at once, from the same start points: the loss at images and last points, and its gradient."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layers = [nn.Linear(12, 9, rng, "float64"), nn.ReLU(), nn.Linear(9, 10, rng, "float64")]
    x, y = rng.uniform(0, 1, (29, 12)), rng.integers(0, 10, 29)
    protocol = Protocol(
        adversarial_training=True, eps=0.2, clip=clip, training_attack="pgd", training_attack_steps=steps,
        training_attack_step=step,
    )  # fmt: skip
    with workers(2) as pool:
        batch = batch_gradient(nn.Sequential(layers), x, y, lam, protocol, pool, seed=7)

    w1, b1, w2, b2 = weights = [torch.tensor(p.data, requires_grad=True) for p in nn.Sequential(layers).parameters()]
    images, labels = torch.tensor(x), torch.tensor(y)
    net = lambda x: torch.relu(x @ w1 + b1) @ w2 + b2  # noqa: E731
    cross_entropy, low, high = torch.nn.functional.cross_entropy, images - 0.2, images + 0.2
    if clip:
        low, high = low.clamp(0, 1), high.clamp(0, 1)
    noise = np.random.default_rng(7).uniform(-0.2, 0.2, x.shape)
    point = torch.minimum(torch.maximum(images + torch.tensor(noise), low), high)
    for _ in range(steps):
        point.requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(net(point), labels), point)
        point = torch.minimum(torch.maximum(point.detach() + step * g.sign(), low), high)
    both, targets = torch.cat([images, point]).requires_grad_(), torch.cat([labels, labels])
    logits = net(both)
    rows = [torch.autograd.grad(f, both, create_graph=True)[0] for f in logits.sum(0)]
    loss = cross_entropy(logits, targets, label_smoothing=0.1) + lam * torch.stack(rows).abs().mean()
    assert batch.loss == pytest.approx(loss.item(), rel=1e-12)
    for gradient, theirs in zip(batch.gradients, torch.autograd.grad(loss, weights), strict=True):
        np.testing.assert_allclose(gradient, theirs.numpy(), rtol=1e-9, atol=1e-12)


def attacked(model: nn.Sequential, x: np.ndarray, y: np.ndarray, label: str) -> np.ndarray:
    return np.argmax(model(x).data, axis=1) if label == "predicted" else y


@pytest.mark.parametrize(
    ("name", "n", "lam", "changes"),
    [
        ("C", 128, 0.0, {}), ("C", 128, 5.0, {}), ("C", 101, 5.0, {}), ("A", 24, 5.0, {}), ("B", 9, 5.0, {}),
        *[(name, n, lam, {"adversarial_training": True, "training_attack": "pgd", "training_attack_steps": 2})
          for name, n, lam in [("C", 101, 5.0), ("A", 24, 0.0)]],
    ],
)  # fmt: skip
def test_the_same_bits_with_one_thread_two_or_three(
    mnist: Dataset, name: str, n: int, lam: float, changes: dict[str, Any]
) -> None:
    model, protocol = nn.build_model(name), Protocol(**changes)
    results = []
    for threads in (1, 2, 3, 2):
        with workers(threads) as pool:
            results.append(batch_gradient(model, mnist.x_train[:n], mnist.y_train[:n], lam, protocol, pool))
    assert results[0].loss > 0
    for other in results[1:]:
        assert (other.loss, other.cross_entropy, other.penalty) == (
            results[0].loss, results[0].cross_entropy, results[0].penalty,
        )  # fmt: skip
        for a, b in zip(results[0].gradients, other.gradients, strict=True):
            assert a.tobytes() == b.tobytes()


def test_the_gradient_of_float32_is_float32(mnist: Dataset) -> None:
    model = nn.build_model("C")
    with workers(1) as pool:
        batch = batch_gradient(model, mnist.x_train[:8], mnist.y_train[:8], 1.0, Protocol(), pool)
    assert [(g.shape, g.dtype) for g in batch.gradients] == [(p.shape, p.dtype) for p in model.parameters()]


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_what_a_shard_makes_is_bounded(name: str, rows: int) -> None:
    """By SHARD_BYTES: the largest activation, as many times over as J has rows."""
    largest = {"A": 14 * 14 * 64, "B": 28 * 28 * 128, "C": 784}[name] * 4
    size = shard_size(nn.build_model(name), np.zeros((28, 28, 1), np.float32), rows)
    assert size * rows * largest <= SHARD_BYTES < (size + 1) * rows * largest


@pytest.mark.parametrize(("name", "n"), [("A", 32), ("B", 5), ("C", 128)])
def test_a_step_finds_its_arrays_where_the_first_one_left_them(
    mnist: Dataset, name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels' arrays, which are the large ones: nothing is asked of the system after the first steps."""
    fresh: list[int] = []
    honest = buffers._aligned
    monkeypatch.setattr(buffers, "_aligned", lambda size: fresh.append(size) or honest(size))
    monkeypatch.setattr(buffers, "_free", {})
    state = TrainingState(nn.build_model(name), 5.0, Protocol(), np.random.default_rng(0))
    with workers(1) as pool:
        for step in range(4):
            training_step(state, mnist.x_train[:n], mnist.y_train[:n], pool)
            if step == 1:
                assert fresh
                fresh.clear()
    assert fresh == []

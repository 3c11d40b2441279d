"""benchmarks/pgd_training.py: PyTorch's training with PGD is that of the protocol, and gives a model as robust."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.nn import build_model
from minidbp.robust import apgd, pgd_from
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol, percent, predict

torch = pytest.importorskip("torch")


@pytest.fixture
def pgd_training(script: Any) -> Any:
    """The script, as a module."""
    return script("pgd_training")


def test_the_attack_in_pytorch_is_pgd_from(pgd_training: Any, mnist: Dataset) -> None:
    """Up to pixels whose gradient is 0 but for rounding."""
    model, x, y = build_model("C", 1), mnist.x_train[:40], mnist.y_train[:40]
    protocol = Protocol(eps=0.1, training_attack_steps=3, training_attack_step=0.03)
    peer = pgd_training.TorchPeer(model, 0.0, protocol, "loop", False)
    images, labels = peer.load(x, y)
    torch.manual_seed(3)
    noise = torch.empty_like(images).uniform_(-0.1, 0.1).numpy()
    torch.manual_seed(3)
    theirs = pgd_training.torch_pgd(peer.module, images, labels, protocol).numpy()
    ours = pgd_from(model, x, y, 0.1, 0.03, 3, start=x + noise.reshape(x.shape))
    assert np.mean(np.abs(ours - theirs.reshape(x.shape)) > 1e-6) < 1e-3
    assert np.abs(ours - x).max() > 0.09


@pytest.mark.slow
def test_the_models_are_as_robust_as_those_of_pytorch(pgd_training: Any, mnist: Dataset) -> None:
    """Three seeds of 5,000 images for 3 epochs; the orders of images and the starts are not the same in both.

    The difference of one seed has a standard deviation of 4.3 points (8 seeds), that of the mean of three 2.5.
    """
    torch.set_num_threads(1)
    protocol = Protocol(
        eps=0.1, n_train=5000, max_epochs=3, stop_rule="none", adversarial_training=True, training_attack="pgd"
    )
    rows = np.random.default_rng(0).choice(len(mnist.x_test), 500, replace=False)
    x, y = mnist.x_test[rows], mnist.y_test[rows]
    accuracies = []
    for run in (Run("C", 0.0, seed, protocol) for seed in range(3)):
        models = [
            training(run, run.split(mnist))
            for training in (pgd_training.trained_by_minidbp, pgd_training.trained_by_torch)
        ]
        accuracies.append([percent(predict(m, apgd(m, x, y, 0.1, "dlr", 20)) == y) for m in models])
    print(f"\nmodel C under APGD-DLR at eps 0.1, minidbp and PyTorch, percent: {accuracies}")
    ours, theirs = np.mean(accuracies, axis=0)
    assert ours > 40  # a model trained without attacks for as long has 9
    assert abs(ours - theirs) <= 6


@pytest.mark.slow
def test_the_script_writes_what_it_found(pgd_training: Any, tmp_path: Path) -> None:
    sizes = ("--images", "128", "--epochs", "1", "--steps", "2", "--test-images", "5")
    pgd_training.main([*sizes, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [result["trained_by"] for result in found["results"]] == ["minidbp", "torch"]
    assert found["protocol"]["training_attack_steps"] == 2
    for result in found["results"]:
        assert result["square"] <= result["apgd_dlr"] <= result["apgd_ce"] <= result["clean"]

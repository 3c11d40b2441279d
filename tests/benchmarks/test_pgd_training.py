"""benchmarks/pgd_training.py: PyTorch's training with PGD is that of the protocol, and gives a model as robust."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidbp
from minidbp.data import Mnist
from minidbp.nn import build_model
from minidbp.robust import pgd_from
from minidbp.training import Protocol

torch = pytest.importorskip("torch")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(Path(minidbp.__file__).parents[1] / "benchmarks"), *sys.path])
    return importlib.import_module("pgd_training")


def test_the_attack_in_pytorch_is_pgd_from(script: Any, mnist: Mnist) -> None:
    """Up to pixels whose gradient is 0 but for rounding."""
    model, x, y = build_model("C", 1), mnist.x_train[:40], mnist.y_train[:40]
    protocol = Protocol(eps=0.1, training_attack_steps=3, training_attack_step=0.03)
    peer = script.TorchPeer(model, 0.0, protocol, "loop", False)
    images, labels = peer.load(x, y)
    torch.manual_seed(3)
    noise = torch.empty_like(images).uniform_(-0.1, 0.1).numpy()
    torch.manual_seed(3)
    theirs = script.torch_pgd(peer.module, images, labels, protocol).numpy()
    ours = pgd_from(model, x, y, 0.1, 0.03, 3, start=x + noise.reshape(x.shape))
    assert np.mean(np.abs(ours - theirs.reshape(x.shape)) > 1e-6) < 1e-3
    assert np.abs(ours - x).max() > 0.09


@pytest.mark.slow
def test_the_model_is_as_robust_as_that_of_pytorch(script: Any, tmp_path: Path) -> None:
    """5,000 images for 3 epochs, then the strongest attacks on 500 test images at the size of the training."""
    script.main(["--images", "5000", "--epochs", "3", "--test-images", "500", "--json", str(tmp_path / "found.json")])
    ours, theirs = json.loads((tmp_path / "found.json").read_text())["results"]
    assert ours["apgd_dlr"] > 40  # a model trained without attacks for as long has 9
    assert abs(ours["apgd_dlr"] - theirs["apgd_dlr"]) <= 6

"""A trained model under the attacks of a protocol, against judging it by hand."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from minidbp.data import Mnist
from minidbp.diagnosis.attack import attack
from minidbp.diagnosis.judge import judged_images
from minidbp.nn import build_model, load_model, save_model
from minidbp.robust import fgsm
from minidbp.sweeps.sweep import Sweep
from minidbp.training import Protocol, predict

PROTOCOL = Protocol(eps=0.05, attack_label="predicted", n_test=50, n_tracked=20, pgd_steps=2)


def test_the_figures_are_the_models(trained: Path, tiny_sweep: Sweep, mnist: Mnist, tmp_path: Path) -> None:
    weights, told = trained / "runs" / f"{tiny_sweep.runs[0].name}.safetensors", io.StringIO()
    found = attack(weights, PROTOCOL, 5, tmp_path, mnist, threads=2, console=Console(file=told))
    model, (x, y) = load_model(weights)[0], judged_images(mnist, PROTOCOL, 5)
    assert (found.model, found.weights, found.seed) == ("C", str(weights), 5)
    assert found.clean == pytest.approx(100 * np.mean(predict(model, x) == y))
    twins = fgsm(model, x, y, 0.05, label="predicted")
    assert found.fgsm == pytest.approx(100 * np.mean(predict(model, twins) == y))
    assert found.pgd in [2.0 * k for k in range(51)]
    assert found.protocol == {
        "eps": 0.05, "clip": True, "attack_label": "predicted", "n_test": 50, "pgd_steps": 2,
        "pgd_step": 0.01, "pgd_restarts": 1,
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"attack.json", "images.png"}
    assert json.loads((tmp_path / "attack.json").read_text()) == asdict(found)
    assert matplotlib.image.imread(tmp_path / "images.png")[..., :3].std() > 0.03
    assert told.getvalue().strip() == ""  # without a terminal there is no bar


def test_threads_change_nothing_and_the_seed_is_pgds(mnist: Mnist, tmp_path: Path) -> None:
    save_model(tmp_path / "C.safetensors", build_model("C", seed=1), "C")
    console = Console(file=io.StringIO())
    one, two = (
        attack(tmp_path / "C.safetensors", PROTOCOL, 0, tmp_path, mnist, threads=threads, console=console)
        for threads in (1, 2)
    )
    assert one == two

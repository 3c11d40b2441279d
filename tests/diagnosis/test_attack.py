"""A trained model under the attacks of a protocol, against judging it by hand."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from minidbp.data import Dataset
from minidbp.diagnosis.attack import Saturation, attack, attack_passes, saturation
from minidbp.diagnosis.judge import judged_images
from minidbp.diagnosis.trials import Function, LabelledImages, pgd_trial
from minidbp.nn import build_model, load_model, save_model
from minidbp.nn.weights import read_model
from minidbp.robust import fgsm
from minidbp.sweeps.sweep import Sweep
from minidbp.training import Protocol, predict, workers

PROTOCOL = Protocol(
    eps=0.05, attack_label="predicted", n_test=50, n_tracked=20, pgd_steps=2, apgd_steps=3, square_queries=20
)


def test_the_figures_are_the_models(trained: Path, tiny_sweep: Sweep, mnist: Dataset, tmp_path: Path) -> None:
    weights, passes = trained / "runs" / f"{tiny_sweep.runs[0].name}.safetensors", []
    found = attack(read_model(weights), PROTOCOL, 5, tmp_path, mnist, threads=2, advance=passes.append)
    model, (x, y) = load_model(weights)[0], judged_images(mnist, PROTOCOL, 5)
    assert (found.model, found.weights, found.seed) == ("C", str(weights), 5)
    assert found.clean == pytest.approx(100 * np.mean(predict(model, x) == y))
    twins = fgsm(model, x, y, 0.05, label="predicted")
    assert found.fgsm == pytest.approx(100 * np.mean(predict(model, twins) == y))
    assert found.pgd in [2.0 * k for k in range(51)]
    assert found.protocol == {
        "eps": 0.05, "small_eps": 0.1, "clip": True, "attack_label": "predicted", "n_test": 50, "pgd_steps": 2,
        "pgd_step": 0.01, "pgd_restarts": 1, "apgd_steps": 3, "apgd_restarts": 5, "square_queries": 20,
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"attack.json", "images.png"}
    assert json.loads((tmp_path / "attack.json").read_text()) == json.loads(json.dumps(asdict(found)))
    assert matplotlib.image.imread(tmp_path / "images.png")[..., :3].std() > 0.03
    assert sum(passes) == pytest.approx(attack_passes(replace(PROTOCOL, judged_eps=())))


def test_threads_change_nothing_and_the_seed_is_pgds(mnist: Dataset, tmp_path: Path) -> None:
    save_model(tmp_path / "C.safetensors", build_model("C", seed=1), "C")
    one, two = (
        attack(read_model(tmp_path / "C.safetensors"), PROTOCOL, 0, tmp_path, mnist, threads=threads)
        for threads in (1, 2)
    )
    assert one == two


def test_the_strongest_attacks_are_no_weaker(trained: Path, tiny_sweep: Sweep, mnist: Dataset, tmp_path: Path) -> None:
    weights = trained / "runs" / f"{tiny_sweep.runs[0].name}.safetensors"
    found = attack(read_model(weights), PROTOCOL, 5, tmp_path, mnist, threads=1)
    small, large = found.by_eps
    assert (small.eps, large.eps) == (0.05, 0.1)
    assert small.worst_case <= min(found.fgsm, found.pgd, small.square)
    assert large.worst_case <= small.worst_case
    assert "50 random test images" in found.in_words()[0]
    assert f"{small.worst_case:.2f}% at eps 0.05" in found.in_words()[1]


def test_saturation_is_told_of_with_what_the_margin_leaves(mnist: Dataset) -> None:
    w = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    x, p = mnist.x_test[:60], Protocol(eps=0.01, pgd_steps=5)
    labels = np.argmax(x.reshape(60, 784) @ w, axis=1)
    found = {}
    with workers(1) as pool:
        for factor in (1e-3, 1e3):
            model = Function(lambda t, factor=factor: t.reshape((t.shape[0], -1)) @ (w * np.float32(factor)))
            images = LabelledImages(x, labels, pool)
            by_pgd = images.correct(model, images.attacked(model, pgd_trial(p.eps, p.pgd_steps)))
            found[factor] = saturation(model, images, p, by_pgd)
    assert found[1e-3] == Saturation(0.0, None, None)
    assert str(found[1e-3]) == "the softmax is saturated on no image"
    assert found[1e3].images > 90
    assert found[1e3].pgd_margin < found[1e3].pgd == 100
    assert f"PGD on the margin {found[1e3].pgd_margin:.1f}%" in str(found[1e3])

"""The strongest attacks beside those of the Adversarial Robustness Toolbox, on the same weights and images.

    pip install adversarial-robustness-toolbox packaging torch==2.13.0
    python benchmarks/against_art.py WEIGHTS... --eps 0.1 --images 1000

WEIGHTS are files of model C, as `minidbp train` writes them. Each attack gets what withstood the ones before.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier

from minidbp.data import load_mnist, random_images
from minidbp.files.atomic import write_text
from minidbp.files.markdown import markdown_table
from minidbp.nn import Sequential, load_model
from minidbp.robust import STRONGEST, strongest
from minidbp.training import percent, predict
from minidbp.training.environment import environment

Sizes = dict[str, int]  # steps and restarts of APGD, queries of Square


def in_torch(model: Sequential) -> Any:
    """Model C on the same parameters."""
    layers: list[Any] = [torch.nn.Flatten()]
    for w, b in zip(model.parameters()[::2], model.parameters()[1::2], strict=True):
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.tensor(w.data.T), torch.tensor(b.data)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def worst_case_of_art(model: Sequential, x: np.ndarray, y: np.ndarray, eps: float, sizes: Sizes) -> dict[str, float]:
    """Accuracy in percent: "clean", then after each attack of STRONGEST, by ART."""
    torch.set_num_threads(1)
    judged = PyTorchClassifier(
        in_torch(model), torch.nn.CrossEntropyLoss(), x.shape[1:], 10, channels_first=False, clip_values=(0.0, 1.0)
    )
    pgd = {
        "eps_step": 2 * eps, "max_iter": sizes["steps"], "nb_random_init": sizes["restarts"], "batch_size": len(x),
        "verbose": False,
    }  # fmt: skip
    make: list[Callable[[], Any]] = [
        lambda: evasion.AutoProjectedGradientDescent(judged, np.inf, eps, loss_type="cross_entropy", **pgd),
        lambda: evasion.AutoProjectedGradientDescent(judged, np.inf, eps, loss_type="difference_logits_ratio", **pgd),
        lambda: evasion.SquareAttack(
            judged, np.inf, eps=eps, max_iter=sizes["queries"], batch_size=len(x), verbose=False
        ),
    ]
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    right = predict(model, x) == y
    accuracies = {"clean": percent(right)}
    for name, attack in zip(STRONGEST, make, strict=True):
        rows = np.flatnonzero(right)
        if rows.size:  # ART refuses to attack no images
            right[rows] = predict(model, attack().generate(x[rows], y[rows])) == y[rows]
        accuracies[name] = percent(right)
    return accuracies


def compare(model: Sequential, x: np.ndarray, y: np.ndarray, eps: float, sizes: Sizes) -> dict[str, dict[str, float]]:
    """The accuracies that "minidbp" and "ART" leave."""
    ours = strongest(model, x, y, eps, **sizes).accuracy
    return {"minidbp": ours, "ART": worst_case_of_art(model, x, y, eps, sizes)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.1])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    sizes = {name: getattr(given, name) for name in ("steps", "restarts", "queries")}
    mnist = load_mnist()
    x, y = random_images(mnist.x_test, mnist.y_test, given.images, np.random.default_rng(0))
    results = []
    for weights in given.weights:
        for eps in given.eps:
            results.append({"weights": weights.name, "eps": eps, **compare(load_model(weights)[0], x, y, eps, sizes)})
            print(json.dumps(results[-1]), flush=True)
    lines = [
        [r["weights"], f"{r['eps']:g}", by, *(f"{accuracy:.1f}" for accuracy in r[by].values())]
        for r in results
        for by in ("minidbp", "ART")
    ]
    print(markdown_table(["weights", "eps", "attacked by", "clean", *STRONGEST], lines))
    if given.json:
        whole = {"images": given.images, **sizes, "results": results, "environment": asdict(environment())}
        write_text(given.json, json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Adversarial training with PGD, minidbp beside PyTorch: does the same protocol give a model as robust?

    python benchmarks/pgd_training.py --epochs 10 --seeds 2 --json out/pgd_training.json

Both train from the same initial weights on the same images, each in an order of its own and from random starts of its
own. PyTorch's attack, batch and step are written here. Then the trained weights of PyTorch are copied into minidbp's
model, and `robust.strongest` attacks both on the same random test images. One thread each, one after the other.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch_peer import TorchPeer

from minidbp.data import Dataset, Split, load_mnist
from minidbp.files.atomic import write_text
from minidbp.nn import Sequential, fuse
from minidbp.robust import fgsm, strongest
from minidbp.robust.images import predict
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol, percent, train, workers
from minidbp.training.environment import environment


def torch_pgd(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, p: Protocol) -> torch.Tensor:
    """The last point of PGD from a random start, with pixels in [0, 1]."""
    low, high = (x - p.eps).clamp(min=0), (x + p.eps).clamp(max=1)
    point = torch.clamp(x + torch.empty_like(x).uniform_(-p.eps, p.eps), low, high)
    for _ in range(p.training_attack_steps):
        point.requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(net(point), y, reduction="sum"), point)
        point = torch.clamp(point.detach() + p.training_attack_step * g.sign(), low, high)
    return point


def trained_by_torch(run: Run, split: Split) -> Sequential:
    """The run's initial model after PyTorch's training on the images and their adversarial images."""
    model, p = run.build(), run.protocol
    peer = TorchPeer(model, 0.0, p, "loop", channels_last=False)
    x, y = peer.load(split.x_train, split.y_train)
    torch.manual_seed(run.seed)
    for _ in range(p.max_epochs):
        for rows in torch.randperm(len(x)).split(p.batch_size):
            adversarial = torch_pgd(peer.module, x[rows], y[rows], p)
            peer.step(torch.cat([x[rows], adversarial]), torch.cat([y[rows], y[rows]]))
    for ours, theirs in zip(model.parameters(), peer.parameters(), strict=True):
        ours.data = theirs
    return model


def trained_by_minidbp(run: Run, split: Split) -> Sequential:
    """The run's initial model after `minidbp.training.train`."""
    state = run.start()
    with workers(1) as pool:
        train(state, split, pool)
    return state.model


def accuracies(model: Sequential, mnist: Dataset, eps: float, images: int) -> dict[str, float]:
    """Accuracy in percent on random test images: clean, under FGSM, and after each attack of `strongest`."""
    rows = np.random.default_rng(0).choice(len(mnist.x_test), images, replace=False)
    x, y, fused = mnist.x_test[rows], mnist.y_test[rows], fuse(model)
    with workers(1):  # BLAS too has one thread
        under_fgsm = percent(predict(fused, fgsm(fused, x, y, eps)) == y)
        worst = strongest(fused, x, y, eps).accuracy
    return {"clean": worst.pop("clean"), "fgsm": under_fgsm, **worst}


def main(arguments: list[str] | None = None) -> None:
    """Train, attack, print a line for each training; write all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="C")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=55_000, help="training images")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10, help="of PGD, in training")
    parser.add_argument("--step", type=float, default=0.03, help="their size")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    mnist = load_mnist()
    protocol = Protocol(
        eps=options.eps, n_train=options.images, max_epochs=options.epochs, stop_rule="none", adversarial_training=True,
        training_attack="pgd", training_attack_steps=options.steps, training_attack_step=options.step,
    )  # fmt: skip
    results: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        run = Run(options.model, 0.0, seed, protocol)
        for name, training in ("minidbp", trained_by_minidbp), ("torch", trained_by_torch):
            began = time.process_time()
            model = training(run, run.split(mnist))
            seconds = time.process_time() - began
            percents = accuracies(model, mnist, options.eps, options.test_images)
            results.append({"trained_by": name, "seed": seed, "processor_seconds": round(seconds, 1), **percents})
            words = ", ".join(f"{attack} {value:.1f}%" for attack, value in percents.items())
            print(f"{name}, seed {seed}, {seconds:.0f} s of processor time: {words}", flush=True)
    if options.json:
        found = {"protocol": protocol.as_dict(), "test_images": options.test_images, "results": results}
        write_text(options.json, json.dumps({**found, "environment": asdict(environment())}, indent=1) + "\n")


if __name__ == "__main__":
    main()

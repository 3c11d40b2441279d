"""A trained model, judged under the attacks of a protocol."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from minidbp.data import Mnist
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.files.atomic import write_text
from minidbp.files.plots import save
from minidbp.nn import load_model
from minidbp.training import Protocol, correct, correct_under_fgsm, correct_under_pgd, percent, workers
from minidbp.training.environment import environment


def attack(
    weights: Path,
    protocol: Protocol,
    seed: int,
    folder: Path,
    mnist: Mnist,
    threads: int | None,
    console: Console,
) -> dict[str, Any]:
    """Judge the model in a weights file under the protocol's attacks; writes attack.json and images.png to `folder`."""
    model, name = load_model(weights)
    x, y = mnist.x_test[: protocol.n_test], mnist.y_test[: protocol.n_test]
    with workers(threads) as pool, Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        clean = bar.add_task("clean test images", total=len(x))
        fgsm = bar.add_task("FGSM", total=len(x))
        pgd = bar.add_task("PGD", total=protocol.n_pgd)
        result = {
            "model": name,
            "weights": str(weights),
            "seed": seed,
            "clean": percent(correct(model, x, y, pool, lambda n: bar.advance(clean, n))),
            "fgsm": percent(correct_under_fgsm(model, x, y, protocol, pool, lambda n: bar.advance(fgsm, n))),
            "pgd": percent(
                correct_under_pgd(model, x, y, protocol, pool, seed=seed, done=lambda n: bar.advance(pgd, n))
            ),
            "protocol": {
                k: v for k, v in dataclasses.asdict(protocol).items()
                if k.startswith("pgd") or k in ("eps", "clip", "attack_label", "n_test", "n_pgd")
            },
            "environment": environment(),
        }  # fmt: skip
    write_text(folder / "attack.json", json.dumps(result, indent=1) + "\n")
    picture = adversarial_twins({f"model {name}": model}, mnist.x_test, mnist.y_test, protocol)
    save(picture, folder / "images.png")
    return result

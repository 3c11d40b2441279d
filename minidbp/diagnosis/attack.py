"""`minidbp attack`: a trained model under the attacks of a protocol."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from minidbp.data import Mnist
from minidbp.diagnosis.figures import adversarial_twins
from minidbp.diagnosis.judge import correct_by_attack, judged_images
from minidbp.files.atomic import write_text
from minidbp.files.plots import save
from minidbp.nn import load_model
from minidbp.training import Protocol, percent, workers
from minidbp.training.environment import environment
from minidbp.training.evaluate import FGSM_PASSES

PROTOCOL = ("eps", "attack_label", "clip", "n_test", "pgd_steps", "pgd_step", "pgd_restarts")


@dataclass(frozen=True)
class AttackResult:
    """Test accuracy in percent; `protocol` holds the fields of PROTOCOL."""

    model: str
    weights: str
    seed: int
    clean: float
    fgsm: float
    pgd: float
    protocol: dict[str, Any]
    environment: dict[str, Any]


def attack(
    weights: Path, protocol: Protocol, seed: int, folder: Path, mnist: Mnist, *, threads: int | None, console: Console
) -> AttackResult:
    """Judge the model of a weights file.  Writes attack.json and images.png to `folder`."""
    model, name = load_model(weights)
    with workers(threads) as pool, Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        passes = protocol.n_test * (1 + FGSM_PASSES + 2 * protocol.pgd_steps * protocol.pgd_restarts)
        task = bar.add_task("attacks", total=passes)
        x, y = judged_images(mnist, protocol, seed)
        right = correct_by_attack(model, x, y, protocol, pool, seed=seed, report=lambda n, what: bar.advance(task, n))
    accuracies = {attack: percent(of_attack) for attack, of_attack in right.items()}
    fields = {field: getattr(protocol, field) for field in PROTOCOL}
    result = AttackResult(name, str(weights), seed, **accuracies, protocol=fields, environment=environment())
    write_text(folder / "attack.json", json.dumps(asdict(result), indent=1) + "\n")
    picture = adversarial_twins({f"model {name}": model}, mnist.x_test, mnist.y_test, protocol)
    save(picture, folder / "images.png")
    return result

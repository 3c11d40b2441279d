"""One run: a model trained with one lambda and one seed, judged, and kept as one JSON and one weights file."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.atomic import write_text
from minidbp.autodiff import Tensor, no_grad
from minidbp.data import Mnist, split_train_validation
from minidbp.experiments.environment import environment
from minidbp.nn import IMAGE_SHAPE, N_CLASSES, Sequential, build_model, save_model
from minidbp.nn.models import check_model_name
from minidbp.robust.objective import check_lambda
from minidbp.training import Epoch, Protocol, TrainingState, Workers, accuracy, fgsm_accuracy, pgd_accuracy, train

Progress = Callable[[float, str], None]  # GFLOP done since the last call, and what is going on


class RunError(ValueError):
    """A results folder holds something that is not this run."""


@dataclass(frozen=True)
class Run:
    """What to train.  Raises ValueError for an unknown model, a lambda below 0 or not finite, a negative seed."""

    model: str
    lam: float
    seed: int
    protocol: Protocol

    def __post_init__(self) -> None:
        check_lambda(self.lam)
        if self.seed < 0:
            raise ValueError(f"the seed must be at least 0; got {self.seed}")
        check_model_name(self.model)

    @property
    def name(self) -> str:
        return f"{self.model}_lambda{self.lam:g}_seed{self.seed}"

    def build(self) -> Sequential:
        """The model with the weights that training starts from."""
        rng = self.generator(0)
        return build_model(self.model, rng, "float32", self.protocol.initialiser, self.protocol.padding)

    def generator(self, purpose: int) -> np.random.Generator:
        """Independent streams for 0 weights, 1 split, 2 order of images, from the seed but not from lambda."""
        return np.random.default_rng([self.seed, purpose])

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same."""
        return {
            "model": self.model,
            "lambda": self.lam,
            "seed": self.seed,
            "protocol": self.protocol.as_dict(),
        }


def execute(run: Run, mnist: Mnist, workers: Workers, progress: Progress | None = None) -> tuple[dict, Sequential]:
    """Train and judge: the result as it goes to JSON, and the model.

    The result has `model`, `lambda`, `seed`, `protocol`, `epochs` (how many), `clean`, `fgsm` and `pgd` (test
    accuracy in percent), `history` (what each epoch did), `seconds`, `environment`.  Raises DivergenceError.
    """
    report = progress or (lambda work, what: None)
    p, cost = run.protocol, Cost(run)
    whole = split_train_validation(mnist.x_train, mnist.y_train, p.n_validation, p.validation_split, run.generator(1))
    split = dataclasses.replace(whole, x_train=whole.x_train[: p.n_train], y_train=whole.y_train[: p.n_train])
    model = run.build()
    last = ""

    def on_step(epoch: int, step: int, steps: int) -> None:
        report(cost.train_image * p.batch_size, f"epoch {epoch}, step {step}/{steps}{last}")

    def on_epoch(epoch: Epoch) -> None:
        nonlocal last
        last = f", validation {epoch.validation_accuracy:.2f}%"

    started = time.perf_counter()
    history = train(TrainingState(model, run.lam, p, run.generator(2)), split, workers, on_step, on_epoch)
    trained = time.perf_counter()
    x, y = mnist.x_test[: p.n_test], mnist.y_test[: p.n_test]
    judged = {
        "clean": accuracy(model, x, y, workers, lambda n: report(cost.forward * n, "clean test images")),
        "fgsm": fgsm_accuracy(model, x, y, p, workers, lambda n: report(cost.fgsm_image * n, "FGSM")),
        "pgd": pgd_accuracy(model, x, y, p, workers, run.seed, lambda n: report(cost.pgd_image * n, "PGD")),
    }
    seconds = {"training": trained - started, "judging": time.perf_counter() - trained}
    return {
        **run.identity(),
        "epochs": len(history),
        **judged,
        "history": [dataclasses.asdict(epoch) for epoch in history],
        "seconds": seconds,
        "threads": workers.threads,
        "environment": environment(),
    }, model


def keep(result: dict[str, Any], model: Sequential, run: Run, folder: Path) -> None:
    """Write the run's weights and, last, its JSON: a run whose JSON exists is finished."""
    save_model(folder / f"{run.name}.npz", model, run.model, run.protocol.padding)
    write_text(folder / f"{run.name}.json", json.dumps(result, indent=1) + "\n")


def find(run: Run, folder: Path) -> dict[str, Any] | None:
    """The result of this very run if `folder` has it.  Raises RunError if it has one of that name that is not it."""
    path = folder / f"{run.name}.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as the result of a run ({error}); move it away") from None
    wanted = run.identity()
    if not isinstance(result, dict) or {k: result.get(k) for k in wanted} != wanted:
        raise RunError(
            f"{path} is the result of another protocol{_differences(result, wanted)}: "
            "give another --out, or move it away"
        )
    return result


def _differences(result: Any, wanted: dict[str, Any]) -> str:
    """' (n_train is 2000 there, 55000 here)': up to three fields in which two protocols differ."""
    there = result.get("protocol") if isinstance(result, dict) else None
    if not isinstance(there, dict):
        return ""
    here = wanted["protocol"]
    found = [f"{k} is {there.get(k)!r} there, {v!r} here" for k, v in here.items() if there.get(k) != v]
    return f" ({'; '.join(found[:3])})" if found else ""


class Cost:
    """How much work a run is, in GFLOP, for progress bars: passes through the model times its multiply-adds."""

    def __init__(self, run: Run) -> None:
        p = run.protocol
        self.forward = 2e-9 * multiply_adds(run.build())
        rows = 0 if run.lam == 0 else N_CLASSES if p.penalty == "jacobian_l1" else 1
        self.train_image = (3 + 3 * rows) * self.forward  # forward, two adjoints; the same for each row of J
        self.fgsm_image = 3 * self.forward
        self.pgd_image = 2 * p.pgd_steps * p.pgd_restarts * self.forward
        epochs = p.max_epochs if p.stop_rule == "none" else min(p.max_epochs, 2 * p.min_epochs)  # the paper's 20
        self.total = (
            epochs * p.n_train * self.train_image
            + p.n_test * (self.forward + self.fgsm_image)
            + p.n_pgd * self.pgd_image
        )


def multiply_adds(model: Sequential) -> int:
    """Multiply-adds of one forward pass of one image."""
    total, y = 0, Tensor(np.zeros((1, *IMAGE_SHAPE), np.float32))
    with no_grad():
        for layer in model.layers:
            y = layer(y)
            if layer.parameters():
                weights = layer.parameters()[0]
                total += weights.size * (y.size // weights.shape[-1])  # each weight once for each output position
    return total

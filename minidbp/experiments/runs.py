"""One run: what it is, what it is called, and the files that it leaves in a folder.

NAME.json is the result and NAME.npz the weights of a finished run; while it is trained there are NAME.checkpoint.npz
(the last whole epoch), NAME.progress.json (for who watches) and NAME.lock (held by the process that trains it).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.atomic import write_text
from minidbp.nn import Sequential, build_model, save_model
from minidbp.nn.models import check_model_name
from minidbp.reading import read_json
from minidbp.robust.objective import check_lambda
from minidbp.training import Protocol

FORMAT = 2  # of runs and their folders; 1 had no hash in the names


class RunError(ValueError):
    """A results folder cannot be used, or holds something that is not what its name says."""


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
    def label(self) -> str:
        """For people: 'model C, lambda 10, seed 0'."""
        return f"model {self.model}, lambda {self.lam:g}, seed {self.seed}"

    @property
    def name(self) -> str:
        """For files: the same in short, and a hash of the whole identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        return f"{self.model}_lambda{self.lam:g}_seed{self.seed}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"

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
            "format": FORMAT,
            "model": self.model,
            "lambda": self.lam,
            "seed": self.seed,
            "protocol": self.protocol.as_dict(),
        }

    @classmethod
    def of(cls, identity: dict[str, Any]) -> "Run":
        """The run of such an identity.  Raises RunError if it is not one."""
        try:
            run = cls(identity["model"], identity["lambda"], identity["seed"], Protocol(**identity["protocol"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"this is not the description of a run: {error}") from None
        if run.identity() != identity:
            raise RunError(f"a run of format {identity.get('format')!r} is not one of this version's format {FORMAT}")
        return run


def keep(result: dict[str, Any], model: Sequential, run: Run, folder: Path) -> None:
    """Write the run's weights and, last, its JSON: a run whose JSON exists is finished."""
    save_model(folder / f"{run.name}.npz", model, run.model, run.protocol.padding)
    keep_result(result, run, folder)


def keep_result(result: dict[str, Any], run: Run, folder: Path) -> None:
    """Write the run's JSON: all there is of one that diverged."""
    write_text(folder / f"{run.name}.json", json.dumps(result, indent=1) + "\n")


def find(run: Run, folder: Path) -> dict[str, Any] | None:
    """The result of this very run if `folder` has it.  Raises RunError if it has one of that name that is not it."""
    path = folder / f"{run.name}.json"
    if not path.exists():
        return None
    try:
        result = read_json(path, RunError)
    except RunError as error:
        raise RunError(f"{error}; move it away, and the run is trained again") from None
    wanted = run.identity()
    if {k: result.get(k) for k in wanted} != wanted:
        raise RunError(f"{path} is not the result of the run that its name says; move it away")
    return result

"""One run: what it is, what it is called, and the files that it leaves in a folder.

NAME.json is the result and NAME.npz the weights of a finished run; while it is trained there are NAME.checkpoint.npz
(the last whole epoch), NAME.progress.json (for who watches) and NAME.lock (held by the process that trains it).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.data import Mnist, Split, split_train_validation
from minidbp.files.atomic import write_text
from minidbp.files.reading import read_json
from minidbp.nn import N_CLASSES, Sequential, build_model, save_model
from minidbp.nn.models import check_model_name
from minidbp.robust.objective import check_lambda
from minidbp.training import Protocol, TrainingState
from minidbp.training.judgement import MaskingFigures

ACCURACIES = ("clean", "fgsm", "pgd")
DIAGNOSIS = tuple(field.name for field in fields(MaskingFigures))
FORMAT = 3  # of runs and their folders; 1 had no hash in the names, 2 said `penalised` for `penalty_target`


class RunError(ValueError):
    """A results folder cannot be used, or holds something that is not what its name says."""


class RunFailed(Exception):
    """Training or reporting could not go on: a full disk, a damaged file, workers that died."""


@dataclass(frozen=True)
class Run:
    """What to train.  Raises ValueError for an unknown model, a lambda below 0 or not finite, a negative seed."""

    model: str
    lam: float
    seed: int
    protocol: Protocol

    def __post_init__(self) -> None:
        check_lambda(self.lam)
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"the seed must be a whole number of at least 0; got {self.seed!r}")
        check_model_name(self.model)
        object.__setattr__(self, "lam", float(self.lam) + 0.0)  # equal runs have one name: 10 and 10.0, -0.0 and 0.0

    @property
    def name(self) -> str:
        """For files: model, lambda, seed, and a hash of the whole identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        return f"{self.model}_lambda{self.lam:g}_seed{self.seed}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def build(self) -> Sequential:
        """The model with the weights that training starts from."""
        rng = self.generator(0)
        return build_model(self.model, rng, "float32", self.protocol.initialiser, self.protocol.padding)

    def start(self) -> TrainingState:
        """The training at its beginning."""
        return TrainingState(self.build(), self.lam, self.protocol, self.generator(2))

    def split(self, mnist: Mnist) -> Split:
        """The images that it trains on, and those that it is validated on."""
        p = self.protocol
        whole = split_train_validation(
            mnist.x_train, mnist.y_train, p.n_validation, p.validation_split, self.generator(1)
        )
        return replace(whole, x_train=whole.x_train[: p.n_train], y_train=whole.y_train[: p.n_train])

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
    def of(cls, identity: Any) -> "Run":
        """The run of such an identity.  Raises RunError if it is not one."""
        if not isinstance(identity, dict):
            raise RunError(f"the description of a run should be an object; got {str(identity)[:40]!r}")
        if identity.get("format") != FORMAT:
            raise RunError(f"a run of format {identity.get('format')!r} is not one of this version's format {FORMAT}")
        try:
            run = cls(identity["model"], identity["lambda"], identity["seed"], Protocol(**identity["protocol"]))
        except KeyError as error:
            raise RunError(f"this is not the description of a run: it has no {error}") from None
        except (TypeError, ValueError) as error:
            raise RunError(f"this is not the description of a run: {error}") from None
        whole = run.identity()
        odd = set(whole) ^ set(identity) | set(whole["protocol"]) ^ set(identity["protocol"])
        if odd:
            raise RunError(
                f"this is not the description of a run: it lacks or should not have {', '.join(sorted(odd))}"
            )
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
    complete = isinstance(result.get("environment"), dict) and "diverged" in result
    if not complete or not (_whole_result if result["diverged"] is None else _whole_divergence)(result):
        raise RunError(f"{path} lacks a part of a run's result; move it away, and the run is trained again")
    return result


def _whole_result(result: dict[str, Any]) -> bool:
    classes, seconds, diagnosis = (result.get(name) for name in ("per_class", "seconds", "diagnosis"))
    return (
        all(_is_number(result.get(name)) for name in ("epochs", *ACCURACIES))
        and isinstance(classes, dict)
        and all(isinstance(classes.get(name), list) and len(classes[name]) == N_CLASSES for name in ACCURACIES)
        and all(value is None or _is_number(value) for name in ACCURACIES for value in classes[name])
        and isinstance(seconds, dict)
        and isinstance(diagnosis, dict)
        and set(DIAGNOSIS) == set(diagnosis)
        and all(map(_is_number, [*seconds.values(), *diagnosis.values()]))
    )


def _whole_divergence(result: dict[str, Any]) -> bool:
    where = result["diverged"]
    return isinstance(where, dict) and {"epoch", "step", "message"} <= set(where)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def identity_in(result: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the run whose result this is: `Run.of` takes it."""
    return {key: result[key] for key in ("format", "model", "lambda", "seed", "protocol")}


def labels(runs: Sequence[Run]) -> dict[Run, str]:
    """Names for people, with what varies among these runs: 'model C, lambda 10, eps 0.1, seed 0'."""
    names = varied_fields([run.identity() for run in runs])
    return {
        run: ", ".join(
            [
                f"model {run.model}, lambda {run.lam:g}",
                *(f"{name} {shown(getattr(run.protocol, name))}" for name in names),
                f"seed {run.seed}",
            ]
        )
        for run in runs
    }


def varied_fields(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields of the protocol, in its order, that are not the same in all runs of some model.

    results: of runs, or their identities.
    """
    models = {result["model"] for result in results}
    return [
        field.name
        for field in fields(Protocol)
        if any(len({r["protocol"][field.name] for r in results if r["model"] == model}) > 1 for model in models)
    ]


def shown(value: Any) -> str:
    """A value of the protocol as text: 10 for 10.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)

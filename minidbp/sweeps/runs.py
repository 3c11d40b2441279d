"""One run: what it is, what it is called, its result, and its files in a folder.

A finished run has NAME.json, its result, and NAME.safetensors, its weights.  A run in training has
NAME.checkpoint.safetensors, the last whole epoch; NAME.progress.json, for whoever watches; and NAME.lock, held by the
process that trains it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.data import MNIST, DataIdentity, Dataset, Split, split_train_validation
from minidbp.files.digest import without_digest, write_with_digest
from minidbp.files.reading import MOST_JSON, MOST_NUMBER, Count, Duration, from_json, read_json
from minidbp.nn import Sequential, build_model, save_model
from minidbp.nn.models import check_model_input, check_model_name
from minidbp.robust.penalties import check_lambda
from minidbp.training import Epoch, Protocol, TrainingState
from minidbp.training.checkpoint import checkpoint_epochs
from minidbp.training.environment import Environment
from minidbp.training.judgement import Judgement

FORMAT = 4  # of runs and their folders; 1 had no hash in the names, 3 had one size of attack and no tracked epochs
MOST_SEED = 2**63 - 1  # its digits are in the names of files
EPOCH_BYTES = 600  # of an epoch in a result, at most; the rest has less than MOST_JSON


class RunError(ValueError):
    """A folder of results cannot be used, or a file in it is not what its name says."""


class DamagedRun(RunError):
    """A file of one run cannot be used, such as a damaged result or checkpoint; the other runs can be trained."""


class RunFailed(Exception):
    """Training or reporting could not go on: a full disk, a damaged file, workers that died."""


def reason(error: Exception) -> str:
    """Why a run or a sweep could not go on, in words."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used: {error.strerror}"
    return str(error)


@dataclass(frozen=True)
class Run:
    """What to train.

    Raises ValueError for an unknown model, one that does not fit the data, a lambda below 0 or beyond MOST_NUMBER, or
    a seed below 0 or above MOST_SEED.
    """

    model: str
    lam: float
    seed: int
    protocol: Protocol
    data: DataIdentity = MNIST

    def __post_init__(self) -> None:
        check_lambda(self.lam)
        if self.lam > MOST_NUMBER:
            raise ValueError(f"lambda must be at most {MOST_NUMBER:g}; got {self.lam:g}")
        if type(self.seed) is not int or not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"the seed must be a whole number from 0 to {MOST_SEED}; got {self.seed!r:.40}")
        check_model_name(self.model)
        check_model_input(self.model, self.protocol.padding, self.data.image_shape, self.data.n_classes)
        object.__setattr__(self, "lam", float(self.lam) + 0.0)  # equal runs have one name: 10 and 10.0, -0.0 and 0.0

    @property
    def name(self) -> str:
        """For files: model, lambda, seed, and a hash of the whole identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        return f"{self.model}_lambda{self.lam:g}_seed{self.seed}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def file(self, run_dir: Path, ending: str) -> Path:
        """The run's file with this ending, such as "json" or "checkpoint.safetensors"."""
        return run_dir / f"{self.name}.{ending}"

    def kept_epochs(self, run_dir: Path) -> int:
        """How many whole epochs the run's checkpoint holds; 0 if there is none."""
        return checkpoint_epochs(self.file(run_dir, "checkpoint.safetensors"))

    def build(self) -> Sequential:
        """The model with its initial weights."""
        p = self.protocol
        return build_model(
            self.model, self.generator(0), "float32", p.initialiser, p.padding,
            input_shape=self.data.image_shape, n_classes=self.data.n_classes,
        )  # fmt: skip

    def start(self) -> TrainingState:
        """The training at its beginning."""
        return TrainingState(self.build(), self.lam, self.protocol, self.generator(2))

    def check(self, dataset: Dataset) -> None:
        """Raise RunError unless these are the run's data, and ValueError if the protocol wants more images of them."""
        if dataset.identity != self.data:
            raise RunError(
                f"the run {self.name} belongs to {self.data.name} with the SHA-256 {self.data.digest[:12]}...; "
                f"the data are {dataset.name} with {dataset.digest[:12]}..."
            )
        self.protocol.check_sizes(len(dataset.x_train), len(dataset.x_test))

    def split(self, dataset: Dataset) -> Split:
        """The images for training and for validation."""
        p, rng = self.protocol, self.generator(1)
        whole = split_train_validation(dataset.x_train, dataset.y_train, p.n_validation, p.validation_split, rng)
        return replace(whole, x_train=whole.x_train[: p.n_train], y_train=whole.y_train[: p.n_train])

    def generator(self, purpose: int) -> np.random.Generator:
        """Independent streams for 0 weights, 1 split, 2 order of images.  They depend on the seed, not on lambda."""
        return np.random.default_rng([self.seed, purpose])

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same, for JSON.  MNIST is not named, as no run before had other data."""
        protocol = self.protocol.as_dict()
        run = {"format": FORMAT, "model": self.model, "lambda": self.lam, "seed": self.seed, "protocol": protocol}
        return run if self.data == MNIST else {**run, "data": self.data.as_dict()}

    @classmethod
    def of(cls, identity: Any) -> "Run":
        """The run with this identity.  Raises RunError if it is not the identity of a run."""
        what = "the description of a run"
        if not isinstance(identity, dict):
            raise RunError(f"{what} should be an object; got {identity!r:.40}")
        if identity.get("format") != FORMAT:
            raise RunError(f"a run of format {identity.get('format')!r} is not one of this version's format {FORMAT}")
        values = {"lam" if name == "lambda" else name: value for name, value in identity.items() if name != "format"}
        return from_json(cls, {"data": MNIST.as_dict(), **values}, what, RunError)


@dataclass(frozen=True)
class Seconds:
    """How long a run took, its interruptions not counted."""

    training: Duration
    judging: Duration


@dataclass(frozen=True)
class Divergence:
    """Where a loss or a gradient became infinite or NaN; epochs and steps count from 1."""

    epoch: Count
    step: Count
    message: str


@dataclass(frozen=True, kw_only=True)
class RunResult(Judgement):
    """A finished run: its judgement, how many epochs it took, and what each epoch did."""

    run: Run
    diverged: None = None
    epochs: Count
    history: list[Epoch]
    seconds: Seconds
    threads: Count
    environment: Environment

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(len(shares) != self.run.data.n_classes for shares in self.per_class.values()):
            raise ValueError(f"per_class must hold a number for each of {self.run.data.n_classes} classes")

    def wrong(self) -> str:
        """What makes it other than the result of a run that was trained and judged to its end; "" if nothing does."""
        numbers = [epoch.number for epoch in self.history]
        if len(numbers) != self.epochs or numbers != list(range(1, len(numbers) + 1)):
            return f"`history` should hold the epochs 1 to {self.epochs}"
        if any(epoch.tracked is None for epoch in self.history):
            return "`history` holds an epoch without `tracked`"
        if [judged.eps for judged in self.by_eps] != self.run.protocol.attack_sizes:
            return f"`by_eps` should hold the sizes {', '.join(map(shown, self.run.protocol.attack_sizes))}"
        return ""

    def in_words(self, label: str) -> str:
        """The result in one line."""
        seconds = self.seconds.training + self.seconds.judging
        effort = f"{self.epochs} epoch{'s' * (self.epochs != 1)}, {seconds:.0f} s"
        p = self.run.protocol
        attacked = [
            f"eps {eps:g}: FGSM {self.at(eps).fgsm:.2f}%, worst case {self.at(eps).worst_case:.2f}%"
            for eps in dict.fromkeys((p.eps, p.small_eps))
        ]
        figures = f"clean {self.clean:.2f}%; {'; '.join(attacked)}"
        return f"{label}: {figures} ({p.n_test} test images; {effort})"

    @property
    def worst(self) -> float:
        """Accuracy in percent at the protocol's eps, in the worst case."""
        return self.at(self.run.protocol.eps).worst_case

    @property
    def fgsm_small(self) -> float:
        """Accuracy in percent under FGSM of size small_eps."""
        return self.at(self.run.protocol.small_eps).fgsm

    @property
    def worst_small(self) -> float:
        """Accuracy in percent at small_eps, in the worst case."""
        return self.at(self.run.protocol.small_eps).worst_case

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the run's identity, then the fields by their names."""
        return {**self.run.identity(), **{name: value for name, value in asdict(self).items() if name != "run"}}


@dataclass(frozen=True, kw_only=True)
class DivergedRun:
    """A run that diverged.  It would diverge again, so it is not trained again."""

    run: Run
    diverged: Divergence
    environment: Environment

    def in_words(self, label: str) -> str:
        """Where the run diverged, in one line."""
        return f"{label}: diverged in epoch {self.diverged.epoch}, step {self.diverged.step}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the run's identity, then the fields by their names."""
        return {**self.run.identity(), "diverged": asdict(self.diverged), "environment": asdict(self.environment)}


Outcome = RunResult | DivergedRun


def keep(outcome: Outcome, run_dir: Path, model: Sequential | None = None) -> None:
    """Write the weights, if there is a model, and then the JSON: a run whose JSON exists is finished."""
    run = outcome.run
    if model:
        data = run.data.name, run.data.digest
        save_model(run.file(run_dir, "safetensors"), model, run.model, run.protocol.padding, data=data)
    write_with_digest(run.file(run_dir, "json"), outcome.as_dict())


def find(run: Run, run_dir: Path) -> Outcome | None:
    """The outcome of this run, None if there is none.  Raises DamagedRun for a damaged file or that of another run."""
    path = run.file(run_dir, "json")
    if not path.exists():
        return None
    try:
        read = read_json(path, RunError, MOST_JSON + EPOCH_BYTES * run.protocol.max_epochs)
        values, identity = without_digest(read, str(path), RunError), run.identity()
        if {name: values.get(name) for name in identity} != identity:
            raise RunError(f"{path} is not the result of the run that its name says")
        rest = {name: value for name, value in values.items() if name not in identity}
        kind: type[Outcome] = RunResult if rest.get("diverged") is None else DivergedRun
        values = {
            "model": run.model, "lam": run.lam, "seed": run.seed, "protocol": run.protocol.as_dict(),
            "data": run.data.as_dict(),
        }  # fmt: skip
        outcome = from_json(kind, {**rest, "run": values}, str(path), RunError)
        if isinstance(outcome, RunResult) and (wrong := outcome.wrong()):
            raise RunError(f"{path}: {wrong}")
        return outcome
    except RunError as error:
        raise DamagedRun(f"{error}; move it away, and the run is trained again") from None


def labels(runs: Sequence[Run]) -> dict[Run, str]:
    """Names for people, with what varies among these runs: 'model C, lambda 10, eps 0.1, seed 0'.

    Data that are not MNIST are named too: 'model C on digits.npz, lambda 10, seed 0'.
    """
    names, varied = {}, varied_fields(runs)
    for run in runs:
        values = [f"{name} {shown(getattr(run.protocol, name))}" for name in varied]
        on = "" if run.data == MNIST else f" on {run.data.name}"
        names[run] = ", ".join([f"model {run.model}{on}, lambda {run.lam:g}", *values, f"seed {run.seed}"])
    return names


def varied_fields(runs: Sequence[Run]) -> list[str]:
    """The fields of the protocol, in its order, that differ among the runs of some model."""
    by_model = [[run.protocol for run in runs if run.model == model] for model in {run.model for run in runs}]
    names = (field.name for field in fields(Protocol))
    return [name for name in names if any(len({getattr(p, name) for p in protocols}) > 1 for protocols in by_model)]


def shown(value: Any) -> str:
    """A value of the protocol as text: 10 for 10.0, and '0.1 and 0.3' for several."""
    if isinstance(value, tuple):
        return " and ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""The sweeps of the paper's tables: which runs each preset trains, and what the paper reports for each condition."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from minidbp.paper.claims import ClaimVerdict, table2_verdicts, table3_verdicts, table4_verdicts
from minidbp.paper.published import EPS, EPSILONS, LAMBDAS, TABLE_2, TABLE_3, TABLE_3_LAMBDA, TABLE_4, Reported
from minidbp.robust.penalties import check_lambda
from minidbp.sweeps.runs import Run, RunError, RunResult
from minidbp.training import Protocol
from minidbp.training.protocol import CHOICES, FieldError, check_choice


@dataclass(frozen=True)
class Condition:
    """All that decides a result but the seed."""

    model: str
    lam: float
    protocol: Protocol


Preset = dict[Condition, int]  # the number of seeds of each condition


@dataclass(frozen=True)
class Choice:
    """A part of a preset, or an extension of it. None stands for what the preset has.

    Raises ValueError for a lambda below 0 or not finite, no seed at all, and a model or lambda that is named twice.

    Attributes:
        lambdas: In rising order. They may be lambdas that the preset lacks. 0 is always among them, because a table
            never shows a lambda without it.
        seeds: The number of seeds of every condition.
    """

    models: Sequence[str] | None = None
    lambdas: Sequence[float] | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        if self.models is not None:
            _refuse_repeated("--models", self.models)
        if self.lambdas is not None:
            for lam in self.lambdas:
                check_lambda(lam)
            _refuse_repeated("--lambdas", [f"{lam:g}" for lam in self.lambdas])
            object.__setattr__(self, "lambdas", tuple(sorted({0.0, *map(float, self.lambdas)})))
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1; got {self.seeds}")

    @classmethod
    def of(cls, models: str | None, lambdas: str | None, seeds: int | None) -> "Choice":
        """What the options of the command line choose, such as "A,C" and "0,50"."""
        return cls(
            None if models is None else [name.strip().upper() for name in models.split(",")],
            None if lambdas is None else [_parse_lambda(lambdas, value) for value in lambdas.split(",")],
            seeds,
        )

    def options(self) -> dict[str, str | int | None]:
        """The options of the command line that make this choice."""
        models = None if self.models is None else ",".join(self.models)
        lambdas = None if self.lambdas is None else ",".join(str(lam).removesuffix(".0") for lam in self.lambdas)
        return {"models": models, "lambdas": lambdas, "seeds": self.seeds}


def _refuse_repeated(option: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{option} {','.join(names)} names {name} twice; name each once")


def _parse_lambda(text: str, value: str) -> float:
    try:
        check_lambda(float(value))
    except ValueError:
        message = f"--lambdas {text}: {value!r} should be a number of at least 0, as in --lambdas 0,50"
        raise ValueError(message) from None
    return float(value) + 0.0  # 0.0 for -0.0


ALL = Choice()


@dataclass(frozen=True)
class Experiment:
    """A sweep of the paper, or one that its claims ask for.

    Attributes:
        paper: What the paper reports for a condition, or None.
        verdicts: What finished runs say of the paper's claims on these models.
        along: The horizontal axis of the picture: "lambda" or a field of the protocol.
        compared: Fields of the protocol whose effect the report shows, besides that of lambda.
        length: Which of the experiment's lengths of training a protocol has, where the experiment compares several. Two
            presets have the same lengths, in other numbers of epochs.
        note: What a reader of the table must know.
    """

    name: str
    title: str
    presets: dict[str, Preset]
    paper: Callable[[Condition], Reported | None] = lambda condition: None
    verdicts: Callable[[Sequence[RunResult], Sequence[str]], Sequence[ClaimVerdict]] = lambda results, models: ()
    along: str = "lambda"
    compared: Sequence[str] = ()
    length: Callable[[Protocol], Any] = lambda protocol: None
    note: str = ""

    def preset(self, name: str, choice: Choice = ALL) -> Preset:
        """What is chosen of the preset of that name. Raises ValueError for an unknown preset or model.

        A lambda that the preset lacks gets those protocols of each model that all its lambdas share. So a new lambda of
        Table 4 is trained for the longer time, and lambda = 0 and 10 keep both lengths.
        """
        check_choice("preset", name, self.presets)
        whole = self.presets[name]
        models = list(dict.fromkeys(condition.model for condition in whole))
        for model in choice.models or ():
            if model not in models:
                raise ValueError(
                    f"{self.name} --preset {name} has no model {model!r}: choose from {', '.join(sorted(models))}"
                )
        part: Preset = {}
        for model in models:
            if model in (choice.models or models):
                part |= _with_lambdas({c: seeds for c, seeds in whole.items() if c.model == model}, choice.lambdas)
        return part if choice.seeds is None else dict.fromkeys(part, choice.seeds)

    def runs(
        self,
        preset: str,
        first_seed: int = 0,
        variants: Sequence[Mapping[str, Any]] = ({},),
        choice: Choice = ALL,
    ) -> list[Run]:
        """The chosen runs of a preset, seed by seed, so that a sweep stopped early has runs of every condition.

        Args:
            variants: Changes to the protocol. Each variant gets all runs; equal runs are listed once.

        Raises:
            ValueError: For an unknown preset or model, or an unknown field or value of the protocol.
        """
        conditions = self.preset(preset, choice)
        runs = (
            Run(condition.model, condition.lam, first_seed + k, changed(condition.protocol, variant))
            for k in range(max(conditions.values()))
            for variant in variants
            for condition, seeds in conditions.items()
            if k < seeds
        )
        return list(dict.fromkeys(runs))


def _with_lambdas(conditions: Preset, lambdas: Sequence[float] | None) -> Preset:
    """The conditions of one model with these lambdas; a lambda that is not there is added."""
    if lambdas is None:
        return conditions
    found: dict[float, list[Protocol]] = {}
    for condition in conditions:
        found.setdefault(condition.lam, []).append(condition.protocol)
    shared = [p for p in dict.fromkeys(c.protocol for c in conditions) if all(p in of for of in found.values())]
    model, fewest = next(iter(conditions)).model, min(conditions.values())
    chosen = (Condition(model, lam, protocol) for lam in lambdas for protocol in found.get(lam, shared))
    return {condition: conditions.get(condition, fewest) for condition in chosen}


def changed(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """The protocol with other values for some fields. Raises ValueError for an unknown field."""
    names = [field.name for field in fields(Protocol)]
    for name in changes:
        if name not in names:
            raise ValueError(f"the protocol has no field {name!r}: choose one of {', '.join(names)}")
    return replace(protocol, **changes)


# Fields that have an effect only beside certain values of others
PGD_TRAINING = {"adversarial_training": True, "training_attack": "pgd"}
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "training_attack": {"adversarial_training": True},
    "training_attack_steps": PGD_TRAINING,
    "training_attack_step": PGD_TRAINING,
}


def check_effect(varied: Sequence[str], runs: Sequence[Run]) -> None:
    """Raise ValueError if a varied field has no effect on any of these runs."""
    for name in varied:
        needed = NEEDED.get(name, {})
        if not any(all(getattr(run.protocol, field) == value for field, value in needed.items()) for run in runs):
            words = " ".join(f"--vary {field}={str(value).lower()}" for field, value in needed.items())
            raise ValueError(f"--vary {name} has no effect on any of these runs: it needs {words} too")


def protocol_variants(vary: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values that `--vary` asks for.

    Args:
        vary: FIELD=VALUE,VALUE or, for a field with a choice of words, FIELD alone.

    Raises:
        ValueError: For an unknown field, a field given twice or of several numbers, or a value of the wrong kind.
    """
    kinds: dict[str, Any] = {field.name: field.type for field in fields(Protocol)}
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, given, values = text.partition("=")
        if name not in kinds:
            raise ValueError(f"--vary {text}: the protocol has no field {name!r}; it has {', '.join(kinds)}")
        if kinds[name] not in (bool, int, float, str):
            raise ValueError(f"--vary {text}: {name} holds several numbers and cannot be varied; vary another field")
        if name in axes:
            raise ValueError(f"--vary {text}: {name} is given twice; give all its values in one --vary")
        if given:
            axes[name] = [_parse_value(text, kinds[name], value) for value in values.split(",")]
        elif name in CHOICES or kinds[name] is bool:
            axes[name] = list(CHOICES.get(name, (True, False)))
        else:
            raise ValueError(f"--vary {text} needs values, such as {name}={getattr(Protocol(), name)}")
        for value in axes[name]:
            _check_range(text, name, value)
    return _product(axes)


def _parse_value(text: str, kind: Any, value: str) -> Any:
    """A value of a field from the command line. Protocol itself checks its range."""
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise ValueError(f"--vary {text}: {value!r} should be {wanted}") from None


def _check_range(text: str, name: str, value: Any) -> None:
    """Raise ValueError, which names --vary, if no protocol has this value of a field."""
    try:
        Protocol(**{name: value})
    except FieldError as error:
        if error.field == name:  # that of another field may be set too
            raise ValueError(f"--vary {text}: {error}") from None


def _fixed(epochs: int, n_test: int, **changes: Any) -> Protocol:
    """The paper's protocol for a fixed number of epochs, judged on fewer images with fewer queries of Square."""
    return Protocol(**{"stop_rule": "none", "max_epochs": epochs, "n_test": n_test, "square_queries": 1000, **changes})


def _short(epochs: int, n_train: int, batch_size: int, n_test: int, **changes: Any) -> Protocol:
    """Much shorter than the paper's: fewer images, smaller batches, few epochs, and weaker attacks.

    No rule looks at the validation images, so 1,000 of them are enough. PGD takes fewer and longer steps.
    """
    less: dict[str, Any] = {
        "n_train": n_train, "batch_size": batch_size, "n_validation": 1000, "n_tracked": min(n_test, 200),
        "pgd_steps": 20, "pgd_step": 0.03, "apgd_steps": 50, "apgd_restarts": 1, "square_queries": 200,
    }  # fmt: skip
    return _fixed(epochs, n_test, **{**less, **changes})


def _smoke(epochs: int, n_train: int, batch_size: int, n_test: int, **changes: Any) -> Protocol:
    """Only so much that everything is done once."""
    less: dict[str, Any] = {
        "n_tracked": min(n_test, 50), "pgd_steps": 10, "pgd_step": 0.06, "apgd_steps": 5, "square_queries": 20,
        "reference_steps": 30,
    }  # fmt: skip
    return _short(epochs, n_train, batch_size, n_test, **less, **changes)


def _grid(models: Mapping[str, tuple[int, Protocol]], **axes: Sequence[Any]) -> Preset:
    """Every combination of a model and one value of each axis: `lam` or a field of the protocol.

    Args:
        models: The number of seeds and the protocol of each model.
    """

    return {
        Condition(model, point.pop("lam"), replace(protocol, **point)): seeds
        for model, (seeds, protocol) in models.items()
        for point in _product(axes)
    }


def _product(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of one value of each axis."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _table2_paper(condition: Condition) -> Reported | None:
    return TABLE_2.get((condition.model, condition.lam)) if condition.protocol.eps == EPS else None


TABLE2 = Experiment(
    "table2",
    "Table 2",
    {
        "smoke": _grid(
            {"A": (1, _smoke(1, 384, 32, 100)), "B": (1, _smoke(1, 192, 32, 50)), "C": (1, _smoke(1, 3200, 64, 200))},
            lam=(0.0, 50.0),
        ),
        # C as long as in the paper, "around the 20th epoch"; A and B much shorter
        "laptop": _grid(
            {"C": (1, _fixed(20, 1000)), "A": (1, _short(2, 2560, 32, 100)), "B": (1, _short(2, 800, 32, 50))},
            lam=(0.0, 50.0),
        ),
        "overnight": _grid({"C": (5, _fixed(30, 2000, square_queries=2000))}, lam=(0.0, 1.0, 10.0, 50.0))
        | _grid(
            {"A": (2, _fixed(20, 1000, n_tracked=200)), "B": (1, _fixed(20, 1000, n_tracked=200))}, lam=(0.0, 50.0)
        ),
        "paper": _grid(dict.fromkeys("ABC", (10, Protocol())), lam=(0.0, *reversed(LAMBDAS))),
    },
    _table2_paper,
    table2_verdicts,
)  # fmt: skip

# The paper uses its surrogate here, "due to time constraints", and trains for 100 epochs without a stop rule.
SECTION_4_2: dict[str, Any] = {"adversarial_training": True, "penalty": "summed_jacobian_l1"}

TABLE3 = Experiment(
    "table3",
    "Table 3",
    {
        "smoke": _grid(
            {"A": (1, _smoke(1, 256, 32, 50, **SECTION_4_2)), "B": (1, _smoke(1, 128, 32, 20, **SECTION_4_2)),
             "C": (1, _smoke(1, 1600, 64, 200, **SECTION_4_2))}, eps=(0.1, 0.3), lam=(0.0, TABLE_3_LAMBDA),
        ),
        "laptop": _grid(
            {"C": (1, _short(4, 55_000, 128, 1000, **SECTION_4_2)), "A": (1, _short(2, 1280, 32, 100, **SECTION_4_2)),
             "B": (1, _short(2, 640, 32, 50, **SECTION_4_2))}, eps=EPSILONS, lam=(0.0, TABLE_3_LAMBDA),
        ),
        "overnight": _grid(
            {"C": (3, _fixed(30, 1000, **SECTION_4_2)), "A": (1, _fixed(12, 500, n_tracked=200, **SECTION_4_2)),
             "B": (1, _fixed(12, 300, n_tracked=200, **SECTION_4_2))}, eps=EPSILONS, lam=(0.0, TABLE_3_LAMBDA),
        ),
        "paper": _grid(
            dict.fromkeys("ABC", (10, Protocol(stop_rule="none", **SECTION_4_2))),
            eps=EPSILONS, lam=(0.0, TABLE_3_LAMBDA),
        ),
    },
    lambda condition: TABLE_3.get((condition.model, condition.protocol.eps, condition.lam)),
    table3_verdicts,
    along="eps",
)  # fmt: skip

# In the paper's Table 4 two things change at once: lambda = 0 and 10 repeat Table 3's 100 epochs, and the other lambdas
# were trained for up to 150. Here every lambda is trained for the longer time, lambda = 0 and 10 for the shorter too.
REPEATED = (0.0, 10.0)
EPOCHS = {"smoke": (1, 2), "laptop": (10, 15), "overnight": (40, 60), "paper": (100, 150)}  # short and long
LONG = [long for _, long in EPOCHS.values()]


def _table4_preset(name: str, seeds: int, lambdas: Sequence[float], protocol: Protocol) -> Preset:
    short, long = EPOCHS[name]
    models = {"C": (seeds, protocol)}
    return _grid(models, max_epochs=[short], lam=REPEATED) | _grid(models, max_epochs=[long], lam=lambdas)


def _table4_paper(condition: Condition) -> Reported | None:
    """The paper's numbers, beside the length of training that they come from."""
    other_length = condition.lam in REPEATED and condition.protocol.max_epochs in LONG
    return None if other_length or condition.protocol.eps != EPS else TABLE_4.get(condition.lam)


def _table4_verdicts(results: Sequence[RunResult], models: Sequence[str]) -> list[ClaimVerdict]:
    """The verdicts from the longer trainings alone, which are of model C."""
    return table4_verdicts([result for result in results if result.run.protocol.max_epochs in LONG])


TABLE4 = Experiment(
    "table4",
    "Table 4",
    {
        "smoke": _table4_preset("smoke", 1, (0.0, 10.0, 1000.0), _smoke(1, 1600, 64, 100, **SECTION_4_2)),
        "laptop": _table4_preset("laptop", 2, tuple(TABLE_4), _short(1, 8000, 64, 1000, **SECTION_4_2)),
        "overnight": _table4_preset("overnight", 4, tuple(TABLE_4), _fixed(1, 1000, **SECTION_4_2)),
        "paper": _table4_preset("paper", 10, tuple(TABLE_4), Protocol(stop_rule="none", **SECTION_4_2)),
    },
    _table4_paper,
    _table4_verdicts,
    compared=("max_epochs",),
    length=lambda protocol: protocol.max_epochs in LONG,
    note="The paper trained λ = 0 and 10 for 100 epochs and the other λ for up to 150. Its numbers stand beside our "
    "shorter trainings for λ = 0 and 10, and beside our longer ones for the others, whatever their length in epochs.",
)

# The paper's Table 2 has no lambda = 0, trains until a rule stops it, and smooths the labels throughout. Lambda, label
# smoothing and the length of training may all change accuracy under FGSM; this experiment varies each by itself.
CREDIT = Experiment(
    "credit",
    "Who gets the credit: lambda, label smoothing, length of training",
    {
        name: _grid({"C": (seeds, protocol)}, lam=lambdas, label_smoothing=(0.0, 0.1), max_epochs=epochs)
        for name, seeds, protocol, lambdas, epochs in (
            ("smoke", 1, _smoke(1, 1600, 64, 100), (0.0, 50.0), (1, 2)),
            ("laptop", 2, _short(1, 8000, 64, 1000), (0.0, 10.0, 50.0), (1, 5, 15)),
            ("overnight", 5, _fixed(1, 1000), (0.0, 10.0, 50.0), (1, 11, 20, 30)),
            ("paper", 10, Protocol(stop_rule="none"), (0.0, 10.0, 50.0), (1, 11, 20, 30)),
        )
    },
    along="max_epochs",
    compared=("label_smoothing", "max_epochs"),
    length=lambda protocol: protocol.max_epochs,
)

EXPERIMENTS = {experiment.name: experiment for experiment in (TABLE2, TABLE3, TABLE4, CREDIT)}


def experiment_named(name: object) -> Experiment:
    """The experiment of that name. Raises RunError for an unknown name."""
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise RunError(f"there is no experiment {name!r}: there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]

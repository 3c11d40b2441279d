"""What a table is made of: conditions, each a model with a lambda and a protocol, and how many seeds each gets."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minidbp.paper.claims import Verdict
from minidbp.paper.published import Reported
from minidbp.paper.statistics import Result
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol
from minidbp.training.protocol import CHOICES


@dataclass(frozen=True)
class Condition:
    """All that decides a result but the seed."""

    model: str
    lam: float
    protocol: Protocol


@dataclass(frozen=True)
class Preset:
    """A size of an experiment: what --help says of it, and each condition with its number of seeds."""

    about: str
    seeds: Mapping[Condition, int]


@dataclass(frozen=True)
class Experiment:
    """An experiment of the paper, or one that its claims ask for.

    paper: what the paper reports for a condition, or None.  verdicts: on its claims, from finished runs.
    along: the field that the picture has on its horizontal axis, "lambda" or one of the protocol.
    compared: fields of the protocol whose effect the report tells, besides lambda's.  note: what a reader must know.
    """

    name: str
    title: str
    presets: Mapping[str, Preset]
    paper: Callable[[Condition], Reported | None]
    verdicts: Callable[[Sequence[Result]], Sequence[Verdict]]
    along: str = "lambda"
    compared: Sequence[str] = ()
    note: str = ""

    def preset(self, name: str) -> Preset:
        """The preset of that name.  Raises ValueError for an unknown one."""
        if name not in self.presets:
            raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(self.presets)}")
        return self.presets[name]

    def runs(self, preset: str, first_seed: int = 0, readings: Sequence[Mapping[str, Any]] = ({},)) -> list[Run]:
        """All runs of a preset, seed by seed, so that a table stopped early has every cell.

        readings: changes to the protocol; each gets all runs, and where they make conditions equal there is one run.
        Raises ValueError for an unknown preset, field or value.
        """
        seeds = self.preset(preset).seeds
        runs = (
            Run(condition.model, condition.lam, first_seed + k, changed(condition.protocol, reading))
            for k in range(max(seeds.values()))
            for reading in readings
            for condition, count in seeds.items()
            if k < count
        )
        return list(dict.fromkeys(runs))


def changed(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """The protocol with other values for some fields.  Raises ValueError for a field that there is not."""
    names = [field.name for field in dataclasses.fields(Protocol)]
    for name in changes:
        if name not in names:
            raise ValueError(f"the protocol has no field {name!r}: choose one of {', '.join(names)}")
    return dataclasses.replace(protocol, **changes)


def readings_of(vary: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of what `--vary` asks for: FIELD=VALUE,VALUE or, for a choice of words, FIELD alone.

    Raises ValueError for a field that the protocol does not have or that stands twice, or a value of the wrong kind.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Protocol)}
    axes: list[list[tuple[str, Any]]] = []
    for text in vary:
        name, given, values = text.partition("=")
        if name not in kinds:
            raise ValueError(f"--vary {text}: the protocol has no field {name!r}; it has {', '.join(kinds)}")
        if any(name == axis[0][0] for axis in axes):
            raise ValueError(f"--vary {text}: {name} stands twice; give all its values in one --vary")
        if given:
            axes.append([(name, _value(text, kinds[name], value)) for value in values.split(",")])
        elif name in CHOICES or kinds[name] is bool:
            axes.append([(name, value) for value in CHOICES.get(name, (True, False))])
        else:
            raise ValueError(f"--vary {text} needs values, such as {name}={getattr(Protocol(), name)}")
    return [dict(combination) for combination in itertools.product(*axes)]


def _value(text: str, kind: Any, value: str) -> Any:
    """A value of the protocol from the command line; Protocol itself says whether it means anything."""
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise ValueError(f"--vary {text}: {value!r} should be {wanted}") from None

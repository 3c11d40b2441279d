"""Finished runs read again: under other stop and keep rules, and whether accuracy still changed when training ended.

Both need only the history of a run, which holds accuracy on the same test images after every epoch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minidbp.paper.statistics import number
from minidbp.sweeps.runs import RunResult
from minidbp.training import Tracked
from minidbp.training.rules import kept_epoch, last_epoch

LEAST_EPOCHS = 10  # of a history that can show whether accuracy has stopped changing
CHANGE_LIMITS = {"clean": 0.5, "fgsm": 3.0, "pgd": 3.0}  # in points, over the last half of a training


class Reading(NamedTuple):
    """How long a training lasts under some rules, and what the model of the judged epoch does on the tracked images."""

    epochs: int
    tracked: Tracked


def read(result: RunResult, stop_rule: str, keep: str) -> Reading | None:
    """The result under these rules; None if the stop rule does not hold within its epochs.

    Raises ValueError if the run tracked nothing.
    """
    validation = [epoch.validation_accuracy for epoch in result.history]
    last = last_epoch(validation, result.run.protocol, stop_rule)
    if last is None:
        return None
    return Reading(last, tracked_epochs(result)[kept_epoch(validation[:last], keep) - 1])


def as_if_judged(result: RunResult, stop_rule: str, keep: str) -> RunResult | None:
    """The result as if the run had had these rules, with clean, FGSM and PGD accuracy of the tracked images.

    `by_eps` is empty: the strongest attacks got the weights at the end alone. None and errors are those of `read`.
    """
    reading = read(result, stop_rule, keep)
    if reading is None:
        return None
    last, tracked = reading
    run = replace(result.run, protocol=replace(result.run.protocol, stop_rule=stop_rule, keep=keep))
    return replace(
        result, run=run, epochs=last, history=result.history[:last], by_eps=[], clean=tracked.clean, fgsm=tracked.fgsm,
        pgd=tracked.pgd,
    )  # fmt: skip


def tracked_epochs(result: RunResult) -> list[Tracked]:
    """What a run tracked after each epoch. Raises ValueError if it tracked nothing after one of them."""
    tracked = [epoch.tracked for epoch in result.history]
    if None in tracked:
        raise ValueError(f"{result.run.name} tracked nothing after epoch {tracked.index(None) + 1}")
    return [epoch for epoch in tracked if epoch]


def change_at_the_end(results: Sequence[RunResult], figure: str) -> tuple[float, float] | None:
    """By how many points "clean", "fgsm" or "pgd" changes over the last half of a training, and its standard error.

    The change is that of the straight line fitted to the accuracies of those epochs, mean over the runs. The error
    comes from how the epochs scatter around each line: under FGSM at eps 0.3 single epochs of model C differ by some 5
    points, which is an error of 4 for one run of 30 epochs. None if a run has fewer than LEAST_EPOCHS.
    """
    changes, errors = [], []
    for result in results:
        values = [getattr(tracked, figure) for tracked in tracked_epochs(result)]
        if len(values) < LEAST_EPOCHS:
            return None
        half = values[len(values) // 2 :]
        (slope, _), covariance = np.polyfit(np.arange(len(half)), half, 1, cov=True)
        changes.append(slope * (len(half) - 1))
        errors.append(np.sqrt(covariance[0, 0]) * (len(half) - 1))
    return (float(np.mean(changes)), float(np.linalg.norm(errors)) / len(errors)) if changes else None


def still_changing(control: Sequence[RunResult], figure: str) -> str:
    """Why the runs at lambda = 0 are too short for a verdict on this figure; empty if they are long enough.

    They are long enough if the change within two standard errors is within the limit.
    """
    found, limit = change_at_the_end(control, figure), CHANGE_LIMITS[figure]
    epochs = min(len(result.history) for result in control)
    if found is None:
        return f"{epochs} epoch{'s' * (epochs != 1)} at λ = 0, and at least {LEAST_EPOCHS} are needed"
    change, margin = found[0], 2 * found[1]
    if abs(change) + margin <= limit:
        return ""
    return (
        f"at λ = 0 the accuracy changes by {number(change, 1, signed=True)} ± {number(margin, 1)} points over the last "
        f"half of its {epochs} epochs, which may be more than {limit:g}"
    )

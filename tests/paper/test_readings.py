"""Finished runs read again, against histories that are made by a formula."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sweep_fixtures import made_up_result

from minidbp.paper.readings import as_if_judged, change_at_the_end, read, still_changing, tracked_epochs
from minidbp.sweeps.runs import Run, RunResult
from minidbp.training import Protocol


def with_fgsm(values: Sequence[float], seed: int = 0, **changes: Any) -> RunResult:
    """A run of fixed length that tracks these accuracies under FGSM."""
    protocol = Protocol(**{"stop_rule": "none", "max_epochs": len(values), **changes})
    result = made_up_result(Run("C", 0.0, seed, protocol), epochs=len(values))
    history = [
        dataclasses.replace(epoch, tracked=dataclasses.replace(epoch.tracked, fgsm=float(value)))
        for epoch, value in zip(result.history, values, strict=True)
    ]
    return dataclasses.replace(result, history=history)


# -- whether accuracy still changes ---------------------------------------------------------------------------------


def test_the_change_and_its_error_are_those_of_a_regression() -> None:
    rng = np.random.default_rng(0)
    series = [10 + 0.2 * np.arange(n) + rng.normal(0, 2, n) for n in (20, 31)]
    changes, errors = [], []
    for values in series:
        half = values[len(values) // 2 :]
        fit = stats.linregress(np.arange(len(half)), half)
        changes.append(fit.slope * (len(half) - 1))
        errors.append(fit.stderr * (len(half) - 1))
    found = change_at_the_end([with_fgsm(values, seed) for seed, values in enumerate(series)], "fgsm")
    assert found == pytest.approx((np.mean(changes), np.hypot(*errors) / 2))
    assert change_at_the_end([with_fgsm(series[0]), with_fgsm(series[1][:9])], "fgsm") is None
    assert change_at_the_end([], "fgsm") is None


def test_a_control_that_may_still_change_is_too_short() -> None:
    """The slopes of the last halves are 0; only many epochs or runs show it where single epochs differ by 5 points."""
    zigzag = np.tile([5.0, -5.0, -5.0, 5.0], 40)
    short = [with_fgsm(20 + zigzag[:24], seed) for seed in range(2)]
    assert "changes by +0.0 ± " in still_changing(short, "fgsm")
    assert still_changing(short, "fgsm").endswith("of its 24 epochs, which may be more than 3")
    assert not still_changing([with_fgsm(20 + zigzag)] * 2, "fgsm")
    assert not still_changing([with_fgsm(20 + zigzag[:24] / 10)], "fgsm")
    assert not still_changing([with_fgsm(0.2 * np.arange(30))], "fgsm")  # 2.8 points in 14 steps
    assert "changes by -3.1 ± 0.0 points" in still_changing([with_fgsm(10 - 0.22 * np.arange(30))], "fgsm")


def test_only_the_named_figure_counts() -> None:
    result = with_fgsm(np.arange(20.0))
    assert still_changing([result], "fgsm")
    assert not still_changing([result], "clean")


# -- other rules ----------------------------------------------------------------------------------------------------


def test_a_reading_has_the_length_of_the_rule_and_the_figures_of_the_kept_epoch() -> None:
    """The validation accuracy of a made-up run does not change, so `absolute` ends it after min_epochs + 1."""
    result = with_fgsm(np.arange(1.0, 21.0), min_epochs=12)
    for keep, fgsm in ("last", 13.0), ("best", 1.0):
        reading = read(result, "absolute", keep)
        assert reading
        assert (reading.epochs, reading.tracked.fgsm) == (13, fgsm)
        judged = as_if_judged(result, "absolute", keep)
        assert judged
        assert (judged.epochs, len(judged.history), judged.fgsm) == (13, 13, fgsm)
        assert (judged.run.protocol.stop_rule, judged.run.protocol.keep) == ("absolute", keep)
    short = with_fgsm(np.arange(1.0, 6.0))
    assert read(short, "absolute", "last") is as_if_judged(short, "absolute", "last") is None


def test_a_run_that_tracked_nothing_cannot_be_read() -> None:
    result = with_fgsm(np.arange(20.0))
    history = [*result.history[:3], dataclasses.replace(result.history[3], tracked=None), *result.history[4:]]
    with pytest.raises(ValueError, match="tracked nothing after epoch 4"):
        tracked_epochs(dataclasses.replace(result, history=history))

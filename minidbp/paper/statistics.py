"""Statistics over seeds: spreads, comparisons in pairs, corrections for many comparisons.

A result is the JSON of one finished run. Runs of one model and protocol with the same seed start from the same weights,
split and order of images whatever their lambda, so conditions are compared seed by seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: scipy.stats takes four times as long to import

from minidbp.nn import N_CLASSES

Result = Mapping[str, Any]
Key = tuple[str, float, tuple[tuple[str, Any], ...]]

LEVEL = 0.95  # of every interval
ALPHA = 0.05


def protocol_key(result: Result) -> tuple[tuple[str, Any], ...]:
    """The run's protocol as something that can be a key."""
    return tuple(sorted(result["protocol"].items()))


def by_condition(results: Iterable[Result]) -> dict[Key, list[Result]]:
    """The results that repeat each other: same model, lambda and protocol, any seed."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault((result["model"], result["lambda"], protocol_key(result)), []).append(result)
    return groups


def by_seed(results: Iterable[Result], figure: str) -> dict[int, float]:
    """One figure ("clean", "fgsm", "pgd", "epochs") of each run of one condition.

    Raises ValueError if a seed occurs twice: then these are not the runs of one condition.
    """
    values: dict[int, float] = {}
    for result in results:
        if result["seed"] in values:
            raise ValueError(f"each seed must occur once in a condition; seed {result['seed']} occurs again")
        values[result["seed"]] = result[figure]
    return values


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number as text; a dash for NaN."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: no "-0.00"


@dataclass(frozen=True)
class Summary:
    """n values: mean, sample standard deviation (ddof 1), and the 95% t interval of the mean.

    Without values the mean is NaN; with fewer than two so are the deviation and the interval. Where all values are
    equal the deviation is 0 and the interval NaN: no spread was seen, and an interval of no width would promise too
    much.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.mean)} ± {number(self.sd)} [{number(self.low)}, {number(self.high)}], n = {self.n}"


@cache
def _quantile(n: int) -> float:
    """How many standard errors a 95% interval of the mean of n values reaches to each side."""
    return float(stdtrit(n - 1, (1 + LEVEL) / 2))


def summarise(values: Sequence[float]) -> Summary:
    """The Summary of any number of values."""
    n = len(values)
    mean = fmean(values) if n else math.nan
    sd = stdev(values) if n > 1 else math.nan
    half = _quantile(n) * sd / math.sqrt(n) if sd > 0 else math.nan
    return Summary(n, mean, sd, mean - half, mean + half)


def p_value(summary: Summary, null: float = 0.0) -> float:
    """Two-sided p-value of the t-test that the mean is `null`; NaN wherever there is no interval."""
    if not summary.sd > 0:
        return math.nan
    t = (summary.mean - null) / (summary.sd / math.sqrt(summary.n))
    return float(2 * stdtr(summary.n - 1, -abs(t)))


@dataclass(frozen=True)
class Paired:
    """A difference, or another weighted sum of conditions, taken seed by seed."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    summary: Summary

    @property
    def p(self) -> float:
        """Of the paired t-test, two-sided; NaN for fewer than 2 seeds and where all values are equal."""
        return p_value(self.summary)


def contrast(conditions: Sequence[Mapping[int, float]], weights: Sequence[float]) -> Paired:
    """sum_k weights[k] * conditions[k][seed] for the seeds that every condition has."""
    seeds = sorted(set.intersection(*map(set, conditions)))
    # An accuracy is a multiple of 1 / 10,000: what differs below 1e-9 is rounding, and must not pass for a spread.
    values = [
        round(math.fsum(w * values[seed] for w, values in zip(weights, conditions, strict=True)), 9) for seed in seeds
    ]
    return Paired(tuple(seeds), tuple(values), summarise(values))


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Paired:
    """a - b, seed by seed, over the seeds in both."""
    return contrast([a, b], [1, -1])


@dataclass(frozen=True)
class Ratio:
    """mean(a) / mean(b) with its 95% interval; NaN where there is none, infinite where b may be 0."""

    a: float
    b: float
    value: float
    low: float
    high: float


def ratio(a: Mapping[int, float], b: Mapping[int, float]) -> Ratio:
    """The ratio of the means of two conditions of values not below 0, over the seeds in both.

    The interval is Fieller's: all r >= 0 for which the paired t-test does not reject mean(a - r b) = 0, that is
    (mean(a) - r mean(b))^2 <= k var(a - r b) with k = t^2 / n. (If those are two pieces, all from 0 to infinity.)
    Unlike an interval of the logarithm it bears accuracies of 0.
    """
    seeds = sorted(a.keys() & b.keys())
    n, over, under = len(seeds), [a[s] for s in seeds], [b[s] for s in seeds]
    if n == 0:
        return Ratio(*[math.nan] * 5)
    mean_a, mean_b = fmean(over), fmean(under)
    value = mean_a / mean_b if mean_b > 0 else math.nan
    if n < 2 or mean_b == 0 or stdev(over) == stdev(under) == 0:
        return Ratio(mean_a, mean_b, value, math.nan, math.nan)
    (aa, ab), (_, bb) = np.cov(over, under).tolist()
    k = _quantile(n) ** 2 / n
    q2, q1, q0 = mean_b**2 - k * bb, mean_a * mean_b - k * ab, mean_a**2 - k * aa  # q2 r^2 - 2 q1 r + q0 <= 0
    root = math.sqrt(max(q1**2 - q2 * q0, 0.0))
    if q2 > 0:
        low, high = max((q1 - root) / q2, 0.0), (q1 + root) / q2
    elif q2 < 0 and q1**2 >= q2 * q0 and (q1 + root) / q2 <= 0:  # all r from the greater root on
        low, high = max((q1 - root) / q2, 0.0), math.inf
    else:
        low, high = 0.0, math.inf
    return Ratio(mean_a, mean_b, value, low, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: those below alpha may be rejected together at level alpha.

    A NaN stays one and does not count as a comparison. S. Holm, Scand. J. Statist. 6 (1979).
    """
    adjusted = [math.nan] * len(p_values)
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def per_class(results: Sequence[Result], attack: str) -> list[Summary]:
    """Accuracy for each of the ten digits over the runs of a condition; `attack` is "clean", "fgsm" or "pgd"."""
    return [
        summarise([share for r in results if (share := r["per_class"][attack][digit]) is not None])
        for digit in range(N_CLASSES)
    ]

"""Statistics over seeds: means with intervals, comparisons paired by seed, correction for many comparisons.

Runs of one model and protocol with the same seed start from the same weights, split and order of images, whatever their
lambda. So conditions are compared seed by seed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit  # Student's t: scipy.stats takes four times as long to import

from minidbp.sweeps.runs import RunResult

ACCURACIES = {"clean": "clean", "fgsm": "FGSM", "pgd": "PGD"}  # of a result, with their names in reports
LEVEL = 0.95  # of every interval
ALPHA = 0.05


def by_seed(results: Iterable[RunResult], figure: str) -> dict[int, float]:
    """One figure of each run of one condition, by seed: a field or property of RunResult, such as "fgsm" or "worst".

    Raises ValueError if a seed occurs twice: then these are not the runs of one condition.
    """
    values: dict[int, float] = {}
    for result in results:
        seed = result.run.seed
        if seed in values:
            raise ValueError(f"each seed must occur once in a condition; seed {seed} occurs again")
        values[seed] = getattr(result, figure)
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
    """n values: their mean, sample standard deviation (ddof 1), and the 95% t interval of the mean.

    Undefined figures are NaN: the mean of no values, the deviation and the interval of fewer than two. Where all values
    are equal, the deviation is 0 and the interval NaN: an interval of no width would promise too much.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def p_value(self, null: float = 0.0) -> float:
        """The two-sided p-value of the t-test that the mean is `null`; NaN wherever there is no interval."""
        if not self.sd > 0:
            return math.nan
        t = (self.mean - null) / (self.sd / math.sqrt(self.n))
        return float(2 * stdtr(self.n - 1, -abs(t)))


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


def contrast(conditions: Sequence[Mapping[int, float]], weights: Sequence[float]) -> Summary:
    """The sum of `weights[k] * conditions[k][seed]` over k, summarised over the seeds that every condition has."""
    seeds = sorted(set.intersection(*map(set, conditions)))
    # An accuracy is a multiple of 1 / 10,000: a difference below 1e-9 is rounding and must not count as a spread.
    return summarise(
        [round(math.fsum(w * c[seed] for w, c in zip(weights, conditions, strict=True)), 9) for seed in seeds]
    )


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Summary:
    """a - b, seed by seed, over the seeds in both."""
    return contrast([a, b], [1, -1])


def welch(a: tuple[float, float], b: tuple[float, float], n: int, weight: float = 1.0) -> Summary:
    """mean(a) - weight * mean(b) of published means and standard deviations, each over n repetitions of its own.

    The interval is Welch's, with the degrees of freedom of Welch and Satterthwaite: published numbers cannot be paired.
    `sd` is such that sd / sqrt(n) is the standard error. Raises ValueError for fewer than two repetitions.
    """
    if n < 2:
        raise ValueError(f"welch: n must be at least 2 repetitions; got {n}")
    parts = a[1] ** 2, (weight * b[1]) ** 2
    mean, sd = a[0] - weight * b[0], math.sqrt(sum(parts))
    if sd == 0:
        return Summary(n, mean, sd, math.nan, math.nan)
    df = (n - 1) * sum(parts) ** 2 / sum(part**2 for part in parts)
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share, of n independent trials, in percent (Wilson 1927). Raises ValueError for n = 0."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"wilson: successes must lie in 0..n with n of at least 1; got {successes} of {n}")
    z2 = float(ndtri((1 + LEVEL) / 2)) ** 2
    middle = (successes + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)


@dataclass(frozen=True)
class Ratio:
    """mean(a) / mean(b) with its 95% interval; NaN where there is none, infinite where b may be 0."""

    a: float
    b: float
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def ratio(a: Mapping[int, float], b: Mapping[int, float]) -> Ratio:
    """The ratio of the means of two conditions of values not below 0, over the seeds in both.

    The interval is Fieller's: all r >= 0 for which the paired t-test does not reject mean(a - r b) = 0, that is
    (mean(a) - r mean(b))^2 <= k var(a - r b) with k = t^2 / n. If these r are two pieces, it is 0 to infinity.
    Unlike an interval of the logarithm, Fieller's allows accuracies of 0.
    """
    seeds = sorted(a.keys() & b.keys())
    n, over, under = len(seeds), [a[s] for s in seeds], [b[s] for s in seeds]
    if n == 0:
        return Ratio(math.nan, math.nan)
    mean_a, mean_b = fmean(over), fmean(under)
    if mean_b == 0:
        return Ratio(mean_a, mean_b)
    if n < 2 or stdev(over) == stdev(under) == 0:
        return Ratio(mean_a, mean_b, mean_a / mean_b)
    (aa, ab), (_, bb) = np.cov(over, under).tolist()
    k = _quantile(n) ** 2 / n
    q2, q1, q0 = mean_b**2 - k * bb, mean_a * mean_b - k * ab, mean_a**2 - k * aa  # q2 r^2 - 2 q1 r + q0 <= 0
    root = math.sqrt(max(q1**2 - q2 * q0, 0.0))
    low, high = 0.0, math.inf
    if q2 > 0:
        low, high = max((q1 - root) / q2, 0.0), (q1 + root) / q2
    elif q2 < 0 and q1**2 >= q2 * q0 and (q1 + root) / q2 <= 0:  # all r from the larger root on
        low = max((q1 - root) / q2, 0.0)
    return Ratio(mean_a, mean_b, mean_a / mean_b, low, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: those below alpha may be rejected together at level alpha.

    A NaN stays NaN and does not count as a comparison. S. Holm, Scand. J. Statist. 6 (1979).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaNs are sorted to the end
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted.tolist()

"""Statistics over seeds, against SciPy, the standard library, values worked by hand, and limits."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sweep_fixtures import made_up_result

from minidbp.paper.statistics import Summary, by_seed, contrast, holm, number, paired, ratio, summarise, welch, wilson
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol

SLEEP = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]  # Student (1908): hours of sleep gained by ten patients
OTHER = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]  # ... and with another drug


def seeds(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("values", [SLEEP, OTHER, [97.0, 98.5], [1e-3, 2e-3, 4e-3]])
def test_a_summary_is_scipys(values: list[float]) -> None:
    found, n = summarise(values), len(values)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert found.n == n
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def text(s: Summary) -> str:
    return f"{number(s.mean)} ± {number(s.sd)} [{number(s.low)}, {number(s.high)}], n = {s.n}"


def test_a_summary_by_hand() -> None:
    """1, 2, 3: mean 2, deviation 1, t_2(0.975) = 4.3027 of the tables, so 2 -+ 4.3027 / sqrt(3)."""
    assert text(summarise([1.0, 2.0, 3.0])) == "2.00 ± 1.00 [-0.48, 4.48], n = 3"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "– ± – [–, –], n = 0"),
        ([97.125], "97.12 ± – [–, –], n = 1"),
        ([0.6, 0.6], "0.60 ± 0.00 [–, –], n = 2"),
        ([-0.001, -0.001], "0.00 ± 0.00 [–, –], n = 2"),
    ],
)
def test_what_cannot_be_said_is_a_dash(values: list[float], expected: str) -> None:
    assert text(summarise(values)) == expected
    assert math.isnan(summarise(values).p_value())


def test_numbers_as_text() -> None:
    assert number(math.nan) == number(math.nan, signed=True) == "–"
    assert (number(math.inf), number(-math.inf)) == ("∞", "-∞")
    assert (number(1.25, 1, signed=True), number(-0.5), number(-0.001, signed=True)) == ("+1.2", "-0.50", "+0.00")


@pytest.mark.parametrize(("a", "b"), [(SLEEP, OTHER), (OTHER, SLEEP), ([1.0, 5.0], [2.0, 8.5])])
def test_the_paired_test_is_scipys(a: list[float], b: list[float]) -> None:
    found, theirs = paired(seeds(a), seeds(b)), scipy.stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.95)
    assert found.p_value() == pytest.approx(theirs.pvalue, rel=1e-7)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-7)


def test_the_paired_test_is_students() -> None:
    """Student's own example: mean difference 1.58, t = 4.0621 with 9 degrees of freedom, p = 0.00283."""
    found = paired(seeds(OTHER), seeds(SLEEP))
    assert found.mean == pytest.approx(1.58)
    assert found.mean / found.sd * math.sqrt(10) == pytest.approx(4.0621, abs=5e-5)
    assert found.p_value() == pytest.approx(0.00283, abs=5e-6)


@pytest.mark.parametrize("null", [-0.5, 0.0, 0.5, 2.0])
def test_against_another_value_than_zero(null: float) -> None:
    assert summarise(SLEEP).p_value(null) == pytest.approx(scipy.stats.ttest_1samp(SLEEP, null).pvalue, rel=1e-9)


def test_only_seeds_in_both_are_compared() -> None:
    found = paired({0: 1.0, 1: 4.0, 2: 9.0, 7: 100.0}, {2: 4.0, 1: 1.0, 5: -100.0, 0: 0.0})
    assert found == summarise([1.0, 3.0, 5.0])


@pytest.mark.parametrize(
    ("a", "b", "n"), [({}, {}, 0), ({0: 1.0}, {1: 1.0}, 0), ({0: 3.0, 1: 2.0}, {0: 1.0, 2: 2.0}, 1)]
)
def test_fewer_than_two_pairs_tell_nothing(a: dict[int, float], b: dict[int, float], n: int) -> None:
    found = paired(a, b)
    assert found.n == n
    for undefined in (found.p_value(), found.low, found.high, found.sd):
        assert math.isnan(undefined)


def test_identical_pairs() -> None:
    found = paired(seeds(SLEEP), seeds(SLEEP))
    assert (found.mean, found.sd) == (0.0, 0.0)
    assert math.isnan(found.p_value())
    assert math.isnan(found.low)


def test_the_same_difference_at_every_seed_has_no_spread_whatever_the_rounding() -> None:
    a, b = [97.3, 12.1, 0.7, 55.5], [97.0, 11.8, 0.4, 55.2]
    assert len({x - y for x, y in zip(a, b, strict=True)}) > 1  # in floating point
    found = paired(seeds(a), seeds(b))
    assert (found.mean, found.sd) == (0.3, 0.0)
    assert math.isnan(found.p_value())


def test_a_contrast_is_a_weighted_sum_by_seed() -> None:
    found = contrast([{0: 1.0, 1: 2.0}, {0: 10.0, 1: 30.0}, {1: 7.0, 0: 5.0, 2: 1.0}], [1, -2, 0.5])
    assert found == summarise([-16.5, -54.5])


RATIOS = [
    ([20.0, 24.0, 28.0, 22.0], [5.0, 7.0, 6.0, 6.5]),  # an ordinary one
    ([9.0, 10.0, 11.0, 8.0], [0.0, 0.3, 0.0, 0.1]),  # b may be 0: no upper end
    ([1.0, 0.0, 2.0], [3.0, 0.0, 9.0]),  # nothing is known
    ([1.0, 2.0, 3.0, 4.0], [1.1, 2.0, 3.1, 3.8]),  # a and b go together
    ([0.0, 0.0, 0.1], [4.0, 5.0, 6.0]),  # from 0 on
]


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), RATIOS)
def test_fiellers_interval_is_every_ratio_that_the_t_test_allows(a: list[float], b: list[float]) -> None:
    found = ratio(seeds(a), seeds(b))
    assert found.value == pytest.approx(np.mean(a) / np.mean(b))
    for r in np.concatenate([np.linspace(0, 50, 1001), np.geomspace(60, 1e6, 50)]):
        allowed = scipy.stats.ttest_1samp(np.subtract(a, r * np.array(b)), 0).pvalue >= 0.05
        near = min(abs(r - found.low), abs(r - found.high)) < 1e-9 * max(r, 1)
        assert near or allowed == (found.low <= r <= found.high), r


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), min_size=2, max_size=6))
def test_fiellers_interval_has_every_allowed_ratio(pairs: list[tuple[int, int]]) -> None:
    a, b = [x / 20 for x, _ in pairs], [y / 20 for _, y in pairs]
    found = ratio(seeds(a), seeds(b))
    if math.isnan(found.low):
        assert len(set(a)) == len(set(b)) == 1 or sum(b) == 0
        return
    assert 0 <= found.low <= found.high
    for r in (0.0, 0.3, 1.0, 2.0, 7.0, 400.0):
        p = contrast([seeds(a), seeds(b)], [1, -r]).p_value()
        if p >= 0.0501:
            assert found.low <= r <= found.high


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [({}, {}, math.nan), ({0: 6.0}, {0: 2.0}, 3.0), (seeds([6.0, 6.0]), seeds([2.0, 2.0]), 3.0),
     (seeds([6.0, 7.0]), seeds([0.0, 0.0]), math.nan)],
)  # fmt: skip
def test_a_ratio_without_an_interval(a: dict[int, float], b: dict[int, float], value: float) -> None:
    found = ratio(a, b)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04, never falling: the last is 0.06."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_leaves_out_what_is_not_there() -> None:
    found = holm([math.nan, 0.02, math.nan, 0.01])
    assert [found[1], found[3]] == pytest.approx([0.02, 0.02])
    assert math.isnan(found[0])
    assert math.isnan(found[2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float]) -> None:
    """Holm's rule as he states it: go up the sorted p-values while p <= alpha / (how many are left)."""
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for left, i in zip(range(len(p_values), 0, -1), np.argsort(p_values), strict=True):
            if left * p_values[i] > alpha:
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_a_seed_may_occur_once() -> None:
    first, second = (made_up_result(Run("C", 0.0, seed, Protocol()), fgsm=fgsm) for seed, fgsm in ((4, 1.5), (2, 2.5)))
    assert by_seed([first, second], "fgsm") == {4: 1.5, 2: 2.5}
    with pytest.raises(ValueError, match="each seed must occur once in a condition; seed 4 occurs again"):
        by_seed([first, first], "fgsm")


def test_minidbp_does_not_import_scipy() -> None:
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import minidbp, minidbp.cli"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "minidbp.autodiff" in answer.stderr
    assert "scipy" not in answer.stderr


def test_welch_of_published_numbers_is_scipys() -> None:
    ours = welch((45.09, 5.36), (22.64, 5.02), n=10, weight=2)
    scipys = scipy.stats.ttest_ind_from_stats(45.09, 5.36, 10, 2 * 22.64, 2 * 5.02, 10, equal_var=False)
    interval = scipys.statistic and ours.mean / scipys.statistic  # the standard error
    assert ours.sd / math.sqrt(ours.n) == pytest.approx(interval)
    df = (5.36**2 + 10.04**2) ** 2 / (5.36**4 + 10.04**4) * 9
    assert ours.high - ours.mean == pytest.approx(scipy.stats.t.ppf(0.975, df) * interval)
    assert ours.mean - ours.low == pytest.approx(ours.high - ours.mean)
    assert math.isnan(welch((1.0, 0.0), (2.0, 0.0), n=3).low)
    with pytest.raises(ValueError, match="at least 2"):
        welch((1.0, 0.1), (2.0, 0.1), n=1)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (583, 1000)])
def test_the_interval_of_a_share_is_scipys(k: int, n: int) -> None:
    scipys = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((100 * scipys.low, 100 * scipys.high))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_a_share_of_nothing_has_no_interval(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {k} of {n}"):
        wilson(k, n)

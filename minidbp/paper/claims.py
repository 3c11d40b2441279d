"""What the finished runs say of each claim of the paper: it holds, it does not, or they do not decide it.

Everything is compared seed by seed within one protocol; 95% t intervals decide. "Not decided" is the answer to fewer
than two seeds, to an interval on both sides of what matters, and to runs that are not there yet.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minidbp.files.page import markdown_table
from minidbp.nn.models import N_PARAMETERS
from minidbp.paper.published import EPS, EPSILONS, LAMBDAS, TABLE_2, TABLE_3, TABLE_3_LAMBDA, TABLE_4
from minidbp.paper.statistics import (
    ALPHA,
    Paired,
    Result,
    Summary,
    by_seed,
    contrast,
    holm,
    number,
    p_value,
    protocol_key,
    ratio,
)

MODELS = tuple(N_PARAMETERS)
HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"

# Where the paper gives no number for its words, ours, in percentage points and in epochs:
KEPT = 0.5  # a loss of clean accuracy up to this is "keeping the efficiency on the clean data"
EQUAL = {"fgsm": 1.0, "clean": 0.5}  # differences up to these are "sensibly equal" (under attack, and clean)
AROUND_20 = (15, 25)

NAMES = {"fgsm": "FGSM", "pgd": "PGD", "clean": "clean"}
HIGHEST = max(TABLE_4)  # the lambda at which Table 4 fails


@dataclass(frozen=True)
class Verdict:
    """A claim in the paper's words with its place, "holds", "does not hold" or "not decided", and the reason."""

    claim: str
    finding: str
    figures: str


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    return markdown_table(
        ["the paper says", "here it", "figures"], [[v.claim, f"**{v.finding}**", v.figures] for v in verdicts]
    )


@dataclass(frozen=True)
class _Family:
    """The runs of one model under one protocol, by lambda; `who` says which, for claims."""

    model: str
    who: str
    cells: Mapping[float, Sequence[Result]]

    def values(self, lam: float, figure: str) -> dict[int, float]:
        return by_seed(self.cells.get(lam, ()), figure)

    def contrast(self, weights: Mapping[float, float], figure: str) -> Paired:
        return contrast([self.values(lam, figure) for lam in weights], list(weights.values()))

    def difference(self, high: float, low: float, figure: str) -> Paired:
        return self.contrast({high: 1, low: -1}, figure)

    def lacks(self, *lambdas: float) -> str:
        """Which of these cells has no runs at all, as a reason; empty if all have some."""
        if not self.cells:
            return f"no finished runs for {self.who}"
        return next((f"no finished runs for {self.who} at λ = {x:g}" for x in lambdas if x not in self.cells), "")


def _families(results: Iterable[Result], model: str, also: str = "") -> list[_Family]:
    """One family for each protocol among a model's results, told apart by what differs; an empty one for no results."""
    who = f"model {model}{also}"
    groups: dict[tuple, dict[float, list[Result]]] = {}
    for result in results:
        groups.setdefault(protocol_key(result), {}).setdefault(result["lambda"], []).append(result)
    common = set.intersection(*map(set, groups)) if groups else set()
    return [
        _Family(model, ", ".join([who, *(f"{k} {v}" for k, v in key if (k, v) not in common)]), cells)
        for key, cells in groups.items()
    ] or [_Family(model, who, {})]


def _points(summary: Summary) -> str:
    """'+1.20 points [+0.80, +1.60]'."""
    low, high = number(summary.low, signed=True), number(summary.high, signed=True)
    return f"{number(summary.mean, signed=True)} points [{low}, {high}]"


def _settle(claim: str, holds: bool, fails: bool, figures: str, *tests: Paired) -> Verdict:
    """The verdict, with how many seeds there were; why it is open, if it is."""
    n = min(len(test.seeds) for test in tests)
    if n == 0:
        return Verdict(claim, OPEN, "no seed has all of its runs yet; at least 2 are needed")
    if n == 1:
        return Verdict(claim, OPEN, f"{figures}; 1 seed, at least 2 are needed, and more would decide")
    finding = HOLDS if holds else FAILS if fails else OPEN
    figures += f"; {n} seeds"
    if finding == OPEN:
        figures += ", all with the same difference, which tells no spread" * any(t.summary.sd == 0 for t in tests)
        figures += "; more would decide"
    return Verdict(claim, finding, figures)


def _settle_any(claim: str, differences: Mapping[str, Paired], sign: int) -> Verdict:
    """Holds if at least one difference has this sign, after Holm over all; does not if all have the other one."""
    tests = {name: test for name, test in differences.items() if not math.isnan(test.p)}
    if not tests:
        n = max(len(test.seeds) for test in differences.values())
        why = "at least 2 are needed" if n < 2 else "all with the same difference, which tells no spread"
        return Verdict(claim, OPEN, f"{n} seed{'s' * (n != 1)} to compare, {why}; more would decide")
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    clear = [name for name in tests if adjusted[name] < ALPHA]
    so = [name for name in clear if sign * tests[name].summary.mean > 0]
    # What is said of all of them at once needs no correction.
    against = [(t.summary.high if sign > 0 else -t.summary.low) < 0 for t in differences.values()]
    finding = HOLDS if so else FAILS if all(against) else OPEN
    most = max(so or tests, key=lambda name: sign * tests[name].summary.mean)
    figures = (
        f"{most}: {_points(tests[most].summary)}, {_p(adjusted[most])}; so in {len(so)} of {len(tests)} comparisons, "
        f"the other way in {len(clear) - len(so)} (Holm over all)"
    )
    if len(tests) < len(differences):
        figures += f"; {len(differences) - len(tests)} more cannot be compared yet"
    counts = sorted({len(test.seeds) for test in tests.values()})
    figures += f"; {' or '.join(map(str, counts))} seeds"
    return Verdict(claim, finding, figures + "; more would decide" * (finding == OPEN))


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _outside(summary: Summary, low: float, high: float = math.inf) -> float:
    """p-value for a mean that is not from `low` to `high`."""
    nearest = min(max(summary.mean, low), high)
    return 1.0 if summary.mean == nearest else p_value(summary, nearest)


# Table 2


def table2_verdicts(results: Iterable[Result]) -> list[Verdict]:
    """For each model: is robustness rising with lambda (FGSM, PGD), clean accuracy kept, FGSM accuracy doubled, and
    did training end before epoch 100, around the 20th?"""
    mine = [r for r in results if not r["protocol"]["adversarial_training"] and r["protocol"]["eps"] == EPS]
    verdicts = []
    for model in MODELS:
        for family in _families((r for r in mine if r["model"] == model), model):
            positive = [lam for lam in family.cells if lam > 0]
            verdicts += [
                _trend(family, "fgsm"),
                _trend(family, "pgd"),
                _kept(family),
                _doubled(family, 0.0),
                _doubled(family, min(positive if len(positive) > 1 else LAMBDAS)),  # as far as the paper's table goes
                _epochs(family),
            ]
    return verdicts


def _trend(family: _Family, figure: str) -> Verdict:
    """Holds if both the slope over the lambdas' ranks and last minus first are above 0, does not if both are below.

    Nor does it if accuracy falls by more than EQUAL from one lambda to the next (Holm over these steps).
    """
    claim = f"“the more we penalize, the more robust the model becomes” (Table 2), {family.who}, {NAMES[figure]}"
    lambdas = sorted(family.cells)
    if len(lambdas) < 2:
        return Verdict(
            claim, OPEN, family.lacks() or f"no finished runs for {family.who} but those at λ = {lambdas[0]:g}"
        )
    middle = (len(lambdas) - 1) / 2
    scale = sum((rank - middle) ** 2 for rank in range(len(lambdas)))
    slope = family.contrast({lam: (rank - middle) / scale for rank, lam in enumerate(lambdas)}, figure)
    ends = family.difference(lambdas[-1], lambdas[0], figure)
    steps = {(low, high): family.difference(high, low, figure) for low, high in pairwise(lambdas)}
    adjusted = holm([_outside(step.summary, -EQUAL["fgsm"]) for step in steps.values()])
    falls = [pair for pair, p in zip(steps, adjusted, strict=True) if p < ALPHA]
    figures = (
        f"{_points(slope.summary)} for each step of λ; λ = {lambdas[-1]:g} against {lambdas[0]:g} "
        f"{_points(ends.summary)}; from one to the next it falls by over {EQUAL['fgsm']:g} point in {len(falls)} of "
        f"{len(steps)} steps (Holm)"
        + "".join(f", λ = {high:g} against {low:g} {_points(steps[low, high].summary)}" for low, high in falls)
    )
    holds = slope.summary.low > 0 and ends.summary.low > 0 and not falls
    fails = (slope.summary.high < 0 and ends.summary.high < 0) or bool(falls)
    return _settle(claim, holds, fails, figures, slope, ends)


def _kept(family: _Family) -> Verdict:
    """Holds if the interval of clean accuracy, largest lambda minus 0, lies above -KEPT, does not if it lies below."""
    claim = f"“while keeping the efficiency on the clean data” (section 4.1), {family.who}"
    high = max(family.cells, default=0.0)
    if reason := family.lacks(0.0) or _no_higher(family, high, 0.0):
        return Verdict(claim, OPEN, reason)
    test = family.difference(high, 0.0, "clean")
    figures = f"clean, λ = {high:g} against 0: {_points(test.summary)}, margin -{KEPT:g}"
    return _settle(claim, test.summary.low > -KEPT, test.summary.high < -KEPT, figures, test)


def _doubled(family: _Family, low: float) -> Verdict:
    """Holds if the interval of FGSM(largest lambda) - 2 FGSM(low) lies above 0, does not if it lies below."""
    high = max(family.cells, default=max(LAMBDAS))
    claim = (
        "“we double (at least) the number of correctly classified adversarial examples” (section 4.1), "
        f"{family.who}, λ = {high:g} against {low:g}"
    )
    if reason := family.lacks(low) or _no_higher(family, high, low):
        return Verdict(claim, OPEN, reason)
    test = family.contrast({high: 1, low: -2}, "fgsm")
    times = ratio(family.values(high, "fgsm"), family.values(low, "fgsm"))
    figures = (
        f"FGSM {number(times.a)}% against {number(times.b)}%, {number(times.value)} times "
        f"[{number(times.low)}, {number(times.high)}]"
    )
    above, below = TABLE_2.get((family.model, high)), TABLE_2.get((family.model, low))
    if above and below:
        figures += f" (the paper: {above.fgsm[0] / below.fgsm[0]:.2f})"
    return _settle(claim, test.summary.low > 0, test.summary.high < 0, figures, test)


def _no_higher(family: _Family, high: float, low: float) -> str:
    return "" if high > low else f"no finished runs for {family.who} at a λ above {low:g}"


def _epochs(family: _Family) -> Verdict:
    """Holds if no run reached epoch 100 and the interval of the epochs, each seed's mean over lambda, is AROUND_20."""
    claim = (
        "“The program always terminated before 100 hundred epochs were reached, around the 20th epoch” (section 4.1), "
        f"{family.who}"
    )
    if reason := family.lacks():
        return Verdict(claim, OPEN, reason)
    runs = [run for cell in family.cells.values() for run in cell]
    protocol = runs[0]["protocol"]
    if protocol["stop_rule"] == "none":
        return Verdict(claim, OPEN, f"all {len(runs)} runs were told to train {protocol['max_epochs']} epochs")
    test = family.contrast(dict.fromkeys(family.cells, 1 / len(family.cells)), "epochs")
    found = test.summary
    low, high = (found.low, found.high) if found.sd else (found.mean, found.mean)  # counts: all equal is exact
    at_end = sum(run["epochs"] >= min(100, protocol["max_epochs"]) for run in runs)
    cut_short = at_end and protocol["max_epochs"] < 100
    figures = (
        f"{at_end} of {len(runs)} runs went on to epoch {min(100, protocol['max_epochs'])}; on average "
        f"{number(found.mean, 1)} [{number(low, 1)}, {number(high, 1)}], margins {AROUND_20[0]} to {AROUND_20[1]}"
    )
    around = AROUND_20[0] < low and high < AROUND_20[1]
    beside = high < AROUND_20[0] or low > AROUND_20[1]
    return _settle(claim, around and not at_end, (beside or at_end > 0) and not cut_short, figures, test)


# Table 3


def table3_verdicts(results: Iterable[Result]) -> list[Verdict]:
    """With adversarial training: is the penalty better for model A at eps 0.3, equal for each model at other eps, and
    better anywhere at all (for B and C at 0.3 the paper claims nothing else)?"""
    mine = [r for r in results if r["protocol"]["adversarial_training"]]
    verdicts, differences = [], {}
    for model in MODELS:
        for eps in EPSILONS:
            here = (r for r in mine if r["model"] == model and r["protocol"]["eps"] == eps)
            for family in _families(here, model, f", ε = {eps:g}"):
                differences[family.who] = family.difference(TABLE_3_LAMBDA, 0.0, "fgsm")
                paper = TABLE_3[model, eps, TABLE_3_LAMBDA].fgsm[0] - TABLE_3[model, eps, 0.0].fgsm[0]
                if eps != EPS:
                    verdicts.append(_equal(family, paper))
                elif model == "A":
                    verdicts.append(_better(family, paper))
    helps = "“for some settings, the penalization helps” (section 4.2), all models and ε of Table 3"
    return [*verdicts, _settle_any(helps, differences, sign=1)]


def _with_and_without(family: _Family, paper: float) -> str:
    """What the penalty changes, in each figure."""
    changes = [
        f"{NAMES[f]} {_points(family.difference(TABLE_3_LAMBDA, 0.0, f).summary)}" for f in ("fgsm", "clean", "pgd")
    ]
    return f"{', '.join(changes)} (the paper: FGSM {number(paper, signed=True)})"


def _better(family: _Family, paper: float) -> Verdict:
    """Decided by accuracy under FGSM, as the paper's remark is."""
    claim = f"“the adv_gp performs better for model A and ε = 0.3” (Table 3), {family.who}"
    if reason := family.lacks(0.0, TABLE_3_LAMBDA):
        return Verdict(claim, OPEN, reason)
    test = family.difference(TABLE_3_LAMBDA, 0.0, "fgsm")
    return _settle(claim, test.summary.low > 0, test.summary.high < 0, _with_and_without(family, paper), test)


def _equal(family: _Family, paper: float) -> Verdict:
    """Holds if both intervals, FGSM's and clean, lie within EQUAL; does not if one lies outside (Holm over the two)."""
    claim = f"“is sensibly equal for other values of ε” (Table 3), {family.who}"
    if reason := family.lacks(0.0, TABLE_3_LAMBDA):
        return Verdict(claim, OPEN, reason)
    tests = {figure: family.difference(TABLE_3_LAMBDA, 0.0, figure) for figure in EQUAL}
    inside = all(-EQUAL[f] < test.summary.low and test.summary.high < EQUAL[f] for f, test in tests.items())
    outside = holm([_outside(test.summary, -EQUAL[f], EQUAL[f]) for f, test in tests.items()])
    margins = ", ".join(f"{NAMES[f]} ±{margin:g}" for f, margin in EQUAL.items())
    figures = f"{_with_and_without(family, paper)}; margins {margins}, Holm over the two"
    return _settle(claim, inside, any(p < ALPHA for p in outside), figures, *tests.values())


# Table 4


def table4_verdicts(results: Iterable[Result]) -> list[Verdict]:
    """Model C with adversarial training at eps 0.3: does FGSM accuracy rise with lambda, and fall again at 1000?"""
    mine = [
        r for r in results
        if r["model"] == "C" and r["protocol"]["adversarial_training"] and r["protocol"]["eps"] == EPS
    ]  # fmt: skip
    return [v for family in _families(mine, "C", ", ε = 0.3") for v in (_rise(family), _fall(family))]


def _rise(family: _Family) -> Verdict:
    """Some lambda between is above 0."""
    claim = f"“We observe improvement when λ increases” (Table 4), {family.who}"
    if reason := family.lacks(0.0) or _no_middle(family):
        return Verdict(claim, OPEN, reason)
    differences = {f"λ = {lam:g} against 0": family.difference(lam, 0.0, "fgsm") for lam in _middle(family)}
    return _settle_any(claim, differences, sign=1)


def _fall(family: _Family) -> Verdict:
    """The highest lambda is below some lambda between."""
    claim = f"“until it fails when too high” (Table 4), {family.who}"
    if reason := family.lacks(HIGHEST) or _no_middle(family):
        return Verdict(claim, OPEN, reason)
    differences = {
        f"λ = {HIGHEST:g} against {lam:g}": family.difference(HIGHEST, lam, "fgsm") for lam in _middle(family)
    }
    return _settle_any(claim, differences, sign=-1)


def _middle(family: _Family) -> list[float]:
    return sorted(lam for lam in family.cells if 0 < lam < HIGHEST)


def _no_middle(family: _Family) -> str:
    return "" if _middle(family) else f"no finished runs for {family.who} at a λ between 0 and {HIGHEST:g}"

"""What the finished runs say of each claim of the paper: it holds, it does not hold, or the runs do not decide it.

All comparisons are paired by seed within one protocol, and 95% t intervals decide. The finding is "not decided" for
fewer than two seeds, for an interval that includes the margin, and where runs are missing. It is "trained too short to
tell" while the accuracy of the control, lambda = 0, may still change: then the length of training alone moves it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from minidbp.files.markdown import markdown_table
from minidbp.nn.models import N_PARAMETERS
from minidbp.paper.published import EPS, EPSILONS, LAMBDAS, REPETITIONS, TABLE_2, TABLE_3, TABLE_3_LAMBDA, TABLE_4
from minidbp.paper.readings import still_changing
from minidbp.paper.statistics import ACCURACIES, ALPHA, Summary, by_seed, contrast, holm, number, ratio, welch
from minidbp.sweeps.runs import RunResult, varied_fields
from minidbp.training import Protocol

MODELS = tuple(N_PARAMETERS)
HOLDS, FAILS, OPEN, SHORT = "holds", "does not hold", "not decided", "trained too short to tell"

# The paper gives no numbers for some of its words. These are ours, in percentage points and in epochs:
CLEAN_MARGIN = 0.5  # a loss of clean accuracy up to this is "keeping the efficiency on the clean data"
EQUAL_MARGINS = {"fgsm": 1.0, "clean": 0.5}  # differences up to these are "sensibly equal"
AROUND_20 = (15, 25)

HIGHEST = max(TABLE_4)  # the lambda at which training fails in Table 4
NO_SPREAD = "all seeds have the same difference, so its spread is unknown"
MORE = "; more seeds are needed"


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim in the paper's words with its place; HOLDS, FAILS, OPEN or SHORT; and the numbers."""

    claim: str
    finding: str
    evidence: str


def as_markdown(verdicts: Sequence[ClaimVerdict]) -> str:
    """The verdicts as a Markdown table."""
    lines = [[v.claim, f"**{v.finding}**", v.evidence] for v in verdicts]
    return markdown_table(["the paper's claim", "finding", "evidence"], lines)


@dataclass(frozen=True)
class _Runs:
    """The runs of one model under one protocol, by lambda. `name` says which model and protocol."""

    model: str
    name: str
    by_lambda: Mapping[float, Sequence[RunResult]]

    def values(self, lam: float, figure: str) -> dict[int, float]:
        return by_seed(self.by_lambda.get(lam, ()), figure)

    def contrast(self, weights: Mapping[float, float], figure: str) -> Summary:
        """The weighted sum over lambdas, seed by seed."""
        return contrast([self.values(lam, figure) for lam in weights], list(weights.values()))

    def difference(self, high: float, low: float, figure: str) -> Summary:
        return self.contrast({high: 1, low: -1}, figure)

    def missing(self, *lambdas: float, above: float = -1.0, below: float = math.inf) -> str:
        """Why the runs cannot be judged: a lambda without runs, or no runs in a range. Empty if they can be."""
        if not self.by_lambda:
            return f"no finished runs for {self.name}"
        for lam in lambdas:
            if lam not in self.by_lambda:
                return f"no finished runs for {self.name} at λ = {lam:g}"
        if not self.between(above, below):
            range_ = f"between {above:g} and {below:g}" if below < math.inf else f"above {above:g}"
            return f"no finished runs for {self.name} at a λ {range_}"
        return ""

    def if_long_enough(self, verdict: ClaimVerdict, figure: str) -> ClaimVerdict:
        """The verdict, or SHORT if the figure of the runs at lambda = 0 may have changed still when training ended.

        Without runs at lambda = 0 nobody can tell, and the finding is OPEN.
        """
        if not self.by_lambda:
            return verdict
        if 0.0 not in self.by_lambda:
            if verdict.finding == OPEN:
                return verdict
            reason = f"no finished runs for {self.name} at λ = 0"
            return replace(verdict, finding=OPEN, evidence=f"{verdict.evidence}; {reason}")
        if reason := still_changing(self.by_lambda[0.0], figure):
            return replace(verdict, finding=SHORT, evidence=f"{reason}; {verdict.evidence}")
        return verdict

    def between(self, low: float, high: float) -> list[float]:
        return sorted(lam for lam in self.by_lambda if low < lam < high)


def _runs_by_protocol(results: Iterable[RunResult], model: str, eps: float | None = None) -> list[_Runs]:
    """The model's results (at this eps) by protocol, named by the fields that differ; one empty group for none."""
    groups: dict[Protocol, dict[float, list[RunResult]]] = {}
    ours = [r for r in results if r.run.model == model and eps in (None, r.run.protocol.eps)]
    for result in ours:
        groups.setdefault(result.run.protocol, {}).setdefault(result.run.lam, []).append(result)
    varied = varied_fields([result.run for result in ours])
    name = f"model {model}" if eps is None else f"model {model}, ε = {eps:g}"
    return [
        _Runs(model, ", ".join([name, *(f"{field} {getattr(protocol, field)}" for field in varied)]), by_lambda)
        for protocol, by_lambda in groups.items()
    ] or [_Runs(model, name, {})]


def _points(summary: Summary) -> str:
    """'+1.20 points [+0.80, +1.60]'."""
    low, high = number(summary.low, signed=True), number(summary.high, signed=True)
    return f"{number(summary.mean, signed=True)} points [{low}, {high}]"


def _verdict(claim: str, holds: bool, fails: bool, evidence: str, *tests: Summary) -> ClaimVerdict:
    """The verdict, with the number of seeds and, if it is open, the reason."""
    n = min(test.n for test in tests)
    if n < 2:
        reason = f"{evidence}; 1 seed" if n else "no seed has all of its runs yet"
        return ClaimVerdict(claim, OPEN, f"{reason}; at least 2 seeds are needed")
    finding = HOLDS if holds else FAILS if fails else OPEN
    evidence += f"; {n} seeds"
    if finding == OPEN:
        evidence += f"; {NO_SPREAD}" * any(test.sd == 0 for test in tests) + MORE
    return ClaimVerdict(claim, finding, evidence)


def _verdict_on_any(claim: str, differences: Mapping[str, Summary], *, sign: int) -> ClaimVerdict:
    """Holds if at least one difference has this sign, after Holm over all; fails if all have the other sign."""
    p_values = {name: test.p_value() for name, test in differences.items()}
    p_values = {name: p for name, p in p_values.items() if not math.isnan(p)}
    if not p_values:
        n = max(test.n for test in differences.values())
        reason = "at least 2 seeds are needed" if n < 2 else NO_SPREAD + MORE
        return ClaimVerdict(claim, OPEN, f"{n} seed{'s' * (n != 1)} to compare; {reason}")
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    significant = [name for name in p_values if adjusted[name] < ALPHA]
    agreeing = [name for name in significant if sign * differences[name].mean > 0]
    # A statement about all of them at once needs no correction.
    against = [(test.high if sign > 0 else -test.low) < 0 for test in differences.values()]
    finding = HOLDS if agreeing else FAILS if all(against) else OPEN
    largest = max(agreeing or p_values, key=lambda name: sign * differences[name].mean)
    better, worse = ("higher", "lower") if sign > 0 else ("lower", "higher")
    p_text = "p < 0.001" if adjusted[largest] < 0.001 else f"p = {adjusted[largest]:.3f}"
    evidence = (
        f"{largest}: {_points(differences[largest])}, {p_text}; significantly {better} in {len(agreeing)} of "
        f"{len(p_values)} comparisons, {worse} in {len(significant) - len(agreeing)} (Holm over all)"
    )
    if len(p_values) < len(differences):
        evidence += f"; {len(differences) - len(p_values)} more cannot be compared yet"
    counts = sorted({differences[name].n for name in p_values})
    evidence += f"; {' or '.join(map(str, counts))} seeds"
    return ClaimVerdict(claim, finding, evidence + MORE * (finding == OPEN))


def _p_outside(summary: Summary, low: float, high: float = math.inf) -> float:
    """The p-value of the test that the mean is not between `low` and `high`."""
    nearest = min(max(summary.mean, low), high)
    return 1.0 if summary.mean == nearest else summary.p_value(nearest)


# Table 2


def table2_verdicts(results: Iterable[RunResult], models: Sequence[str] = MODELS) -> list[ClaimVerdict]:
    """The verdicts on each of `models`.

    Does robustness rise with lambda (FGSM, PGD), is clean accuracy kept, is FGSM accuracy doubled, and did training
    end before epoch 100, around the 20th?
    """
    ours = [r for r in results if not r.run.protocol.adversarial_training and r.run.protocol.eps == EPS]
    verdicts = []
    for model in models:
        for runs in _runs_by_protocol(ours, model):
            positive = runs.between(0, math.inf)
            verdicts += [
                runs.if_long_enough(_robustness_rises(runs, "fgsm"), "fgsm"),
                runs.if_long_enough(_robustness_rises(runs, "pgd"), "pgd"),
                runs.if_long_enough(_clean_accuracy_is_kept(runs), "clean"),
                runs.if_long_enough(_fgsm_accuracy_doubles(runs, 0.0), "fgsm"),
                # The paper's table begins with the smallest positive lambda.
                runs.if_long_enough(
                    _fgsm_accuracy_doubles(runs, min(positive if len(positive) > 1 else LAMBDAS)), "fgsm"
                ),
                _training_ends_around_epoch_20(runs),
            ]
    return verdicts


def _robustness_rises(runs: _Runs, figure: str) -> ClaimVerdict:
    """Holds if both the slope over the lambdas' ranks and last minus first are above 0; fails if both are below 0.

    Also fails if accuracy falls by more than EQUAL_MARGINS from one lambda to the next (Holm over these steps).
    """
    claim = f"“the more we penalize, the more robust the model becomes” (Table 2), {runs.name}, {ACCURACIES[figure]}"
    lambdas = sorted(runs.by_lambda)
    if len(lambdas) < 2:
        reason = runs.missing() or f"no finished runs for {runs.name} except at λ = {lambdas[0]:g}"
        return ClaimVerdict(claim, OPEN, reason)
    middle = (len(lambdas) - 1) / 2
    scale = sum((rank - middle) ** 2 for rank in range(len(lambdas)))
    slope = runs.contrast({lam: (rank - middle) / scale for rank, lam in enumerate(lambdas)}, figure)
    ends = runs.difference(lambdas[-1], lambdas[0], figure)
    margin = EQUAL_MARGINS["fgsm"]
    steps = {(low, high): runs.difference(high, low, figure) for low, high in pairwise(lambdas)}
    adjusted = holm([_p_outside(step, -margin) for step in steps.values()])
    falls = [pair for pair, p in zip(steps, adjusted, strict=True) if p < ALPHA]
    evidence = (
        f"{_points(slope)} for each step of λ; λ = {lambdas[-1]:g} against {lambdas[0]:g}: {_points(ends)}; accuracy "
        f"falls by more than {margin:g} point in {len(falls)} of {len(steps)} steps (Holm)"
    )
    evidence += "".join(f", λ = {high:g} against {low:g}: {_points(steps[low, high])}" for low, high in falls)
    fails = (slope.high < 0 and ends.high < 0) or bool(falls)
    return _verdict(claim, slope.low > 0 and ends.low > 0 and not falls, fails, evidence, slope, ends)


def _clean_accuracy_is_kept(runs: _Runs) -> ClaimVerdict:
    """Holds if the interval of clean accuracy, largest lambda minus 0, lies above the margin; fails if below."""
    claim = f"“while keeping the efficiency on the clean data” (section 4.1), {runs.name}"
    if reason := runs.missing(0.0, above=0.0):
        return ClaimVerdict(claim, OPEN, reason)
    high = max(runs.by_lambda)
    test = runs.difference(high, 0.0, "clean")
    evidence = f"clean, λ = {high:g} against 0: {_points(test)}, margin -{CLEAN_MARGIN:g} points"
    return _verdict(claim, test.low > -CLEAN_MARGIN, test.high < -CLEAN_MARGIN, evidence, test)


def _fgsm_accuracy_doubles(runs: _Runs, low: float) -> ClaimVerdict:
    """Holds if the interval of FGSM(largest lambda) - 2 FGSM(low) lies above 0; fails if below."""
    high = max(runs.by_lambda, default=max(LAMBDAS))
    words = "“we double (at least) the number of correctly classified adversarial examples”"
    claim = f"{words} (section 4.1), {runs.name}, λ = {high:g} against {low:g}"
    if reason := runs.missing(low, above=low):
        return ClaimVerdict(claim, OPEN, reason)
    test = runs.contrast({high: 1, low: -2}, "fgsm")
    times = ratio(runs.values(high, "fgsm"), runs.values(low, "fgsm"))
    evidence = (
        f"FGSM {number(times.a)}% against {number(times.b)}%, {number(times.value)} times "
        f"[{number(times.low)}, {number(times.high)}]"
    )
    above, below = TABLE_2.get((runs.model, high)), TABLE_2.get((runs.model, low))
    if above and below:
        paper = welch(above.fgsm, below.fgsm, REPETITIONS, weight=2)
        evidence += (
            f" (the paper: {above.fgsm[0] / below.fgsm[0]:.2f} times; its difference to exactly 2 times is "
            f"{_points(paper)})"
        )
    return _verdict(claim, test.low > 0, test.high < 0, evidence, test)


def _training_ends_around_epoch_20(runs: _Runs) -> ClaimVerdict:
    """Holds if no run reached epoch 100 and the interval of the epochs, each seed's mean over lambda, is AROUND_20."""
    words = "“The program always terminated before 100 hundred epochs were reached, around the 20th epoch”"
    claim = f"{words} (section 4.1), {runs.name}"
    if reason := runs.missing():
        return ClaimVerdict(claim, OPEN, reason)
    results = [result for cell in runs.by_lambda.values() for result in cell]
    protocol = results[0].run.protocol
    if protocol.stop_rule == "none":
        reason = f"all {len(results)} runs have a fixed length of {protocol.max_epochs} epochs"
        return ClaimVerdict(claim, OPEN, reason)
    test = runs.contrast(dict.fromkeys(runs.by_lambda, 1 / len(runs.by_lambda)), "epochs")
    low, high = (test.low, test.high) if test.sd else (test.mean, test.mean)  # equal counts are known exactly
    last = min(100, protocol.max_epochs)
    at_end = sum(result.epochs >= last for result in results)
    cut_short = at_end and protocol.max_epochs < 100
    evidence = (
        f"{at_end} of {len(results)} runs reached epoch {last}; mean {number(test.mean, 1)} epochs "
        f"[{number(low, 1)}, {number(high, 1)}], margins {AROUND_20[0]} to {AROUND_20[1]} epochs"
    )
    around = AROUND_20[0] < low and high < AROUND_20[1]
    beside = high < AROUND_20[0] or low > AROUND_20[1]
    return _verdict(claim, around and not at_end, (beside or at_end > 0) and not cut_short, evidence, test)


# Table 3


def table3_verdicts(results: Iterable[RunResult], models: Sequence[str] = MODELS) -> list[ClaimVerdict]:
    """The verdicts on each of `models`, with adversarial training.

    Is the penalty better for model A at eps 0.3, equal for each model at other eps, and better anywhere at all? The
    paper claims nothing else for B and C at 0.3.
    """
    ours = [r for r in results if r.run.protocol.adversarial_training]
    verdicts: list[ClaimVerdict] = []
    long_enough: dict[str, Summary] = {}
    too_short: dict[str, Summary] = {}
    for model in models:
        for eps in EPSILONS:
            for runs in _runs_by_protocol(ours, model, eps):
                if eps != EPS or model == "A":
                    verdicts.append(runs.if_long_enough(_penalty_changes(runs, eps), "fgsm"))
                control = runs.by_lambda.get(0.0, ())
                group = too_short if control and still_changing(control, "fgsm") else long_enough
                group[runs.name] = runs.difference(TABLE_3_LAMBDA, 0.0, "fgsm")
    claim = "“for some settings, the penalization helps” (section 4.2), over the models and ε of this table"
    helps = _verdict_on_any(claim, long_enough or too_short, sign=1)
    if too_short:
        n = len(too_short) + len(long_enough)
        reason = f"in {len(too_short)} of the {n} settings the training at λ = 0 is too short"
        finding = helps.finding if long_enough and helps.finding == HOLDS else SHORT
        helps = replace(helps, finding=finding, evidence=f"{reason}; {helps.evidence}")
    return [*verdicts, helps]


def _penalty_changes(runs: _Runs, eps: float) -> ClaimVerdict:
    """At eps 0.3: better, decided by accuracy under FGSM, as the paper's remark is. At other eps: equal.

    Equal holds if both intervals, FGSM's and clean, lie within EQUAL_MARGINS. It fails if one lies outside (Holm).
    """
    better, equal = "the adv_gp performs better for model A and ε = 0.3", "is sensibly equal for other values of ε"
    claim = f"“{better if eps == EPS else equal}” (Table 3), {runs.name}"
    if reason := runs.missing(0.0, TABLE_3_LAMBDA):
        return ClaimVerdict(claim, OPEN, reason)
    tests = {figure: runs.difference(TABLE_3_LAMBDA, 0.0, figure) for figure in ACCURACIES}
    paper = TABLE_3[runs.model, eps, TABLE_3_LAMBDA].fgsm[0] - TABLE_3[runs.model, eps, 0.0].fgsm[0]
    evidence = ", ".join(f"{ACCURACIES[figure]} {_points(tests[figure])}" for figure in ("fgsm", "clean", "pgd"))
    evidence += f" (the paper: FGSM {number(paper, signed=True)} points)"
    if eps == EPS:
        test = tests["fgsm"]
        return _verdict(claim, test.low > 0, test.high < 0, evidence, test)
    inside = all(-margin < tests[f].low and tests[f].high < margin for f, margin in EQUAL_MARGINS.items())
    outside = holm([_p_outside(tests[f], -margin, margin) for f, margin in EQUAL_MARGINS.items()])
    margins = ", ".join(f"{ACCURACIES[f]} ±{margin:g}" for f, margin in EQUAL_MARGINS.items())
    evidence += f"; margins {margins} points, Holm over the two"
    return _verdict(claim, inside, any(p < ALPHA for p in outside), evidence, *(tests[f] for f in EQUAL_MARGINS))


# Table 4


def table4_verdicts(results: Iterable[RunResult]) -> list[ClaimVerdict]:
    """Model C with adversarial training at eps 0.3: does FGSM accuracy rise with lambda, and fall again at 1000?"""
    verdicts = []
    for runs in _runs_by_protocol((r for r in results if r.run.protocol.adversarial_training), "C", EPS):
        middle = runs.between(0, HIGHEST)
        rises = {f"λ = {lam:g} against 0": runs.difference(lam, 0.0, "fgsm") for lam in middle}
        falls = {f"λ = {HIGHEST:g} against {lam:g}": runs.difference(HIGHEST, lam, "fgsm") for lam in middle}
        for claim, end, differences, sign in (
            ("“We observe improvement when λ increases” (Table 4)", 0.0, rises, 1),
            ("“until it fails when too high” (Table 4)", HIGHEST, falls, -1),
        ):
            claim += f", {runs.name}"
            if reason := runs.missing(end, above=0.0, below=HIGHEST):
                verdicts.append(ClaimVerdict(claim, OPEN, reason))
            else:
                verdicts.append(runs.if_long_enough(_verdict_on_any(claim, differences, sign=sign), "fgsm"))
    return verdicts

"""What Figure 1 shows, in numbers and words: figure1.md, computed from the observations."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minidbp.files.page import markdown_table
from minidbp.paper.figure1 import BETWEEN, Study, Watched, steps_of
from minidbp.paper.figure1_pictures import moments
from minidbp.training.environment import in_words

NEARLY = 0.05  # "almost 0": below this share of the largest value seen in the run
QUANTITIES = {
    "delta": "Δ",
    "span": "span of f_y between x and x + εv",
    "norm_x": "‖∇f_y‖₁ at x",
    "norm_x_adv": "‖∇f_y‖₁ at x + εv",
    "penalised_x": "what λ weighs, at x",
}
PENALISED = {"summed_jacobian_l1": "Σ_j |Σ_i ∂f_i/∂x_j|", "jacobian_l1": "‖J‖₁,₁ = Σ_i Σ_j |∂f_i/∂x_j|"}


class Change(NamedTuple):
    """How a quantity went.  `late`: over the second half of the steps, as single moments go up and down."""

    first: float
    largest: float
    largest_step: int
    late_least: float
    late_median: float
    late_most: float
    last: float


class Claim(NamedTuple):
    """A part of the paper's ideal, whether this run fulfils it, and the numbers that say so."""

    text: str
    holds: bool
    numbers: str


def changes(watched: Watched) -> dict[str, Change]:
    """How each of QUANTITIES went in a run."""
    seen = watched.observations
    series = {
        "delta": [o.delta for o in seen],
        "span": [o.span for o in seen],
        "norm_x": [float(o.norms[0]) for o in seen],
        "norm_x_adv": [float(o.norms[1]) for o in seen],
        "penalised_x": [float(o.penalised(watched.run.protocol.penalty)[0]) for o in seen],
    }
    late = [i for i, o in enumerate(seen) if 2 * o.step >= seen[-1].step]
    found = {}
    for name, values in series.items():
        largest, second_half = max(values), [values[i] for i in late]
        found[name] = Change(
            values[0], largest, seen[values.index(largest)].step,
            min(second_half), statistics.median(second_half), max(second_half), values[-1],
        )  # fmt: skip
    return found


def ideal(watched: Watched) -> list[Claim]:
    """What the paper's Figure 1 promises, held against a run."""
    found, last = changes(watched), watched.observations[-1]
    deltas = [o.delta for o in moments(watched.observations)]
    falling = all(before > after for before, after in itertools.pairwise(deltas))
    order = " > ".join(f"Δ{'₁₂₃₄'[k]}" for k in range(len(deltas)))
    claims = [Claim(order, falling and len(deltas) > 1, ", ".join(f"{d:.3g}" for d in deltas))]
    for name in ("delta", "span", "norm_x", "norm_x_adv"):
        c, text = found[name], QUANTITIES[name]
        share = c.late_median / c.largest if c.largest else 0.0
        claims += [
            Claim(f"{text} has shrunk", c.late_median < c.first, f"{c.first:.3g} before, {c.late_median:.3g} late"),
            Claim(f"{text} is almost 0", share < NEARLY, f"late {100 * share:.3g}% of its largest"),
        ]
    for where, said in ("at both points", last.predicted), ("all the way between them", last.predicted_along[BETWEEN]):
        classes = ", ".join(str(c) for c, _ in itertools.groupby(said))
        claims.append(Claim(f"the true class wins {where}", bool((said == last.label).all()), f"{classes} in the end"))
    return claims


def lines(study: Study) -> list[str]:
    """For a terminal: how each quantity went in each run, and what the model says at the end."""
    told = []
    for w in study.watched:
        last = w.observations[-1]
        told.append(
            f"λ = {w.run.lam:g}: after {last.step:,} steps the model says {last.predicted[0]} at x and "
            f"{last.predicted[1]} at x + εv; the true class is {last.label}"
        )
        told += [
            f"  {QUANTITIES[name]}: {c.first:.3g} before, at most {c.largest:.3g} (step {c.largest_step:,}), "
            f"late {c.late_median:.3g}, last {c.last:.3g}"
            for name, c in changes(w).items()
        ]
    return [*told, '"late" is the median over the second half of the steps']


def as_json(study: Study) -> dict[str, Any]:
    """The summary for --json."""
    return {
        "image": study.image,
        "label": study.label,
        "finished": not study.stopped,
        "runs": [
            {
                "lambda": w.run.lam,
                "steps": w.observations[-1].step,
                **{name: change._asdict() for name, change in changes(w).items()},
                "ideal": [claim._asdict() for claim in ideal(w)],
            }
            for w in study.watched
        ],
    }


def as_markdown(study: Study, command: str, seconds: float, where: Mapping[str, Any]) -> str:
    """figure1.md: caption, description, verdict, numbers, protocol and machine."""
    first = study.watched[0]
    run, p, chosen = first.run, first.run.protocol, moments(first.observations)
    lambdas = [f"λ = {w.run.lam:g}" for w in study.watched]
    stopped = "\n**Stopped before the end: this is what was seen until then.**\n" if study.stopped else ""
    control = (
        "\nOrange and dashed: the same training without the penalty, from the same weights, on the same batches."
        if len(study.watched) > 1
        else ""
    )
    return f"""# Figure 1 from a real run: model {run.model}, test image {study.image} (a {study.label})

Made by `{command}` in {seconds / 60:.1f} minutes.
{stopped}
![{_description(study)}](figure1.png)

The paper's Figure 1 is a drawing of the ideal: at first Δ = |f(x + εv) − f(x)| and the gradients at x and at x + εv
are large, then Δ₁ > Δ₂ > Δ₃ > Δ₄ ≈ 0, and in the end the gradients are nearly 0. This is the same picture, measured.

**Above**: f_y, the logit of the true class {study.label}, on the line from x (white circle) to x + εv (black square)
and a little beyond, at steps {", ".join(f"{o.step:,}" for o in chosen)} of {p.batch_size} images and their adversarial
twins ({steps_of(run)[1]} make an epoch): evenly spaced in the logarithm of the step, not picked. Dashed: the tangents
at both points; red crosses: another class has the largest logit. v is the sign of the loss gradient at that moment,
ε = {p.eps:g}, pixels are clipped to [0, 1]. The small images are x and x + εv, with the class that has the largest
logit (red and crossed where wrong) and the probability of the true one.

**Below**, against the step: Δ, and dotted the span of f_y (largest minus smallest) between x and x + εv; ‖∇f_y‖₁ at
both points, in logits per unit of pixel value; and what λ weighs, {PENALISED[p.penalty]}, at x.{control}

All {len(first.observations)} observations as a film: [figure1.gif](figure1.gif). Every number, for all ten classes:
[figure1.json](figure1.json).

## Is it so?

"Late" is the median over the second half of the steps, as single moments go up and down; "almost 0" is below
{100 * NEARLY:g}% of the largest value in the run. One test image (the paper's is a training point) and one seed: an
illustration, not a measurement of the method.

{_claims(study, lambdas)}
## Numbers

{_numbers(study, lambdas)}
## Protocol

Section 4.2: model {run.model}, seed {run.seed}, every image and its FGSM twin in the batch, the penalty at both.

{markdown_table(["field", "value"], [[name, str(value)] for name, value in p.as_dict().items()])}
## Machine

{in_words(where)}
"""


def _claims(study: Study, lambdas: Sequence[str]) -> str:
    rows = [
        [same[0].text, *(f"{'yes' if claim.holds else '**no**'}: {claim.numbers}" for claim in same)]
        for same in zip(*(ideal(w) for w in study.watched), strict=True)
    ]
    return markdown_table(["the paper's ideal", *lambdas], rows)


def _numbers(study: Study, lambdas: Sequence[str]) -> str:
    header = ["", "", "before", "largest", "at step", "late: least", "late: median", "late: most", "last"]
    rows = [
        [text, lam, *(f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for value in changes(w)[name])]
        for name, text in QUANTITIES.items()
        for w, lam in zip(study.watched, lambdas, strict=True)
    ]
    return markdown_table(header, rows, "---:")


def _description(study: Study) -> str:
    """For those who cannot see the picture."""
    panels = "; ".join(
        f"step {o.step}: f_y is {o.logits[0, o.label]:.2f} at x and {o.logits[1, o.label]:.2f} at x + εv, "
        f"Δ = {o.delta:.2f}, gradient norms {o.norms[0]:.3g} and {o.norms[1]:.3g}"
        for o in moments(study.watched[0].observations)
    )
    curves = "; ".join(
        f"λ = {w.run.lam:g}: Δ {c.first:.2f}, at most {c.largest:.2f}, in the end {c.last:.2f}"
        for w in study.watched
        for c in [changes(w)["delta"]]
    )
    return f"Panels above, f_y between x and its adversarial twin: {panels}. Curves below, against the step: {curves}."

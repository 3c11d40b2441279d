"""One training step taken apart, as numbers for JSON and as a page of Markdown and HTML that needs no other file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidbp.explain import figures as pictures
from minidbp.explain.checks import Check
from minidbp.explain.explanation import Done, Explanation
from minidbp.explain.figures import strongest
from minidbp.explain.step import PROTOCOL, Part, norm
from minidbp.files.atomic import write_text
from minidbp.files.page import as_html, markdown_table
from minidbp.files.plots import save
from minidbp.training.environment import in_words

CHECKED = ["quantity", "by the engine", "by differences", "relative error"]
FILES = ("explain.html", "explain.md", "explain.json", *pictures.FIGURES)


def title(e: Explanation) -> str:
    return f"One training step of model {e.model} on test image {e.image} (a {e.label}), taken apart"


def check_cells(check: Check) -> list[str]:
    """A check as a row under CHECKED."""
    if check.difference is None or check.error is None:
        return [check.quantity, number(check.engine), "none: on a kink", "–"]
    return [check.quantity, number(check.engine), number(check.difference), small(check.error)]


def small(error: float) -> str:
    """A relative error."""
    return "0 (exactly)" if error == 0 else f"{error:.0e}"


def number(value: float) -> str:
    """Nine digits, so that one sees where two numbers part."""
    return "0" if value == 0 else f"{value:.9g}"


def split_cells(part: Part) -> list[str]:
    """A layer's row under SPLIT."""
    return [
        f"dW{part.number}",
        f"{norm(part.loss_part):.4g}",
        f"{norm(part.penalty_part):.4g}",
        f"{norm(part.whole):.4g}",
        "–" if part.cosine is None else f"{part.cosine:+.3f}",
    ]


SPLIT = ["gradient", "‖dL/dW‖", "‖d(λP)/dW‖", "‖both‖", "cosine"]
PASSED = ["layer l", "V_l", "T_(l−1)", "W_l"]
STEPPED = ["share of the step", "promised", "got", "L", "λP", "L + λP"]


def passed_cells(part: Part) -> list[str]:
    return [f"{part.number} {part.layer}", str(part.V.shape), str(part.T.shape), str(part.weights.shape)]


def step_rows(e: Explanation) -> list[list[str]]:
    """Under STEPPED: before, and each share of Adam's step."""
    b = e.before
    return [
        ["before", "", "", f"{b.loss:.5f}", f"{b.weighted:.5f}", f"{b.whole:.5f}"],
        *(
            [
                f"{t.share:g}", f"{t.promised:+.3e}", f"{t.after.whole - b.whole:+.3e}", f"{t.after.loss:.5f}",
                f"{t.after.weighted:.5f}", f"{t.after.whole:.5f}",
            ]
            for t in e.taken
        ),
    ]  # fmt: skip


def verdict(e: Explanation) -> str:
    """One sentence on all checks."""
    checks = [c for cs in e.checks.values() for c in cs]
    there = len(checks) - len(e.kinked)
    said = f"{there} of {len(checks)} numbers have a finite difference beside them"
    if there:
        said += f"; the largest relative error is {e.worst.error:.0e} ({e.worst.quantity})"
    if e.kinked:
        said += f". The others: {e.kinked[0].why}"
    return said + "."


def on_the_kink(e: Explanation) -> str:
    """What was lowered, in one sentence; empty if nothing was."""
    if not e.lowered:
        return ""
    which = "; ".join(f"layer {number}: {', '.join(map(str, units))}" for number, units in e.lowered.items())
    return (
        f"On this image some units are off everywhere and somewhere exactly 0, on ReLU's kink, where no difference "
        f"exists ({which}). For the differences their biases were lowered, which leaves them off and every number here "
        "as it is, since ReLU′(0) = 0."
    )


def as_json(e: Explanation) -> dict[str, Any]:
    """The figures, without the arrays."""
    return {
        "model": e.model,
        "image": e.image,
        "label": e.label,
        "lambda": e.lam,
        "label_smoothing": PROTOCOL.label_smoothing,
        "logits": e.at_x.logits.tolist(),
        "probabilities": e.at_x.probabilities.tolist(),
        "predicted": e.at_x.predicted,
        "loss": e.before.loss,
        "penalty": e.penalty,
        "weighted_penalty": e.before.weighted,
        "whole": e.before.whole,
        "fgsm": {
            "eps": PROTOCOL.eps,
            "gradient_l1": float(np.abs(e.gradient).sum()),
            "promised": e.promised,
            "unclipped": e.unclipped,
            "clipped": e.clipped,
            "predicted": e.at_x_adv.predicted,
        },
        "jacobian_l1_rows": e.rows.tolist(),
        "signs": {name: int(np.sum(value == e.S)) for name, value in (("-1", -1), ("0", 0), ("+1", 1))},
        "layers": [
            {
                "number": p.number,
                "layer": p.layer,
                "weights": list(p.weights.shape),
                "V": list(p.V.shape),
                "T": list(p.T.shape),
                "loss_part": norm(p.loss_part),
                "penalty_part": norm(p.penalty_part),
                "whole": norm(p.whole),
                "cosine": p.cosine,
                "bias_loss_part": norm(p.bias_loss_part),
                "bias_penalty_part": norm(p.bias_penalty_part),
            }
            for p in e.parts
        ],
        "steps": [
            {"share": t.share, "promised": t.promised, "got": t.after.whole - e.before.whole, "loss": t.after.loss,
             "weighted_penalty": t.after.weighted}
            for t in e.taken
        ],
        "checks": [
            {"section": section, "quantity": c.quantity, "engine": c.engine, "difference": c.difference,
             "relative_error": c.error, "step": c.step, "why": c.why}
            for section, checks in e.checks.items()
            for c in checks
        ],
        "agreements": dict(e.agreements),
        "lowered_for_the_differences": {str(number): units for number, units in e.lowered.items()},
    }  # fmt: skip


def write(
    e: Explanation, folder: Path, command: str, origin: str, where: Mapping[str, Any], done: Done = lambda: None
) -> None:
    """Write FILES to the folder.  origin: a sentence on the weights; where: the environment; done() after each file."""
    for name, draw in pictures.FIGURES.items():
        save(draw(e), folder / name)
        done()
    text = as_markdown(e, command, origin, where)
    for name, content in (
        ("explain.json", json.dumps(as_json(e), indent=1) + "\n"),
        ("explain.md", text),
        ("explain.html", as_html(text, title(e), folder)),
    ):
        write_text(folder / name, content)
        done()


def as_markdown(e: Explanation, command: str, origin: str, where: Mapping[str, Any]) -> str:
    """The page: seven steps, each with its formula, picture and numbers beside their differences."""
    p, x, adv, b = PROTOCOL, e.at_x, e.at_x_adv, e.before
    picture = {name: f"![{text}]({name})" for name, text in pictures.describe(e).items()}
    ups, downs, zeros = (int(np.sum(sign == e.S)) for sign in (1, -1, 0))
    kept = f"{adv.probabilities[e.label]:.4f}"
    agreements = [[name, small(value)] for name, value in e.agreements.items()]
    return f"""# {title(e)}

Made by `{command}`. {origin}

The loss of the paper (Seck, Loosli, Canu, ESANN 2019, eq. 3) is L(f(x), y) + λ P: cross-entropy and a penalty on the
Jacobian J = ∂f/∂x. Its gradient in the weights needs the derivative of a derivative. Here one such step is taken on one
digit, in float64, and every derivative stands beside its finite difference. λ = {e.lam:g}, and P is the mean of
|J_ij| over the {e.J.size:,} entries, as in `minidbp train`.

## 1. The digit, the logits, the loss

Softmax makes probabilities of the logits, pᵢ = exp fᵢ / Σₖ exp fₖ. The training's loss is L = −Σᵢ yᵢ log pᵢ, with
{p.label_smoothing:g} of the label y spread over all classes (label smoothing). None of these is a derivative: there is
nothing to check yet.

{picture["digit.png"]}

The model says {x.predicted}; the digit is a {e.label}. L = {b.loss:.6f}, and without smoothing it is
−log p_y = {x.attacked_loss:.6f}.

{markdown_table(["class i", *map(str, range(10))], _logit_rows(e), "---:")}
## 2. Which pixels raise the loss: the direction of FGSM

One walk back from the loss to the pixels gives g = ∂(−log p_y)/∂x. Whoever may change each pixel by ε = {p.eps:g} does
best, to first order, along v = sign(g): the loss then rises by ε‖g‖₁.

{picture["attack.png"]}

{_checks(e.checks["loss"])}
| the loss −log p_y rises by | |
| --- | ---: |
| ε‖g‖₁, promised to first order | {e.promised:.4f} |
| at x + εv | {e.unclipped:.4f} |
| at clip(x + εv), the attacked image | {e.clipped:.4f} |

Of the attacked image the model says {adv.predicted}; the true class keeps the probability {kept}. Where promise and
truth differ, ReLUs have switched on the way, and softmax is curved.

## 3. Which pixels move which logit: J

J has one row for each class, the gradient of that logit, as large as the image. A walk back turns a cotangent u into
uᵀJ; with u = e₀ … e₉ on a leading axis, one walk finds all ten rows.

{picture["jacobian.png"]}

‖Jᵢ‖₁ is how fast logit i rises when the image moves along Sᵢ = sign(Jᵢ): so it has a finite difference. Their sum,
divided by the {e.J.size:,} entries, is P.

{_checks(e.checks["jacobian"])}
## 4. sign(J), and the penalty

‖J‖₁,₁ = Σ |Jᵢⱼ| = Σ Sᵢⱼ Jᵢⱼ. Close by, S does not change: so S is the derivative of ‖J‖₁,₁ in J, and the seed of
everything below. It has {ups:,} entries of +1, {downs:,} of −1 and {zeros:,} of 0.

{picture["signs.png"]}

P = {e.penalty:.6f}, so λP = {b.weighted:.6f}, beside L = {b.loss:.6f}: the loss that is trained is {b.whole:.6f}.

## 5. Two passes: V down, T up

While no ReLU switches, the network is a product of weights W_l and masks, so J is one too, and each W_l stands in it
once: ‖J‖₁,₁ = Σₖ ⟨V_l[k], layer l of T_(l−1)[k]⟩ (without its bias). **V_l[k]** = ∂fₖ/∂z_l came down from the logits
when J was made (z_l is what layer l returns, before the ReLU). **T_(l−1)[k]**, how the input of layer l moves when the
image moves along Sₖ, is the tangent pass: it begins with T₀ = S and goes up through the same layers and masks. The
engine was never told so: it differentiates the backward pass that it recorded, and the derivative of ‖J‖₁,₁ in the
cotangents of that pass *is* T.

{picture["passes.png"]}

{markdown_table(PASSED, [passed_cells(part) for part in e.parts], "---:")}
The last V is the ten unit vectors, the first T is S. The others, against differences of the layers above (V) and of
those below (T; its error is that of the whole array, element by element):

{_checks(e.checks["passes"])}
## 6. Each dW: its loss part and its penalty part

Cut at W_l, the penalty is bilinear, and its gradient is a sum of outer products over the classes:
d(λP)/dW_l = λ/{e.J.size} Σₖ T_(l−1)[k] ⊗ V_l[k]; for a convolution, one at each place of the filter. Gradients add:
dW_l = dL/dW_l + d(λP)/dW_l. Where the cosine of the two is below 0, a step down L alone raises P: they pull apart.

{picture["split.png"]}

{markdown_table(SPLIT, [split_cells(part) for part in e.parts], "---:")}
A gradient's norm is the slope along itself; the slope of λP along the loss part is the norm of the penalty part times
the cosine. No bias stands in J, so the penalty part of each db is exactly 0, and so is its difference.

{_checks(e.checks["weights"])}
Everything at once, along one random direction of length 1 through all weights and biases:

{_checks(e.checks["everywhere"])}
The same as images, for the weights into {strongest_in_words(e)}:

{picture["unit.png"]}

## 7. The step

Adam's first step moves each weight by −η g/(|g| + 10⁻⁸): by η = {p.learning_rate:g}, against the sign of its gradient.
The gradient promises a change of the whole loss that holds close by, until a ReLU or a sign of J switches. A full step
goes far beyond that; a small enough share of it does not.

{markdown_table(STEPPED, step_rows(e), "---:")}
## Are these numbers right?

{verdict(e)} A difference is central, with steps h and h/2, and h is made smaller until every ReLU and every sign of J
is the same at all of its points: so none goes across a kink. {on_the_kink(e)}

What must agree without any difference:

{markdown_table(["equality", "relative error"], agreements, "---:")}
An error of 0 means the same bits: the products of section 6 are just what the engine computes.

## Machine

{in_words(where)}
"""


def strongest_in_words(e: Explanation) -> str:
    """The unit that unit.png shows, and what to see there."""
    if e.parts[0].weights.ndim == 2:
        return (
            f"hidden unit {strongest(e)} of layer 1. The loss part is a multiple of the digit, and 0 under black "
            "pixels; the penalty part is a blend of the ten sign images, with the weights V₁, and reaches every pixel"
        )
    return (
        f"filter {strongest(e)} of layer 1. The loss part adds up the patches of the digit, the penalty part the "
        "patches of the ten sign images, each with what came down to its place"
    )


def _logit_rows(e: Explanation) -> Sequence[Sequence[str]]:
    return [
        ["logit", *(f"{value:.2f}" for value in e.at_x.logits)],
        ["probability", *(f"{value:.3f}" for value in e.at_x.probabilities)],
    ]


def _checks(checks: Sequence[Check]) -> str:
    return markdown_table(CHECKED, [check_cells(check) for check in checks], "---:")

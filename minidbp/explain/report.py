"""The content of an explanation, section by section; its JSON; and its page, which needs no other file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidbp.explain.comparisons import SUBSCRIPTS, Comparison
from minidbp.explain.explanation import Explanation
from minidbp.explain.figures import FIGURES, describe, kind, strongest
from minidbp.explain.step import PROTOCOL, norm
from minidbp.files.atomic import write_text
from minidbp.files.markdown import code_span, escaped, markdown_table
from minidbp.files.page import as_html
from minidbp.files.plots import save
from minidbp.training.environment import Environment

FILES = ("explain.html", "explain.md", "explain.json", *FIGURES)


COLOUR = "The images have colours. Pictures of g, J, S and W show the mean over the channels, or its sign."


class Table(NamedTuple):
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(str):
    """The name of one of FIGURES; the terminal has pictures of its own."""


class OnPage(str):
    """Markdown for the page only; a plain `str` is for the page and the terminal."""


def title(e: Explanation) -> str:
    return f"One training step of model {e.model} on test image {e.image} ({e.named(e.label)}), taken apart"


def sections(e: Explanation) -> dict[str, list[str | Table]]:
    """The blocks of each section, by heading."""
    p, x, adv, b, signs = PROTOCOL, e.at_x, e.at_x_adv, e.before, _count_signs(e)
    logits = [["logit", *(f"{f:.2f}" for f in x.logits)], ["probability", *(f"{q:.3f}" for q in x.probabilities)]]
    last = f"e{len(e.J) - 1}".translate(SUBSCRIPTS)
    return {
        f"1. The {e.thing}, the logits, the loss": [
            OnPage(f"""\
Softmax turns the logits into probabilities, pᵢ = exp fᵢ / Σₖ exp fₖ. The training's loss is L = −Σᵢ yᵢ log pᵢ. Label
smoothing spreads {p.label_smoothing:g} of the label y over all classes. None of these numbers is a derivative, so there
is nothing to check yet."""),
            Picture("digit.png"),
            f"The model says {e.answer(x)}; the {e.thing} is {e.named(e.label)}. The loss is L = {b.loss:.6f} with "
            f"labels smoothed by {p.label_smoothing:g}, and −log p_y = {x.attacked_loss:.6f} without.",
            OnPage(markdown_table(["class i", *map(str, range(len(x.logits)))], logits, "---:")),
        ],
        "2. Which pixels raise the loss: g = ∂(−log p_y)/∂x, and FGSM's v = sign(g)": [
            OnPage(f"""\
One backward pass from the loss to the pixels gives g. An attacker may change each pixel by ε = {p.eps:g}. To first
order, the direction v = sign(g) is the best choice: the loss then rises by ε‖g‖₁."""),
            Picture("attack.png"),
            _table(e.comparisons["loss"]),
            Table(
                ["rise of the loss −log p_y", "by"],
                [
                    [f"ε‖g‖₁ with ε = {p.eps:g}, promised to first order", f"{e.promised:.4f}"],
                    ["at x + εv", f"{e.unclipped:.4f}"],
                    ["at clip(x + εv), the attacked image", f"{e.clipped:.4f}"],
                ],
            ),
            f"On the attacked image the model says {e.answer(adv)}; the true class has the probability "
            f"{adv.probabilities[e.label]:.4f}.",
            OnPage("The rise differs from the promise because ReLUs switch on the way and softmax is curved."),
        ],
        f"3. Which pixels move which logit: J, {e.count} rows from one pass": [
            OnPage(f"""\
J has one row for each class: the gradient of that logit, as large as the image. A backward pass turns a cotangent u
into uᵀJ. With u = e₀ … {last} on a leading axis, one pass computes all {e.count} rows."""),
            *([OnPage(COLOUR)] if e.J.shape[-1] > 1 else []),
            Picture("jacobian.png"),
            OnPage(f"""\
‖Jᵢ‖₁ is the slope of logit i when the image moves along Sᵢ = sign(Jᵢ), so it has a finite difference. The sum of all
{e.count}, divided by the {e.J.size:,} entries, is P."""),
            _table(e.comparisons["jacobian"]),
        ],
        "4. sign(J), and the penalty P, the mean of |J_ij| = S_ij J_ij": [
            OnPage("""\
‖J‖₁,₁ = Σ |Jᵢⱼ| = Σ Sᵢⱼ Jᵢⱼ. S does not change close by. So S is the derivative of ‖J‖₁,₁ in J, and everything below
starts from it."""),
            Picture("signs.png"),
            f"S has {signs['+1']:,} entries of +1, {signs['-1']:,} of −1 and {signs['0']:,} of 0.",
            f"P = {e.penalty:.6f}, so λP = {b.weighted_penalty:.6f}. With L = {b.loss:.6f}, the whole loss is "
            f"L + λP = {b.whole:.6f}.",
        ],
        "5. Two passes: V_l[k] = ∂f_k/∂z_l down from the logits, T up from S through the same masks": [
            OnPage("""\
While no ReLU switches, the network is a product of weights W_l and masks. J is such a product too, and contains each
W_l once: ‖J‖₁,₁ = Σₖ ⟨V_l[k], layer l of T_(l−1)[k]⟩, with layer l taken without its bias.

- **V_l[k]** = ∂fₖ/∂z_l came down from the logits when J was made. z_l is the output of layer l before the ReLU.
- **T_(l−1)[k]** is the change of layer l's input when the image moves along Sₖ. This tangent pass begins with T₀ = S
  and goes up through the same layers and masks.

The engine contains no rule for T. It differentiates the backward pass that it recorded, and the derivative of ‖J‖₁,₁ in
the cotangents of that pass *is* T."""),
            Picture("passes.png"),
            Table(
                ["layer l", "V_l", "T_(l−1)", "W_l"],
                [[f"{g.number} {g.layer}", *(str(a.shape) for a in (g.V, g.T, g.weights))] for g in e.layers],
            ),
            OnPage(f"""\
The last V is the {e.count} unit vectors, and the first T is S. Each other V is compared with differences of the layers
above it, and each other T with differences of the layers below it. The error of T is that of the whole array."""),
            _table(e.comparisons["passes"]),
        ],
        f"6. Each dW = dL/dW + d(λP)/dW, where d(λP)/dW_l = λ/{e.J.size} Σₖ T_(l−1)[k] ⊗ V_l[k]": [
            OnPage("""\
Cut at W_l, the penalty is bilinear, and its gradient is this sum of outer products over the classes. For a convolution,
each position of the filter adds its own. If the cosine of the two parts is below 0, they pull apart: a small step along
−dL/dW alone raises P."""),
            Picture("split.png"),
            Table(["gradient", "‖dL/dW‖", "‖d(λP)/dW‖", "‖both‖", "cosine"], _split_rows(e)),
            OnPage("""\
A gradient's norm is the slope along the gradient itself. The slope of λP along the loss part is the norm of the penalty
part times the cosine."""),
            _table(e.comparisons["weights"]),
            "J does not depend on the biases, so the penalty part of each db is exactly 0.",
            OnPage("All weights and biases at once, along one random direction of length 1:"),
            _table(e.comparisons["everywhere"]),
            OnPage(f"The same as images, for the weights into {_strongest_in_words(e)}:"),
            Picture("unit.png"),
        ],
        "7. The step: shares of Adam's first step, and what the gradient promised": [
            OnPage(f"""\
Adam's first step moves each weight by −η g/(|g| + 10⁻⁸). That is η = {p.learning_rate:g} against the sign of its
gradient. The gradient promises a change of the whole loss. The promise holds close by, until a ReLU or a sign of J
switches. A full step goes far beyond that; a small enough share of it does not."""),
            Table(["share of the step", "promised", "got", "L", "λP", "L + λP"], _share_rows(e)),
        ],
        "Are these numbers right?": [
            verdict(e),
            OnPage("""\
A difference is central, with steps h and h/2. h is made smaller until every ReLU and every sign of J is the same at all
of its points, so no difference crosses a kink."""),
            *([lowered_in_words(e)] if e.lowered else []),
            OnPage("These must be equal without any difference:"),
            Table(["equality", "relative error"], [[name, _error(value)] for name, value in e.agreements.items()]),
            OnPage("An error of 0 means equal bits: the products of section 6 are exactly what the engine computes."),
        ],
    }


def verdict(e: Explanation) -> str:
    """One or two sentences on all comparisons."""
    compared = len(e.all_comparisons) - len(e.kinked)
    text = f"{compared} of {len(e.all_comparisons)} numbers have a finite difference beside them"
    if compared:
        text += f"; the largest relative error is {e.worst.relative_error:.0e} ({e.worst.quantity})"
    if e.kinked:
        text += f". The others: {e.kinked[0].why}"
    return text + "."


def lowered_in_words(e: Explanation) -> str:
    """Which biases were lowered for the differences, and why."""
    units = "; ".join(f"layer {number}: {', '.join(map(str, units))}" for number, units in e.lowered.items())
    return (
        "On this image some units are active nowhere and exactly 0 somewhere. That is on ReLU's kink, where no "
        f"difference exists ({units}). For the differences their biases were lowered. The units stay inactive, so no "
        "other number changes, since ReLU′(0) = 0."
    )


def as_markdown(e: Explanation, command: str, origin: str, environment: Environment) -> str:
    """The page as Markdown: each section with its formula, picture and numbers beside their differences."""
    descriptions = describe(e)

    def render(block: str | Table) -> str:
        if isinstance(block, Table):
            return markdown_table(*block, "---:").rstrip()
        return f"![{descriptions[block]}]({block})" if isinstance(block, Picture) else block.rstrip()

    introduction = f"""\
The loss of the paper (Seck, Loosli, Canu, ESANN 2019, eq. 3) is L(f(x), y) + λ P: cross-entropy and a penalty on the
Jacobian J = ∂f/∂x. Its gradient in the weights needs the derivative of a derivative. This page takes one such step on
one {e.thing}, in float64, and shows every derivative beside its finite difference. λ = {e.lam:g}, and P is the mean of
|J_ij| over the {e.J.size:,} entries, as in `minidbp train`."""
    parts = [f"# {title(e)}", f"Made by {code_span(command)}. {escaped(origin)}", introduction]
    for heading, blocks in sections(e).items():
        parts += [f"## {heading}", *map(render, blocks)]
    return "\n\n".join([*parts, "## Machine", environment.in_words()]) + "\n"


def as_dict(e: Explanation) -> dict[str, Any]:
    """The numbers for JSON, without the arrays."""
    norms = "loss_part", "penalty_part", "whole", "bias_loss_part", "bias_penalty_part"
    return {
        "model": e.model,
        "data": e.data.as_dict(),
        "image": e.image,
        "label": e.label,
        "lambda": e.lam,
        "label_smoothing": PROTOCOL.label_smoothing,
        "logits": e.at_x.logits.tolist(),
        "probabilities": e.at_x.probabilities.tolist(),
        "predicted": e.at_x.predicted,
        "penalty": e.penalty,
        **asdict(e.before),
        "fgsm": {
            "eps": PROTOCOL.eps,
            "gradient_l1": float(np.abs(e.gradient).sum()),
            "promised": e.promised,
            "unclipped": e.unclipped,
            "clipped": e.clipped,
            "predicted": e.at_x_adv.predicted,
        },
        "jacobian_l1_rows": e.rows.tolist(),
        "signs": _count_signs(e),
        "layers": [
            {"number": g.number, "layer": repr(g.layer), "cosine": g.cosine}
            | {name: list(getattr(g, name).shape) for name in ("weights", "V", "T")}
            | {name: norm(getattr(g, name)) for name in norms}
            for g in e.layers
        ],
        "steps": [
            {"share": s.share, "promised": s.promised, "got": s.after.whole - e.before.whole, "loss": s.after.loss,
             "weighted_penalty": s.after.weighted_penalty}
            for s in e.shares
        ],
        "checks": [{"section": section, **asdict(c)} for section, cs in e.comparisons.items() for c in cs],
        "agreements": dict(e.agreements),
        "lowered_for_the_differences": {str(number): units for number, units in e.lowered.items()},
    }  # fmt: skip


def write(e: Explanation, folder: Path, markdown: str, advance: Callable[[], None] = lambda: None) -> None:
    """Write FILES to the folder, the page from its Markdown; call advance() after each file."""
    for name, draw in FIGURES.items():
        save(draw(e), folder / name)
        advance()
    as_json = json.dumps(as_dict(e), indent=1) + "\n"
    contents = {"json": as_json, "md": markdown, "html": as_html(markdown, title(e), folder, FIGURES)}
    for extension, content in contents.items():
        write_text(folder / f"explain.{extension}", content)
        advance()


def _table(comparisons: Sequence[Comparison]) -> Table:
    rows = []
    for c in comparisons:
        difference = "none: on a kink" if c.difference is None else _number(c.difference)
        error = "–" if c.relative_error is None else _error(c.relative_error)
        rows.append([c.quantity, _number(c.engine), difference, error])
    return Table(["quantity", "by the engine", "by differences", "relative error"], rows)


def _number(value: float) -> str:
    """Nine digits, to show where two numbers part."""
    return "0" if value == 0 else f"{value:.9g}"


def _error(error: float) -> str:
    return "0 (exactly)" if error == 0 else f"{error:.0e}"


def _count_signs(e: Explanation) -> dict[str, int]:
    return {name: int(np.sum(value == e.S)) for name, value in (("-1", -1), ("0", 0), ("+1", 1))}


def _split_rows(e: Explanation) -> list[list[str]]:
    return [
        [f"dW{g.number}", *(f"{norm(a):.4g}" for a in (g.loss_part, g.penalty_part, g.whole)),
         "–" if g.cosine is None else f"{g.cosine:+.3f}"]
        for g in e.layers
    ]  # fmt: skip


def _share_rows(e: Explanation) -> list[list[str]]:
    """The losses before the step, and after each share of it."""
    states = [("before", "", "", e.before)]
    for s in e.shares:
        states.append((f"{s.share:g}", f"{s.promised:+.3e}", f"{s.after.whole - e.before.whole:+.3e}", s.after))
    return [[*cells, *(f"{v:.5f}" for v in (a.loss, a.weighted_penalty, a.whole))] for *cells, a in states]


def _strongest_in_words(e: Explanation) -> str:
    """The unit that unit.png shows, and what to see there."""
    if kind(e) == "unit":
        return (
            f"hidden unit {strongest(e)} of layer 1. The loss part is a multiple of the {e.thing}, and 0 where the "
            f"{e.thing} is 0. The penalty part is a blend of the {e.count} sign images, with the weights V₁, and "
            "reaches every pixel"
        )
    return (
        f"filter {strongest(e)} of layer 1. The loss part adds up the patches of the {e.thing}. The penalty part adds "
        f"up the patches of the {e.count} sign images. Each patch is weighted by the cotangent at its position"
    )

"""A `Diagnosis` on the screen, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Column, Table

from minidbp.diagnosis import figures
from minidbp.diagnosis.diagnose import Diagnosis, ModelDiagnosis
from minidbp.diagnosis.substitutes import SUBSTITUTES
from minidbp.files.atomic import write_text
from minidbp.files.markdown import code_span, escaped, markdown_table
from minidbp.files.plots import save

# The rows of the table: accuracies in percent, then figures about gradients with their digits.
ATTACKS = {
    "clean": "clean",
    "noise_uniform": "noise, uniform",
    "noise_sign": "noise, random signs",
    "fgsm_true": "FGSM, true label",
    "fgsm_predicted": "FGSM, predicted label",
    "fgsm_smoothed": "FGSM, smoothed label",
    "fgsm_true_unclipped": "FGSM, true, not clipped",
    "fgsm_predicted_unclipped": "FGSM, predicted, not clipped",
    "fgsm_smoothed_unclipped": "FGSM, smoothed, not clipped",
    "pgd": "PGD, cross-entropy",
    "pgd_margin": "PGD, margin",
    "pgd_half": "PGD, half of ε",
    "pgd_all": "PGD, ε = 1",
    "apgd_ce": "APGD, cross-entropy",
    "apgd_dlr": "then APGD, DLR",
    "square": "then Square",
}
ENDS = "clean", "noise_sign", "fgsm_smoothed_unclipped", "pgd_all", "square"  # of groups of rows
GRADIENTS = {
    "zero_gradients": ("gradient elements of exactly 0, %", 2),
    "zero_gradient_images": ("images with a gradient of 0, %", 2),
    "gradient_cosine": ("cosine of gradients, x and x + δ", 3),
    "jacobian_l1": ("‖J‖₁,₁ at x", 1),
    "jacobian_l1_adv": ("‖J‖₁,₁ at x + δ", 1),
    "same_prediction": ("same class at x and x + δ, %", 1),
}
NARROWEST = 10  # characters of a model's column: "not robust"
WORST_CASE = "worst case of each image"
DESCRIPTIONS = {
    "against_eps.png": "Accuracy of each model under noise, FGSM and PGD against ε from 0 to 1, with chance",
    "against_steps.png": "Accuracy of each model under PGD against its number of steps, with chance",
    "transfer.png": "The table of transfer as a matrix of colours",
}
_markdown = partial(markdown_table, align="---:")


def table(diagnosis: Diagnosis) -> tuple[list[str], list[list[str]]]:
    """The header and the rows: one column for each model."""
    models = diagnosis.models.values()
    rows = [[name, *(f"{m.accuracy[key]:.1f}" for m in models)] for key, name in ATTACKS.items()]
    for source in SUBSTITUTES:
        rows.append([f"images made on {source}", *(f"{m.transfer[source]:.1f}" for m in models)])
    if diagnosis.transfer:
        rows.append(["made on the others here, strongest", *(f"{_by_others(m):.1f}" for m in models)])
    rows.append([WORST_CASE, *(f"{m.worst_case:.1f}" for m in models)])
    for key, (name, digits) in GRADIENTS.items():
        rows.append([name, *(f"{getattr(m.gradients, key):.{digits}f}" for m in models)])
    rows.append(["verdict", *(m.verdict.word for m in models)])
    return ["accuracy in %", *diagnosis.models], rows


def _by_others(model: ModelDiagnosis) -> float:
    """Accuracy on the strongest images made on another model of the diagnosis."""
    return min(accuracy for source, accuracy in model.transfer.items() if source not in SUBSTITUTES)


def verdicts(diagnosis: Diagnosis) -> list[str]:
    """A line for each model."""
    lines = []
    for label, model in diagnosis.models.items():
        sentences = ". ".join(sentence[0].upper() + sentence[1:] for sentence in model.verdict.sentences)
        lines.append(f"{label}: {model.verdict.word}. {sentences}.")
    return lines


def on_screen(diagnosis: Diagnosis, width: int = 80) -> Group:
    """The table for a terminal of `width` columns.

    Where the labels of the models do not fit beside each other, numbers stand for them. Where the models do not fit,
    there is more than one table.
    """
    s = diagnosis.settings
    (first, *labels), rows = table(diagnosis)
    names = max(cell_len(row[0]) for row in rows)
    fit = max(1, (width - names - 2) // (NARROWEST + 2))  # how many models; a column has a space on each side
    numbered = names + 2 + sum(max(cell_len(label), NARROWEST) + 2 for label in labels) > width
    parts: list[RenderableType] = [
        f"eps {s.eps:g}, {s.images} random test images{s.of_data}; "
        f"PGD takes {s.steps} steps from {s.restarts} random starts", ""
    ]  # fmt: skip
    if numbered and len(labels) > 1:
        parts += [*(f"model {k}: {label}" for k, label in enumerate(labels, start=1)), ""]
        labels = [f"model {k}" for k in range(1, len(labels) + 1)]
    ends = {*(ATTACKS[key] for key in ENDS), WORST_CASE, rows[-2][0]}
    for start in range(0, len(labels), fit):
        columns = slice(start, start + fit)
        grid = Table(Column(first, no_wrap=True), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for label in labels[columns]:
            grid.add_column(label, justify="right", overflow="fold")
        for name, *cells in rows:
            grid.add_row(name, *cells[columns], end_section=name in ends)
        parts.append(grid)
    return Group(*parts)


def write(diagnosis: Diagnosis, folder: Path, command: str) -> list[str]:
    """Write diagnosis.json, diagnosis.md and the pictures to `folder`; the names of these files."""
    pictures = {"against_eps.png": figures.against_eps, "against_steps.png": figures.against_steps}
    if diagnosis.transfer:
        pictures["transfer.png"] = figures.transfer
    write_text(folder / "diagnosis.json", json.dumps(asdict(diagnosis), indent=1) + "\n")
    write_text(folder / "diagnosis.md", as_markdown(diagnosis, command, list(pictures)))
    for name, draw in pictures.items():
        save(draw(diagnosis), folder / name)
    return ["diagnosis.json", "diagnosis.md", *pictures]


def as_markdown(diagnosis: Diagnosis, command: str, pictures: Sequence[str]) -> str:
    """The whole diagnosis: table, verdicts, the rules with their figures, transfer, pictures, machine."""
    s, transfer = diagnosis.settings, diagnosis.transfer
    (first, *labels), rows = table(diagnosis)
    of_data = f" {escaped(s.of_data)}" if s.of_data else ""
    lines = [
        "# Diagnosis", "",
        f"Made by {code_span(command)}. Accuracy in percent of {s.images} test images{of_data}, chosen at random by",
        f"seed {s.seed}. ε = {s.eps:g}, in pixel units; PGD takes {s.steps} steps of 2.5 ε / {s.steps} from",
        f"{s.restarts} random starts, APGD {s.apgd_steps} steps from {s.apgd_restarts}; Square asks {s.square_queries}",
        f"times; noise is the worst of {s.noise_draws} draws; δ is FGSM's. docs/diagnostics.md explains each figure.",
        "",
        _markdown([first, *map(escaped, labels)], rows),
        *(f"- {escaped(sentence)}" for sentence in verdicts(diagnosis)), "",
    ]  # fmt: skip
    for label, model in diagnosis.models.items():
        findings = model.verdict.findings
        rows = [[f.rule, f.kind, f"{f.figure:.2f}", f"{f.limit:.2f}", "**yes**" if f.holds else "no"] for f in findings]
        header = ["rule", "kind", "by, % of images", "needs more than", "holds"]
        lines += [f"## Rules: {escaped(label)}", "", _markdown(header, rows)]
    if transfer:
        matrix = zip(transfer.labels, transfer.accuracy, strict=True)
        rows = [[escaped(label), *(f"{accuracy:.1f}" for accuracy in row)] for label, row in matrix]
        header = ["made on (row), judged on", *map(escaped, transfer.labels)]
        lines += ["## Transfer", "", "Accuracy on images made by PGD on the margin.", "", _markdown(header, rows)]
    lines += ["## Pictures", "", *(f"![{DESCRIPTIONS[name]}]({name})\n" for name in pictures)]
    return "\n".join([*lines, "## Machine", "", diagnosis.environment.in_words()]) + "\n"

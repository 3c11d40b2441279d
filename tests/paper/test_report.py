"""The report: every number against counting by hand, whole when half is done, and a page that needs nothing else."""

import base64
import csv
import dataclasses
import io
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from scipy import stats
from sweep_fixtures import diverged, made_up_result

from minidbp.data import Dataset
from minidbp.files.console import Console
from minidbp.files.page import as_html
from minidbp.nn import load_model
from minidbp.paper import figures, full_length, report
from minidbp.paper.experiments import (
    EXPERIMENTS,
    SECTION_4_2,
    TABLE2,
    TABLE3,
    Condition,
    Experiment,
    experiment_named,
    protocol_variants,
)
from minidbp.paper.report import FILES, TWINS, UNSAID, as_markdown, on_screen, write_report
from minidbp.paper.tables import Row, accuracies, as_csv, line_cells, rows_of
from minidbp.sweeps.runs import Divergence, Run, RunResult, keep, shown
from minidbp.sweeps.sweep import Sweep, begin, load, results_in
from minidbp.training import Protocol
from minidbp.training.environment import environment
from minidbp.training.judgement import AccuracyAt, MaskingFigures

NOT_SAID_IN_THE_PAPER = {  # docs/protocol.md
    "penalty_target", "reduction", "padding", "stop_rule", "keep", "batch_size", "initialiser", "attack_label", "clip",
    "validation_split",
}  # fmt: skip
DIAGNOSIS = [field.name for field in dataclasses.fields(MaskingFigures) if field.name not in ("word", "reasons")]
PICTURES = ("accuracy.png", "epochs.png", "images.png")
MadeUp = Callable[..., RunResult]


def tables_in(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return tables


def section(text: str, title: str) -> str:
    """What stands below a heading of second order."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found


def table_below(text: str, title: str) -> list[list[str]]:
    """The lines of the table in a section, without its header and the marks below that."""
    (table,) = tables_in(section(text, title))
    return table[2:]


def sweep_of(runs: Sequence[Run], vary: Sequence[str] = (), experiment: str = "table2") -> Sweep:
    return Sweep(experiment, "Table 2, preset test", ["minidbp table2 --preset test"], runs, vary)


def markdown_of(sweep: Sweep, results: Sequence[RunResult]) -> str:
    experiment = experiment_named(sweep.experiment)
    rows = rows_of(experiment, results)
    pictures = {
        "accuracy.png": figures.describe(rows, experiment.along), "epochs.png": figures.describe_epochs(rows),
        "images.png": TWINS,
    }  # fmt: skip
    return as_markdown(sweep, rows, results, pictures)


@pytest.fixture(scope="module")
def results(made_up: MadeUp) -> list[RunResult]:
    """A with one seed, C with three, the third of C at lambda 50 diverged."""
    found = [
        made_up(
            Run(m, lam, s, Protocol(batch_size=32) if m == "A" else Protocol(max_epochs=7)),
            clean=97.125 + s, fgsm=31.5 + lam, pgd=4.75 - s, epochs=18 + 2 * s,
        )
        for m, seeds in (("A", 1), ("C", 3))
        for lam in (0.0, 50.0)
        for s in range(seeds)
    ]  # fmt: skip
    return [*found[:-1], diverged(found[-1])]


@pytest.fixture(scope="module")
def sweep(results: list[RunResult]) -> Sweep:
    return sweep_of([*(result.run for result in results), Run("C", 0.0, 9, Protocol(max_epochs=7))])


@pytest.fixture(scope="module")
def markdown(sweep: Sweep, results: list[RunResult]) -> str:
    return markdown_of(sweep, results)


# -- the Markdown ---------------------------------------------------------------------------------------------------


def test_the_table_has_no_cell_missing(markdown: str, results: list[RunResult]) -> None:
    numbers = tables_in(markdown)[0]
    assert numbers[0] == [
        "model", "λ", "from", "clean", "FGSM 0.3", "worst 0.3", "FGSM 0.1", "worst 0.1", "epochs", "runs", "images",
    ]  # fmt: skip
    none = ["–"] * 6
    assert numbers[2:] == [
        ["A", "0", "this run", "97.12", "31.50", "4.75", "31.50", "4.75", "18", "1", "10,000"],
        ["A", "50", "paper", "99.37 ± 0.04", "45.09 ± 5.36", *none],
        ["A", "50", "this run", "97.12", "81.50", "4.75", "81.50", "4.75", "18", "1", "10,000"],
        ["C", "0", "this run", "98.12 ± 1.00", "31.50 ± 0.00", "3.75 ± 1.00", "31.50 ± 0.00", "3.75 ± 1.00", "20 ± 2",
         "3", "10,000"],
        ["C", "50", "paper", "98.63 ± 0.11", "29.92 ± 14.24", *none],
        ["C", "50", "this run", "97.62 ± 0.71", "81.50 ± 0.00", "4.25 ± 0.71", "81.50 ± 0.00", "4.25 ± 0.71", "19 ± 1",
         "2", "10,000"],
        ["C", "50", "diverged", *none, "1", "–"],
    ]  # fmt: skip


def test_the_page_says_how_many_random_test_images(made_up: MadeUp) -> None:
    sizes = ("B", 250), ("C", 1000)
    runs = [Run(m, 0.0, seed, Protocol(n_test=n, n_tracked=n // 5)) for m, n in sizes for seed in range(2)]
    text = " ".join(markdown_of(sweep_of(runs), [made_up(run) for run in runs]).split())
    assert "test images that its seed draws at random: n = 250 to 1,000. All attacks get the same images" in text
    assert "tracks n_tracked of its test images after every epoch (n = 50 to 200)" in text
    assert "those that each run tracks (n_tracked, n = 50 to 200)" in text


def test_every_table_is_well_formed(markdown: str) -> None:
    for table in tables_in(markdown):
        assert len({len(line) for line in table}) == 1
        assert all(re.fullmatch(":?-{3,}:?", mark) for mark in table[1])
        assert all(cell for line in table for cell in line)
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    assert rendered.count("<table>") == len(tables_in(markdown))
    assert "nan" not in markdown


def test_what_is_done_of_the_sweep_and_how_long_it_took_is_said(markdown: str) -> None:
    said = "`minidbp table2 --preset test`: of its 9 runs, 7 are finished and 1 diverged; one after the other"
    assert f"{said} they take 7.0 minutes" in markdown
    assert markdown.startswith("# Table 2, preset test\n")


def test_a_divergence_is_shown(markdown: str) -> None:
    (line,) = [line for line in markdown.splitlines() if "training diverged" in line]
    assert line.startswith("- model C, lambda 50, ")
    assert line.endswith("seed 2: training diverged in epoch 3, step 2.")
    assert "These verdicts leave out the runs that diverged" in section(markdown, "The paper's claims")


def test_every_field_of_the_protocol_is_listed_and_the_unsaid_marked(markdown: str) -> None:
    (choices,) = tables_in(section(markdown, "Protocol"))
    header, body = choices[0], {line[0]: line[1:] for line in choices[2:]}
    assert header == ["field", "model A", "model C"]
    assert {name.strip("*") for name in body} == {field.name for field in dataclasses.fields(Protocol)}
    assert {name.strip("*") for name in body if name.startswith("**")} == NOT_SAID_IN_THE_PAPER == set(UNSAID)
    assert body["**batch_size**"] == ["32 (in full: 128)", "128"]
    assert body["max_epochs"] == ["100", "7 (in full: 100)"]
    assert body["**attack_label**"] == ["true", "true"]


def test_several_values_of_a_field_are_all_listed(made_up: MadeUp) -> None:
    runs = [Run("C", 0.0, 0, Protocol(eps=eps)) for eps in (0.1, 0.3)]
    text = markdown_of(sweep_of(runs, ["eps"]), [made_up(run) for run in runs])
    assert "| eps | 0.1, 0.3 (in full: 0.3) |" in section(text, "Protocol")


def test_the_machine_is_named_and_so_are_several(markdown: str, sweep: Sweep, results: list[RunResult]) -> None:
    where = environment()
    assert where.processor in section(markdown, "Machine")
    assert where.python in section(markdown, "Machine")
    elsewhere = dataclasses.replace(where, processor="an abacus", variables={"OMP_NUM_THREADS": "3"})
    mixed = [*results[:-2], dataclasses.replace(results[-2], environment=elsewhere)]
    text = markdown_of(sweep, mixed)
    assert where.processor in section(text, "Machine 1")
    assert "an abacus" in section(text, "Machine 2")
    assert "OMP_NUM_THREADS=3" in section(text, "Machine 2")


def test_the_pictures_have_words(markdown: str) -> None:
    found = {name: text for text, name in re.findall(r"!\[(.*?)\]\((\w+\.png)\)", markdown, re.DOTALL)}
    assert set(found) == set(PICTURES)
    words = "Model C, λ 0 to 50: clean 98.1% to 97.6%; FGSM 0.3 31.5% to 81.5%; worst 0.3 3.8% to 4.2%"
    assert words in found["accuracy.png"]
    assert len(found["images.png"]) > 50


def test_the_accuracy_of_each_digit_is_the_mean_over_runs(made_up: MadeUp) -> None:
    runs = [Run("C", 10.0, seed, Protocol()) for seed in range(2)]
    found = []
    for seed, run in enumerate(runs):
        clean = [None, *[90.0 + seed] * 9]  # no zero among the images
        fgsm = [float(10 * digit + seed) for digit in range(10)]
        found.append(made_up(run, per_class={"clean": clean, "fgsm": fgsm, "pgd": fgsm}))
    text = markdown_of(sweep_of(runs), found)
    (line,) = table_below(text, "Accuracy of each digit, under FGSM")
    assert line == ["C", "10", *(f"{10 * digit + 0.5:.1f}" for digit in range(10))]
    assert table_below(text, "Accuracy of each digit, clean") == [["C", "10", "–", *["90.5"] * 9]]


def test_the_diagnosis_is_the_mean_over_runs(made_up: MadeUp) -> None:
    runs = [Run("C", 10.0, seed, Protocol()) for seed in range(2)]
    found = [
        made_up(
            run,
            pgd=7.0 + seed,
            diagnosis=MaskingFigures(*(10.0 * place + seed for place in range(len(DIAGNOSIS))), "masks", ["it does"]),
        )
        for seed, run in enumerate(runs)
    ]
    (line,) = table_below(markdown_of(sweep_of(runs), found), "Robust, or gradients masked?")
    means = {name: 10.0 * place + 0.5 for place, name in enumerate(DIAGNOSIS)}
    order = ("pgd_margin", "worst_case", "zero_gradients")
    ends = [f"{means['gradient_cosine']:.2f}", f"{means['jacobian_l1']:.1f}", f"{means['jacobian_l1_adv']:.1f}"]
    begin = ["C", "10", f"{means['noise']:.1f}", "7.5"]  # PGD's 7 and 8
    assert line == [*begin, *(f"{means[name]:.1f}" for name in order), *ends, "masks"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["masks", "masks"], "masks"),
        (["not robust", "masks", "not robust"], "not robust (2 of 3), masks (1 of 3)"),
    ],
)
def test_the_verdicts_of_runs_are_counted(made_up: MadeUp, words: list[str], said: str) -> None:
    found = [made_up(Run("C", 10.0, seed, Protocol())) for seed in range(len(words))]
    found = [
        dataclasses.replace(result, diagnosis=dataclasses.replace(result.diagnosis, word=word))
        for result, word in zip(found, words, strict=True)
    ]
    text = markdown_of(sweep_of([result.run for result in found]), found)
    (line,) = table_below(text, "Robust, or gradients masked?")
    assert line[-1] == said


def test_the_intervals_are_students(made_up: MadeUp) -> None:
    runs = [Run("C", lam, seed, Protocol()) for lam in (0.0, 10.0) for seed in range(3)][:-2]
    found = [made_up(run, fgsm=20.0 + run.seed) for run in runs]
    lines = table_below(markdown_of(sweep_of(runs), found), "95% intervals of the means")
    half = 4.302652730 / math.sqrt(3)  # of Student's t with two degrees of freedom: a table's value
    fgsm = f"21.00 [{21 - half:.2f}, {21 + half:.2f}]"
    pairs = [fgsm, "2.00 [–, –]"]  # FGSM and the worst case, at each of two sizes
    assert lines == [["C", "0", "98.00 [–, –]", *pairs, *pairs, "3"]]  # one run of lambda 10 has no interval


@pytest.mark.slow
def test_a_folder_without_weights_has_a_report_without_their_picture(
    copy: Path, tiny_sweep: Sweep, mnist: Dataset
) -> None:
    for weights in (copy / "runs").glob("*.safetensors"):
        weights.unlink()
    (copy / "images.png").write_bytes(b"of other models, or of no model")
    _, written = write_report(tiny_sweep, copy, mnist)
    assert set(written) == {*FILES} - {"images.png"}
    assert (copy / "report.html").read_text().count("<img") == 2
    assert "(accuracy.png)" in (copy / "table.md").read_text()
    assert "images.png" not in (copy / "table.md").read_text()


def test_the_verdicts_are_the_experiments(markdown: str, made_up: MadeUp, results: list[RunResult]) -> None:
    done = [r for r in results if r.diverged is None]
    said = table_below(markdown, "The paper's claims")
    assert [(line[0], line[1].strip("*")) for line in said] == [
        (v.claim, v.finding) for v in TABLE2.verdicts(done, ["A", "C"])
    ]


def test_where_no_claim_can_be_decided_one_sentence_says_so(made_up: MadeUp) -> None:
    """Smoke runs have one seed: 18 rows of "not decided" would say nothing more."""
    runs = [*TABLE2.runs("smoke"), Run("C", 0.0, 0, Protocol(clip=False))]
    found = [made_up(run) for run in runs]
    text = markdown_of(sweep_of(runs, ["clip"]), found)
    said = section(text, "The paper's claims")
    assert "`--seeds 2`" in said
    assert tables_in(said) == []
    assert "not decided" not in text
    assert "The claims under other rules" not in text

    second = dataclasses.replace(runs[0], seed=1)
    assert "has two yet." in " ".join(markdown_of(sweep_of([*runs, second], ["clip"]), found).split())

    more = [*found, made_up(second)]
    assert "not decided" in section(markdown_of(sweep_of(runs, ["clip"]), more), "The paper's claims: clip = True")


# -- against lambda = 0, by hand ------------------------------------------------------------------------------------

FGSM = {0.0: [20.0, 30.0, 25.0, 40.0], 10.0: [24.0, 33.0, 30.0, 41.0], 50.0: [30.0, 45.0, 33.0, 58.0]}


@pytest.fixture(scope="module")
def against_zero(made_up: MadeUp) -> list[list[str]]:
    runs = [Run("C", lam, seed, Protocol()) for lam in FGSM for seed in range(4)]
    found = [
        made_up(
            run, clean=98.0 - run.lam / 100, fgsm=FGSM[run.lam][run.seed],
            by_eps=[AccuracyAt(0.1, 3.0, 2.0, 2.0, 2.0, 2.0),
                    AccuracyAt(0.3, 50.0, 9.0, 9.0, 9.0, float(run.seed * (run.lam > 0)))],
        )
        for run in runs
    ]  # fmt: skip
    return table_below(markdown_of(sweep_of(runs), found), "Against λ = 0")


def by_hand(differences: list[float]) -> str:
    mean, n = sum(differences) / len(differences), len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    half = 3.182446 * math.sqrt(variance / n)  # Student's t, 97.5%, 3 degrees of freedom: a table's value
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def test_differences_are_paired_by_seed(against_zero: list[list[str]]) -> None:
    assert [line[:2] for line in against_zero] == [["C", "10"], ["C", "50"]]
    assert [line[3] for line in against_zero] == [by_hand([4, 3, 5, 1]), by_hand([10, 15, 8, 18])]
    assert against_zero[0][3] == "+3.25 [+0.53, +5.97]"
    assert [line[4] for line in against_zero] == [by_hand([0, 1, 2, 3])] * 2
    assert [line[2] for line in against_zero] == ["-0.10 [–, –]", "-0.50 [–, –]"]  # no spread, no interval
    assert [line[5:7] for line in against_zero] == [["+0.00 [–, –]"] * 2] * 2  # at 0.1 nothing changes
    assert [line[-1] for line in against_zero] == ["4", "4"]


def test_p_values_are_scipys_adjusted_by_holm(against_zero: list[list[str]]) -> None:
    p = [stats.ttest_rel(FGSM[lam], FGSM[0.0]).pvalue for lam in (10.0, 50.0)]
    least, most = sorted(p)
    adjusted = {least: 2 * least, most: max(2 * least, most)}
    assert [line[7] for line in against_zero] == [f"{adjusted[value]:.3f}" for value in p]
    (worst,) = {stats.ttest_1samp([0, 1, 2, 3], 0).pvalue}  # the same for both
    assert [line[8:11] for line in against_zero] == [[f"{2 * worst:.3f}", "–", "–"]] * 2


def test_only_seeds_that_both_have_are_compared(made_up: MadeUp) -> None:
    runs = [Run("C", lam, seed, Protocol()) for lam in (0.0, 10.0) for seed in range(3)]
    found = [made_up(run, fgsm=20.0 + run.lam + run.seed**2 * (run.lam > 0)) for run in runs]
    found[0] = diverged(found[0])
    (line,) = table_below(markdown_of(sweep_of(runs), found), "Against λ = 0")
    assert line[3].startswith("+12.50 [")  # of 11 and 14, seeds 1 and 2
    assert line[-1] == "2"


def test_each_protocol_is_compared_with_its_own_lambda_0(made_up: MadeUp) -> None:
    """Table 4's two lengths of training, say."""
    runs = [
        Run("C", lam, 0, Protocol(max_epochs=n, stop_rule="none"))
        for n, lam in ((100, 0.0), (100, 10.0), (150, 0.0), (150, 10.0), (150, 50.0), (200, 10.0))
    ]
    found = [made_up(run, fgsm=run.protocol.max_epochs / 10 + run.lam) for run in runs]
    lines = table_below(markdown_of(sweep_of(runs), found), "Against λ = 0")
    assert [(line[1], line[2], line[4]) for line in lines] == [
        ("10", "100", "+10.00 [–, –]"), ("10", "150", "+10.00 [–, –]"), ("50", "150", "+50.00 [–, –]"),
    ]  # fmt: skip


def test_without_lambda_0_nothing_is_compared(made_up: MadeUp) -> None:
    runs = [Run("C", lam, 0, Protocol()) for lam in (10.0, 50.0)]
    assert "Against λ = 0" not in markdown_of(sweep_of(runs), [made_up(run) for run in runs])


# -- distance to the paper, by hand ---------------------------------------------------------------------------------


def distances(made_up: MadeUp, gaps: dict[str, dict[float, float]], vary: list[str]) -> list[list[str]]:
    """gaps: for each penalised function and lambda, our mean under FGSM minus the paper's for model C."""
    paper = {10.0: 18.24, 25.0: 25.76, 50.0: 29.92}
    runs = [Run("C", lam, 0, Protocol(penalty_target=of)) for of in gaps for lam in gaps[of]]
    found = [
        made_up(run, fgsm=paper.get(run.lam, 0.0) + gaps[run.protocol.penalty_target][run.lam], clean=98.0)
        for run in runs
    ]
    return table_below(markdown_of(sweep_of(runs, vary), found), "Distance to the paper's table")


def test_the_distance_is_the_root_mean_square(made_up: MadeUp) -> None:
    (line,) = distances(made_up, {"logits": {0.0: 50.0, 10.0: 3.0, 50.0: -4.0}}, [])
    clean = math.sqrt(((98 - 98.57) ** 2 + (98 - 98.63) ** 2) / 2)
    assert line == ["this protocol", "2", f"{clean:.2f}", f"{math.sqrt((9 + 16) / 2):.2f}"]


def test_the_nearest_variant_comes_first(made_up: MadeUp) -> None:
    gaps = {"logits": {10.0: 5.0, 50.0: 5.0}, "softmax": {10.0: 1.0, 50.0: -1.0}}
    lines = distances(made_up, gaps, ["penalty_target"])
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("penalty_target = softmax", "2", "1.00"), ("penalty_target = logits", "2", "5.00"),
    ]  # fmt: skip


def test_nearest_is_by_the_figure_that_is_shown(made_up: MadeUp) -> None:
    """A variant with fewer cells done has a smaller sum, but not a smaller mean."""
    gaps = {"logits": {10.0: 9.0, 25.0: 9.0, 50.0: 9.0}, "softmax": {10.0: 10.0}}
    lines = distances(made_up, gaps, ["penalty_target"])
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("penalty_target = logits", "3", "9.00"), ("penalty_target = softmax", "1", "10.00"),
    ]  # fmt: skip


def test_diverged_runs_are_no_distance(made_up: MadeUp) -> None:
    runs = [Run("C", 10.0, 0, Protocol()), Run("C", 50.0, 0, Protocol())]
    found = [made_up(runs[0], fgsm=20.24), diverged(made_up(runs[1]))]
    (line,) = table_below(markdown_of(sweep_of(runs), found), "Distance to the paper's table")
    assert (line[1], line[3]) == ("1", "2.00")


def test_the_verdicts_are_by_variant(made_up: MadeUp) -> None:
    runs = [
        Run("C", lam, seed, Protocol(penalty_target=of))
        for of in ("logits", "softmax")
        for lam in (0.0, 10.0)
        for seed in range(2)
    ]
    text = markdown_of(sweep_of(runs, ["penalty_target"]), [made_up(run) for run in runs])
    for of in "logits", "softmax":
        assert len(table_below(text, f"The paper's claims: penalty_target = {of}")) == len(TABLE2.verdicts([], ["C"]))


# -- the page of HTML -----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page holds; raises where an element is closed that is not the last one open."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.images: list[dict[str, str]] = []
        self.cells: list[list[list[str]]] = []
        self.data: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
        if tag == "table":
            self.cells.append([])
        if tag == "tr":
            self.cells[-1].append([])
        if tag in ("td", "th"):
            self.cells[-1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.data[tag] = self.data.get(tag, "") + data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1][-1] += data


@pytest.fixture(scope="module")
def folder(markdown: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with pictures of one pixel."""
    folder = tmp_path_factory.mktemp("page")
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    for name in PICTURES:
        (folder / name).write_bytes(pixel)
    return folder


def assert_self_contained(text: str) -> Page:
    """A whole page that fetches nothing; images are in it and have words."""
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert [tag for tag in page.tags if tag in ("html", "head", "title", "body")] == ["html", "head", "title", "body"]
    assert ("html", "lang", "en") in page.attributes
    assert ("meta", "charset", "utf-8") in page.attributes
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    for _, name, value in page.attributes:
        assert name not in ("href", "srcset", "action", "data")
        assert name != "style" or value == "text-align:right"
        assert name != "src" or value.startswith("data:image/png;base64,")
    assert "url(" not in page.data["style"]
    assert "@import" not in page.data["style"]
    assert len(page.images) == len(PICTURES)
    for image in page.images:
        raw = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
        assert raw.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(image["alt"]) > 50
    return page


def test_the_page_needs_nothing_else(markdown: str, folder: Path) -> None:
    page = assert_self_contained(as_html(markdown, "Table 2, preset test", folder, PICTURES))
    assert page.data["title"] == "Table 2, preset test"
    assert page.data["h1"] == "Table 2, preset test"


def test_the_page_has_the_tables_of_the_markdown(markdown: str, folder: Path) -> None:
    page = Page(as_html(markdown, "t", folder))
    plain = [[[re.sub(r"\*\*|`", "", cell) for cell in line] for line in table] for table in tables_in(markdown)]
    assert page.cells == [[table[0], *table[2:]] for table in plain]


def test_what_is_typed_is_text_in_the_page(made_up: MadeUp, folder: Path) -> None:
    run = Run("C", 0.0, 0, Protocol())
    sweep = dataclasses.replace(sweep_of([run]), commands=["minidbp table2 --models '<b>&'"], title="<i>&amp;")
    page = Page(as_html(markdown_of(sweep, [made_up(run)]), sweep.title, folder))
    assert "b" not in page.tags
    assert "--models '<b>&'" in page.data["code"]
    assert page.data["title"] == "<i>&amp;"


def test_nothing_in_the_files_becomes_more_than_text(made_up: MadeUp, tmp_path: Path, folder: Path) -> None:
    """Sweep and results as somebody else may have edited them, checksums and all."""
    forged = "![x](http://example.org/a.png)<img src=http://example.org/b.png> | [y](javascript:z) ``` *t* $u$"
    variables = {"NUMBA_X": "\n\n# forged 2\n"}
    machine = dataclasses.replace(environment(), processor=f"{forged} 1", variables=variables)
    run, other = (Run("C", lam, 0, Protocol()) for lam in (0.0, 50.0))
    figures_of = dataclasses.replace(made_up(run).diagnosis, word=f"{forged} 3")
    lost = dataclasses.replace(
        diverged(made_up(other)), diverged=Divergence(1, 1, f"{forged} 4\n\n# forged"), environment=machine
    )
    there = Sweep("table2", f"{forged} 5", [shlex.join(["minidbp", "`", f"{forged} 6"])], [run, other])
    begin(there, tmp_path)
    keep(made_up(run, environment=machine, diagnosis=figures_of), tmp_path / "runs")
    keep(lost, tmp_path / "runs")
    there = load(tmp_path)
    text = markdown_of(there, results_in(there, tmp_path))
    page = BeautifulSoup(as_html(text, there.title, folder, PICTURES), "html.parser")
    assert len(page("img")) == len(PICTURES)
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in page("img"))
    assert not page(["a", "script", "pre", "em"])
    assert [h.get_text() for h in page("h1")] == [f"{forged} 5"]
    assert "forged 2" not in " ".join(h.get_text() for h in page(["h2", "h3"]))
    for number in (1, 3, 4, 5, 6):
        assert f"{forged} {number}" in page.get_text()
    assert f"{forged} 3" in [cell.get_text() for cell in page("td")]


# -- the screen -----------------------------------------------------------------------------------------------------


def text_of(rows: Sequence[Row], width: int = 200) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(on_screen(rows, "Table 2, preset test"))
    return file.getvalue()


def lines_on_screen(text: str) -> list[list[str]]:
    """The lines between the rule and the caption, as words; a dash is a word, and so is 98.1±1.0."""
    table = text.partition("──\n")[2].partition("accuracy in percent")[0]
    return [line.split() for line in table.splitlines() if line.strip()]


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_shows_every_line(width: int, results: list[RunResult]) -> None:
    text = text_of(rows_of(TABLE2, results), width)
    assert "Table 2, preset test" in text
    assert "…" not in text  # nothing is cut off
    none = ["–"] * 6
    assert lines_on_screen(text) == [
        ["model", "A"],
        ["0", "this", "run", "97.1", "31.5", "4.8", "31.5", "4.8", "18", "1"],
        ["50", "paper", "99.4±0.0", "45.1±5.4", *none[1:]],
        ["this", "run", "97.1", "81.5", "4.8", "81.5", "4.8", "18", "1"],
        ["model", "C"],
        ["0", "this", "run", "98.1±1.0", "31.5±0.0", "3.8±1.0", "31.5±0.0", "3.8±1.0", "20±2", "3"],
        ["50", "paper", "98.6±0.1", "29.9±14.2", *none[1:]],
        ["this", "run", "97.6±0.7", "81.5±0.0", "4.2±0.7", "81.5±0.0", "4.2±0.7", "19±1", "2"],
        ["diverged", *none, "1"],
    ]  # fmt: skip
    caption = " ".join(text.partition("accuracy in percent")[2].split())
    assert caption == "of 10,000 random test images, mean±standard deviation over runs"


def test_the_screen_shows_what_varies(made_up: MadeUp) -> None:
    runs = [Run("C", lam, 0, Protocol(**SECTION_4_2, eps=eps)) for eps in (0.1, 0.3) for lam in (0.0, 10.0)]
    text = text_of(rows_of(TABLE3, [made_up(run) for run in runs]), 80)
    assert "FGSM ε worst ε FGSM 0.1 worst 0.1" in " ".join(text.split())
    lines = lines_on_screen(text)
    assert lines[0] == ["model", "C,", "eps", "0.1"]
    assert lines[3:5] == [
        ["10", "paper", "98.9±0.1", "94.6±0.2", *["–"] * 5],
        ["this", "run", "98.0", "20.0", "2.0", "20.0", "2.0", "18", "1"],
    ]
    assert lines[5] == ["model", "C,", "eps", "0.3"]


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("vary", [[], ["penalty_target"]])
@pytest.mark.parametrize("ten", [1, 10])
def test_every_experiment_fits_80_columns(
    name: str, vary: list[str], ten: int, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every line of every condition, with deviations below and above ten; only words may break."""
    runs = [run for run in EXPERIMENTS[name].runs("laptop", 0, protocol_variants(vary)) if run.model == "C"]
    runs += [dataclasses.replace(run, seed=9) for run in runs]
    found = [made_up(run, clean=91.11 + run.seed, fgsm=22.2 + ten * run.seed, pgd=13.3 + run.seed) for run in runs]
    rows = rows_of(EXPERIMENTS[name], found)
    (tmp_path / f"{name}.csv").write_text(as_csv(rows), encoding="utf-8")
    monkeypatch.setattr(full_length, "FOLDER", tmp_path)
    full_length._shipped.cache_clear()
    rows = rows_of(EXPERIMENTS[name], [*found[:-1], diverged(found[-1])])
    assert all(row.full_length for row in rows)
    text = text_of(rows, width=80)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    numbers = [cell.replace(" ", "") for row in rows for line in row.lines()
               for cell in line_cells(line, accuracies(rows), digits=1)[1:-1]]  # fmt: skip
    words = text.split()
    assert set(numbers) <= set(words)
    assert "diverged" in words
    assert text.count("length") >= len(rows)
    assert "full length: ours, of" in " ".join(words)
    headings = [line for line in text.splitlines() if line.startswith("model C")]
    assert len(headings) == len({tuple(row.varied.values()) for row in rows})  # each on one line


def test_no_rows_make_an_empty_table() -> None:
    assert "Table 2" in text_of([])


# -- the files ------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def reported(trained: Path, tiny_sweep: Sweep, mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained sweep's folder and its report."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("report") / "out"))
    rows, written = write_report(tiny_sweep, folder, mnist)
    assert set(written) == set(FILES)
    assert [(row.lam, len(row.results)) for row in rows] == [(0.0, 2), (50.0, 2)]
    return folder


@pytest.mark.slow
def test_everything_is_written(reported: Path, tiny_sweep: Sweep) -> None:
    names = {f"runs/{run.name}.{end}" for run in tiny_sweep.runs for end in ("json", "safetensors")}
    assert set(contents(reported)) == {*FILES, *names, "sweep.json"}
    lines = list(csv.DictReader(io.StringIO((reported / "table.csv").read_text())))
    assert [(line["model"], float(line["lambda"]), line["runs"]) for line in lines] == [
        ("C", 0.0, "2"), ("C", 50.0, "2"),
    ]  # fmt: skip
    for line in lines:
        runs = [run for run in tiny_sweep.runs if run.lam == float(line["lambda"])]
        for name in "clean", "fgsm", "pgd", "epochs":
            found = [json.loads((reported / "runs" / f"{run.name}.json").read_text())[name] for run in runs]
            assert float(line[f"{name}_mean"]) == pytest.approx(np.mean(found))
            assert float(line[f"{name}_sd"]) == pytest.approx(np.std(found, ddof=1))
    assert float(lines[1]["paper_fgsm_mean"]) == 29.92
    for picture in PICTURES:
        assert matplotlib.image.imread(reported / picture)[..., :3].std() > 0.03


@pytest.mark.slow
def test_the_page_of_a_real_sweep(reported: Path, tiny: Protocol) -> None:
    page = assert_self_contained((reported / "report.html").read_text(encoding="utf-8"))
    embedded = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    assert embedded == [(reported / name).read_bytes() for name in PICTURES]
    text = (reported / "table.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(Protocol):
        value = re.escape(shown(getattr(tiny, field.name)))
        assert re.search(rf"\| (\*\*)?{field.name}(\*\*)? \| {value}( \(in full: .*\))? \|", text)


@pytest.mark.slow
def test_a_second_report_is_the_same(reported: Path, tiny_sweep: Sweep, mnist: Dataset, tmp_path: Path) -> None:
    again = Path(shutil.copytree(reported, tmp_path / "out"))
    write_report(tiny_sweep, again, mnist)
    assert contents(again) == contents(reported)


def test_the_twins_are_those_of_the_smallest_and_the_largest_lambda(
    copy: Path, tiny_sweep: Sweep, mnist: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, np.ndarray]] = []

    def remembered(models: Any, dataset: Any, protocol: Protocol) -> Figure:
        shown.extend((label, model.parameters()[0].data) for label, model in models.items())
        assert protocol == tiny_sweep.runs[0].protocol
        return Figure()

    monkeypatch.setattr(report, "adversarial_twins", remembered)
    write_report(tiny_sweep, copy, mnist)
    assert [label for label, _ in shown] == ["model C, λ = 0", "model C, λ = 50"]
    for (_, weights), run in zip(shown, tiny_sweep.runs[:2], strict=True):
        kept = load_model(copy / "runs" / f"{run.name}.safetensors")[0]
        np.testing.assert_array_equal(weights, kept.parameters()[0].data)


def test_of_nothing_no_report_is_made(copy: Path, tiny_sweep: Sweep, mnist: Dataset) -> None:
    for path in (copy / "runs").iterdir():
        path.unlink()
    assert results_in(tiny_sweep, copy) == []
    assert write_report(tiny_sweep, copy, mnist) == ([], [])
    assert set(contents(copy)) == {"sweep.json"}


@pytest.mark.slow
def test_of_a_sweep_half_done_what_is_there_is_reported(copy: Path, tiny_sweep: Sweep, mnist: Dataset) -> None:
    for run in tiny_sweep.runs[1:]:
        (copy / "runs" / f"{run.name}.json").unlink()
    (row,), _ = write_report(tiny_sweep, copy, mnist)
    assert (row.lam, len(row.results)) == (0.0, 1)
    assert set(FILES) <= set(contents(copy))
    text = (copy / "table.md").read_text(encoding="utf-8")
    assert "of its 4 runs, 1 are finished" in text
    assert "nan" not in text
    assert "These runs decide none of the paper's claims" in text
    assert_self_contained((copy / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_condition_that_only_diverged_is_reported(copy: Path, tiny_sweep: Sweep, mnist: Dataset) -> None:
    for run in tiny_sweep.runs:
        if run.lam == 50.0:
            keep(diverged(made_up_result(run)), copy / "runs")
            (copy / "runs" / f"{run.name}.safetensors").unlink()
    rows, _ = write_report(tiny_sweep, copy, mnist)
    assert [(row.lam, len(row.results), row.diverged) for row in rows] == [(0.0, 2, 0), (50.0, 0, 2)]
    text = (copy / "table.md").read_text(encoding="utf-8")
    assert re.search(r"\| C \| 50 \| diverged \|.* 2 \| – \|", text)
    assert text.count("lambda 50, seed") == 2
    assert "nan" not in text
    assert matplotlib.image.imread(copy / "images.png").shape[0] > 0


def test_a_sweep_that_only_diverged_has_no_report(copy: Path, tiny_sweep: Sweep, mnist: Dataset) -> None:
    for run in tiny_sweep.runs:
        keep(diverged(made_up_result(run)), copy / "runs")
    assert write_report(tiny_sweep, copy, mnist) == ([], [])
    assert not (copy / "table.md").exists()


def test_an_experiment_of_ones_own_is_reported_too(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Experiment("mine", "Mine", {"a": {Condition("B", 3.0, Protocol()): 1}}, lambda c: None)
    monkeypatch.setitem(EXPERIMENTS, "mine", mine)
    text = markdown_of(sweep_of(mine.runs("a"), experiment="mine"), [made_up(run) for run in mine.runs("a")])
    for title in "The paper's claims", "Distance to the paper's table", "Against λ = 0":
        assert title not in text
    assert tables_in(text)[0][2][:2] == ["B", "3"]


# -- read under other rules -----------------------------------------------------------------------------------------


def test_a_condition_is_read_under_every_rule() -> None:
    """20 epochs of fixed length: `signed` would have ended after 12, whose best is the third, and `absolute` never."""
    validation = [90.0, 95.0, 99.0, *(96.0 + 0.1 * k for k in range(8)), 96.0, *(96.5 + 0.1 * k for k in range(8))]
    protocol = Protocol(stop_rule="none", max_epochs=20)
    result = made_up_result(Run("C", 0.0, 0, protocol), epochs=20)
    history = [
        dataclasses.replace(
            epoch, validation_accuracy=v, tracked=dataclasses.replace(epoch.tracked, fgsm=float(epoch.number))
        )
        for epoch, v in zip(result.history, validation, strict=True)
    ]
    runs = [result.run, dataclasses.replace(result.run, seed=1)]
    results = [dataclasses.replace(result, run=run, history=history) for run in runs]
    text = markdown_of(sweep_of(runs), results)
    lines = {(line[2], line[3]): line[4:] for line in table_below(text, "Read under other rules")}
    assert {rules: (line[0], line[2], line[-1]) for rules, line in lines.items()} == {
        ("signed", "last"): ("12.0", "12.0", "2 of 2"),
        ("signed", "best"): ("12.0", "3.0", "2 of 2"),
        ("none", "last"): ("20.0", "20.0", "2 of 2"),
        ("none", "best"): ("20.0", "3.0", "2 of 2"),
    }


def test_the_findings_are_given_under_every_rule(markdown: str) -> None:
    claims = [line[0] for line in table_below(markdown, "The paper's claims")]
    by_rule = table_below(markdown, "The claims under other rules")
    assert [line[0] for line in by_rule] == claims
    assert all(len(line) == 1 + 6 for line in by_rule)


def test_a_model_that_no_rule_ends_has_no_finding(made_up: MadeUp) -> None:
    """Two epochs of A are fewer than min_epochs; the validation accuracy of C does not change."""
    lengths = {"A": 2, "C": 18}
    runs = [
        Run(model, lam, seed, Protocol(stop_rule="none", max_epochs=epochs))
        for model, epochs in lengths.items()
        for lam in (0.0, 50.0)
        for seed in range(2)
    ]
    results = [made_up(run, epochs=lengths[run.model]) for run in runs]
    lines = table_below(markdown_of(sweep_of(runs), results), "The claims under other rules")
    for claim, absolute, *_, none, _ in lines:
        assert (absolute == "–") == ("model A" in claim)
        assert none != "–"

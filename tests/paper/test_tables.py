"""Finished runs as rows: which belong together, what they add up to, and as JSON and CSV."""

import csv
import dataclasses
import io
import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sweep_fixtures import diverged

from minidbp.paper.experiments import TABLE2, TABLE3
from minidbp.paper.published import LAMBDAS, TABLE_2
from minidbp.paper.tables import FIGURES, Row, as_csv, as_json, body, header, line_cells, n_images, rows_of
from minidbp.sweeps.runs import Run, RunResult
from minidbp.training import Protocol
from minidbp.training.judgement import AccuracyAt

Result = RunResult


@pytest.fixture(scope="module")
def result(made_up: Callable[..., Result]) -> Callable[..., Result]:
    def result(model: str, lam: float, seed: int, changes: Mapping[str, Any] | None = None, **figures: Any) -> Result:
        return made_up(Run(model, lam, seed, Protocol(**(changes or {}))), **figures)

    return result


@pytest.fixture(scope="module")
def rows(result: Callable[..., Result]) -> list[Row]:
    """A with one seed, C with two, and one more that diverged; at lambda 0.1 nothing but a divergence."""
    results = [
        result(model, lam, seed, clean=97.125 + seed, fgsm=31.5 + lam, pgd=4.75 - seed, epochs=18 + 2 * seed)
        for model, seeds in (("A", 1), ("C", 2))
        for lam in (0.0, 50.0)
        for seed in range(seeds)
    ]
    return rows_of(TABLE2, [*results, diverged(result("C", 50.0, 2)), diverged(result("C", 0.1, 0))])


def test_runs_are_grouped_by_condition_whatever_their_order(result: Callable[..., Result]) -> None:
    results = [
        result("C", 50.0, 0, clean=98.0, fgsm=20.0, pgd=1.0, epochs=17),
        result("C", 50.0, 1, clean=97.0, fgsm=26.0, pgd=4.0, epochs=20),
        result("C", 50.0, 2, clean=99.0, fgsm=32.0, pgd=7.0, epochs=23),
        result("C", 0.0, 0, clean=98.5),
        result("A", 10.0, 0),
        result("C", 10.0, 0),
    ]
    for order in itertools.islice(itertools.permutations(results), 0, 720, 100):
        rows = rows_of(TABLE2, order)
        assert [(row.model, row.lam, len(row.results), row.varied) for row in rows] == [
            ("A", 10.0, 1, {}), ("C", 0.0, 1, {}), ("C", 10.0, 1, {}), ("C", 50.0, 3, {}),
        ]  # fmt: skip
        last = rows[-1]
        for figure, mean, sd in (
            ("clean", 98.0, 1.0), ("fgsm", 26.0, 6.0), ("pgd", 4.0, 3.0), ("epochs", 20.0, 3.0),
        ):  # fmt: skip
            assert (last.summary(figure).mean, last.summary(figure).sd) == pytest.approx((mean, sd))


def test_conditions_differ_in_model_lambda_or_protocol_but_not_in_seed(result: Callable[..., Result]) -> None:
    same = [result("C", 0.0, 0), result("C", 0.0, 3)]
    others = [result("A", 0.0, 0), result("C", 10.0, 0), result("C", 0.0, 0, {"max_epochs": 50})]
    rows = rows_of(TABLE2, [others[0], same[0], *others[1:], same[1]])
    assert sorted(len(row.results) for row in rows) == [1, 1, 1, 2]
    assert same in [row.results for row in rows]


def test_what_varies_makes_rows_of_its_own(result: Callable[..., Result]) -> None:
    section_4_2 = {"adversarial_training": True, "penalty": "summed_jacobian_l1"}
    results = [
        result("C", lam, seed, {**section_4_2, "eps": eps, "penalty_target": of}, fgsm=100 * eps + seed)
        for lam in (10.0, 0.0)
        for eps in (0.3, 0.1)
        for of in ("softmax", "logits")
        for seed in range(2)
    ]
    rows = rows_of(TABLE3, [*results, result("A", 0.0, 0, {**section_4_2, "eps": 0.2, "n_train": 100})])
    assert [(row.model, tuple(row.varied.items()), row.lam) for row in rows] == [
        ("A", (("eps", 0.2), ("penalty_target", "logits")), 0.0),
        *(
            ("C", (("eps", eps), ("penalty_target", of)), lam)
            for eps in (0.1, 0.3)
            for of in ("logits", "softmax")
            for lam in (0.0, 10.0)
        ),
    ]
    for row in rows[1:]:
        assert row.summary("fgsm").mean == pytest.approx(100 * row.varied["eps"] + 0.5)
    assert header(rows)[:5] == ("model", "λ", "eps", "penalty_target", "from")
    assert body(rows)[-1][:5] == ("C", "10", "0.3", "softmax", "this run")
    assert [row["eps"] for row in as_json(rows)] == [row.varied["eps"] for row in rows]
    (line, *_) = csv.DictReader(io.StringIO(as_csv(rows)))
    assert (line["eps"], line["penalty_target"]) == ("0.2", "logits")


def test_the_papers_numbers_stand_beside_ours_where_it_has_any(result: Callable[..., Result]) -> None:
    results = [result(m, lam, 0) for m in "ABC" for lam in (0.0, *LAMBDAS, 7.0)]
    random.Random(0).shuffle(results)
    rows = rows_of(TABLE2, results)
    assert len(rows) == 21
    for row in rows:
        assert row.paper == (None if row.lam in (0.0, 7.0) else TABLE_2[row.model, row.lam])


def test_diverged_runs_are_counted_and_left_out_of_means(rows: list[Row]) -> None:
    assert [(row.model, row.lam, len(row.results), row.diverged) for row in rows] == [
        ("A", 0.0, 1, 0), ("A", 50.0, 1, 0), ("C", 0.0, 2, 0), ("C", 0.1, 0, 1), ("C", 50.0, 2, 1),
    ]  # fmt: skip
    assert rows[-1].summary("clean").mean == pytest.approx(97.625)
    assert [(line.source, line.runs) for line in rows[-1].lines()] == [
        ("paper", None),
        ("this run", 2),
        ("diverged", 1),
    ]
    assert [line for line in body(rows) if line[:2] == ("C", "0.1")] == [
        ("C", "0.1", "paper", "98.60 ± 0.08", "13.66 ± 6.64", *["–"] * 6),
        ("C", "0.1", "diverged", *["–"] * 6, "1", "–"),
    ]


def test_no_results_make_no_rows() -> None:
    assert rows_of(TABLE2, []) == []
    assert as_json([]) == []
    assert as_csv([]) == ""


# -- as text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"), [([98.5, 98.75], "98.62 ± 0.18"), ([98.0], "98.00"), ([5.0, 5.0], "5.00 ± 0.00")]
)
def test_mean_and_deviation(values: list[float], text: str, result: Callable[..., Result]) -> None:
    rows = rows_of(TABLE2, [result("C", 0.0, seed, clean=value) for seed, value in enumerate(values)])
    assert body(rows)[0][3] == text


def test_the_papers_figures_are_rounded(result: Callable[..., Result]) -> None:
    (row,) = rows_of(TABLE2, [result("B", 50.0, 0)])
    paper = row.lines()[0]
    assert line_cells(paper, ["fgsm"])[:2] == ("paper", "6.35 ± 3.26")
    assert line_cells(paper, ["fgsm"], digits=1)[:2] == ("paper", "6.3 ± 3.3")


def judged(eps: float, fgsm: float, worst: float) -> AccuracyAt:
    return AccuracyAt(eps, fgsm=fgsm, apgd_ce=worst + 2, apgd_dlr=worst + 1.5, square=worst + 1, worst_case=worst)


def test_every_size_of_attack_has_its_own_columns(result: Callable[..., Result]) -> None:
    by_eps = [judged(0.05, 97, 94), judged(0.1, 91, 87), judged(0.2, 60, 31), judged(0.3, 34, 1)]
    rows = rows_of(TABLE2, [result("C", 50.0, 0, {"n_test": 2000}, clean=98, fgsm=34, by_eps=by_eps)])
    assert header(rows) == (
        "model", "λ", "from", "clean", "FGSM 0.3", "worst 0.3", "FGSM 0.1", "worst 0.1", "epochs", "runs", "images",
    )  # fmt: skip
    assert body(rows) == [
        ("C", "50", "paper", "98.63 ± 0.11", "29.92 ± 14.24", *["–"] * 6),
        ("C", "50", "this run", "98.00", "34.00", "1.00", "91.00", "87.00", "18", "1", "2,000"),
    ]


def test_a_heading_names_a_size_that_all_rows_share(result: Callable[..., Result]) -> None:
    def headings(*changes: Mapping[str, Any]) -> tuple[str, ...]:
        return header(rows_of(TABLE2, [result("C", 0.0, 0, change) for change in changes]))[-7:-3]

    sizes = ("FGSM 0.2", "worst 0.2", "FGSM 0.05", "worst 0.05")
    assert headings({"eps": 0.2, "small_eps": 0.05}, {"eps": 0.2, "small_eps": 0.05, "keep": "best"}) == sizes
    assert headings({"eps": 0.1}, {"eps": 0.3}) == ("FGSM ε", "worst ε", "FGSM 0.1", "worst 0.1")
    assert headings({"small_eps": 0.1}, {"small_eps": 0.2}) == (
        "FGSM 0.3", "worst 0.3", "FGSM small ε", "worst small ε",
    )  # fmt: skip


def test_an_attack_of_one_size_is_shown_once(result: Callable[..., Result]) -> None:
    rows = rows_of(TABLE2, [result("C", 0.0, 0, {"eps": 0.1})])
    assert header(rows)[3:-3] == ("clean", "FGSM 0.1", "worst 0.1")


def test_how_many_test_images(result: Callable[..., Result]) -> None:
    results = [
        result(model, 0.0, 0, {"n_test": n, "n_tracked": 100}) for model, n in (("A", 500), ("B", 1000), ("C", 1000))
    ]
    assert n_images(rows_of(TABLE2, results)) == "500 to 1,000"
    assert n_images(rows_of(TABLE2, results[1:])) == "1,000"
    assert [line[-1] for line in body(rows_of(TABLE2, results))] == ["500", "1,000", "1,000"]


def test_every_line_has_a_cell_for_every_column(rows: list[Row]) -> None:
    for line in body(rows):
        assert len(line) == len(header(rows))
        assert all(line)
        assert "nan" not in "".join(line)
    assert line_cells(rows[-1].lines()[1], ["clean", "fgsm", "worst"], digits=1) == (
        "this run", "97.6 ± 0.7", "81.5 ± 0.0", "4.2 ± 0.7", "19 ± 1", "2", "10,000",
    )  # fmt: skip


# -- as numbers -----------------------------------------------------------------------------------------------------

T_2 = 12.706204736  # Student's t, 97.5%, one degree of freedom: a table's value


def test_json_has_every_number_and_never_nan(rows: list[Row]) -> None:
    found = as_json(rows)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [(row["model"], row["lambda"], row["runs"], row["diverged"]) for row in found] == [
        ("A", 0.0, 1, 0), ("A", 50.0, 1, 0), ("C", 0.0, 2, 0), ("C", 0.1, 0, 1), ("C", 50.0, 2, 1),
    ]  # fmt: skip
    one, none, both = found[0], found[3], found[4]
    assert one["clean"] == [97.125, None]  # one run has no deviation
    assert one["clean_interval"] == [None, None]
    assert one["paper_clean"] is None
    assert one["paper_fgsm"] is None
    assert none["fgsm"] == none["pgd_interval"] == [None, None]
    assert both["clean"] == pytest.approx([97.625, math.sqrt(0.5)])
    half = T_2 * math.sqrt(0.5) / math.sqrt(2)
    assert both["clean_interval"] == pytest.approx([97.625 - half, 97.625 + half])
    assert both["epochs"] == pytest.approx([19, math.sqrt(2)])
    assert both["paper_fgsm"] == [29.92, 14.24]
    assert both["worst"] == both["worst_small"] == pytest.approx([4.25, math.sqrt(0.5)])
    assert [both[name] for name in ("n_test", "eps", "small_eps")] == [10_000, 0.3, 0.1]
    assert both["full_length"] is None


def test_csv_has_every_number_unrounded_and_never_nan(rows: list[Row]) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert None not in line
        assert None not in line.values()
        assert (line["model"], float(line["lambda"])) == (row.model, row.lam)
        assert (int(line["runs"]), int(line["diverged"])) == (len(row.results), row.diverged)
        for name in FIGURES:
            values = [getattr(result, name) for result in row.results]
            assert line[f"{name}_mean"] == (str(sum(values) / len(values)) if values else "")
            for part in ("sd", "low", "high"):
                value = getattr(row.summary(name), part)
                assert line[f"{name}_{part}"] == ("" if math.isnan(value) else str(value))
        paper = [line[f"paper_{name}_{part}"] for name in ("clean", "fgsm") for part in ("mean", "sd")]
        protocol = dataclasses.asdict(row.condition.protocol)
        assert {name: line[name] for name in protocol} == {name: str(value) for name, value in protocol.items()}
        assert paper == ([""] * 4 if row.paper is None else [str(n) for pair in row.paper for n in pair])
    assert "nan" not in as_csv(rows).lower()


def test_json_and_csv_say_the_same(rows: list[Row]) -> None:
    for line, row in zip(csv.DictReader(io.StringIO(as_csv(rows))), as_json(rows), strict=True):
        for name in FIGURES:
            said = [line[f"{name}_{part}"] for part in ("mean", "sd", "low", "high")]
            assert said == ["" if n is None else str(n) for n in (*row[name], *row[f"{name}_interval"])]

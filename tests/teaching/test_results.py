"""Results of the laptop are read in any format; where there are none, a notebook says so and goes on."""

import json

import pytest

from minidbp.teaching import results


@pytest.fixture
def said(monkeypatch, tmp_path):
    sentences = []
    monkeypatch.setattr(results, "say", sentences.append)
    monkeypatch.setattr(results, "LAPTOP", tmp_path)
    return sentences


def a_run(seed, fgsm, lam=0.0, eps=0.3):
    return {"seed": seed, "fgsm": fgsm, "lambda": lam, "protocol": {"eps": eps}}


def test_absent_results_are_a_sentence(said):
    assert results.laptop("table2") == ([], [])
    assert said == ["*(There is no `results/laptop/table2` here, so its results are not shown.)*"]


def test_rows_and_runs_are_read(said, tmp_path):
    folder = tmp_path / "table2" / "runs"
    folder.mkdir(parents=True)
    (tmp_path / "table2" / "table.csv").write_text("model,lambda\nC,0.0\nC,50.0\n")
    for seed in 1, 0:
        (folder / f"C_seed{seed}.json").write_text(json.dumps(a_run(seed, 12.5)))
    rows, runs = results.laptop("table2")
    assert rows == [{"model": "C", "lambda": "0.0"}, {"model": "C", "lambda": "50.0"}]
    assert runs == [a_run(0, 12.5), a_run(1, 12.5)]
    assert said == []


def test_runs_are_picked_by_their_own_fields_and_by_those_of_the_protocol():
    runs = [a_run(0, 10.0), a_run(1, 11.0), a_run(0, 20.0, lam=50.0), a_run(2, 30.0, eps=0.1), a_run(3, None)]
    assert results.by_seed(runs, "fgsm", eps=0.3, **{"lambda": 0.0}) == {0: 10.0, 1: 11.0}


def test_different_numbers_as_words():
    assert results.either([3, 2, 3]) == "2 or 3"
    assert results.either([55_000]) == "55,000"

"""A run: what it is, what it is called, its streams of chance, and how it is kept and found again."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidbp.data import Mnist
from minidbp.experiments.runs import Cost, Run, RunError, execute, find, keep, multiply_adds
from minidbp.nn import build_model, load_model
from minidbp.training import DivergenceError, Protocol, predict, workers

TINY = Protocol(
    stop_rule="none", max_epochs=2, n_train=64, batch_size=32, n_validation=100, n_test=60, n_pgd=20, pgd_steps=2
)  # fmt: skip
RUN = Run("C", 2.5, 3, TINY)


@pytest.fixture(scope="module")
def executed(mnist: Mnist) -> tuple[dict, Any, list[tuple[float, str]]]:
    said: list[tuple[float, str]] = []
    with workers(2) as team:
        result, model = execute(RUN, mnist, team, lambda work, what: said.append((work, what)))
    return result, model, said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("D", 1.0, 0), ["D", "A, B, C"]),
        (("C", -1.0, 0), ["lambda", "-1"]),
        (("C", math.nan, 0), ["lambda", "nan"]),
        (("C", math.inf, 0), ["lambda", "inf"]),
        (("C", 1.0, -1), ["seed", "-1"]),
    ],
)
def test_a_run_that_cannot_be(arguments: tuple[str, float, int], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        Run(*arguments, TINY)
    for word in named:
        assert word in str(caught.value)


def test_names_differ_where_runs_of_a_table_do() -> None:
    runs = [Run(m, lam, s, TINY) for m in "ABC" for lam in (0.0, 0.1, 1.0, 10.0, 25.0, 50.0) for s in range(3)]
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.name.replace(".", "").replace("_", "").isalnum() for run in runs)  # a file's name anywhere


@pytest.mark.parametrize(
    "other",
    [
        Run("B", 2.5, 3, TINY), Run("C", 2.4, 3, TINY), Run("C", 2.5, 4, TINY),
        Run("C", 2.5, 3, dataclasses.replace(TINY, penalised="softmax")),
    ],
)  # fmt: skip
def test_identity_is_model_lambda_seed_and_protocol(other: Run) -> None:
    assert other.identity() != RUN.identity()
    assert Run("C", 2.5, 3, dataclasses.replace(TINY)).identity() == RUN.identity()


def test_the_streams_of_chance_depend_on_the_seed_and_not_on_lambda() -> None:
    def drawn(run: Run) -> list[float]:
        return [run.generator(purpose).random() for purpose in range(3)]

    assert len(set(drawn(RUN) + drawn(Run("C", 2.5, 4, TINY)))) == 6
    assert drawn(RUN) == drawn(Run("C", 0.0, 3, TINY)) == drawn(RUN)
    first, again, other = (Run("C", lam, seed, TINY).build() for lam, seed in ((1.0, 3), (2.0, 3), (1.0, 4)))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert not np.array_equal(first.parameters()[0].data, other.parameters()[0].data)


def test_the_protocol_shapes_the_model() -> None:
    same = Run("A", 0.0, 0, dataclasses.replace(TINY, padding="same")).build()
    he = Run("C", 0.0, 0, dataclasses.replace(TINY, initialiser="he_normal")).build()
    assert sum(p.size for p in same.parameters()) != 710_218
    assert not np.array_equal(he.parameters()[0].data, Run("C", 0.0, 0, TINY).build().parameters()[0].data)


def test_a_result_has_what_design_section_11_promises(executed: tuple) -> None:
    result, _, _ = executed
    assert {"model", "lambda", "seed", "epochs", "clean", "fgsm", "pgd", "protocol"} <= set(result)
    assert {k: result[k] for k in RUN.identity()} == RUN.identity()
    assert result["epochs"] == len(result["history"]) == 2
    for key in ("clean", "fgsm", "pgd"):
        assert 0 <= result[key] <= 100
    assert result["fgsm"] <= result["clean"]
    assert {"minidbp", "python", "packages", "processor", "blas"} <= set(result["environment"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_accuracy_is_that_of_the_model(executed: tuple, mnist: Mnist) -> None:
    result, model, _ = executed
    right = predict(model, mnist.x_test[:60]) == mnist.y_test[:60]
    assert result["clean"] == pytest.approx(100 * right.mean())


def test_the_same_run_gives_the_same_bits(executed: tuple, mnist: Mnist) -> None:
    result, model, _ = executed
    with workers(1) as team:
        again, twin = execute(RUN, mnist, team)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.data.tobytes() == b.data.tobytes()
    for key in ("clean", "fgsm", "pgd", "epochs", "protocol"):
        assert again[key] == result[key]
    for a, b in zip(again["history"], result["history"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_progress_adds_up_to_the_cost(executed: tuple) -> None:
    _, _, said = executed
    assert sum(work for work, _ in said) == pytest.approx(Cost(RUN).total)
    assert all(work > 0 and what for work, what in said)


def test_a_run_that_is_kept_is_found(executed: tuple, tmp_path: Path, mnist: Mnist) -> None:
    result, model, _ = executed
    assert find(RUN, tmp_path) is None
    keep(result, model, RUN, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{RUN.name}.json", f"{RUN.name}.npz"]
    assert find(RUN, tmp_path) == result
    assert find(Run("C", 2.5, 4, TINY), tmp_path) is None
    loaded, name = load_model(tmp_path / f"{RUN.name}.npz")
    assert name == "C"
    np.testing.assert_array_equal(loaded(mnist.x_test[:5]).data, model(mnist.x_test[:5]).data)


def test_weights_without_their_json_are_an_unfinished_run(executed: tuple, tmp_path: Path) -> None:
    result, model, _ = executed
    keep(result, model, RUN, tmp_path)
    (tmp_path / f"{RUN.name}.json").unlink()
    assert find(RUN, tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"3", b"{}", b"\xff\xfe\x00", b'{"model": "C"}',
        json.dumps(Run("C", 2.5, 3, dataclasses.replace(TINY, eps=0.2)).identity()).encode(),
        json.dumps(Run("C", 2.5, 4, TINY).identity()).encode(),
    ],
    ids=["empty", "cut", "list", "null", "number", "no keys", "bytes", "few keys", "protocol", "seed"],
)  # fmt: skip
def test_what_is_not_this_run_is_not_taken_for_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{RUN.name}.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        find(RUN, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("model", "expected"), [("A", 8_586_496), ("B", 14_748_928), ("C", 566_528)])
def test_multiply_adds_are_those_of_the_design(model: str, expected: int) -> None:
    assert multiply_adds(build_model(model)) == expected
    assert Cost(Run(model, 0.0, 0, TINY)).forward == pytest.approx(2e-9 * expected)


def test_a_divergence_comes_out(mnist: Mnist) -> None:
    run = Run("C", 2.5, 3, dataclasses.replace(TINY, learning_rate=1e38))
    with (
        workers(1) as team,
        pytest.warns(RuntimeWarning),
        pytest.raises(DivergenceError, match=r"epoch 1.*step 2.*lambda 2\.5"),
    ):
        execute(run, mnist, team)


def test_a_refusal_says_what_differs(tmp_path: Path) -> None:
    short = Run("C", 0.0, 0, Protocol(n_train=64, max_epochs=1, stop_rule="none"))
    (tmp_path / f"{short.name}.json").write_text(json.dumps(short.identity()))
    with pytest.raises(RunError, match=r"max_epochs is 1 there, 100 here; .*n_train is 64 there, 55000 here"):
        find(Run("C", 0.0, 0, Protocol()), tmp_path)

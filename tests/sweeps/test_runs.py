"""A run: what it is, what it is called, its streams of chance, and how it is kept and found again."""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_fixtures import diverged

from minidbp.data import MNIST, DataIdentity, Dataset
from minidbp.files.digest import dump_with_digest
from minidbp.nn import build_model, load_model
from minidbp.sweeps import runs
from minidbp.sweeps.runs import DivergedRun, Run, RunError, RunResult, find, keep, labels, shown, varied_fields
from minidbp.sweeps.sweep import load, results_in
from minidbp.training import Epoch, Protocol, Tracked
from minidbp.training.judgement import MaskingFigures

RUN = Run("C", 2.5, 3, Protocol(n_train=64, n_tracked=100))
OTHERS = {  # of each field of the protocol, a value that is not the default
    "learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "adam_eps": 1e-7, "label_smoothing": 0.0, "eps": 0.2,
    "n_validation": 4000, "min_epochs": 9, "max_epochs": 99, "stop_tolerance": 0.0, "adversarial_training": True,
    "penalty": "summed_jacobian_l1", "penalty_target": "softmax", "reduction": "sum", "padding": "same",
    "stop_rule": "signed", "keep": "best", "batch_size": 64, "initialiser": "he_normal", "attack_label": "smoothed",
    "clip": False, "validation_split": "last", "n_train": 63, "n_test": 9999, "n_tracked": 99, "pgd_steps": 39,
    "pgd_step": 0.02, "pgd_restarts": 2, "small_eps": 0.05, "judged_eps": (0.3,), "apgd_steps": 9,
    "apgd_restarts": 1, "square_queries": 9, "reference_steps": 9, "training_attack": "pgd", "training_attack_steps": 9,
    "training_attack_step": 0.02,
}  # fmt: skip


def other(field: str) -> Run:
    return dataclasses.replace(RUN, protocol=dataclasses.replace(RUN.protocol, **{field: OTHERS[field]}))


def changed(field: str, value: Any) -> dict[str, Any]:
    """The identity of RUN but for one thing."""
    return {**RUN.identity(), field: value}


# -- what a run is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("D", 1.0, 0), ["D", "A, B, C"]),
        (("C", -1.0, 0), ["lambda", "-1"]),
        (("C", math.nan, 0), ["lambda", "nan"]),
        (("C", math.inf, 0), ["lambda", "inf"]),
        (("C", 1.0, -1), ["seed", "-1"]),
        (("C", 1.0, 1.5), ["seed", "1.5"]),
        (("C", 1.0, True), ["seed", "True"]),
    ],
)
def test_a_run_that_cannot_be(arguments: tuple[Any, ...], named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        Run(*arguments, Protocol())
    for word in named:
        assert word in str(caught.value)


def test_a_model_that_does_not_fit_the_data_cannot_be_run() -> None:
    with pytest.raises(ValueError, match="model A needs images of at least 27x27 pixels; got 8x9"):
        dataclasses.replace(ON_MINE, model="A")


def test_the_streams_of_chance_depend_on_the_seed_and_not_on_lambda() -> None:
    def drawn(run: Run) -> list[float]:
        return [run.generator(purpose).random() for purpose in range(3)]

    assert len(set(drawn(RUN) + drawn(dataclasses.replace(RUN, seed=4)))) == 6
    assert drawn(RUN) == drawn(dataclasses.replace(RUN, lam=0.0)) == drawn(RUN)
    first, again, other = (Run("C", lam, seed, Protocol()).build() for lam, seed in ((1.0, 3), (2.0, 3), (1.0, 4)))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert not np.array_equal(first.parameters()[0].data, other.parameters()[0].data)


def test_the_protocol_shapes_the_model() -> None:
    same = Run("A", 0.0, 0, Protocol(padding="same")).build()
    he = Run("C", 0.0, 0, Protocol(initialiser="he_normal")).build()
    assert sum(p.size for p in same.parameters()) != 710_218
    assert not np.array_equal(he.parameters()[0].data, Run("C", 0.0, 0, Protocol()).build().parameters()[0].data)


# -- its identity and its name --------------------------------------------------------------------------------------


def test_the_same_run_has_the_same_name() -> None:
    again = Run("C", 2.5, 3, Protocol(n_train=64, n_tracked=100))
    assert (again, again.identity(), again.name) == (RUN, RUN.identity(), RUN.name)
    assert RUN.name.startswith("C_lambda2.5_seed3_")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Run("C", 10, 0, Protocol()), Run("C", 10.0, 0, Protocol())),
        (Run("C", -0.0, 0, Protocol()), Run("C", 0.0, 0, Protocol())),
        (Run("C", 0.0, 0, Protocol(beta1=0, eps=1)), Run("C", 0.0, 0, Protocol(beta1=0.0, eps=1.0))),
    ],
    ids=["10", "-0", "protocol"],
)  # fmt: skip
def test_equal_runs_have_one_name_however_their_numbers_are_written(one: Run, two: Run) -> None:
    assert one == two
    assert one.name == two.name


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Protocol)])
def test_any_field_of_the_protocol_makes_another_run(field: str) -> None:
    assert OTHERS[field] != getattr(RUN.protocol, field)
    assert other(field).identity() != RUN.identity()
    assert other(field).name != RUN.name


def test_names_of_different_runs_differ_and_are_safe_for_files() -> None:
    lambdas = (0.0, 0.1, 1.0, 10.0, 1e-5, 1e38, 1 / 3, 0.333333)
    different = [Run(m, lam, s, Protocol()) for m in "ABC" for lam in lambdas for s in range(3)]
    different += [other(field) for field in OTHERS]
    assert len({run.name for run in different}) == len(different)
    for run in different:  # letters of any system's file names, and room for an ending and atomic_write's
        assert re.fullmatch(r"[ABC]_lambda[0-9.e+-]+_seed[0-9]+_[0-9a-f]{10}", run.name)
        assert len(run.name) < 100


def test_the_format_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RUN.name
    monkeypatch.setattr(runs, "FORMAT", runs.FORMAT + 1)
    assert RUN.name != before


def test_a_name_does_not_change_between_versions() -> None:
    """Folders that people have are found again; who changes Protocol or the name raises FORMAT, then this."""
    assert runs.FORMAT == 4
    assert Run("C", 50.0, 0, Protocol()).name == "C_lambda50_seed0_cecc57888b"


MINE = DataIdentity("mine.npz", "00ff", (8, 9, 3), 3)
ON_MINE = dataclasses.replace(RUN, data=MINE)


def test_data_that_are_not_mnist_make_another_run() -> None:
    assert "data" not in RUN.identity()  # so that runs on MNIST keep their names
    assert ON_MINE.identity()["data"] == {
        "name": "mine.npz", "digest": "00ff", "image_shape": [8, 9, 3], "n_classes": 3,
    }  # fmt: skip
    changes = {"name": "b.npz"}, {"digest": "0f"}, {"image_shape": (9, 8, 3)}, {"n_classes": 4}
    others = [dataclasses.replace(ON_MINE, data=dataclasses.replace(MINE, **change)) for change in changes]  # type: ignore[arg-type]
    assert len({run.name for run in (RUN, ON_MINE, *others)}) == 6


def test_the_model_is_built_for_the_data() -> None:
    model = ON_MINE.build()
    assert model.input_shape == (8, 9, 3)
    assert model.parameters()[-1].shape == (3,)


def test_a_run_has_its_own_data_alone(mnist: Dataset) -> None:
    RUN.check(mnist)
    with pytest.raises(
        RunError, match=r"belongs to mine\.npz with the SHA-256 00ff\.\.\.; the data are MNIST with 2f048"
    ):
        ON_MINE.check(mnist)
    with pytest.raises(ValueError, match="n_train must be at most 55000"):
        dataclasses.replace(RUN, protocol=Protocol(n_train=55_001)).check(mnist)


def test_labels_name_data_that_are_not_mnist() -> None:
    assert list(labels([RUN, ON_MINE]).values()) == [
        "model C, lambda 2.5, seed 3", "model C on mine.npz, lambda 2.5, seed 3",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["image_shape", "n_classes", "digest", "name"])
def test_an_identity_with_half_of_its_data_is_refused(name: str) -> None:
    identity = ON_MINE.identity()
    del identity["data"][name]
    with pytest.raises(RunError, match=f"`data` lacks {name}"):
        Run.of(identity)


@pytest.mark.parametrize(
    "run", [RUN, ON_MINE, *map(other, OTHERS), Run("A", 0.0, 0, Protocol())], ids=lambda run: run.name
)
def test_a_run_comes_back_from_its_identity(run: Run) -> None:
    assert Run.of(run.identity()) == run
    back = Run.of(json.loads(json.dumps(run.identity())))
    assert back == run
    assert back.name == run.name


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        (changed("format", 2), ["format 2", "format 4"]),
        (changed("format", None), ["format None", "format 4"]),
        ({k: v for k, v in RUN.identity().items() if k != "format"}, ["format None"]),
        ({k: v for k, v in RUN.identity().items() if k != "seed"}, ["seed"]),
        (changed("extra", 1), ["extra"]),
        (changed("model", "D"), ["'D'", "A, B, C"]),
        (changed("model", ["C"]), []),
        (changed("lambda", "10"), []),
        (changed("lambda", -1.0), ["lambda", "-1"]),
        (changed("seed", -1), ["seed", "-1"]),
        (changed("seed", 1.5), ["seed", "1.5"]),
        (changed("seed", True), ["seed", "True"]),
        (changed("protocol", None), []),
        (changed("protocol", {}), ["learning_rate"]),
        (changed("protocol", {**RUN.protocol.as_dict(), "colour": "red"}), ["colour"]),
        (changed("protocol", {k: v for k, v in RUN.protocol.as_dict().items() if k != "eps"}), ["eps"]),
        (changed("protocol", {**RUN.protocol.as_dict(), "eps": -1}), ["eps", "-1"]),
        (changed("protocol", {**RUN.protocol.as_dict(), "keep": ["last"]}), ["keep"]),
        ({}, ["format None"]), ({"format": 4}, ["model"]), ("C_lambda2.5_seed3", []), ([], []), (None, []), (3, []),
    ],
    ids=lambda value: None if isinstance(value, list) and value else str(value)[-60:],
)  # fmt: skip
def test_anything_else_is_not_the_identity_of_a_run(identity: Any, named: list[str]) -> None:
    with pytest.raises(RunError) as caught:
        Run.of(identity)
    assert "run" in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in named:
        assert word in str(caught.value)


# -- keeping and finding --------------------------------------------------------------------------------------------


@pytest.fixture
def result(made_up: Callable[..., RunResult]) -> RunResult:
    return made_up(RUN)


@pytest.fixture
def diverged_run(result: RunResult) -> DivergedRun:
    return diverged(result)


def test_a_run_that_is_kept_is_found(result: RunResult, tmp_path: Path) -> None:
    model = build_model("C", seed=7)
    assert find(RUN, tmp_path) is None
    keep(result, tmp_path, model)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{RUN.name}.json", f"{RUN.name}.safetensors"]
    assert find(RUN, tmp_path) == result
    assert find(dataclasses.replace(RUN, seed=4), tmp_path) is None
    loaded, name = load_model(tmp_path / f"{RUN.name}.safetensors")
    assert name == "C"
    for a, b in zip(loaded.parameters(), model.parameters(), strict=True):
        assert a.data.tobytes() == b.data.tobytes()


def test_weights_without_their_json_are_an_unfinished_run(result: RunResult, tmp_path: Path) -> None:
    keep(result, tmp_path, build_model("C"))
    (tmp_path / f"{RUN.name}.json").unlink()
    assert find(RUN, tmp_path) is None


def test_a_divergence_is_kept_and_found(diverged_run: DivergedRun, tmp_path: Path) -> None:
    keep(diverged_run, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{RUN.name}.json"]
    assert find(RUN, tmp_path) == diverged_run
    assert "clean" not in diverged_run.as_dict()


def test_a_class_without_images_is_a_whole_result(result: RunResult, tmp_path: Path) -> None:
    result = dataclasses.replace(result, per_class={**result.per_class, "pgd": [None, *[50.0] * 9]})
    keep(result, tmp_path)
    assert find(RUN, tmp_path) == result


@pytest.mark.parametrize("epochs", [1, 2])
def test_outcomes_in_one_line(made_up: Callable[..., RunResult], diverged_run: DivergedRun, epochs: int) -> None:
    plural = "s" * (epochs > 1)
    assert made_up(RUN, clean=98.0, fgsm=20.0, pgd=2.0, epochs=epochs).in_words("who") == (
        "who: clean 98.00%; eps 0.3: FGSM 20.00%, worst case 2.00%; eps 0.1: FGSM 20.00%, worst case 2.00% "
        f"(10000 test images; {epochs} epoch{plural}, 60 s)"
    )
    assert diverged_run.in_words("who") == "who: diverged in epoch 3, step 2"


def refusal(content: bytes, folder: Path) -> str:
    path = folder / f"{RUN.name}.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        find(RUN, folder)
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    return str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", b"{}", b'{"model": "C"}', b'{"lambda": NaN}'],
    ids=["empty", "cut", "list", "null", "number", "bytes", "no keys", "few keys", "nan"],
)  # fmt: skip
def test_what_is_not_a_result_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(content, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "B"), ("lambda", 2.4), ("seed", 4), ("format", 1), ("protocol", other("eps").protocol.as_dict())],
)
def test_the_result_of_another_run_is_not_taken_for_it(
    result: RunResult, tmp_path: Path, field: str, value: Any
) -> None:
    content = dump_with_digest({**result.as_dict(), field: value}).encode()
    assert "not the result of the run that its name says" in refusal(content, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({name: ...} for name in ("epochs", "clean", "fgsm", "pgd", "per_class", "diagnosis", "seconds")),
        {"environment": ...}, {"diverged": ...},
        {"clean": None}, {"fgsm": "98"}, {"pgd": True}, {"epochs": []}, {"seconds": 3}, {"seconds": {"training": "1"}},
        {"diagnosis": {}}, {"diagnosis": dict.fromkeys(MaskingFigures.__dataclass_fields__, "1")}, {"diagnosis": 5},
        {"environment": None}, {"environment": {}}, {"environment": []}, {"diverged": {}},
        {"diverged": {"epoch": 1, "step": 2}}, {"diverged": "yes"},
        {"diverged": False}, {"per_class": []}, {"per_class": {"clean": [1.0] * 10, "fgsm": [1.0] * 10}},
        {"per_class": {name: [1.0] * 9 for name in ("clean", "fgsm", "pgd")}},
        {"per_class": {name: ["1"] * 10 for name in ("clean", "fgsm", "pgd")}},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_that_lacks_a_part_is_refused(result: RunResult, tmp_path: Path, change: dict[str, Any]) -> None:
    """... stands for a part that is not there at all."""
    content = {key: value for key, value in {**result.as_dict(), **change}.items() if value is not ...}
    assert next(iter(change)) in refusal(dump_with_digest(content).encode(), tmp_path)


HUGE = 1e99  # below what no file may hold


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("clean", 100.1), ("clean", -0.1), ("fgsm", HUGE), ("per_class.clean.3", 101.0), ("by_eps.0.square", -1.0),
        ("by_eps.0.eps", 0.06), ("epochs", -1), ("epochs", 17), ("epochs", 10**9), ("epochs", 10**39),
        ("history.0.number", 2),
        ("history.0.seconds", -1.0), ("history.0.seconds", HUGE), ("history.0.tracked", None),
        ("history.1.tracked.pgd", 1000.0), ("history.1.tracked.jacobian_l1", -1.0),
        ("history.1.validation_accuracy", HUGE), ("diagnosis.gradient_cosine", 1.1), ("diagnosis.noise", HUGE),
        ("diagnosis.jacobian_l1", -1.0), ("seconds.training", -1.0), ("seconds.judging", HUGE), ("threads", -1),
        ("environment.cores", 10**30), ("environment.variables", {"A": 1}), ("environment.blas", [{}]),
        ("environment.blas", {}), ("environment.packages", ["numpy"]), ("history.0.loss", 1e101), ("fgsm", 1e308),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_that_no_run_can_have_is_refused(result: RunResult, tmp_path: Path, place: str, value: Any) -> None:
    """A digest is no signature: these have the right one."""
    values = json.loads(json.dumps(result.as_dict()))
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    part = values
    for key in path:
        part = part[key]
    part[last] = value
    assert len(refusal(dump_with_digest(values).encode(), tmp_path)) < 600


def test_a_divergence_that_no_run_can_have_is_refused(diverged_run: DivergedRun, tmp_path: Path) -> None:
    for change in {"epoch": -1}, {"step": 10**30}, {"message": 3}:
        values = diverged_run.as_dict()
        values["diverged"] |= change
        refusal(dump_with_digest(values).encode(), tmp_path)


def test_the_longest_result_is_found(result: RunResult, tmp_path: Path) -> None:
    """A run of 10,000 epochs could be trained, and its result was then larger than the limit."""
    longest = dataclasses.replace(RUN, protocol=dataclasses.replace(RUN.protocol, max_epochs=10_000))
    small = 1.2345678901234567e-100  # no number that is not negative has more letters
    tracked = Tracked(*[small] * 6)
    history = [Epoch(number, -small, -small, -small, small, small, tracked) for number in range(1, 10_001)]
    outcome = dataclasses.replace(result, run=longest, epochs=10_000, history=history)
    keep(outcome, tmp_path)
    assert len(json.dumps([dataclasses.asdict(history[-1])], indent=2)) < runs.EPOCH_BYTES
    assert find(longest, tmp_path) == outcome


def test_numbers_that_no_file_could_hold_make_no_run() -> None:
    with pytest.raises(ValueError, match=r"lambda must be at most 1e\+100; got 2e\+100"):
        Run("C", 2e100, 0, Protocol())
    for seed in 2**63, 10**4000:
        with pytest.raises(ValueError, match=r"the seed must be a whole number from 0 to 9\d{18}; got \d{19,40}$"):
            Run("C", 1.0, seed, Protocol())


def test_a_result_that_was_changed_is_refused(result: RunResult, tmp_path: Path) -> None:
    """One flipped bit made 96.0 of 86.0, and the report believed it."""
    values = dataclasses.replace(result, clean=86.0).as_dict()
    text = dump_with_digest(values)
    assert "does not have the SHA-256" in refusal(text.replace('"clean": 86.0', '"clean": 96.0', 1).encode(), tmp_path)
    assert "has no sha256" in refusal(json.dumps(values).encode(), tmp_path)


# -- what runs are called for people --------------------------------------------------------------------------------


def test_labels_say_what_varies() -> None:
    changes = [{"eps": eps, "penalty_target": of} for eps in (0.1, 0.3) for of in ("logits", "softmax")]
    mine = [Run("C", lam, 0, Protocol(**change)) for lam in (0.0, 10.0) for change in changes]
    found = labels(mine)
    assert list(found) == mine
    assert len(set(found.values())) == len(mine)
    assert found[mine[0]] == "model C, lambda 0, eps 0.1, penalty_target logits, seed 0"
    assert labels([RUN]) == {RUN: "model C, lambda 2.5, seed 3"}


def test_only_what_differs_within_a_model_varies() -> None:
    """A and C may have presets of their own sizes: that tells no two rows of one model apart."""
    own = [Run("A", 0.0, 0, Protocol(n_train=100)), Run("C", 0.0, 0, Protocol(n_train=200))]
    assert varied_fields(own) == []
    assert varied_fields([*own, Run("C", 1.0, 0, Protocol(n_train=200, clip=False, eps=0.1))]) == [
        "eps", "clip",
    ]  # fmt: skip
    assert varied_fields([]) == []


@pytest.mark.parametrize(("value", "text"), [(10.0, "10"), (0.05, "0.05"), (3, "3"), (True, "True"), ("sum", "sum")])
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text


def test_the_results_of_this_version_that_are_shipped_are_read() -> None:
    folder = Path(__file__).parents[2] / "results" / "full" / "table2"
    outcomes = results_in(load(folder), folder)
    assert [outcome.run.data for outcome in outcomes] == [MNIST] * 6

"""A run from its first step to its result: the same bits however often it was stopped."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import minidbp as mdb
from minidbp.data import Dataset
from minidbp.diagnosis.judge import JUDGE, judged_images
from minidbp.nn import Sequential, load_model, trained_on
from minidbp.sweeps import execute as module
from minidbp.sweeps.execute import execute, perform
from minidbp.sweeps.monitor import Cost, Heartbeat, Stopped
from minidbp.sweeps.runs import DivergedRun, Outcome, Run, RunError, RunResult, find
from minidbp.training import DivergenceError, Protocol, predict, track, workers
from minidbp.training.environment import environment

TINY = Protocol(
    stop_rule="none", max_epochs=3, n_train=64, batch_size=32, n_validation=100, n_test=60, n_tracked=20, pgd_steps=2,
    judged_eps=(0.1, 0.3), apgd_steps=1, apgd_restarts=1, square_queries=1, reference_steps=1,
)  # fmt: skip
RUN = Run("C", 2.5, 3, TINY)
EPOCH = 2 + 6  # reports: one for each step, and one for each measure of `track`
DIVERGES = dataclasses.replace(RUN, protocol=dataclasses.replace(TINY, learning_rate=1e9))
Executed = tuple[RunResult, Sequential, list[tuple[float, str]]]


@pytest.fixture(scope="module")
def executed(mnist: Dataset) -> Executed:
    said: list[tuple[float, str]] = []
    with workers(2) as pool:
        result, model = execute(RUN, mnist, pool, JUDGE, lambda work, what: said.append((work, what)))
    return result, model, [report for report in said if has_news(*report)]


def has_news(work: float, what: str) -> bool:
    """Whether a report says that something is done.  Attacks report 0 before each pass, so that they can be stopped."""
    return work > 0 or what == "beginning"


def without_time(outcome: Outcome | None) -> dict[str, Any]:
    assert outcome is not None
    result = outcome.as_dict()
    history = [{**epoch, "seconds": 0} for epoch in result["history"]]
    return {k: v for k, v in {**result, "history": history}.items() if k not in ("seconds", "threads", "environment")}


def bits(model: Sequential) -> list[bytes]:
    return [p.data.tobytes() for p in model.parameters()]


def files(run_dir: Path) -> set[str]:
    return {p.name.removeprefix(RUN.name) for p in run_dir.iterdir()}


# -- the result -----------------------------------------------------------------------------------------------------


def test_a_result_has_what_other_programs_read(executed: Executed) -> None:
    result, _, _ = executed
    values = result.as_dict()
    assert {"model", "lambda", "seed", "epochs", "clean", "fgsm", "pgd", "protocol"} <= set(values)
    assert {k: values[k] for k in RUN.identity()} == RUN.identity()
    assert result.epochs == len(result.history) == 3
    assert [epoch.number for epoch in result.history] == [1, 2, 3]
    for accuracy in result.clean, result.fgsm, result.pgd:
        assert 0 <= accuracy <= 100
    assert result.fgsm <= result.clean
    assert result.diverged is None
    assert result.threads == 2
    assert result.seconds.training == pytest.approx(sum(epoch.seconds for epoch in result.history))
    assert dataclasses.replace(result.environment, blas=[]) == dataclasses.replace(environment(), blas=[])
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_the_accuracy_is_that_of_the_model(executed: Executed, mnist: Dataset) -> None:
    result, model, _ = executed
    x, y = judged_images(mnist, TINY, RUN.seed)
    right = predict(model, x) == y
    assert result.clean == pytest.approx(100 * right.mean())
    for digit, share in enumerate(result.per_class["clean"]):
        mine = [said for said, label in zip(right, y, strict=True) if label == digit]
        assert share == (pytest.approx(100 * sum(mine) / len(mine)) if mine else None)


@pytest.mark.parametrize("figure", ["clean", "fgsm", "pgd"])
def test_the_classes_add_up_to_the_whole(executed: Executed, mnist: Dataset, figure: str) -> None:
    result, _, _ = executed
    counts = np.bincount(judged_images(mnist, TINY, RUN.seed)[1], minlength=10)
    shares = result.per_class[figure]
    assert [share is None for share in shares] == [count == 0 for count in counts]
    right = sum(share * count / 100 for share, count in zip(shares, counts, strict=True) if count)
    assert getattr(result, figure) == pytest.approx(100 * right / 60)


def test_the_same_run_gives_the_same_bits(executed: Executed, mnist: Dataset) -> None:
    result, model, _ = executed
    with workers(1) as pool:
        again, twin = execute(RUN, mnist, pool, JUDGE, lambda work, what: None)
    assert bits(twin) == bits(model)
    assert without_time(again) == without_time(result)
    assert again.threads == 1


def test_progress_adds_up_to_the_cost(executed: Executed) -> None:
    _, _, said = executed
    assert sum(work for work, _ in said) == pytest.approx(Cost(RUN, JUDGE).total)
    assert said[0] == (0, "beginning")
    assert all(work > 0 and what for work, what in said[1:])
    steps = said[1 : 1 + 3 * EPOCH : EPOCH], said[2 : 1 + 3 * EPOCH : EPOCH]
    assert [what.partition(",")[0] for _, what in steps[0]] == ["epoch 1", "epoch 2", "epoch 3"]
    assert steps[1][0][1] == "epoch 1, step 2/2"
    assert steps[0][1][1].startswith("epoch 2, step 1/2, validation ")
    assert {what for _, what in said[3 : 1 + EPOCH]} == {"accuracy along the training"}
    judging = list(dict.fromkeys(what for _, what in said[1 + 3 * EPOCH :]))
    # the diagnosis runs the strongest attacks at the protocol's own eps
    assert judging == ["clean test images", "FGSM", "PGD", "diagnosis", "strongest attacks, eps 0.1"]


def test_every_epoch_tracks_the_first_of_the_judged_images(executed: Executed, mnist: Dataset) -> None:
    result, model, _ = executed
    x, y = (array[:20] for array in judged_images(mnist, TINY, RUN.seed))
    with workers(1) as pool:
        assert result.history[-1].tracked == track(model, x, y, TINY, pool, seed=RUN.seed)
        for eps, figure in (TINY.eps, "fgsm"), (TINY.small_eps, "fgsm_small"):
            x_adv = mdb.robust.fgsm(model, x, y, eps)
            assert getattr(result.history[-1].tracked, figure) == 100 * np.mean(predict(model, x_adv) == y)
    assert len({epoch.tracked for epoch in result.history}) > 1


def test_a_larger_eps_never_leaves_more_under_the_strongest_attacks(executed: Executed) -> None:
    result, _, _ = executed
    small, large = result.by_eps
    assert (small.eps, large.eps) == (0.1, 0.3)
    for accuracies in result.by_eps:
        assert result.clean >= accuracies.apgd_ce >= accuracies.apgd_dlr >= accuracies.square >= accuracies.worst_case
    assert small.worst_case >= large.worst_case
    assert result.at(0.3) == large
    assert large.fgsm == result.fgsm
    with pytest.raises(ValueError, match=r"was judged at eps \[0.1, 0.3\]; got 0.2"):
        result.at(0.2)


def test_a_divergence_comes_out(mnist: Dataset) -> None:
    with workers(1) as pool, pytest.raises(DivergenceError, match=r"epoch 1.*step 2.*lambda 2\.5"):
        execute(DIVERGES, mnist, pool, JUDGE, lambda work, what: None)


# -- stopped, and gone on with --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 9, 10, 20, 25, 26, 30])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    executed: Executed, mnist: Dataset, tmp_path: Path, steps: int
) -> None:
    """After so many reports: in the first epoch (nothing is kept), at its end, in the second, while it is judged."""
    result, model, without_stop = executed
    checkpoint, left, said = tmp_path / "checkpoint", [None] * steps, []

    def stopping(work: float, what: str) -> None:
        if has_news(work, what):
            left.pop()
        if not left:
            raise Stopped

    def note(work: float, what: str) -> None:
        if has_news(work, what):
            said.append(what)

    with workers(1) as pool:
        with pytest.raises(Stopped):
            execute(RUN, mnist, pool, JUDGE, stopping, checkpoint)
        assert checkpoint.exists() == (steps > 1 + EPOCH)
        again, twin = execute(RUN, mnist, pool, JUDGE, note, checkpoint)
    assert bits(twin) == bits(model)
    assert without_time(again) == without_time(result)
    epochs_again = {1: 3, 2: 3, 9: 3, 10: 2, 20: 1, 25: 1, 26: 0, 30: 0}[steps]  # whole epochs are not trained again
    assert len(said) == len(without_stop) - (3 - epochs_again) * EPOCH


def test_what_an_earlier_process_did_counts_as_done(mnist: Dataset, tmp_path: Path) -> None:
    checkpoint, stop = tmp_path / "checkpoint", tmp_path / "stop"
    heartbeat = Heartbeat(RUN, tmp_path, stop, JUDGE)
    with workers(1) as pool:
        with pytest.raises(Stopped):
            execute(RUN, mnist, pool, JUDGE, lambda work, what: stop.touch() or heartbeat(work, what), checkpoint)
        stop.unlink()
        execute(RUN, mnist, pool, JUDGE, lambda work, what: None, checkpoint)
        later = Heartbeat(RUN, tmp_path, stop, JUDGE)
        execute(RUN, mnist, pool, JUDGE, later, checkpoint)
    assert later.first is not None
    assert later.first[1] == pytest.approx(3 * Cost(RUN, JUDGE).epoch)
    assert later.done == pytest.approx(Cost(RUN, JUDGE).total)


# -- in a folder ----------------------------------------------------------------------------------------------------


def test_a_run_is_performed_once(executed: Executed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    honest = Heartbeat.__call__

    def watched(heartbeat: Heartbeat, work: float, what: str) -> None:
        honest(heartbeat, work, what)
        seen.update(files(tmp_path))

    monkeypatch.setattr(Heartbeat, "__call__", watched)
    assert perform(RUN, tmp_path, JUDGE, None, 2, tmp_path / "stop") == "finished"
    assert {".progress.json", ".checkpoint.safetensors", ".lock"} <= seen
    assert files(tmp_path) == {".json", ".safetensors"}
    result, model, _ = executed
    assert without_time(find(RUN, tmp_path)) == without_time(result)
    assert bits(load_model(tmp_path / f"{RUN.name}.safetensors")[0]) == bits(model)

    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(module, "execute", None)  # nothing is trained again
    assert perform(RUN, tmp_path, JUDGE, None, 2, tmp_path / "stop") == "finished"
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Path], None]]:
    """Have the stop file made by the run's report of this number."""
    honest = Heartbeat.__call__

    def set_up(reports: int, stop: Path) -> None:
        left = [None] * reports

        def counted(heartbeat: Heartbeat, work: float, what: str) -> None:
            if has_news(work, what):
                left.pop()
            if not left:
                stop.touch()
            honest(heartbeat, work, what)

        monkeypatch.setattr(Heartbeat, "__call__", counted)

    yield set_up
    monkeypatch.setattr(Heartbeat, "__call__", honest)


def test_a_stopped_run_leaves_its_checkpoint_and_goes_on(
    executed: Executed, tmp_path: Path, stop_after: Callable[[int, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    stop_after(2 + EPOCH, stop)  # in the second epoch
    assert perform(RUN, tmp_path, JUDGE, None, 1, stop) == "stopped"
    assert files(tmp_path) - {".lock"} == {".checkpoint.safetensors", "stop"}
    stop.unlink()
    stop_after(100, stop)
    assert perform(RUN, tmp_path, JUDGE, None, 1, stop) == "finished"
    assert files(tmp_path) == {".json", ".safetensors"}
    result, model, _ = executed
    assert without_time(find(RUN, tmp_path)) == without_time(result)
    assert bits(load_model(tmp_path / f"{RUN.name}.safetensors")[0]) == bits(model)


def test_a_run_that_another_trains_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "execute", None)
    heartbeat = tmp_path / f"{RUN.name}.progress.json"
    heartbeat.write_text("the other's")
    with FileLock(tmp_path / f"{RUN.name}.lock"):
        assert perform(RUN, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "busy"
    assert heartbeat.read_text() == "the other's"


def test_a_divergence_is_kept_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert perform(DIVERGES, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "diverged"
    assert {p.name for p in tmp_path.iterdir()} == {f"{DIVERGES.name}.json"}
    found = find(DIVERGES, tmp_path)
    assert isinstance(found, DivergedRun)
    assert (found.diverged.epoch, found.diverged.step) == (1, 2)
    assert "lambda 2.5" in found.diverged.message
    assert found.environment.python
    monkeypatch.setattr(module, "execute", None)
    assert perform(DIVERGES, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "diverged"


@pytest.mark.parametrize("changes", [{}, {"adversarial_training": True}])
def test_a_divergence_at_the_very_last_step_is_one(changes: dict[str, Any], tmp_path: Path) -> None:
    """No later step sees that the weights overflow; it must not stop the sweep as an error of another kind would."""
    last = {"learning_rate": 1e9, "max_epochs": 1, "n_train": 32}
    run = dataclasses.replace(RUN, protocol=dataclasses.replace(TINY, **last, **changes))
    assert perform(run, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "diverged"
    found = find(run, tmp_path)
    assert isinstance(found, DivergedRun)
    assert (found.diverged.epoch, found.diverged.step) == (1, 1)
    assert "lambda 2.5" in found.diverged.message


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_a_divergence_of_adversarial_training_is_one(attack: str, tmp_path: Path) -> None:
    changes = {"adversarial_training": True, "training_attack": attack}
    run = dataclasses.replace(DIVERGES, protocol=dataclasses.replace(DIVERGES.protocol, **changes))
    assert perform(run, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "diverged"


def test_a_process_trains_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Dask worker of two threads would try two: BLAS has one number of threads for both, and bits depend on it."""
    begun, end = threading.Event(), threading.Event()

    def waiting(*arguments: Any) -> Any:
        begun.set()
        assert end.wait(30)
        raise Stopped

    monkeypatch.setattr(module, "execute", waiting)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(perform, RUN, tmp_path, JUDGE, None, 1, tmp_path / "stop")
        assert begun.wait(30)
        with pytest.raises(RunError, match=r"trains another run already: .*--nthreads 1"):
            perform(dataclasses.replace(RUN, seed=4), tmp_path, JUDGE, None, 1, tmp_path / "stop")
        end.set()
        assert first.result() == "stopped"
    assert perform(RUN, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "stopped"


def test_another_error_comes_out_and_frees_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(run: Run, mnist: Dataset, pool: Any, judge: Any, report: Any, checkpoint: Path) -> Any:
        report(1.0, "on")
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "execute", failing)
    with pytest.raises(OSError, match="the disk is full"):
        perform(RUN, tmp_path, JUDGE, None, 1, tmp_path / "stop")
    assert files(tmp_path) <= {".lock"}
    with FileLock(tmp_path / f"{RUN.name}.lock").acquire(blocking=False):
        pass


def test_a_progress_file_that_cannot_be_removed_does_not_keep_the_lock(
    executed: Executed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*_: Any) -> Outcome:
        (tmp_path / f"{RUN.name}.progress.json").mkdir()
        return executed[0]

    monkeypatch.setattr(module, "_train_and_keep", finish)
    monkeypatch.setattr(module, "clear", lambda *_: None)
    with pytest.raises(OSError, match="progress"):
        perform(RUN, tmp_path, JUDGE, None, 1, tmp_path / "stop")
    assert files(tmp_path) == {".progress.json"}
    with FileLock(tmp_path / f"{RUN.name}.lock").acquire(blocking=False):
        pass


def test_leftovers_of_the_killed_are_swept_away(executed: Executed, tmp_path: Path) -> None:
    mine = [
        tmp_path / f"{RUN.name}.{end}.abcd1234.part"
        for end in ("json", "safetensors", "checkpoint.safetensors", "progress.json")
    ]
    other = tmp_path / f"{dataclasses.replace(RUN, seed=4).name}.safetensors.abcd1234.part"
    for path in [*mine, other]:
        path.touch()
    assert perform(RUN, tmp_path, JUDGE, None, 2, tmp_path / "stop") == "finished"
    assert not any(path.exists() for path in mine)
    assert other.exists()  # somebody may be writing it


def test_a_folder_that_a_worker_does_not_see(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not see the folder .*none: all workers need it under the same path"):
        perform(RUN, tmp_path / "none", JUDGE, None, 1, tmp_path / "stop")
    assert list(tmp_path.iterdir()) == []


# -- other data than MNIST ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mine() -> Dataset:
    rng, y = np.random.default_rng(0), np.arange(60) % 3
    x = np.clip(rng.random((3, 6, 5, 3))[y] + 0.2 * rng.random((60, 6, 5, 3)), 0, 1)
    return Dataset.from_arrays(x, y, x[:21], y[:21], name="mine.npz")


@pytest.fixture(scope="module")
def on_mine(mine: Dataset) -> Run:
    protocol = dataclasses.replace(TINY, n_train=50, n_validation=10, n_test=21, learning_rate=0.01)
    return dataclasses.replace(RUN, protocol=protocol, data=mine.identity)


def test_a_run_on_other_data(mine: Dataset, on_mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "data_in", lambda path: mine)
    worked: list[float] = []
    with workers(1) as pool:
        result, model = execute(on_mine, mine, pool, JUDGE, lambda work, what: worked.append(work))
    assert result.clean > 90
    assert [len(shares) for shares in result.per_class.values()] == [3, 3, 3]
    assert sum(worked) == pytest.approx(Cost(on_mine, JUDGE).total)  # the progress ends at 100%
    assert perform(on_mine, tmp_path, JUDGE, None, 1, tmp_path / "stop") == "finished"
    found = find(on_mine, tmp_path)
    assert without_time(found) == without_time(result)
    assert bits(load_model(on_mine.file(tmp_path, "safetensors"))[0]) == bits(model)
    assert trained_on(on_mine.file(tmp_path, "safetensors")) == ("mine.npz", mine.digest)


def test_data_that_changed_are_not_trained_on(
    mine: Dataset, on_mine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "data_in", lambda path: dataclasses.replace(mine, digest="00ff"))
    with pytest.raises(RunError, match=r"belongs to mine\.npz with the SHA-256 .*; the data are mine\.npz with 00ff"):
        perform(on_mine, tmp_path, JUDGE, None, 1, tmp_path / "stop")

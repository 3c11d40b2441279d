"""How far a sweep is: what runs say of themselves in their folder, and what a watcher makes of it."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from minidbp.diagnosis.judge import JUDGE
from minidbp.sweeps import monitor as progress
from minidbp.sweeps.cost import Cost
from minidbp.sweeps.monitor import Beacon, Running, State, Stopped, Watch, left, view
from minidbp.sweeps.runs import Run, RunError, keep_result
from minidbp.training import Protocol

RUNS = [Run("C", lam, seed, Protocol(max_epochs=3, stop_rule="none")) for lam in (0.0, 10.0) for seed in (0, 1)]
PLAIN, PENALISED = Cost(RUNS[0], JUDGE).total, Cost(RUNS[2], JUDGE).total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `progress` reads: the last of these."""
    times = [1000.0]
    monkeypatch.setattr(progress.time, "time", lambda: times[-1])
    return times


def said(run: Run, home: Path) -> dict[str, Any]:
    return json.loads((home / f"{run.name}.progress.json").read_text())


def files(home: Path) -> list[str]:
    return sorted(p.name for p in home.iterdir())


# -- a run says how far it is ---------------------------------------------------------------------------------------


def test_a_beacon_appears_and_vanishes(tmp_path: Path, clock: list[float]) -> None:
    beacon = Beacon(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    assert files(tmp_path) == []
    beacon(0.0, "beginning")
    clock.append(1002.0)
    beacon(0.25 * PLAIN, "epoch 1")
    assert files(tmp_path) == [f"{RUNS[0].name}.progress.json"]
    assert said(RUNS[0], tmp_path) == {
        "done": 0.25 * PLAIN, "total": PLAIN, "speed": pytest.approx(0.125 * PLAIN), "what": "epoch 1", "time": 1002.0,
    }  # fmt: skip
    beacon.remove()
    beacon.remove()  # again does no harm
    assert files(tmp_path) == []


def test_a_beacon_writes_no_more_often_than_once_a_second_and_loses_no_work(tmp_path: Path, clock: list[float]) -> None:
    beacon = Beacon(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    for moment, what, seen in (
        (1000.0, "a", "a"), (1000.5, "b", "a"), (1000.9, "c", "a"), (1001.0, "d", "d"), (1001.5, "e", "d"),
    ):  # fmt: skip
        clock.append(moment)
        beacon(1.0, what)
        assert said(RUNS[0], tmp_path)["what"] == seen
    assert said(RUNS[0], tmp_path)["done"] == 4.0


def test_the_speed_does_not_count_what_an_earlier_process_did(tmp_path: Path, clock: list[float]) -> None:
    beacon = Beacon(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    beacon(100.0, "beginning")
    clock.append(1010.0)
    beacon(20.0, "epoch 2")
    assert said(RUNS[0], tmp_path)["done"] == 120.0
    assert said(RUNS[0], tmp_path)["speed"] == pytest.approx(2.0)


def test_the_stop_file_stops(tmp_path: Path) -> None:
    beacon = Beacon(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    beacon(1.0, "on")
    (tmp_path / "stop").touch()
    with pytest.raises(Stopped):
        beacon(1.0, "on")


# -- a watcher ------------------------------------------------------------------------------------------------------


def signal(run: Run, home: Path, share: float, speed: float = 2.0, silence: float = 0.0, **changes: Any) -> None:
    total = Cost(run, JUDGE).total
    found = {"done": share * total, "total": total, "speed": speed, "what": "epoch 1", "time": time.time() - silence}
    (home / f"{run.name}.progress.json").write_text(json.dumps({**found, **changes}))


def test_nothing_has_begun(tmp_path: Path) -> None:
    assert Watch(RUNS, tmp_path, JUDGE).state() == State(4, 0, 0, [], 0.0, None)


def test_no_runs_are_all_done(tmp_path: Path) -> None:
    assert Watch([], tmp_path, JUDGE).state() == State(0, 0, 0, [], 1.0, None)


def test_finished_diverged_and_running(
    tmp_path: Path, made_up: Callable[..., dict[str, Any]], clock: list[float]
) -> None:
    watch = Watch(RUNS, tmp_path, JUDGE)
    keep_result(made_up(RUNS[0]), RUNS[0], tmp_path)
    where = {"epoch": 1, "step": 2, "message": "training diverged"}
    keep_result({**RUNS[2].identity(), "diverged": where, "environment": {}}, RUNS[2], tmp_path)
    signal(RUNS[1], tmp_path, 0.5, speed=3.0, silence=7.0)
    signal(RUNS[3], tmp_path, 0.25, speed=1.0, silence=progress.QUIET + 1)
    state = watch.state()
    assert (state.total, state.finished, state.diverged) == (4, 1, 1)
    one, quiet = state.running
    assert one == Running("model C, lambda 0, seed 1", 0.5, 3.0, "epoch 1", pytest.approx(7.0))
    assert quiet.label == "model C, lambda 10, seed 1"
    total, done = 2 * PLAIN + 2 * PENALISED, 1.5 * PLAIN + 1.25 * PENALISED
    assert state.share == pytest.approx(done / total)
    assert state.seconds_left == pytest.approx((total - done) / 3.0)  # the quiet one may be gone

    (tmp_path / f"{RUNS[1].name}.progress.json").unlink()
    keep_result(made_up(RUNS[1]), RUNS[1], tmp_path)
    keep_result(made_up(RUNS[3]), RUNS[3], tmp_path)  # its progress file was left by a kill
    assert watch.state() == State(4, 3, 1, [], pytest.approx(1.0), None)


def test_a_run_beyond_the_epochs_that_were_expected_is_not_more_than_all_of_it(tmp_path: Path) -> None:
    """Under the paper's stop rule 20 epochs are expected, and up to 100 may come."""
    signal(RUNS[0], tmp_path, 3.5)
    state = Watch(RUNS[:1], tmp_path, JUDGE).state()
    assert state.running[0].share == 1.0
    assert state.share == 1.0
    assert state.seconds_left == 0.0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"3", b"{}", b'{"done": 1}', b"\xff", b'{"done": "1", "total": 1}', b"[" * 100_000,
        b'{"done": 1, "total": 2, "speed": "fast", "what": "", "time": 0}',
        b'{"done": 1, "total": 2, "speed": NaN, "what": "", "time": 0}', None,
    ],
    ids=lambda content: repr(content)[:40],
)  # fmt: skip
def test_a_sign_of_life_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / f"{RUNS[0].name}.progress.json"
    if content is None:
        signal(RUNS[0], tmp_path, 0.5, total=0)
    else:
        path.write_bytes(content)
    assert Watch(RUNS, tmp_path, JUDGE).state() == State(4, 0, 0, [], 0.0, None)


def test_a_bad_result_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{RUNS[0].name}.json").write_text("{")
    with pytest.raises(RunError, match="move it away"):
        Watch(RUNS, tmp_path, JUDGE).state()


# -- for a terminal -------------------------------------------------------------------------------------------------


def shown(state: State, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(view(state, "Table 2, preset tiny"))
    return capture.get()


def test_the_view_says_it_all() -> None:
    running = [
        Running("model C, lambda 10, seed 1", 0.5, 3.0, "epoch 7, step 3/9, validation 96.40%", 1.0),
        Running("model A, lambda 0, seed 0", 0.25, 3.0, "PGD", 200.0),
    ]
    text = shown(State(9, 3, 1, running, 0.4567, 3725.0))
    title, head, first, second = text.splitlines()
    assert title.strip() == "Table 2, preset tiny"
    for word in ("46%", "3 of 9 runs finished, 1 diverged", "62 min left"):
        assert word in head
    assert "model C, lambda 10, seed 1: 50%, epoch 7, step 3/9, validation 96.40%" in first
    assert "no news" not in first
    assert "model A, lambda 0, seed 0: 25%, PGD (no news for 200 s)" in second
    calm = shown(State(9, 3, 0, [], 0.4567, None))
    assert "diverged" not in calm
    assert "left" not in calm


def test_the_view_fits_a_narrow_terminal() -> None:
    running = [Running("model C, lambda 10, penalty_target softmax, seed 1", 0.5, 3.0, "epoch 70, step 300/430", 1.0)]
    lines = shown(State(9, 3, 1, running, 0.5, 3600.0), width=60).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert "lambda 10" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0.0, "0 s left"), (59.4, "59 s left"), (119.0, "119 s left"), (120.0, "2 min left"),
        (7199.0, "120 min left"), (7200.0, "2 h left"), (3600 * 47.9, "48 h left"), (86_400 * 2.0, "2 days left"),
        (86_400 * 12.4, "12 days left"),
    ],
)  # fmt: skip
def test_left(seconds: float | None, text: str) -> None:
    assert left(seconds) == text


def test_states_go_to_json() -> None:
    state = State(2, 1, 0, [Running("C", 0.5, 1.0, "PGD", 0.0)], 0.75, None)
    back = json.loads(json.dumps(dataclasses.asdict(state), allow_nan=False))
    assert back["running"][0]["share"] == 0.5
    assert back["seconds_left"] is None

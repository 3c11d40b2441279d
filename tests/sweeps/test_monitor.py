"""How far a sweep is: what runs say of themselves in their folder, and what a watcher makes of it."""

import dataclasses
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from minidbp.diagnosis.evidence import evidence_passes
from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.sweeps import monitor as module
from minidbp.sweeps.monitor import (
    Cost,
    Heartbeat,
    Interrupted,
    Running,
    State,
    Stopped,
    SweepMonitor,
    as_line,
    left,
    multiply_adds,
    plain_lines,
    view,
)
from minidbp.sweeps.runs import DivergedRun, Divergence, Run, RunResult, keep
from minidbp.training import Epoch, Protocol, save_checkpoint
from minidbp.training.environment import environment

RUNS = [Run("C", lam, seed, Protocol(max_epochs=3, stop_rule="none")) for lam in (0.0, 10.0) for seed in (0, 1)]
PLAIN, PENALISED = Cost(RUNS[0], JUDGE).total, Cost(RUNS[2], JUDGE).total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What both clocks of the module show: the last of these."""
    times = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: times[-1], monotonic=lambda: times[-1]))
    return times


def said(run: Run, run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / f"{run.name}.progress.json").read_text())


def files(run_dir: Path) -> list[str]:
    return sorted(p.name for p in run_dir.iterdir())


SHORT = Protocol(stop_rule="none", max_epochs=3, n_train=100, n_test=50, n_tracked=20, pgd_steps=7, pgd_restarts=2)


# -- the work of a run, against counting by hand ------------------------------------------------------------------


@pytest.mark.parametrize(("model", "expected"), [("A", 8_586_496), ("B", 14_748_928), ("C", 566_528)])
def test_multiply_adds_are_those_of_the_design(model: str, expected: int) -> None:
    assert multiply_adds(model, "same_first") == expected
    assert Cost(Run(model, 0.0, 0, SHORT), JUDGE).forward == pytest.approx(2e-9 * expected)


def passes(lam: float, **changes: object) -> float:
    """The training of one image, in forward passes."""
    cost = Cost(Run("C", lam, 0, dataclasses.replace(SHORT, **changes)), JUDGE)
    return cost.train_image / cost.forward


@pytest.mark.parametrize(
    ("lam", "changes", "expected"),
    [
        (0.0, {}, 3),  # forward, and two adjoints
        (10.0, {}, 33),  # the same for each of ten rows of J
        (10.0, {"penalty": "summed_jacobian_l1"}, 6),  # one row
        (10.0, {"penalty": "loss_gradient_l2"}, 6),
        (0.0, {"adversarial_training": True}, 9),  # twice, and FGSM's forward pass and two adjoints
        (10.0, {"adversarial_training": True, "penalty": "summed_jacobian_l1"}, 15),
        (0.0, {"adversarial_training": True, "training_attack": "pgd", "training_attack_steps": 7}, 27),
        (0.0, {"training_attack": "pgd", "training_attack_steps": 7}, 3),  # not in plain training
    ],
)
def test_passes_of_a_training_image(lam: float, changes: dict[str, object], expected: float) -> None:
    assert passes(lam, **changes) == pytest.approx(expected)


def test_the_cost_of_an_exact_step() -> None:
    """72.3, 124.4 and 4.7 GFLOP for a step of 128 images, if every unit counts."""
    for model, gflop in ("A", 72.3), ("B", 124.4), ("C", 4.7):
        assert 128 * Cost(Run(model, 10.0, 0, SHORT), JUDGE).train_image == pytest.approx(gflop, rel=0.05)


def test_a_run_is_its_epochs_and_its_judging() -> None:
    cost = Cost(Run("C", 0.0, 0, SHORT), JUDGE)
    pgd, strongest = 2 * 7 * 2, 2 * 2 * 100 * 5 + 5000  # forward and backward; APGD for two losses, Square
    epoch = 100 * 3 + 20 * (1 + 2 * (3 + pgd) + 11)  # training; clean, FGSM and PGD at two eps, and J
    judging = 50 * (
        1 + 3 + pgd + 4 * 3 + 3 * strongest + evidence_passes(SHORT, 10)
    )  # which has the protocol's own eps
    assert cost.total == pytest.approx((3 * epoch + judging) * cost.forward)
    assert cost.epoch == pytest.approx(epoch * cost.forward)


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({}, 3),
        ({"stop_rule": "absolute", "max_epochs": 100}, 20),  # as the paper reports
        ({"stop_rule": "absolute", "max_epochs": 12}, 12),
        ({"stop_rule": "signed", "max_epochs": 100, "min_epochs": 4}, 8),
    ],
)
def test_a_stop_rule_is_thought_to_end_as_the_papers(changes: dict[str, object], epochs: int) -> None:
    cost, none = (
        Cost(Run("C", 0.0, 0, dataclasses.replace(SHORT, **c)), JUDGE)
        for c in (changes, {**changes, "stop_rule": "none", "max_epochs": epochs})
    )
    assert cost.total == pytest.approx(none.total)


# -- a run says how far it is ---------------------------------------------------------------------------------------


def test_a_heartbeat_appears_and_vanishes(tmp_path: Path, clock: list[float]) -> None:
    heartbeat = Heartbeat(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    assert files(tmp_path) == []
    heartbeat(0.0, "beginning")
    clock.append(1002.0)
    heartbeat(0.25 * PLAIN, "epoch 1")
    assert files(tmp_path) == [f"{RUNS[0].name}.progress.json"]
    assert said(RUNS[0], tmp_path) == {
        "done": 0.25 * PLAIN, "total": PLAIN, "speed": pytest.approx(0.125 * PLAIN), "what": "epoch 1", "time": 1002.0,
    }  # fmt: skip
    heartbeat.remove()
    heartbeat.remove()  # again does no harm
    assert files(tmp_path) == []


def test_a_heartbeat_writes_at_most_once_a_second_and_loses_no_work(tmp_path: Path, clock: list[float]) -> None:
    heartbeat = Heartbeat(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    for moment, what, seen in (
        (1000.0, "a", "a"), (1000.5, "b", "a"), (1000.9, "c", "a"), (1001.0, "d", "d"), (1001.5, "e", "d"),
    ):  # fmt: skip
        clock.append(moment)
        heartbeat(1.0, what)
        assert said(RUNS[0], tmp_path)["what"] == seen
    assert said(RUNS[0], tmp_path)["done"] == 4.0


def test_the_speed_does_not_count_what_an_earlier_process_did(tmp_path: Path, clock: list[float]) -> None:
    heartbeat = Heartbeat(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    heartbeat(100.0, "beginning")
    clock.append(1010.0)
    heartbeat(20.0, "epoch 2")
    assert said(RUNS[0], tmp_path)["done"] == 120.0
    assert said(RUNS[0], tmp_path)["speed"] == pytest.approx(2.0)


def test_a_clock_that_is_set_back_stops_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = Heartbeat(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    for date, seconds in (1e9, 0.0), (1e9 - 86_400, 2.0):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda d=date: d, monotonic=lambda s=seconds: s))
        heartbeat(1.0, f"at {seconds}")
    assert said(RUNS[0], tmp_path)["what"] == "at 2.0"
    assert said(RUNS[0], tmp_path)["speed"] == pytest.approx(0.5)


def test_the_stop_file_stops(tmp_path: Path) -> None:
    heartbeat = Heartbeat(RUNS[0], tmp_path, tmp_path / "stop", JUDGE)
    heartbeat(1.0, "on")
    (tmp_path / "stop").touch()
    with pytest.raises(Stopped):
        heartbeat(1.0, "on")


# -- a watcher ------------------------------------------------------------------------------------------------------


@pytest.fixture
def locks() -> Iterator[ExitStack]:
    """Locks that runs in training hold; closed by the test or at its end."""
    with ExitStack() as stack:
        yield stack


def signal(
    run: Run, run_dir: Path, share: float, locks: ExitStack, speed: float = 2.0, silence: float = 0.0, **changes: Any
) -> None:
    """What a run in training has in its folder."""
    locks.enter_context(FileLock(run.file(run_dir, "lock")))
    total = Cost(run, JUDGE).total
    found = {
        "done": share * total,
        "total": total,
        "speed": speed,
        "what": "epoch 1",
        "time": module.time.time() - silence,
    }
    (run_dir / f"{run.name}.progress.json").write_text(json.dumps({**found, **changes}))


def test_nothing_has_begun(tmp_path: Path) -> None:
    assert SweepMonitor(RUNS, tmp_path, JUDGE).state() == State(4, 0, 0, [], [], 0.0, None)


def test_no_runs_are_all_done(tmp_path: Path) -> None:
    assert SweepMonitor([], tmp_path, JUDGE).state() == State(0, 0, 0, [], [], 1.0, None)


def test_finished_diverged_and_running(
    tmp_path: Path, made_up: Callable[..., RunResult], clock: list[float], locks: ExitStack
) -> None:
    monitor = SweepMonitor(RUNS, tmp_path, JUDGE)
    keep(made_up(RUNS[0]), tmp_path)
    keep(DivergedRun(run=RUNS[2], diverged=Divergence(1, 2, "training diverged"), environment=environment()), tmp_path)
    signal(RUNS[1], tmp_path, 0.5, locks, speed=3.0, silence=7.0)
    signal(RUNS[3], tmp_path, 0.25, locks, speed=1.0, silence=module.QUIET + 1)
    state = monitor.state()
    assert (state.total, state.finished, state.diverged) == (4, 1, 1)
    one, quiet = state.running
    assert one == Running("model C, lambda 0, seed 1", 0.5, 3.0, "epoch 1", pytest.approx(7.0))
    assert quiet.label == "model C, lambda 10, seed 1"
    total, done = 2 * PLAIN + 2 * PENALISED, 1.5 * PLAIN + 1.25 * PENALISED
    assert state.share == pytest.approx(done / total)
    assert state.seconds_left == pytest.approx((total - done) / 3.0)  # the quiet one may be gone

    (tmp_path / f"{RUNS[1].name}.progress.json").unlink()
    keep(made_up(RUNS[1]), tmp_path)
    keep(made_up(RUNS[3]), tmp_path)  # its progress file was left by a kill
    assert monitor.state() == State(4, 3, 1, [], [], pytest.approx(1.0), None)


def test_a_heartbeat_that_changed_is_news_whatever_the_clocks_say(
    tmp_path: Path, clock: list[float], locks: ExitStack
) -> None:
    """The clock of the other machine is wrong by 400 days."""
    clock.append(1e9)
    monitor, wrong = SweepMonitor(RUNS[:1], tmp_path, JUDGE), 400 * 86_400.0
    signal(RUNS[0], tmp_path, 0.25, locks, time=clock[-1] - wrong)
    assert monitor.state().running[0].silence == pytest.approx(wrong)  # nothing else is known yet
    locks.close()
    clock.append(clock[-1] + 5.0)
    signal(RUNS[0], tmp_path, 0.5, locks, time=clock[-1] - wrong)
    assert monitor.state().running[0].silence == 0.0
    clock.append(clock[-1] + 150.0)
    assert monitor.state().running[0].silence == 150.0
    assert "no news for 150 s" in shown(monitor.state())


def test_a_killed_run_is_stopped_where_its_lock_cannot_be_removed(
    tmp_path: Path, locks: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows no open file can be, and in some folders no other user's file."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monitor = SweepMonitor(RUNS[:1], tmp_path, JUDGE)
    signal(RUNS[0], tmp_path, 0.5, locks)
    locks.close()
    monkeypatch.setattr(Path, "unlink", refuse)
    assert monitor.state().running == []


def test_a_killed_run_is_stopped_at_once_after_its_last_whole_epoch(tmp_path: Path, locks: ExitStack) -> None:
    run = Run("C", 0.0, 0, dataclasses.replace(SHORT, n_train=32, n_validation=50, batch_size=32))
    monitor, cost = SweepMonitor([run], tmp_path, JUDGE), Cost(run, JUDGE)
    signal(run, tmp_path, 0.5, locks)
    assert [r.share for r in monitor.state().running] == [0.5]
    locks.close()  # as the system does when the process is killed
    state = monitor.state()
    assert state == State(1, 0, 0, [], [Interrupted("model C, lambda 0, seed 0", 0, 0.0)], 0.0, None)
    assert "stopped in its first epoch" in shown(state)

    training = run.start()
    training.history += [Epoch(k + 1, 1.0, 1.0, 50.0, None, 1.0) for k in range(2)]
    training.adam.t = 2
    save_checkpoint(run.file(tmp_path, "checkpoint.safetensors"), training, run.identity())
    for _ in range(2):  # also after Ctrl-C, which leaves the checkpoint only
        state = monitor.state()
        assert state.stopped == [
            Interrupted("model C, lambda 0, seed 0", 2, pytest.approx(2 * cost.epoch / cost.total))
        ]
        assert state.share == state.stopped[0].share
        assert "stopped after epoch 2" in shown(state)
        run.file(tmp_path, "progress.json").unlink(missing_ok=True)
    with FileLock(run.file(tmp_path, "lock")):  # resumed, before the first heartbeat
        state = monitor.state()
    assert ([r.what for r in state.running], state.stopped) == (["beginning"], [])
    run.file(tmp_path, "checkpoint.safetensors").write_bytes(b"PK")
    assert monitor.state().stopped == []


def test_the_test_of_a_lock_disturbs_nobody(tmp_path: Path, locks: ExitStack) -> None:
    signal(RUNS[0], tmp_path, 0.5, locks)
    for _ in range(3):
        assert len(SweepMonitor(RUNS, tmp_path, JUDGE).state().running) == 1
    locks.close()
    SweepMonitor(RUNS, tmp_path, JUDGE).state()
    with FileLock(RUNS[0].file(tmp_path, "lock"), blocking=False):  # nobody holds it
        pass
    assert not [name for name in files(tmp_path) if name.endswith(".lock") and RUNS[1].name in name]


def test_a_run_beyond_the_epochs_that_were_expected_is_not_more_than_all_of_it(
    tmp_path: Path, locks: ExitStack
) -> None:
    """Under the paper's stop rule 20 epochs are expected, and up to 100 may come."""
    signal(RUNS[0], tmp_path, 3.5, locks)
    state = SweepMonitor(RUNS[:1], tmp_path, JUDGE).state()
    assert state.running[0].share == 1.0
    assert state.share == 1.0
    assert state.seconds_left == 0.0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"3", b"{}", b'{"done": 1}', b"\xff", b'{"done": "1", "total": 1}', b"[" * 100_000,
        b'{"done": 1, "total": 2, "speed": "fast", "what": "", "time": 0}',
        b'{"done": 1, "total": 2, "speed": NaN, "what": "", "time": 0}', None,
        *(
            b'{"done": 1, "total": 2, "speed": 3, "what": "", "time": 0}'.replace(at, value)
            for at in (b"1", b"2", b"3", b"0") for value in (b"9" * 400, b"9" * 4000, b"1e308", b"-1", b"1e400")
        ),
        b'{"done": 1, "done": 1, "total": 2, "speed": 3, "what": "", "time": 0}',
        b'{"done": 1, "total": 2, "speed": 3, "what": "' + b"x" * 4096 + b'", "time": 0}',
    ],
    ids=lambda content: repr(content)[:40],
)  # fmt: skip
def test_a_sign_of_life_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None, locks: ExitStack) -> None:
    path = tmp_path / f"{RUNS[0].name}.progress.json"
    if content is None:
        signal(RUNS[0], tmp_path, 0.5, locks, total=0)
    else:
        path.write_bytes(content)
    assert SweepMonitor(RUNS, tmp_path, JUDGE).state() == State(4, 0, 0, [], [], 0.0, None)


@pytest.mark.parametrize("speed", [0.0, 1e-300, 1e-20])
def test_a_speed_of_nearly_nothing_tells_no_time(tmp_path: Path, speed: float, locks: ExitStack) -> None:
    """It was Infinity in `status --json`, which is no JSON."""
    signal(RUNS[0], tmp_path, 0.5, locks, speed=speed)
    assert SweepMonitor(RUNS, tmp_path, JUDGE).state().seconds_left is None


def test_a_pipe_for_a_sign_of_life_or_a_checkpoint_is_none(tmp_path: Path) -> None:
    for ending in "progress.json", "checkpoint.safetensors":
        os.mkfifo(RUNS[0].file(tmp_path, ending))
    assert SweepMonitor(RUNS, tmp_path, JUDGE).state() == State(4, 0, 0, [], [], 0.0, None)


def test_a_bad_result_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{RUNS[0].name}.json").write_text("{")
    state = SweepMonitor(RUNS, tmp_path, JUDGE).state()
    (message,) = state.damaged
    assert message.startswith("model C, lambda 0, seed 0: ")
    assert "move it away" in message
    assert RUNS[0].name in shown(state)


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
    text = shown(State(9, 3, 1, running, [], 0.4567, 3725.0))
    title, head, first, second = text.splitlines()
    assert title.strip() == "Table 2, preset tiny"
    for word in ("46%", "3 of 9 runs finished, 1 diverged", "62 min left"):
        assert word in head
    assert "model C, lambda 10, seed 1: 50%, epoch 7, step 3/9, validation 96.40%" in first
    assert "no news" not in first
    assert "model A, lambda 0, seed 0: 25%, PGD (no news for 200 s)" in second
    calm = shown(State(9, 3, 0, [], [], 0.4567, None))
    assert "diverged" not in calm
    assert "left" not in calm


def test_each_text_of_the_view_is_one_line() -> None:
    """What a run says of itself is read from a file."""
    text = "a[/b]\x1b[31m\n100%\r"
    console = Console(width=120)
    with console.capture() as capture:
        console.print(view(State(9, 3, 1, [Running(text, 0.5, 3.0, text, 1.0)], [], 0.5, None), text, text))
    lines = [line.strip() for line in capture.get().splitlines()]
    told = "a[/b]?[31m?100%?"
    assert (lines[0], *lines[2:]) == (told, f"{told}: 50%, {told}", f"waiting for {told}")


def test_the_view_fits_a_narrow_terminal() -> None:
    running = [Running("model C, lambda 10, penalty_target softmax, seed 1", 0.5, 3.0, "epoch 70, step 300/430", 1.0)]
    lines = shown(State(9, 3, 1, running, [], 0.5, 3600.0), width=60).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert "lambda 10" in lines[-2]
    assert lines[-1].endswith("step 300/430")  # nothing is cut


def test_a_line_says_it_all() -> None:
    running = [Running(f"C, seed {k}", 0.5, 3.0, "epoch 7, step 3/9", 1.0) for k in range(6)]
    assert as_line(State(9, 3, 1, running[:1], [], 0.4567, 3725.0), "Table 2") == (
        "Table 2: 46%, 3 of 9 runs finished, 1 diverged, 62 min left; C, seed 0: epoch 7, step 3/9"
    )
    assert as_line(State(1, 0, 0, running[:1], [], 0.5, None), "training C") == (
        "training C: 50%; C, seed 0: epoch 7, step 3/9"
    )
    assert as_line(State(9, 3, 0, running, [], 0.5, None), "T").endswith("; C, seed 3: epoch 7, step 3/9; and 2 others")


def test_plain_lines_come_on_time_where_nothing_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_LINE", 0.01)
    monkeypatch.setattr(module, "LINE_EVERY", 0.02)
    told = io.StringIO()
    with plain_lines(Console(file=told), lambda seconds: f"{100 * seconds:.0f} [b]"):
        until_said(told, 4)
    assert told.getvalue().splitlines()[:4] == ["1 [b]", "2 [b]", "4 [b]", "6 [b]"]
    assert "\x1b" not in told.getvalue()
    for silent in Console(file=io.StringIO(), force_terminal=True), Console(file=io.StringIO(), quiet=True):
        with plain_lines(silent, lambda seconds: "a line"):
            time.sleep(0.03)
        assert silent.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_reader_that_is_gone_ends_the_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_LINE", 0.01)
    closed = io.StringIO()
    closed.close()
    with plain_lines(Console(file=closed), lambda seconds: "a line"):
        time.sleep(0.03)


def until_said(told: io.StringIO, lines: int) -> None:
    deadline = time.monotonic() + 10
    while told.getvalue().count("\n") < lines:
        assert time.monotonic() < deadline
        time.sleep(0.005)


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
    state = State(2, 1, 0, [Running("C", 0.5, 1.0, "PGD", 0.0)], [], 0.75, None)
    back = json.loads(json.dumps(dataclasses.asdict(state), allow_nan=False))
    assert back["running"][0]["share"] == 0.5
    assert back["seconds_left"] is None

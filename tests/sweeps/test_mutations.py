"""Damaged JSON files of a sweep: each is refused by its one error, or read as what it was.

MINIDBP_TRIALS=10000 tries ten thousand of each format, for docs/files.md; the default is a tenth of it.
"""

import dataclasses
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from sweep_fixtures import TINY, diverged
from typer.testing import CliRunner

from minidbp.cli import app
from minidbp.diagnosis.judge import JUDGE
from minidbp.files.console import Console
from minidbp.files.digest import write_with_digest
from minidbp.paper import figures, report, tables
from minidbp.paper.experiments import TABLE2
from minidbp.sweeps import sweep
from minidbp.sweeps.monitor import Cost, Progress, State, SweepMonitor, as_line, view
from minidbp.sweeps.runs import Outcome, Run, RunError, RunResult, find, keep
from minidbp.sweeps.sweep import Sweep
from minidbp.training.checkpoint import checkpoint_epochs

TRIALS = int(os.environ.get("MINIDBP_TRIALS", "1000"))
PROTOCOL = dataclasses.replace(TINY, max_epochs=2)
RUN, OTHER = Run("C", 50.0, 1, PROTOCOL), Run("C", 0.0, 0, PROTOCOL)
Mutate = Callable[[bytes, np.random.Generator], bytes]
ODD = [
    0, -1, 1, 2, 3.5, -0.0, 1e-300, 1e99, 1e100, 1e308, 10**9, 10**39, 10**400, 2**63, 10**4000, None, True, False, "",
    "C", "4", "\x1b[2J\n", "[b]", "\ud800", "x" * 300, [], {}, [1], [[]], [None] * 9, {"a": 1}, "robust", 99.5, 100.0,
    0.0, 50.5, 1.0, 1e-100, 1e10, -1e100, -1e-100, 10, 3,
]  # fmt: skip


def altered(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of its parts left out, renamed, repeated or replaced by an odd one."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key, chance = rng.choice(list(value)), rng.random()
        if chance < 0.05:
            return {name: item for name, item in value.items() if name != key}
        if chance < 0.1:
            return {**value, rng.choice([*value, "x\n", "sha256", "format"]): value[key]}
        return {**value, key: altered(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.95:
        index, chance = rng.randrange(len(value)), rng.random()
        if chance < 0.1:
            return value[:index] + value[index : index + 1] * rng.choice([0, 2, 50]) + value[index + 1 :]
        return [*value[:index], altered(value[index], rng), *value[index + 1 :]]
    alike = [odd for odd in ODD if type(odd) is type(value)]
    return rng.choice(alike if alike and rng.random() < 0.8 else ODD)


@pytest.fixture
def mutations(mutated: Mutate) -> Callable[[bytes, bytes], Iterator[bytes]]:
    """TRIALS mutations of a JSON file, some of them spliced with another file.  None is one of the two."""

    def mutate(raw: bytes, other: bytes, rng: np.random.Generator, draw: random.Random) -> bytes:
        lines = raw.splitlines(keepends=True)
        first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
        match draw.randrange(8):
            case 0:  # another digit
                places = [place for place, letter in enumerate(raw) if letter in b"0123456789"]
                place = draw.choice(places)
                return raw[:place] + draw.choice(b"0123456789").to_bytes() + raw[place + 1 :]
            case 1:  # a name twice, or a line lost
                lines[first : first + 1] = lines[first : first + 1] * draw.choice([0, 2])
                return b"".join(lines)
            case 2:  # two lines change places: the other name, or another order
                lines[first], lines[second] = lines[second], lines[first]
                return b"".join(lines)
            case 3:  # begins as this file and ends as the other
                rest = other.splitlines(keepends=True)
                return b"".join([*lines[:first], *rest[min(second, len(rest)) :]])
            case 4:
                return json.dumps(altered(json.loads(raw), draw), indent=draw.choice([None, 1])).encode()
            case _:
                return mutated(raw, rng)

    def all_of_them(raw: bytes, other: bytes) -> Iterator[bytes]:
        rng, draw, made = np.random.default_rng(0), random.Random(0), 0
        while made < TRIALS:
            damaged = mutate(raw, other, rng, draw)
            if damaged not in (raw, other):
                made += 1
                yield damaged

    return all_of_them


@pytest.fixture
def outcomes(made_up: Callable[..., RunResult]) -> dict[str, Outcome]:
    result = made_up(RUN, epochs=2)
    return {"result": result, "diverged result": diverged(result)}


@pytest.mark.parametrize("kind", ["result", "diverged result"])
def test_results(
    kind: str, outcomes: dict[str, Outcome], made_up: Any, mutations: Any, faults: Any, tmp_path: Path
) -> None:
    keep(outcomes[kind], tmp_path)
    keep(made_up(OTHER, clean=50.0, epochs=2), tmp_path)
    path = RUN.file(tmp_path, "json")

    def read() -> None:
        assert find(RUN, tmp_path) == outcomes[kind]

    for damaged in mutations(path.read_bytes(), OTHER.file(tmp_path, "json").read_bytes()):
        path.write_bytes(damaged)
        faults.intact_or_refused(read, RunError)
    assert 0 < faults.intact < TRIALS / 20  # the same content, spelled in another way


def test_sweeps(mutations: Any, faults: Any, tmp_path: Path) -> None:
    whole = Sweep("table2", "Table 2", ["minidbp table2"], [OTHER, RUN], ["eps"], "--workers 2")
    for folder, one in (tmp_path, whole), (tmp_path / "b", dataclasses.replace(whole, runs=[RUN])):
        sweep.begin(one, folder)

    def read() -> None:
        assert sweep.load(tmp_path) == whole

    path = tmp_path / "sweep.json"
    for damaged in mutations(path.read_bytes(), (tmp_path / "b" / "sweep.json").read_bytes()):
        path.write_bytes(damaged)
        faults.intact_or_refused(read, RunError)
    assert 0 < faults.intact < TRIALS / 20


def assert_shown(monitor: SweepMonitor) -> State:
    """The state of a sweep, which has numbers that make sense, and can be shown and written as JSON."""
    state = monitor.state()
    json.dumps(dataclasses.asdict(state), allow_nan=False)
    assert 0 <= state.share <= 1
    assert state.seconds_left is None or 0 <= state.seconds_left <= 1e9
    assert len(as_line(state, "title")) < 10_000
    console = Console(width=100)
    with console.capture():
        console.print(view(state, "title"))
    return state


def test_signs_of_life(mutations: Any, tmp_path: Path) -> None:
    """They carry no digest, as they are written every second: a wrong one is no news, or wrong news for a second."""
    monitor, path = SweepMonitor([RUN], tmp_path, JUDGE), RUN.file(tmp_path, "progress.json")
    total = Cost(RUN, JUDGE).total
    sound, other = (
        json.dumps(dataclasses.asdict(Progress(share * total, total, 12.5, what, 1.8e9)), indent=1).encode()
        for share, what in ((0.5, "epoch 1, step 1/2"), (0.9, "PGD"))
    )
    slowest, shown = 0.0, 0
    with ExitStack() as locks:
        locks.enter_context(FileLock(RUN.file(tmp_path, "lock")))
        for damaged in mutations(sound, other):
            path.write_bytes(damaged)
            started = time.process_time()
            shown += assert_shown(monitor).running != []
            slowest = max(slowest, time.process_time() - started)
    print(f"\nsigns of life: {TRIALS - shown} no news, {shown} shown, slowest {1000 * slowest:.0f} ms")  # for the docs
    assert slowest < 1


def test_checkpoints_of_a_status(mutated: Mutate, tmp_path: Path) -> None:
    path, rng, state = tmp_path / "c.safetensors", np.random.default_rng(0), RUN.start()
    header = {"__metadata__": {"training": json.dumps({"epochs": [1, 2], "identity": RUN.identity()})}}
    text = json.dumps(header).encode()
    sound = len(text).to_bytes(8, "little") + text + bytes(state.model.parameters()[-1].data.nbytes)
    for _ in range(TRIALS):
        path.write_bytes(mutated(sound, rng))
        assert 0 <= checkpoint_epochs(path) < 100


def lies(sound: Any, trials: int) -> Iterator[dict[str, Any]]:
    """JSON objects with a few parts changed, as somebody could write them who also writes the right digest."""
    draw = random.Random(0)
    for _ in range(trials):
        lie = sound
        while lie == sound:
            for _ in range(draw.randrange(1, 4)):
                lie = altered(lie, draw)
        if isinstance(lie, dict):
            yield lie


def write_lie(path: Path, lie: dict[str, Any]) -> None:
    with suppress(ValueError):  # half a surrogate pair, infinity, 4,000 digits: no text, so the last file stays
        write_with_digest(path, lie)


def test_results_with_a_digest_of_their_own(made_up: Callable[..., RunResult], tmp_path: Path, faults: Any) -> None:
    """A digest is no signature: what is made up is refused, or shown as any other result."""
    runs = [Run("C", lam, seed, PROTOCOL) for lam in (0.0, 50.0) for seed in (0, 1)]
    told = Sweep("table2", "Table 2", ["minidbp table2"], runs)
    *others, last = [made_up(run, fgsm=20.0 + run.lam / 10 + run.seed, epochs=2) for run in runs]
    path = last.run.file(tmp_path, "json")

    def read() -> None:
        outcome = find(last.run, tmp_path)
        assert outcome
        outcome.in_words("a label")
        results = [*others, outcome]
        rows = tables.rows_of(TABLE2, results)
        json.dumps(tables.as_json(rows), allow_nan=False)
        tables.as_csv(rows)
        described = {"accuracy.png": figures.describe(rows, "lambda"), "epochs.png": figures.describe_epochs(rows)}
        report.as_markdown(told, rows, results, described)
        assert_shown(SweepMonitor([last.run], tmp_path, JUDGE))

    for lie in lies(json.loads(json.dumps(last.as_dict())), TRIALS // 4):
        write_lie(path, lie)
        faults.intact_or_refused(read, RunError)
    assert faults.intact > TRIALS / 50  # so the report was tried


def test_sweeps_with_a_digest_of_their_own(tmp_path: Path, faults: Any) -> None:
    sweep.begin(Sweep("table2", "Table 2", ["minidbp table2"], [OTHER, RUN], ["eps"]), tmp_path)
    path = tmp_path / "sweep.json"
    sound = json.loads(path.read_text())
    del sound["sha256"]

    def read() -> None:
        told = sweep.load(tmp_path)
        sweep.results_in(told, tmp_path)
        monitor = SweepMonitor(told.runs, tmp_path / "runs", JUDGE)
        assert_shown(monitor)
        told.to_go_on(tmp_path)

    for lie in lies(sound, TRIALS // 4):
        write_lie(path, lie)
        faults.intact_or_refused(read, RunError)


@pytest.mark.parametrize(("name", "damage"), [("status", "result"), ("status", "sweep"), ("report", "result")])
def test_a_command_says_it_in_one_sentence(
    name: str, damage: str, made_up: Callable[..., RunResult], mutations: Any, tmp_path: Path
) -> None:
    sweep.begin(Sweep("table2", "Table 2", ["minidbp table2"], [OTHER, RUN]), tmp_path)
    for run in OTHER, RUN:
        keep(made_up(run, epochs=2), tmp_path / "runs")
    path = tmp_path / "sweep.json" if damage == "sweep" else RUN.file(tmp_path / "runs", "json")
    other, refused = OTHER.file(tmp_path / "runs", "json").read_bytes(), 0
    for damaged in islice(mutations(path.read_bytes(), other), TRIALS // (200 if name == "report" else 50)):
        path.write_bytes(damaged)
        said = CliRunner().invoke(app, [name, str(tmp_path)])
        assert said.exception is None or isinstance(said.exception, SystemExit)
        if said.exit_code:
            refused += 1
            *_, sentence = said.stderr.splitlines()  # a slow machine says how far it is before
            assert said.exit_code in (1, 2)  # 1: the state of the other runs was shown
            assert sentence.startswith("minidbp: ")
            assert str(path) in sentence
            assert "Traceback" not in said.stderr
    assert refused

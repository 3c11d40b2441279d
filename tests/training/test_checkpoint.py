"""A training that was stopped and gone on with has the bits of one that was not; bad checkpoints are refused."""

import copy
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from minidbp import nn
from minidbp.data import Split
from minidbp.files.tensors import dump_tensors, parse_tensors
from minidbp.training import (
    CheckpointError,
    Epoch,
    Protocol,
    Tracked,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    train,
    workers,
)
from minidbp.training.checkpoint import checkpoint_epochs, dump_checkpoint, parse_checkpoint

PROTOCOL = Protocol(stop_rule="none", max_epochs=4, batch_size=32)
WHOSE = {"model": "C", "lambda": 2.0, "seed": 7, "protocol": PROTOCOL.as_dict()}


def images() -> Split:
    rng = np.random.default_rng(5)
    x = rng.random((140, 28, 28, 1), np.float32)
    y = rng.integers(0, 10, 140)
    return Split(x[:100], y[:100], x[100:], y[100:])


def beginning(keep: str = "last", seed: int = 3, lam: float = 2.0) -> TrainingState:
    protocol = dataclasses.replace(PROTOCOL, keep=keep)
    return TrainingState(nn.build_model("C", seed), lam, protocol, np.random.default_rng(seed))


def bits(state: TrainingState) -> dict[str, Any]:
    """All of a state that may not differ by a bit: everything but how long the epochs took."""
    return {
        "weights": [p.data.tobytes() for p in state.model.parameters()],
        "adam": [a.tobytes() for a in (*state.adam.m, *state.adam.v)] + [state.adam.t],
        "generator": state.rng.bit_generator.state,
        "history": [dataclasses.replace(epoch, seconds=0) for epoch in state.history],
        "best": [b.tobytes() for b in state.best],
    }


# -- the same bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("lam", [0.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_gone_on_from_any_epoch_it_ends_with_the_same_bits(
    keep: str, lam: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = [50.0, 80.0, 70.0, 60.0]  # whatever the model says: the best epoch is neither first nor last
    calls: list[float] = []

    def accuracy(*_: Any) -> float:
        calls.append(accuracies[len(calls) % 4])
        return calls[-1]

    monkeypatch.setattr("minidbp.training.loop.accuracy", accuracy)
    whole, saved, split = beginning(keep, lam=lam), [], images()
    with workers(1) as pool:
        train(whole, split, pool, on_epoch=lambda _: saved.append(dump_checkpoint(whole, WHOSE)))
    assert len(saved) == 4
    for epochs in (1, 2, 3, 4):
        for threads in (1, 2):
            calls[:] = accuracies[:epochs]
            other = beginning(keep, seed=99, lam=lam)  # other weights, another order: all must come from the file
            parse_checkpoint(saved[epochs - 1], other, WHOSE)
            assert len(other.history) == epochs
            with workers(threads) as pool:
                history = train(other, split, pool)
            assert bits(other) == bits(whole), (epochs, threads)
            # the time that epochs took before goes with them
            assert [e.seconds for e in history[:epochs]] == [e.seconds for e in whole.history[:epochs]]


def test_the_starts_of_pgd_go_on_too() -> None:
    """They come from the generator that the checkpoint keeps."""
    changes = {"adversarial_training": True, "training_attack": "pgd", "training_attack_steps": 2, "max_epochs": 2}

    def with_pgd(seed: int) -> TrainingState:
        state = beginning(seed=seed, lam=0.0)
        state.protocol = dataclasses.replace(state.protocol, **changes)
        return state

    whole, saved, split = with_pgd(3), [], images()
    with workers(1) as pool:
        train(whole, split, pool, on_epoch=lambda _: saved.append(dump_checkpoint(whole, WHOSE)))
    for threads in (1, 2):
        other = with_pgd(99)
        parse_checkpoint(saved[0], other, WHOSE)
        with workers(threads) as pool:
            train(other, split, pool)
        assert bits(other) == bits(whole), threads


@pytest.mark.parametrize("kind", ["a Layer", "no Layer"])
def test_a_model_of_ones_own_goes_on_with_the_same_bits(kind: str) -> None:
    from own_models import OWN  # here, because programs below import this file and do not know tests/shared

    protocol = dataclasses.replace(PROTOCOL, max_epochs=2, keep="best")

    def state(seed: int) -> TrainingState:
        model = OWN[kind](seed)
        if isinstance(model, nn.Layer):
            model.dropout.rate = 0.0  # a checkpoint does not hold the masks' generator
        return TrainingState(model, 2.0, protocol, np.random.default_rng(seed))

    whole, other, saved = state(3), state(99), []
    with workers(1) as pool:
        train(whole, images(), pool, on_epoch=lambda _: saved.append(dump_checkpoint(whole, WHOSE)))
        parse_checkpoint(saved[0], other, WHOSE)
        train(other, images(), pool)
    assert bits(other) == bits(whole)


def test_loading_gives_back_what_was_saved(tmp_path: Path) -> None:
    state = beginning("best")
    with workers(1) as pool:
        train(state, images(), pool)
    save_checkpoint(tmp_path / "c.safetensors", state, WHOSE)
    other = beginning("best", seed=99)
    places = [a.strides for a in (*other.adam.m, *other.adam.v, *(p.data for p in other.model.parameters()))]
    load_checkpoint(tmp_path / "c.safetensors", other, WHOSE)
    assert bits(other) == bits(state)
    assert other.history == state.history
    assert places == [a.strides for a in (*other.adam.m, *other.adam.v, *(p.data for p in other.model.parameters()))]
    assert other.rng.permutation(1000).tolist() == state.rng.permutation(1000).tolist()
    assert os.listdir(tmp_path) == ["c.safetensors"]
    with safetensors.safe_open(tmp_path / "c.safetensors", "numpy") as file:  # other programs can open it
        np.testing.assert_array_equal(file.get_tensor("weights0"), state.model.parameters()[0].data)
        assert json.loads(file.metadata()["training"])["identity"] == WHOSE


def test_a_training_that_did_not_begin_can_be_saved_too() -> None:
    state, other = beginning("best"), beginning("best", seed=99)
    parse_checkpoint(dump_checkpoint(state, WHOSE), other, WHOSE)
    assert bits(other) == bits(state)


def test_the_longest_that_can_be_saved_can_be_loaded(tmp_path: Path) -> None:
    def state() -> TrainingState:
        made = tiny()
        made.protocol = dataclasses.replace(made.protocol, max_epochs=10_000)
        return made

    long, other = state(), state()
    worst = 2.2250738585072014e-308  # no float has more letters
    long.history[:] = [Epoch(number, *3 * [-worst], *2 * [worst], Tracked(*6 * [worst])) for number in range(1, 10_001)]
    save_checkpoint(tmp_path / "c.safetensors", long, WHOSE)
    load_checkpoint(tmp_path / "c.safetensors", other, WHOSE)
    assert other.history == long.history
    assert checkpoint_epochs(tmp_path / "c.safetensors") == 10_000


def test_epochs_of_what_is_no_checkpoint_are_none(tmp_path: Path) -> None:
    """`minidbp status` and a running sweep ask for them; a pipe would let both wait for ever."""
    path = tmp_path / "c.safetensors"
    assert checkpoint_epochs(path) == checkpoint_epochs(tmp_path) == 0
    twice, number = '{"epochs": [], "epochs": [1]}', '{"epochs": ' + "9" * 5000 + "}"
    for training in ("{", "[" * 100_000, twice, number, '{"epochs": "ab"}', '{"epochs": {}}', "{}", "[]"):
        path.write_bytes(dump_tensors({}, {"training": training}))
        assert checkpoint_epochs(path) == 0
    for raw in b"", b"{}", b"\xff" * 100, (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}":
        path.write_bytes(raw)
        assert checkpoint_epochs(path) == 0
    path.write_bytes(dump_tensors({}, {"training": '{"epochs": [1, 2]}'}))
    assert checkpoint_epochs(path) == 2
    path.unlink()
    os.mkfifo(path)
    assert checkpoint_epochs(path) == 0


def test_half_a_draw_that_the_generator_keeps_is_kept() -> None:
    state, other = beginning(), beginning(seed=99)
    state.rng.integers(0, 10, dtype=np.uint32)
    assert state.rng.bit_generator.state["has_uint32"] == 1
    parse_checkpoint(dump_checkpoint(state, WHOSE), other, WHOSE)
    draws = [rng.integers(0, 2**32, 5, dtype=np.uint32).tolist() for rng in (state.rng, other.rng)]
    assert draws[0] == draws[1]


TRAIN = """
import sys
from pathlib import Path
from minidbp.training import load_checkpoint, save_checkpoint, train, workers
sys.path.insert(0, sys.argv[2])
from test_checkpoint import WHOSE, beginning, images
path, state = Path(sys.argv[1]), beginning("best")
if path.exists():
    load_checkpoint(path, state, WHOSE)
with workers(2) as pool:
    train(state, images(), pool, lambda *numbers: print(*numbers, flush=True),
          lambda epoch: save_checkpoint(path, state, WHOSE))
print("done")
"""


@pytest.mark.slow
@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """A real SIGKILL, in the middle of steps or of the writing; each process goes on from what it finds."""
    path, rng, split = tmp_path / "c.safetensors", np.random.default_rng(0), images()
    command = [sys.executable, "-c", TRAIN, path, Path(__file__).parent]
    first_steps = []
    for kill_after in (5, 2, 6, 3, None):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if len(lines) == kill_after:
                    time.sleep(float(rng.uniform(0, 0.02)))
                    process.send_signal(signal.SIGKILL)
        first_steps.append(lines[0])
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL)
    assert lines[-1] == "done\n"
    assert first_steps[0] == "1 1 4\n"
    assert len(set(first_steps)) >= 3  # it did go on, and not begin again

    whole, other = beginning("best"), beginning("best", seed=99)
    load_checkpoint(path, other, WHOSE)
    with workers(1) as pool:
        train(whole, split, pool)
        train(other, split, pool)  # nothing is left but to take the best weights
    assert bits(other) == bits(whole)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_the_middle_of_an_epoch_is_no_place_to_go_on_from() -> None:
    state, split = beginning(), images()

    def stop(epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == (2, 3):
            raise KeyboardInterrupt

    with workers(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            train(state, split, pool, stop)
        with pytest.raises(ValueError, match="continues after 4 steps, the whole of 1 epochs; this state is after 7"):
            train(state, split, pool)


def test_a_checkpoint_of_other_data_is_no_place_to_go_on_from() -> None:
    state, split = beginning(), images()
    fewer = Split(split.x_train[:60], split.y_train[:60], split.x_validation, split.y_validation)
    with workers(1) as pool:
        train(state, split, pool)
        with pytest.raises(ValueError, match="a training of 60 images continues after 8 steps"):
            train(state, fewer, pool)


def tiny(keep: str = "best", seed: int = 0, width: int = 3) -> TrainingState:
    """Two epochs of a model with a few dozen weights: as many kinds of bytes as a large one, in a few KB."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential([nn.Linear(4, width, rng), nn.ReLU(), nn.Linear(width, 10, rng)])
    state = TrainingState(model, 0.0, dataclasses.replace(PROTOCOL, keep=keep), rng)
    for number, accuracy in enumerate((50.0, 40.0), start=1):
        state.adam.step([rng.standard_normal(p.shape).astype(p.dtype) for p in model.parameters()])
        state.end_epoch(Epoch(number, 2.5, 2.25, 0.125, accuracy, 1.5))
    return state


SAVED = tiny()
RAW = dump_checkpoint(SAVED, WHOSE)


def refused(raw: bytes, state: TrainingState, whose: dict[str, Any] = WHOSE) -> str:
    before = bits(state)
    with pytest.raises(CheckpointError) as caught:
        parse_checkpoint(raw, state, whose, "c.safetensors")
    assert bits(state) == before  # all or nothing
    message = str(caught.value)
    assert message.startswith("c.safetensors")
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "B"}, "(model is 'C' there, 'B' here)"),
        ({"lambda": 3.0}, "(lambda is 2.0 there, 3.0 here)"),
        ({"seed": 8}, "(seed is 7 there, 8 here)"),
        ({"protocol": {**WHOSE["protocol"], "keep": "best"}}, "(keep is 'last' there, 'best' here)"),
        ({"more": 1}, "(more is None there, 1 here)"),
        ({"protocol": None}, "here)"),
    ],
)
def test_another_run(change: dict, message: str) -> None:
    assert message in refused(RAW, tiny(seed=1), {**WHOSE, **change})


def test_tuples_in_an_identity_are_lists_in_the_file() -> None:
    raw = dump_checkpoint(SAVED, {"a": (1, 2)})
    parse_checkpoint(raw, tiny(seed=1), {"a": (1, 2)})


def test_another_model_or_another_protocol() -> None:
    assert "weights0 should be float32 of shape (4, 5); it is float32 of shape (4, 3)" in refused(RAW, tiny(width=5))
    assert "should hold weights0, " in refused(RAW, tiny("last"))
    assert "should hold weights0, " in refused(dump_checkpoint(tiny("last"), WHOSE), tiny())
    assert "is not a 'minidbp checkpoint 2'" in refused(dump_tensors({}, {"model": "C"}), tiny())


def test_a_checkpoint_of_version_0_1_0() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, training=np.array("{}"))
    assert "train again with this version, or use version 0.1.0" in refused(buffer.getvalue(), tiny())


ARRAYS, TEXTS = parse_tensors(RAW, "RAW", CheckpointError)


def changed(**members: np.ndarray | str | None) -> bytes:
    """A sound file with some arrays or texts replaced, or left out where None is given."""
    whole = {name: value for name, value in {**ARRAYS, **TEXTS, **members}.items() if value is not None}
    texts = {name: value for name, value in whole.items() if isinstance(value, str)}
    return dump_tensors({name: value for name, value in whole.items() if not isinstance(value, str)}, texts)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"m0": np.full((4, 3), np.nan, np.float32)}, "m0 holds NaN"),
        ({"weights3": np.full(10, np.inf, np.float32)}, "weights3 holds NaN or infinite"),
        ({"v1": np.float32([1, -1e-30, 0])}, "v1 holds numbers below 0"),
        ({"v1": np.ones(3)}, "v1 should be float32 of shape (3,); it is float64"),
        ({"v1": None}, "should hold"),
        ({"best3": None}, "should hold"),
        ({"more": np.ones(1)}, "should hold"),
        ({"training": None}, "is not a 'minidbp checkpoint 2' with a text `training`"),
        ({"training": np.ones(3)}, "is not a 'minidbp checkpoint 2' with a text `training`"),
        ({"kind": None}, "is not a 'minidbp checkpoint 2' with a text `training`: it is a None"),
        ({"kind": "\x1b[2J"}, "is not a 'minidbp checkpoint 2' with a text `training`: it is a '\\x1b[2J'"),
        ({"training": "{"}, "training is not JSON"),
        ({"training": " " * 100_000 + "{}"}, "its header would have 10"),
        ({"training": "[]"}, "training must be a JSON object"),
        ({"training": "{}"}, "c.safetensors: training lacks identity"),
    ],
)
def test_sound_files_with_the_wrong_arrays(arrays: dict, message: str) -> None:
    assert message in refused(changed(**arrays), tiny(seed=1))


TRAINING = json.loads(TEXTS["training"])


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["identity"], 3, "training: `identity` should be an object, got 3"),
        (["identity", "\x1b\n"], 3, "'\\x1b\\n' is 3 there, None here"),
        (["identity", "protocol"], [], "protocol is [] there"),
        (["generator"], None, "`generator` should be a list"),
        (["generator"], [1, 1, 0], "not the state of a PCG64"),
        (["generator"], [1, 1, 0, 0, 0], "not the state of a PCG64"),
        (["generator", 1], 2, "not the state of a PCG64"),
        (["generator", 1], -1, "not the state of a PCG64"),
        (["generator", 1], "%9999999999d", "`generator[1]` should be a whole number"),  # "..." % 2 would be 10 GB
        (["generator", 0], 2**128, "not the state of a PCG64"),
        (["generator", 0], -1, "not the state of a PCG64"),
        (["generator", 0], 1.5, "`generator[0]` should be a whole number"),
        (["generator", 2], 2, "not the state of a PCG64"),
        (["generator", 3], 2**32, "not the state of a PCG64"),
        (["steps"], -2, "2 epochs cannot have -2 steps"),
        (["steps"], 0, "2 epochs cannot have 0 steps"),
        (["steps"], 2.0, "`steps` should be a whole number"),
        (["steps"], True, "`steps` should be a whole number"),
        (["epochs"], [], "0 epochs cannot have"),
        (["epochs"], {}, "`epochs` should be a list"),
        (["epochs"], [1], "`epochs[0]` should be an object"),
        (["epochs", 1, "number"], 1, "`epochs` are not numbered from 1"),
        (["epochs", 0, "loss"], None, "`epochs[0].loss` should be a number"),
        (["epochs", 0, "loss"], "1.0", "`epochs[0].loss` should be a number"),
        (["epochs", 0, "more"], 1.0, "`epochs[0]` should hold only number, loss, "),
        (["more"], 1.0, "training should hold only identity, generator, steps, epochs; it holds 'more'"),
    ],
)
def test_a_training_that_cannot_be(keys: list, value: Any, message: str) -> None:
    training = copy.deepcopy(TRAINING)
    inner = training
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    assert message in refused(changed(training=json.dumps(training)), tiny(seed=1))


def test_other_generators_are_not_kept() -> None:
    state = tiny()
    state.rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(TypeError, match="a checkpoint keeps a PCG64"):
        dump_checkpoint(state, WHOSE)


# -- faults ---------------------------------------------------------------------------------------------------------


SPARE = [tiny(seed=1)]


def assert_right(raw: bytes) -> None:
    """The checkpoint is read, and as the very original.  The state that it is read into is used until then."""
    parse_checkpoint(raw, SPARE[0], WHOSE, "c.safetensors")
    state, SPARE[0] = SPARE[0], tiny(seed=1)
    assert bits(state) == bits(SAVED)
    assert state.history == SAVED.history


def test_every_truncation(faults: Any) -> None:
    assert faults.intact_or_refused(lambda: assert_right(RAW), CheckpointError)
    for length in range(len(RAW)):
        assert not faults.intact_or_refused(lambda: assert_right(RAW[:length]), CheckpointError)  # noqa: B023


def test_every_byte_changed(faults: Any) -> None:
    for place in range(len(RAW)):
        damaged = bytearray(RAW)
        damaged[place] ^= 1 << place % 8
        faults.intact_or_refused(lambda: assert_right(bytes(damaged)), CheckpointError)  # noqa: B023
    assert faults.intact < 10


@pytest.mark.slow
def test_ten_thousand_mutations(mutated: Callable[[bytes, np.random.Generator], bytes], faults: Any) -> None:
    rng, whole = np.random.default_rng(2), bits(SPARE[0])
    for _ in range(10_000):
        faults.intact_or_refused(lambda: assert_right(mutated(RAW, rng)), CheckpointError)
    assert faults.intact < 20
    assert bits(SPARE[0]) == whole  # what was refused has left nothing behind


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999999])
def test_a_large_one_cut_off(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, beginning(), WHOSE)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(CheckpointError, match=r"(damaged: .*|is empty); move it away, and the training starts again"):
        load_checkpoint(path, beginning(), WHOSE)


def test_what_is_no_file_or_too_large_a_one(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**40)
    for name, message in ("huge", "is larger than"), ("none", "cannot be read"), (".", "is a folder"):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / name, tiny(), WHOSE)


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import WHOSE, beginning
from minidbp.training import CheckpointError, save_checkpoint
state = beginning(seed=8)
save_checkpoint(Path(sys.argv[1]), state, WHOSE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))  # it has 6.8 MB
state.adam.m[0][...] = 1
try:
    save_checkpoint(Path(sys.argv[1]), state, WHOSE)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_where_it_cannot_be_written_the_one_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    command = [sys.executable, "-c", LIMITED, path, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"cannot write the checkpoint to {path}: File too large; what was there before is unchanged"
    )
    assert done.stderr == ""
    assert os.listdir(tmp_path) == ["c.safetensors"]
    state = beginning()
    load_checkpoint(path, state, WHOSE)
    assert bits(state) == bits(beginning(seed=8))

"""Checkpoints: a training between two epochs in a safetensors file, from which it resumes with the same bits.

The texts are `kind` and `training`, the JSON of a `Snapshot`.  The arrays are, for each parameter i in the order of
`model.parameters()`, `weights{i}`, Adam's `m{i}` and `v{i}`, and `best{i}` where the best epoch's weights are kept.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minidbp.files.reading import from_json, parse_json, read_bytes
from minidbp.files.tensors import check_arrays, dump_tensors, parse_tensors, write_tensors
from minidbp.training.loop import Epoch, TrainingState

KIND = "minidbp checkpoint 2"
MOST_TEXT = 1 << 23  # bytes of a header that `checkpoint_epochs` reads; 10,000 epochs have 5 million
BITS = (128, 128, 1, 32)  # of the numbers of a PCG64


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, of another training, or cannot be written."""


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds besides arrays: whose it is, the generator, Adam's number of steps, what epochs did.

    generator: NumPy's `state`, `inc`, `has_uint32` and `uinteger` of a PCG64.
    """

    identity: dict[str, Any]
    generator: list[int]
    steps: int
    epochs: list[Epoch]

    def __post_init__(self) -> None:
        numbers = self.generator
        fits = len(numbers) == 4 and all(0 <= n < 1 << bits for n, bits in zip(numbers, BITS, strict=True))
        if not fits or numbers[1] % 2 == 0:
            raise ValueError("`generator` is not the state of a PCG64")
        if [epoch.number for epoch in self.epochs] != list(range(1, len(self.epochs) + 1)):
            raise ValueError("`epochs` are not numbered from 1")
        if self.steps < 0 or (self.steps == 0) != (self.epochs == []):
            raise ValueError(f"{len(self.epochs)} epochs cannot have {self.steps} steps")


def save_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write the state between two epochs, whole or not at all.

    Args:
        identity: What makes the run this one (model, lambda, seed, protocol), as JSON can hold it.

    Raises:
        CheckpointError: The file cannot be written. The file that was there before is unchanged.
        TypeError: The generator is not NumPy's default, PCG64.
    """
    write_tensors(path, dump_checkpoint(state, identity), "the checkpoint", CheckpointError)


def load_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Bring a state at its beginning to where `save_checkpoint` was called with the same identity.

    Raises:
        CheckpointError: The file is missing, damaged, too large for this model, or of another identity. The state is
            unchanged.
    """
    try:
        most = 4 * sum(p.data.nbytes for p in state.model.parameters()) + _most_header(state, identity)
        parse_checkpoint(read_bytes(path, most, CheckpointError), state, identity, str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; move it away, and the training starts again") from error.__cause__


def checkpoint_epochs(path: Path) -> int:
    """How many whole epochs a checkpoint holds; 0 if there is none that can be read.  Reads the header only."""
    try:
        if not path.is_file():  # reading from a pipe would wait for ever
            return 0
        with path.open("rb") as file:
            raw = file.read(min(int.from_bytes(file.read(8), "little"), MOST_TEXT))
        header = parse_json(raw, f"{path}: the header", CheckpointError, MOST_TEXT)
        texts = from_json(dict[str, str], header.get("__metadata__"), f"{path}: the metadata", CheckpointError)
        training = parse_json(texts["training"].encode(), f"{path}: training", CheckpointError, MOST_TEXT)
        return len(from_json(list[Any], training.get("epochs"), f"{path}: epochs", CheckpointError))
    except (OSError, KeyError, CheckpointError):
        return 0


def dump_checkpoint(state: TrainingState, identity: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint; the same state gives the same."""
    generator = state.rng.bit_generator.state
    if generator["bit_generator"] != "PCG64":
        raise TypeError(f"a checkpoint keeps a PCG64, as numpy.random.default_rng gives; got {type(state.rng)}")
    inner = generator["state"]
    numbers = [inner["state"], inner["inc"], generator["has_uint32"], generator["uinteger"]]
    training = json.dumps(asdict(Snapshot(identity, numbers, state.adam.t, state.history)), allow_nan=False)
    weights = [p.data for p in state.model.parameters()]
    parts = {"weights": weights, "m": state.adam.m, "v": state.adam.v, "best": state.best}
    arrays = {f"{part}{i}": array for part, values in parts.items() for i, array in enumerate(values)}
    return dump_tensors(arrays, {"kind": KIND, "training": training})


def parse_checkpoint(
    raw: bytes, state: TrainingState, identity: dict[str, Any], source: str = "the checkpoint"
) -> None:
    """`load_checkpoint` from a file's bytes; `source` names them in errors."""
    most = _most_header(state, identity)
    arrays, texts = parse_tensors(raw, source, CheckpointError, most)
    if texts.get("kind") != KIND or "training" not in texts:
        raise CheckpointError(f"{source} is not a {KIND!r} with a text `training`: it is a {texts.get('kind')!r:.40}")
    training = parse_json(texts["training"].encode(), f"{source}: training", CheckpointError, most)
    snapshot = from_json(Snapshot, training, f"{source}: training", CheckpointError)
    wanted = json.loads(json.dumps(identity))
    if snapshot.identity != wanted:
        raise CheckpointError(f"{source} is of another training ({_difference(snapshot.identity, wanted)})")
    parameters = state.model.parameters()
    parts = ["weights", "m", "v"] + ["best"] * (snapshot.epochs != [] and state.protocol.keep == "best")
    likes = {f"{part}{i}": p.data for part in parts for i, p in enumerate(parameters)}
    check_arrays(arrays, likes, "this training", source, CheckpointError)
    for name, array in arrays.items():
        if name[0] == "v" and (array < 0).any():
            raise CheckpointError(f"{source}: {name} holds numbers below 0, which no mean of squares is")

    # Every array is copied to where a training from the beginning has it: sums are then added in the same order.
    for i, parameter in enumerate(parameters):
        parameter.data = arrays[f"weights{i}"]
        state.adam.m[i][...], state.adam.v[i][...] = arrays[f"m{i}"], arrays[f"v{i}"]
    state.adam.t = snapshot.steps
    number, inc, has_uint32, uinteger = snapshot.generator
    half_a_draw = {"has_uint32": has_uint32, "uinteger": uinteger}
    state.rng.bit_generator.state = {"bit_generator": "PCG64", "state": {"state": number, "inc": inc}, **half_a_draw}
    state.history[:] = snapshot.epochs
    state.best = [arrays[f"best{i}"] for i in range(len(parameters)) if "best" in parts]


def _most_header(state: TrainingState, identity: dict[str, Any]) -> int:
    """More bytes than a checkpoint's header can have.

    In the JSON of the texts an epoch has fewer than 800 bytes; as a text in JSON it at most doubles.  An array's entry
    has fewer than 200 bytes.
    """
    text = len(json.dumps(identity)) + 1024 + 800 * state.protocol.max_epochs
    return 2 * text + 4 * 200 * len(state.model.parameters())


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """'seed is 1 there, 2 here': the first value in which two identities differ, also within nested ones."""
    key = next(key for key in [*here, *there] if here.get(key) != there.get(key) or (key in here) != (key in there))
    ours, theirs = here.get(key), there.get(key)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return _difference(theirs, ours)
    return f"{key if key in here else repr(key)[:40]} is {theirs!r:.40} there, {ours!r:.40} here"

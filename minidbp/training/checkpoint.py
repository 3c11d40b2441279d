"""Checkpoints: a training between two epochs as one .npz file, from which it goes on to the same bits.

The file's members are the text `training` (JSON: whose it is, the generator, Adam's t, the epochs) and, for each
parameter i in the order of `model.parameters()`, `weights{i}`, Adam's `m{i}` and `v{i}`, and `best{i}` where the best
epoch is kept.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from minidbp.files.atomic import write_bytes
from minidbp.files.npz import dump_npz, parse_npz
from minidbp.files.reading import parse_json, read_bytes
from minidbp.training.state import Epoch, TrainingState

KIND = "minidbp checkpoint 1"
HEADERS = 512  # bytes: more than an .npz has around the numbers of one array


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, of another training, or cannot be written."""


def save_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write the state to `path`, whole or not at all; to be called between two epochs, as in `train`'s on_epoch.

    identity: what makes the run this one (model, lambda, seed, protocol), as JSON can hold it.  The generator must be
    NumPy's default, PCG64.  Raises CheckpointError if the file cannot be written; what was there before then stays.
    """
    try:
        write_bytes(path, dump_checkpoint(state, identity))
    except OSError as error:
        why = error.strerror or error
        raise CheckpointError(
            f"cannot write the checkpoint to {path}: {why}; what was there before is unchanged"
        ) from None


def load_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Bring a state at its beginning to where `save_checkpoint` was called with the same identity.

    Raises CheckpointError, and leaves the state alone, if the file is missing, damaged, too large for this model, or
    of another identity.
    """
    try:
        arrays = 4 * sum(p.data.nbytes + HEADERS for p in state.model.parameters())
        most = arrays + 4 * _most_text(state, identity) + HEADERS
        parse_checkpoint(read_bytes(path, most, CheckpointError), state, identity, str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; move it away, and the training begins anew") from error.__cause__


def dump_checkpoint(state: TrainingState, identity: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint; the same state gives the same."""
    generator = state.rng.bit_generator.state
    if generator["bit_generator"] != "PCG64":
        raise TypeError(f"a checkpoint keeps a PCG64, as numpy.random.default_rng gives; got {type(state.rng)}")
    training = {
        "kind": KIND,
        "identity": identity,
        "generator": generator,
        "steps": state.adam.t,
        "epochs": [dataclasses.asdict(epoch) for epoch in state.history],
    }
    parts = {
        "weights": [p.data for p in state.model.parameters()],
        "m": state.adam.m,
        "v": state.adam.v,
        "best": state.best,
    }
    arrays = {f"{part}{i}": array for part, arrays in parts.items() for i, array in enumerate(arrays)}
    return dump_npz({"training": json.dumps(training, allow_nan=False), **arrays})


def parse_checkpoint(
    raw: bytes, state: TrainingState, identity: dict[str, Any], source: str = "the checkpoint"
) -> None:
    """`load_checkpoint` from a file's bytes; `source` names them in errors."""
    members = parse_npz(raw, source, CheckpointError)
    if "training" not in members:
        raise CheckpointError(f"{source} is not a checkpoint of minidbp: it has no text `training`")
    text = members.pop("training").text()
    training = parse_json(text, f"{source}: training", CheckpointError, _most_text(state, identity))
    if training.get("kind") != KIND:
        raise CheckpointError(f"{source} is not a {KIND!r}: it is a {str(training.get('kind'))[:40]!r}")
    wanted = json.loads(json.dumps(identity))
    if training.get("identity") != wanted:
        raise CheckpointError(f"{source} is of another training ({_difference(training.get('identity'), wanted)})")
    history = _history(training.get("epochs"), source)
    generator = _generator(training.get("generator"), source)
    steps = training.get("steps")
    if type(steps) is not int or steps < 0 or (steps == 0) != (history == []):
        raise CheckpointError(f"{source}: {len(history)} epochs cannot have the number of steps that it gives")

    parameters = [p.data for p in state.model.parameters()]
    parts = ["weights", "m", "v"] + (["best"] if history and state.protocol.keep == "best" else [])
    likes = {f"{part}{i}": like for part in parts for i, like in enumerate(parameters)}
    if set(members) != set(likes):
        raise CheckpointError(f"{source} should hold {_listed(likes)} for this training; it holds {_listed(members)}")
    arrays = {name: members[name].array(like) for name, like in likes.items()}
    for name, array in arrays.items():
        if name[0] == "v" and (array < 0).any():
            raise CheckpointError(f"{source}: {name} holds numbers below 0, which no mean of squares is")

    # Every array keeps the place in memory that a training from the beginning gives it: sums have the same order then.
    for i, parameter in enumerate(state.model.parameters()):
        parameter.data = arrays[f"weights{i}"]
        state.adam.m[i][...], state.adam.v[i][...] = arrays[f"m{i}"], arrays[f"v{i}"]
    state.adam.t = steps
    state.rng.bit_generator.state = generator
    state.history[:] = history
    state.best = [arrays[f"best{i}"].copy() for i in range(len(parameters)) if "best" in parts]


def _most_text(state: TrainingState, identity: dict[str, Any]) -> int:
    """More characters than `training` can have: an epoch has fewer than 300."""
    return len(json.dumps(identity)) + 1024 + 300 * state.protocol.max_epochs


def _history(epochs: Any, source: str) -> list[Epoch]:
    kinds = {field.name: field.type for field in dataclasses.fields(Epoch)}
    if not isinstance(epochs, list):
        raise CheckpointError(f"{source}: `epochs` should be a list")
    for number, epoch in enumerate(epochs, start=1):
        if (
            not isinstance(epoch, dict)
            or {name: type(value) for name, value in epoch.items()} != kinds
            or epoch["number"] != number
        ):
            raise CheckpointError(f"{source}: epoch {number} should have {', '.join(kinds)}, all of them numbers")
    return [Epoch(**epoch) for epoch in epochs]


def _generator(state: Any, source: str) -> dict[str, Any]:
    """The state of a PCG64: two numbers of 128 bits, the second odd, and perhaps half a draw of 64 bits kept."""
    try:
        inner = state["state"]
        bits = ((inner["state"], 128), (inner["inc"], 128), (state["has_uint32"], 1), (state["uinteger"], 32))
        right = state["bit_generator"] == "PCG64" and all(type(n) is int and 0 <= n < 1 << width for n, width in bits)
        right = right and inner["inc"] % 2 == 1  # only now: % of a text would format it
    except (KeyError, TypeError):
        right = False
    if not right:
        raise CheckpointError(f"{source}: `generator` is not the state of a PCG64")
    return state


def _difference(there: Any, here: dict[str, Any]) -> str:
    """'seed is 1 there, 2 here': the first value in which two identities differ, looking into dicts."""
    if not isinstance(there, dict):
        return "it does not say which"
    for key in [*here, *there]:
        ours, theirs = here.get(key), there.get(key)
        if ours != theirs or (key in here) != (key in there):
            if isinstance(ours, dict) and isinstance(theirs, dict):
                return _difference(theirs, ours)
            return f"{key if key in here else _said(key)} is {_said(theirs)} there, {_said(ours)} here"
    raise AssertionError("the identities are equal")


def _said(value: Any) -> str:
    return repr(value)[:40]


def _listed(names: Any) -> str:
    return ", ".join(names)[:200] or "nothing"

"""Weights on disk: NumPy's .npz, read by `minidbp.files.npz`, so that a file from a stranger can do no harm."""

from pathlib import Path

from minidbp.files.atomic import write_bytes
from minidbp.files.npz import dump_npz, parse_npz
from minidbp.files.reading import read_bytes
from minidbp.nn.layers import Sequential
from minidbp.nn.models import CONVOLUTIONS, PADDINGS, build_model

MOST_BYTES = 1 << 24  # model B in float64 with padding "same" has 13.5 million


class WeightsError(ValueError):
    """A weights file is missing, damaged, or not for this model."""


def save_model(path: str | Path, model: Sequential, name: str, padding: str = "same_first") -> None:
    """Write the parameters of a paper model `name` ("A", "B", "C") to `path`, whole or not at all.

    Raises WeightsError if the file cannot be written; what was there before then stays.
    """
    arrays = {str(p.name): p.data for p in model.parameters()}
    path = Path(path)
    try:
        write_bytes(path, dump_npz({"model": name, "padding": padding, **arrays}))
    except OSError as error:
        why = error.strerror or error
        raise WeightsError(f"cannot write the weights to {path}: {why}; what was there before is unchanged") from None


def load_model(path: str | Path) -> tuple[Sequential, str]:
    """The model that `save_model` wrote, and its name.  Raises WeightsError, which says what is wrong with the file."""
    path = Path(path)
    try:
        return parse_model(read_bytes(path, MOST_BYTES, WeightsError), str(path))
    except WeightsError as error:
        raise WeightsError(f"{error}; give a weights file that minidbp train or a table wrote") from error.__cause__


def parse_model(raw: bytes, source: str = "the weights file") -> tuple[Sequential, str]:
    """The model in the bytes of a weights file, and its name; `source` names them in errors.  Raises WeightsError."""
    members = parse_npz(raw, source, WeightsError)
    name, padding = (members.pop(key).text() if key in members else "" for key in ("model", "padding"))
    if name not in CONVOLUTIONS or padding not in PADDINGS:
        raise WeightsError(f"{source} is not a weights file of minidbp: it does not name model A, B or C")
    wide = [member.descr for member in members.values()][:1] == ["<f8"]
    model = build_model(name, padding=padding, dtype="float64" if wide else "float32")
    parameters = {str(p.name): p for p in model.parameters()}
    if set(members) != set(parameters):
        raise WeightsError(
            f"{source} should hold {', '.join(parameters)} for model {name}; "
            f"it holds {', '.join(members)[:200] or 'nothing'}"
        )
    arrays = {key: members[key].array(parameter.data) for key, parameter in parameters.items()}
    for key, parameter in parameters.items():
        parameter.data = arrays[key]
    return model, name

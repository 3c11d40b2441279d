"""The weights of models A, B and C in safetensors files."""

from pathlib import Path

from minidbp.files.reading import read_bytes
from minidbp.files.tensors import check_arrays, dump_tensors, parse_tensors, write_tensors
from minidbp.nn.fuse import fuse
from minidbp.nn.layers import Sequential
from minidbp.nn.models import CONVOLUTIONS, PADDINGS, build_model

MOST_BYTES = 1 << 24  # model B in float64 with padding "same" has 13.5 million


class WeightsError(ValueError):
    """A weights file is missing, damaged, or not for this model."""


def save_model(path: str | Path, model: Sequential, name: str, padding: str = "same_first") -> None:
    """Write the parameters of a paper model `name` ("A", "B", "C") to `path`, whole or not at all.

    A file holds no layers, only their parameters: another model with the same shapes, such as one with Tanh in place of
    ReLU, would be read as a paper model.

    Raises:
        WeightsError: The layers are not those of model `name` with this padding, or the file cannot be written. The
            file that was there before is unchanged.
        ValueError: There is no such model or padding.
    """
    expected = build_model(name, padding=padding)
    if repr(model) not in (repr(expected), repr(fuse(expected))):
        raise WeightsError(
            f"the weights are not saved, because the layers are not those of model {name} with padding {padding!r}; "
            "pickle.dump can save any model"
        )
    raw = dump_tensors({str(p.name): p.data for p in model.parameters()}, {"model": name, "padding": padding})
    write_tensors(Path(path), raw, "the weights", WeightsError)


def load_model(path: str | Path) -> tuple[Sequential, str]:
    """The model that `save_model` wrote, and its name.

    Raises:
        WeightsError: It says what is wrong with the file.
    """
    try:
        return parse_model(read_bytes(Path(path), MOST_BYTES, WeightsError), str(path))
    except WeightsError as error:
        raise WeightsError(f"{error}; give a weights file that minidbp train or a table wrote") from error.__cause__


def parse_model(raw: bytes, source: str = "the weights file") -> tuple[Sequential, str]:
    """The model in the bytes of a weights file, and its name; `source` names them in errors.  Raises WeightsError."""
    arrays, texts = parse_tensors(raw, source, WeightsError)
    name, padding = texts.get("model", ""), texts.get("padding", "")
    if name not in CONVOLUTIONS or padding not in PADDINGS:
        raise WeightsError(f"{source} is not a weights file of minidbp: it does not name model A, B or C")
    wide = "W1" in arrays and arrays["W1"].dtype == "float64"
    model = build_model(name, padding=padding, dtype="float64" if wide else "float32")
    likes = {str(p.name): p.data for p in model.parameters()}
    check_arrays(arrays, likes, f"model {name}", source, WeightsError)
    for parameter in model.parameters():
        parameter.data = arrays[str(parameter.name)]
    return model, name

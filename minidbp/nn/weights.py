"""Parameters of any model in safetensors files, and models A, B and C, which a file of theirs names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidbp.autodiff import Tensor
from minidbp.files.reading import read_bytes
from minidbp.files.tensors import MOST_HEADER, check_arrays, dump_tensors, parse_tensors, write_tensors
from minidbp.nn.fuse import fuse
from minidbp.nn.layer import TrainableModel, named_parameters
from minidbp.nn.layers import Sequential
from minidbp.nn.models import CONVOLUTIONS, PADDINGS, build_model

MOST_BYTES = 1 << 24  # model B in float64 with padding "same" has 13.5 million


class WeightsError(ValueError):
    """A weights file is missing, damaged, not for this model, or cannot be written."""


def save_parameters(path: str | Path, model: TrainableModel) -> None:
    """Write the parameters of any model to a safetensors file, by their names, whole or not at all.

    The names are those of `Layer.named_parameters`; the parameters of a model that is no Layer are "0", "1", ... The
    file holds no layers: who reads it builds the same model first. What requires no gradient is no parameter.

    Raises:
        WeightsError: The model has no parameters, a number is not finite, or the file cannot be written. The file that
            was there before is unchanged.
        ValueError: Two parameters have one name.
    """
    _write(Path(path), model, {})


def load_parameters(path: str | Path, model: TrainableModel) -> None:
    """Give a model the parameters that `save_parameters` or `save_model` wrote.

    The file must have the names, shapes and dtypes of the model's parameters, and finite numbers. Nothing else of the
    model is checked: Tanh in place of ReLU has no parameters.

    Raises:
        WeightsError: It says what is wrong with the file. The model is unchanged.
        ValueError: Two parameters have one name.
    """
    parameters = named_parameters(model)
    most_header = sum(200 + 12 * len(name) for name in parameters) + 4096  # JSON writes a character in 12 at most
    most = max(sum(p.data.nbytes for p in parameters.values()) + most_header, MOST_BYTES)
    try:
        raw = read_bytes(Path(path), most, WeightsError)
        arrays, _ = parse_tensors(raw, str(path), WeightsError, max(most_header, MOST_HEADER))
        _assign(arrays, parameters, f"this {type(model).__name__}", str(path))
    except WeightsError as error:
        raise WeightsError(f"{error}; give a file that save_parameters wrote for such a model") from error.__cause__


def save_model(path: str | Path, model: Sequential, name: str, padding: str = "same_first") -> None:
    """Write the parameters of a paper model `name` ("A", "B", "C") to `path`, with its name, whole or not at all.

    Raises:
        WeightsError: The layers are not those of model `name` with this padding, a number is not finite, or the file
            cannot be written. The file that was there before is unchanged.
        ValueError: There is no such model or padding.
    """
    expected = build_model(name, padding=padding)
    if not any(_same_layers(model, like) for like in (expected, fuse(expected))):
        raise WeightsError(
            f"the weights are not saved, because the layers are not those of model {name} with padding {padding!r}; "
            "save_parameters can save any model"
        )
    _write(Path(path), model, {"model": name, "padding": padding})


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
        raise WeightsError(
            f"{source} is not a weights file of minidbp: it does not name model A, B or C "
            "(load_parameters reads the parameters of other models)"
        )
    wide = "W1" in arrays and arrays["W1"].dtype == "float64"
    model = build_model(name, padding=padding, dtype="float64" if wide else "float32")
    _assign(arrays, model.named_parameters(), f"model {name}", source)
    return model, name


def _same_layers(model: object, expected: Sequential) -> bool:
    """Whether a Sequential has the layers and the input shape of another; a layer of another class is another layer."""
    if type(model) is not Sequential or model.input_shape != expected.input_shape:
        return False
    types = [list(map(type, m.layers)) for m in (model, expected)]
    return types[0] == types[1] and repr(model) == repr(expected)


def _write(path: Path, model: TrainableModel, texts: Mapping[str, str]) -> None:
    arrays = {name: parameter.data for name, parameter in named_parameters(model).items()}
    if not arrays:
        raise WeightsError(f"the weights are not saved, because this {type(model).__name__} has no parameters")
    check_arrays(arrays, arrays, "", "the weights are not saved", WeightsError)  # nobody could read NaN
    write_tensors(path, dump_tensors(arrays, texts), "the weights", WeightsError)


def _assign(arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Tensor], whose: str, source: str) -> None:
    """Give every parameter its new values, once all of them are known to fit."""
    check_arrays(arrays, {name: p.data for name, p in parameters.items()}, whose, source, WeightsError)
    for name, parameter in parameters.items():
        parameter.data = arrays[name]

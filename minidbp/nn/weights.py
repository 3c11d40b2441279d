"""Parameters of any model in safetensors files, and models A, B and C, which a file of theirs names."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidbp.autodiff import Tensor
from minidbp.files.reading import from_json, parse_json, read_bytes
from minidbp.files.tensors import MOST_HEADER, check_arrays, dump_tensors, parse_tensors, write_tensors
from minidbp.nn.checks import validate_choice
from minidbp.nn.fuse import fuse
from minidbp.nn.layer import TrainableModel, named_parameters
from minidbp.nn.layers import Sequential
from minidbp.nn.models import (
    CONVOLUTIONS,
    IMAGE_SHAPE,
    MOST_PARAMETERS,
    N_CLASSES,
    N_PARAMETERS,
    PADDINGS,
    build_model,
    check_model_input,
    count_parameters,
)

MOST_BYTES = 8 * MOST_PARAMETERS + MOST_HEADER  # of a file; model B for MNIST has 6 million


class WeightsError(ValueError):
    """A weights file is missing, damaged, not for this model, or cannot be written."""


@dataclass(frozen=True)
class Size:
    """What models A, B and C are built for: the shape (H, W, C) of an image, and the number of classes."""

    input_shape: tuple[int, ...] = IMAGE_SHAPE
    n_classes: int = N_CLASSES

    def __str__(self) -> str:
        return f"images of {'x'.join(map(str, self.input_shape))} in {self.n_classes} classes"


def save_parameters(path: str | Path, model: TrainableModel) -> None:
    """Write the parameters of any model to a safetensors file, by their names, whole or not at all.

    The names are those of `Layer.named_parameters`; the parameters of a model that is no Layer are "0", "1", ... The
    file holds no layers, so build the same model before `load_parameters`. A Tensor that requires no gradient is not
    saved.

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


def save_model(
    path: str | Path, model: Sequential, name: str, padding: str = "same_first", *, data: tuple[str, str] | None = None
) -> None:
    """Write the parameters of a paper model `name` ("A", "B", "C") to `path`, with its name, whole or not at all.

    The file also says the padding, the shape of the images and the number of classes.

    Args:
        data: Name and SHA-256 of the data that the model was trained on, which the file then names.

    Raises:
        WeightsError: The layers are not those of model `name` with this padding, a number is not finite, or the file
            cannot be written. The file that was there before is unchanged.
        ValueError: There is no such model or padding.
    """
    if name not in N_PARAMETERS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(N_PARAMETERS)}, or use save_parameters")
    validate_choice("padding", padding, PADDINGS)
    size = _size_of(model)
    try:
        expected = build_model(name, padding=padding, input_shape=size.input_shape, n_classes=size.n_classes)
        fits = any(_same_layers(model, like) for like in (expected, fuse(expected)))
    except ValueError:
        fits = False
    if not fits:
        raise WeightsError(
            f"the weights are not saved, because the layers are not those of model {name} with padding {padding!r}; "
            "save_parameters can save any model"
        )
    texts = {"model": name, "padding": padding, "size": json.dumps(asdict(size))}
    if data is not None:
        texts |= {"data": data[0], "data_sha256": data[1]}
    _write(Path(path), model, texts)


class SavedModel(NamedTuple):
    """What a weights file holds.

    Attributes:
        data: Name and SHA-256 of the data that the model was trained on; None if the file names none.
        source: The path of the file, or what else errors call it.
    """

    model: Sequential
    name: str
    data: tuple[str, str] | None
    source: str


def load_model(path: str | Path) -> tuple[Sequential, str]:
    """The model that `save_model` wrote, and its name.

    Raises:
        WeightsError: It says what is wrong with the file.
    """
    saved = read_model(path)
    return saved.model, saved.name


def trained_on(path: str | Path) -> tuple[str, str] | None:
    """Name and SHA-256 of the data that a model was trained on; None if its file names none.  Raises WeightsError."""
    return read_model(path).data


def read_model(path: str | Path) -> SavedModel:
    """All that is in a file of `save_model`.  Raises WeightsError."""
    try:
        return parse_model(read_bytes(Path(path), MOST_BYTES, WeightsError), str(path))
    except WeightsError as error:
        raise WeightsError(f"{error}; give a weights file that minidbp train or a table wrote") from error.__cause__


def parse_model(raw: bytes, source: str = "the weights file") -> SavedModel:
    """All that is in the bytes of a weights file; `source` names them in errors.  Raises WeightsError."""
    arrays, texts = parse_tensors(raw, source, WeightsError)
    name, padding = texts.get("model", ""), texts.get("padding", "")
    if name not in CONVOLUTIONS or padding not in PADDINGS:
        raise WeightsError(
            f"{source} is not a weights file of minidbp: it does not name model A, B or C "
            "(load_parameters reads the parameters of other models)"
        )
    size = Size()  # of files that were written before models had other sizes
    if "size" in texts:
        value = parse_json(texts["size"].encode(), f"{source}: size", WeightsError)
        size = from_json(Size, value, f"{source}: size", WeightsError)
    try:
        check_model_input(name, padding, size.input_shape, size.n_classes)
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from None
    held = sum(array.size for array in arrays.values())
    if count_parameters(name, padding, size.input_shape, size.n_classes) > max(held, *N_PARAMETERS.values()):
        raise WeightsError(f"{source} holds {held} numbers, too few for {size}")  # and no such model is built
    wide = "W1" in arrays and arrays["W1"].dtype == "float64"
    model = build_model(
        name, padding=padding, dtype="float64" if wide else "float32", input_shape=size.input_shape,
        n_classes=size.n_classes,
    )  # fmt: skip
    _assign(arrays, model.named_parameters(), f"model {name}", source)
    data = (texts["data"], texts["data_sha256"]) if {"data", "data_sha256"} <= texts.keys() else None
    return SavedModel(model, name, data, source)


def _size_of(model: Sequential) -> Size:
    """The size of a model whose last parameter is the bias of its logits."""
    parameters = model.parameters()
    return Size(getattr(model, "input_shape", None) or IMAGE_SHAPE, parameters[-1].size if parameters else N_CLASSES)


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
    check_arrays(arrays, arrays, "", "the weights are not saved", WeightsError)  # a NaN could not be read
    write_tensors(path, dump_tensors(arrays, texts), "the weights", WeightsError)


def _assign(arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Tensor], whose: str, source: str) -> None:
    """Give every parameter its new values, once all of them are known to fit."""
    check_arrays(arrays, {name: p.data for name, p in parameters.items()}, whose, source, WeightsError)
    for name, parameter in parameters.items():
        parameter.data = arrays[name]

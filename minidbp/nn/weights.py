"""Weights on disk: NumPy's .npz without pickle, so that a file from a stranger cannot run code."""

import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from minidbp.atomic import atomic_write
from minidbp.autodiff.tensor import DTYPES
from minidbp.nn.layers import Sequential
from minidbp.nn.models import CONVOLUTIONS, PADDINGS, build_model

# Whatever zipfile, zlib and np.load raise where bytes of an .npz are wrong.  RuntimeError: a bit that says "encrypted".
DAMAGE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error,
)  # fmt: skip


class WeightsError(ValueError):
    """A weights file is missing, damaged, or not for this model."""


def save_model(path: str | Path, model: Sequential, name: str, padding: str = "same_first") -> None:
    """Write the parameters of a paper model `name` ("A", "B", "C") to `path`, whole or not at all.

    Raises WeightsError if the file cannot be written.
    """
    arrays = {str(p.name): p.data for p in model.parameters()}
    path = Path(path)
    try:
        with atomic_write(path) as file:
            np.savez(file, model=np.array(name), padding=np.array(padding), **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise WeightsError(f"cannot write the weights to {path}: {error.strerror or error}") from None


def load_model(path: str | Path) -> tuple[Sequential, str]:
    """The model that `save_model` wrote, and its name.  Raises WeightsError, which says what is wrong with the file."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise WeightsError(f"there is no weights file {path}: give one that minidbp train or table2 wrote") from None
    except DAMAGE as error:
        why = re.split(r"\n|\. ", str(error))[0]  # NumPy goes on with advice on how to load it all the same
        raise WeightsError(f"{path} is not a weights file of minidbp, or is damaged: {why}") from None
    except (AttributeError, TypeError):  # what np.load returns for a bare .npy array is no context and has no files
        raise WeightsError(f"{path} is not a weights file of minidbp: it holds a single array") from None
    name, padding = str(arrays.pop("model", "")), str(arrays.pop("padding", ""))
    if name not in CONVOLUTIONS or padding not in PADDINGS:
        raise WeightsError(f"{path} is not a weights file of minidbp: it does not name model A, B or C")
    dtype = next((a.dtype for a in arrays.values() if a.dtype in DTYPES), DTYPES[0])
    model = build_model(name, padding=padding, dtype=dtype)
    expected = {str(p.name): p for p in model.parameters()}
    if set(arrays) != set(expected):
        raise WeightsError(
            f"{path} should hold {', '.join(expected)} for model {name}; it holds {', '.join(arrays) or 'nothing'}"
        )
    for key, parameter in expected.items():
        if (arrays[key].shape, arrays[key].dtype) != (parameter.shape, parameter.dtype):
            raise WeightsError(
                f"{path}: {key} of model {name} should be {parameter.dtype} of shape {parameter.shape}; "
                f"it is {arrays[key].dtype} of shape {arrays[key].shape}"
            )
        if not np.isfinite(arrays[key]).all():
            raise WeightsError(f"{path}: {key} holds NaN or infinite weights")
        parameter.data = arrays[key]
    return model, name

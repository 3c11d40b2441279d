"""Named arrays and texts in a safetensors file, which PyTorch and other programs open; a SHA-256 protects the content.

A safetensors file is the length of a JSON header (8 bytes), the header, and the numbers in C order, little-endian.  The
header gives every array's dtype, shape and place, and the texts under `__metadata__`.  The `safetensors` library checks
the header against the file.  The text `sha256` is the checksum of the same file without that text.  It covers every
name, dtype, shape, number and text, so a damaged file is refused or read as the original.  It is no signature: anyone
can compute it for other numbers.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidbp.files.atomic import write_bytes
from minidbp.files.reading import from_json, parse_json

DTYPES = {"F32": "<f4", "F64": "<f8"}
CODES = {dtype: code for code, dtype in DTYPES.items()}
MOST_HEADER = 1 << 16  # bytes; a weights file has about 700
KINDS = {  # of other files, by their first bytes
    b"PK\3\4": "a zip file, such as PyTorch's .pt and Keras' .keras",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file, such as Keras' .h5",
    b"\x80": "a Python pickle",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a picture",
    b"{": "JSON",
}
Arrays = Mapping[str, np.ndarray]


def dump_tensors(arrays: Arrays, texts: Mapping[str, str]) -> bytes:
    """The safetensors file of these arrays (float32 or float64) and texts; the same content gives the same bytes."""
    return _dump(arrays, {**texts, "sha256": _sha256(arrays, texts)})


def write_tensors(path: Path, raw: bytes, what: str, error: type[ValueError]) -> None:
    """Write a file of `dump_tensors`, whole or not at all; `what` names the content in the error."""
    try:
        write_bytes(path, raw)
    except OSError as problem:
        why = problem.strerror or problem
        raise error(f"cannot write {what} to {path}: {why}; what was there before is unchanged") from None


def parse_tensors(
    raw: bytes, source: str, error: type[ValueError], most_header: int = MOST_HEADER
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and texts that `dump_tensors` was given; `source` names the file in errors."""
    from safetensors import SafetensorError, deserialize  # here, because `import minidbp` need not wait for it

    length = int.from_bytes(raw[:8], "little")
    if length > min(most_header, len(raw) - 8):
        unknown = f"is no safetensors file, or is damaged: its header would have {length} bytes"
        raise error(f"{source} {_what_else(raw) or unknown}")
    header = parse_json(raw[8 : 8 + length], f"{source}: the header", error, most_header)
    texts = from_json(dict[str, str], header.get("__metadata__", {}), f"{source}: the metadata", error)
    if "sha256" not in texts:
        raise error(f"{source} is a safetensors file that was not written by minidbp: its metadata has no sha256")
    try:
        arrays = {
            name: np.ndarray(tensor["shape"], DTYPES[tensor["dtype"]], tensor["data"])
            for name, tensor in sorted(deserialize(raw), key=lambda item: item[0])
        }
    except SafetensorError as problem:
        raise error(f"{source} is damaged: safetensors says {str(problem)!r:.100}") from None
    except KeyError as problem:
        raise error(f"{source} holds numbers of dtype {problem}; {' and '.join(DTYPES)} are right") from None
    except ValueError as problem:
        raise error(f"{source} holds an array that NumPy cannot have ({problem})") from None
    if texts.pop("sha256") != _sha256(arrays, texts):
        raise error(f"{source} is damaged: its content does not have the SHA-256 that it should have")
    return arrays, texts


def _what_else(raw: bytes) -> str | None:
    """What a file is that is no safetensors file, such as "is empty"; None if its first bytes do not tell."""
    if not raw:
        return "is empty"
    name_length = int.from_bytes(raw[26:28], "little")  # of the first file in a zip file
    if raw.startswith(b"PK\3\4") and raw[30 : 30 + name_length].endswith(b".npy"):
        return (
            "is an .npz file, and only version 0.1.0 of minidbp wrote weights so: train again with this version, or "
            "use version 0.1.0"
        )
    kinds = [kind for start, kind in KINDS.items() if raw.startswith(start)]
    return f"is {kinds[0]}, not a safetensors file of minidbp" if kinds else None


def check_arrays(arrays: Arrays, likes: Arrays, whose: str, source: str, error: type[ValueError]) -> None:
    """Raise the error unless the arrays have the names, dtypes and shapes of `likes` and hold finite numbers."""
    if set(arrays) != set(likes):
        raise error(f"{source} should hold {_listed(likes)} for {whose}; it holds {_listed(arrays)}")
    for name, like in likes.items():
        right, given = (f"{array.dtype} of shape {array.shape}" for array in (like, arrays[name]))
        if given != right:
            raise error(f"{source}: {name} should be {right}; it is {given}")
        if not np.isfinite(arrays[name]).all():
            raise error(f"{source}: {name} holds NaN or infinite numbers")


def _dump(arrays: Arrays, texts: Mapping[str, str]) -> bytes:
    # The library's own writer puts the texts in an order that changes from call to call.
    header: dict[str, dict] = {"__metadata__": dict(texts)}
    end = 0
    for name, array in sorted(arrays.items()):
        start, end = end, end + array.nbytes
        header[name] = {"dtype": CODES[array.dtype.str], "shape": array.shape, "data_offsets": (start, end)}
    raw = json.dumps(header, sort_keys=True).encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join([len(raw).to_bytes(8, "little"), raw, *(array.tobytes() for _, array in sorted(arrays.items()))])


def _sha256(arrays: Arrays, texts: Mapping[str, str]) -> str:
    return hashlib.sha256(_dump(arrays, texts)).hexdigest()


def _listed(names: Arrays) -> str:
    return ", ".join(name if name.isidentifier() else repr(name) for name in names)[:200] or "nothing"

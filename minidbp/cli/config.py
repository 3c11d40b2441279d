"""Options of a command from a TOML file, which keeps an experiment: `minidbp table2 --config FILE.toml`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from minidbp.files.reading import KINDS, MOST_NUMBER, printable, read_bytes

MOST_BYTES = 1 << 16


def read_config(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a TOML file: a value for some of these.

    Args:
        options: The type of each option by its long name without dashes: int, float, str, bool, Path, a list of one of
            them, or `X | None`.  A Path is written as a text.

    Raises:
        ValueError: The file cannot be read, is not TOML, or has an unknown option or a value of another type.
    """
    raw = read_bytes(path, MOST_BYTES, ValueError)
    try:
        values = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # of UTF-8 and of brackets within brackets too
        raise ValueError(f"{path} is not TOML: {printable(str(error))}") from None
    for name, value in values.items():
        if name not in options:
            raise ValueError(f"{path} has the unknown option {name!r:.80}: choose from {', '.join(sorted(options))}")
        _check(path, name, value, options[name])
    return values


def _check(path: Path, name: str, value: Any, kind: Any) -> None:
    (kind,) = {*get_args(kind)} - {NoneType} if NoneType in get_args(kind) else {kind}
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise ValueError(f"{path}: {name} must be a list, such as {name} = [...]; got {value!r:.80}")
        for item in value:
            _check(path, name, item, *get_args(kind))
        return
    kind = str if kind is Path else kind
    if type(value) is not kind and not (kind is float and type(value) is int):
        wanted = KINDS[kind] + " in quotes" * (kind is str)
        raise ValueError(f"{path}: {name} must be {wanted}; got {value!r:.80}")
    if isinstance(value, int | float) and not abs(value) <= MOST_NUMBER:  # NaN too
        raise ValueError(f"{path}: {name} must be a number of at most {MOST_NUMBER:g}; got {value!r:.80}")

"""Reads files of unknown origin within bounds: regular files up to a size, and JSON that fits a dataclass.

Every function takes the class of its `error`, a ValueError.  The message is one sentence that begins with the file.
"""

import json
import math
import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

MOST_JSON = 1 << 20  # bytes; the Python objects take up to thirty times as many
MOST_DEPTH = 32  # brackets within brackets; Python's own recursion ends far later
MOST_DIGITS = 40  # of a whole number; a generator's state has 39
MOST_NUMBER = 1e100  # in size; squares of such numbers, and sums of these, are finite


@dataclass(frozen=True)
class Range:
    """The least and the largest number that a field may hold in a file, as in `Annotated[float, Range(0, 1)]`."""

    least: float
    most: float


Percent = Annotated[float, Range(0, 100)]
Duration = Annotated[float, Range(0, 1e10)]  # seconds; 300 years
Amount = Annotated[float, Range(0, MOST_NUMBER)]  # of a norm or of work
Count = Annotated[int, Range(0, 10**9)]

KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
T = TypeVar("T")


def read_bytes(path: Path, most: int, error: type[ValueError]) -> bytes:
    """The whole of a regular file of at most `most` bytes."""
    try:
        if path.is_dir():
            raise error(f"{path} is a folder; give a file")
        if path.exists() and not path.is_file():  # reading from a pipe would wait for ever
            raise error(f"{path} is not a regular file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            raw = stream.read(min(size, most) + 1)  # Python reserves as many bytes as it is asked for
            if size < len(raw) <= most:  # it has grown, or it is a file of /proc
                raw += stream.read(most + 1 - len(raw))
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror or problem})") from problem
    if len(raw) > most:
        raise error(f"{path} is larger than the limit of {most} bytes")
    return raw


def read_json(path: Path, error: type[ValueError], most: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object in a UTF-8 file of at most `most` bytes."""
    return parse_json(read_bytes(path, most, error), str(path), error, most)


def parse_json(raw: bytes, source: str, error: type[ValueError], most: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object in at most `most` bytes of UTF-8; `source` names them in errors.

    The object can be written again and computed with.  Refused are NaN, infinities, numbers beyond MOST_NUMBER, whole
    numbers of more than MOST_DIGITS digits, half a surrogate pair, a name twice in one object, and more than
    MOST_DEPTH brackets within brackets.
    """
    if len(raw) > most:
        raise error(f"{source} has {len(raw)} bytes, more than the {most} that it may have")
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float
        )
        if _depth(value) > MOST_DEPTH:
            raise RecursionError
    except UnicodeDecodeError as problem:
        raise error(f"{source} is not UTF-8 (byte {problem.start} is 0x{raw[problem.start]:02x})") from None
    except RecursionError:
        raise error(f"{source} is not JSON of at most {MOST_DEPTH} brackets within brackets") from None
    except json.JSONDecodeError as problem:
        raise error(f"{source} is not JSON ({problem})") from None
    except ValueError as problem:
        raise error(f"{source} is JSON with {problem}") from None
    if not isinstance(value, dict):
        raise error(f"{source} must be a JSON object; it begins with {text.lstrip()[:1]!r}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise error(f"{source} is JSON with half a surrogate pair, which is no text") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {name!r:.40} twice in one object")
        values[name] = value
    return values


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; {MOST_DIGITS} are the most")
    return int(text)


def _float(text: str) -> float:
    value = float(text)  # of "NaN" and "Infinity" too
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if abs(value) > MOST_NUMBER:
        raise ValueError(f"a number beyond {MOST_NUMBER:g}: {text:.40}")
    return value


def from_json(kind: type[T], value: Any, source: str, error: type[ValueError]) -> T:
    """Build the dataclass `kind` from a JSON value, and check every field's type.

    The inverse of `dataclasses.asdict`.  All fields must be there, also those with a default, and no others.  A field
    may be an int, float, str, bool, Any, another dataclass, `X | None`, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, or
    a number with a Range.  A whole number is taken where the field is a float.  A ValueError of the dataclass's own
    `__post_init__` becomes the error too.

    Args:
        source: What errors begin with: "`source`: `epochs[1].loss` should be a number, got 'x'".
    """

    def wrong(place: str, what: str) -> ValueError:
        return error(f"{source}: `{place.removeprefix('.')}` {what}" if place else f"{source} {what}")

    def build(kind: Any, value: Any, place: str) -> Any:
        origin, parts = get_origin(kind), get_args(kind)
        if kind is Any or (value is None and NoneType in parts):
            return value
        if NoneType in parts:
            (kind,) = set(parts) - {NoneType}
            return build(kind, value, place)
        if origin is Annotated:
            number, limits = build(parts[0], value, place), parts[1]
            expect(limits.least <= number <= limits.most, f"from {limits.least:g} to {limits.most:g}", value, place)
            return number
        if is_dataclass(kind) or origin is dict:
            expect(isinstance(value, dict), "an object", value, place)
        if origin is dict:
            return {key: build(parts[1], item, f"{place}[{key!r:.40}]") for key, item in value.items()}
        if origin in (list, tuple):
            expect(isinstance(value, list), "a list", value, place)
            return origin(build(parts[0], item, f"{place}[{i}]") for i, item in enumerate(value))
        if is_dataclass(kind):
            return build_dataclass(kind, value, place)
        if kind is float and type(value) is int and abs(value) <= MOST_NUMBER:
            return float(value)
        expect(type(value) is kind, KINDS[kind], value, place)
        return value

    def build_dataclass(kind: Any, value: dict[str, Any], place: str) -> Any:
        types, names = get_type_hints(kind, include_extras=True), [field.name for field in fields(kind)]
        if absent := [name for name in names if name not in value]:
            raise wrong(place, f"lacks {absent[0]}")
        if extra := [name for name in value if name not in names]:
            raise wrong(place, f"should hold only {', '.join(names)}; it holds {extra[0]!r:.40}")
        arguments = {name: build(types[name], value[name], f"{place}.{name}") for name in names}
        try:
            return kind(**arguments)
        except ValueError as problem:
            raise wrong(place, f"is not right: {problem}") from None

    def expect(right: bool, what: str, value: Any, place: str) -> None:
        if not right:
            raise wrong(place, f"should be {what}, got {value!r:.40}")

    return build(kind, value, "")


def printable(text: str) -> str:
    """The text with a ? for each character that cannot be printed, such as a line break in a name."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _depth(value: Any) -> int:
    """The largest number of brackets within each other."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(_depth, items), default=0)

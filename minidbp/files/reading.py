"""Files of anybody, read within bounds: of a regular file, so many bytes; of JSON, an object that can be written again.

`error` is the class to raise, a ValueError whose message is one sentence that begins with the file.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_JSON = 1 << 20  # bytes; Python's objects take up to thirty times as many
MOST_DEPTH = 32  # of brackets within brackets: far from where Python's own recursion ends


def read_bytes(path: Path, most: int, error: type[ValueError]) -> bytes:
    """The whole of a regular file of at most this many bytes."""
    try:
        if path.is_dir():
            raise error(f"{path} is a folder where a file would be right")
        if path.exists() and not path.is_file():  # reading from a pipe would wait for ever
            raise error(f"{path} is not a regular file")
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror or problem})") from problem
    if len(raw) > most:
        raise error(f"{path} is larger than {most} bytes, the most that it may have")
    return raw


def read_json(path: Path, error: type[ValueError], most: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object (UTF-8, at most this many bytes) in a file."""
    raw = read_bytes(path, most, error)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 (byte {problem.start} is 0x{raw[problem.start]:02x})") from None
    return parse_json(text, str(path), error, most)


def parse_json(text: str, source: str, error: type[ValueError], most: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object in `text`, at most this many characters; `source` names it in errors.

    NaN, Infinity and 1e999 are refused, and so are half a surrogate pair and brackets more than MOST_DEPTH deep: what
    comes out can be written again.  Too long an integer is refused by Python (sys.set_int_max_str_digits).
    """
    if len(text) > most:
        raise error(f"{source} has {len(text)} characters, more than the {most} that it may have")
    try:
        found = json.loads(text)
    except RecursionError:
        raise error(f"{source} is not JSON of at most {MOST_DEPTH} brackets within brackets") from None
    except ValueError as problem:
        raise error(f"{source} is not JSON ({problem})") from None
    if not isinstance(found, dict):
        raise error(f"{source} is JSON, but not an object: it begins with {text.lstrip()[:1]!r} where '{{' is right")
    if _depth(found) > MOST_DEPTH:
        raise error(f"{source} is not JSON of at most {MOST_DEPTH} brackets within brackets")
    try:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise error(f"{source} is JSON with half a surrogate pair, which is no text") from None
    except ValueError:
        raise error(f"{source} is JSON with a number that is not finite") from None
    return found


def _depth(found: dict[str, Any]) -> int:
    """How many brackets are within each other at most, counted without recursion."""
    depth = 0
    level: list[Iterable[Any]] = [found.values()]
    while level:
        items = [item for values in level for item in values]
        level = [i.values() if isinstance(i, dict) else i for i in items if isinstance(i, dict | list)]
        depth += 1
    return depth

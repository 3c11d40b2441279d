"""JSON objects that carry the SHA-256 of their own content, so that a damaged file is not taken for a sound one.

The text `sha256` is that of `json.dumps(rest, sort_keys=True)`, where `rest` is the object without it.  It is no
signature: anyone can compute it for other content.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidbp.files.atomic import write_text


def write_with_digest(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object and its digest, whole or not at all.  Raises OSError."""
    write_text(path, dump_with_digest(values))


def dump_with_digest(values: Mapping[str, Any]) -> str:
    """The text of a JSON object and its digest.  Raises ValueError for NaN or an infinity, which no reader takes."""
    return json.dumps({**values, "sha256": _sha256(values)}, indent=1, allow_nan=False) + "\n"


def without_digest(values: Mapping[str, Any], source: str, error: type[ValueError]) -> dict[str, Any]:
    """What was given to `dump_with_digest`; `source` names the file in the error of an object that differs from it."""
    rest = {name: value for name, value in values.items() if name != "sha256"}
    if "sha256" not in values:
        raise error(f"{source} has no sha256, so it is damaged, edited or of an earlier version")
    if values["sha256"] != _sha256(rest):
        raise error(f"{source} is damaged: its content does not have the SHA-256 that it should have")
    return rest


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

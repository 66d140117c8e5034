"""One result as one line of JSON, whatever numeric library its values come from."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Mapping
from pathlib import PurePath


def to_json(record: object) -> str:
    """Writes `record` as one line of strict JSON: NaN and the infinities become null.

    Takes the plain types, mappings, sequences, sets, dataclasses, enums, paths, dates and what
    offers `tolist()` (NumPy scalars and arrays, torch tensors). Non-ASCII letters are escaped,
    so that the line survives any terminal encoding. Raises TypeError for anything else.
    """
    return json.dumps(_plain(record), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        # pandas' NaT is a datetime that differs from itself, as NaN does.
        return value.isoformat() if value == value else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return _plain(tolist())
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")

"""`catalogue.toml` of a domain: its models, and what they reach beside what was published."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sigform_kit.errors import InputError, did_you_mean

FILE = "catalogue.toml"
"""Lies in the package of a domain, beside its modules."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured number: what was measured (with its unit), on which data, and who says so."""

    value: float
    metric: str
    data: str
    source: str

    def text(self) -> str:
        """In one line, without the source."""
        return f"{self.value:g} {self.metric} ({self.data})"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that a domain offers.

    `paper` is an arXiv number, `licence` and `where` are of published weights, `card` is a path
    in the package. A model that is made for each person's data has no number of parameters.
    """

    name: str
    task: str
    model: str
    command: str
    paper: str = ""
    parameters: int | None = None
    licence: str = ""
    where: str = ""
    card: str = ""
    ours: Figure | None = None
    published: Figure | None = None

    @property
    def origin(self) -> str:
        """The paper, or what the method is called where it has none."""
        return f"arXiv {self.paper}" if self.paper else self.model

    def record(self) -> dict[str, object]:
        """Every field by name, figures as tables of their own; None where there is none."""
        return asdict(self)


def catalogue_of(package: str) -> Path | None:
    """Where the catalogue of an installed package lies, found without importing it."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        if Path(folder, FILE).is_file():
            return Path(folder, FILE)
    return None


def read_catalogue(path: Path) -> list[Entry]:
    """The models of a catalogue, in its order.

    Raises InputError, naming the file and the entry, for anything that is not as `Entry` says:
    an unknown key is an error.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if list(table) != ["models"] or not isinstance(table["models"], list):
            raise ValueError(f"tables are {', '.join(table) or 'none'}; needs [[models]] only")
        entries = [_entry(number, row) for number, row in enumerate(table["models"], 1)]
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name {name!r} is there {names.count(name)} times; needs one")
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return entries


def _entry(number: int, row: object) -> Entry:
    where = f"model {number}"
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {row!r}; needs a table")
    where = f"model {row.get('name', number)}"
    figures = {
        name: _figure(f"{where}: {name}", row[name])
        for name in ("ours", "published")
        if name in row
    }
    entry = Entry(**_checked(where, {**row, **figures}, Entry))
    if entry.paper and not re.fullmatch(r"\d{4}\.\d{4,5}", entry.paper):
        raise ValueError(f"{where}: paper is {entry.paper!r}; needs an arXiv number, 2301.02031")
    if entry.parameters is not None and entry.parameters < 0:
        raise ValueError(f"{where}: parameters is {entry.parameters}; needs 0 or more")
    return entry


def _figure(where: str, row: object) -> Figure:
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {row!r}; needs a table with value, metric, data and source")
    return Figure(**_checked(where, row, Figure))


_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "float": (float, int),
    "int | None": (int,),
    "Figure | None": (Figure,),
}


def _checked(
    where: str, row: Mapping[str, Any], kind: type[Entry] | type[Figure]
) -> dict[str, Any]:
    """The row, once it has what the class needs, nothing else, and everything of its type."""
    known = {field.name: field for field in fields(kind)}
    for key in row:
        if key not in known:
            hint = did_you_mean(key, known)
            raise ValueError(f"{where}: key {key!r} is unknown.{hint}")
    for name, field in known.items():
        if name not in row:
            if field.default is MISSING:
                raise ValueError(f"{where}: {name} is missing")
            continue
        value, wanted = row[name], str(field.type)
        if not isinstance(value, _KINDS[wanted]) or isinstance(value, bool):
            raise ValueError(f"{where}: {name} is {value!r}; needs {wanted.split(' ')[0]}")
        if isinstance(value, str) and (value != value.strip() or "\n" in value or not value):
            raise ValueError(f"{where}: {name} is {value!r}; needs one line")
    return dict(row)

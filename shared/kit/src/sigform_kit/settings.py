"""The resolved settings of a command, as a TOML file beside what they produced."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path, PurePath

import click

from sigform_kit.config import option_names
from sigform_kit.outputs import output

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {
    "\b": r"\b",
    "\t": r"\t",
    "\n": r"\n",
    "\f": r"\f",
    "\r": r"\r",
    '"': r"\"",
    "\\": r"\\",
}
_MANNERS = frozenset(
    {"dry_run", "json", "manifest", "overwrite", "quiet", "skip_existing", "verbose"}
)


def resolved_settings(ctx: click.Context) -> dict[str, object]:
    """The value of every option that shaped the result, by option name.

    Written by `write_settings`, they are a file that `--config` takes. Unset options and those
    that only concern how a run is told (-v, --json, --overwrite, ...) are left out.
    """
    return {
        name: ctx.params[option.name]
        for name, option in option_names(ctx.command).items()
        if option.name not in _MANNERS and ctx.params.get(option.name or "") is not None
    }


def write_settings(path: str | Path, settings: Mapping[str, object], heading: str = "") -> None:
    """Writes `settings` as TOML, replacing `path`; `heading` becomes comment lines on top."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    with output(path, "overwrite") as temporary:
        temporary.write_text(comment + to_toml(settings), encoding="utf-8", newline="\n")


def to_toml(settings: Mapping[str, object]) -> str:
    """One `key = value` line for each setting, None left out.

    Takes str, int, float, bool, paths, enums, and lists or tuples of them. Raises ValueError,
    naming the key, for anything else.
    """
    lines = []
    for key, value in settings.items():
        if value is None:
            continue
        try:
            written = _value(value)
        except ValueError as error:
            raise ValueError(f"setting {key!r}: {error}") from error
        name = key if _BARE_KEY.fullmatch(key) else _string(key)
        lines.append(f"{name} = {written}\n")
    return "".join(lines)


def _value(value: object) -> str:
    if isinstance(value, enum.Enum):
        return _value(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str | PurePath):
        return _string(str(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise ValueError(f"value is {value!r}; needs a string, number, true, false or a list of them")


def _string(text: str) -> str:
    return '"' + "".join(map(_letter, text)) + '"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if "\ud800" <= letter <= "\udfff":
        raise ValueError(f"letter {letter!r} is half a surrogate pair; needs valid text")
    return f"\\u{ord(letter):04x}" if letter < " " or letter == "\x7f" else letter

"""`--config FILE.toml`: the defaults of a command's options, from a file."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

import click

from sigform_kit.errors import UsageError, did_you_mean

NOT_SETTINGS = frozenset({"config", "debug", "help", "version"})
"""Options that say how to run a command, and so have no place in its configuration file."""


def option_names(command: click.Command) -> dict[str, click.Option]:
    """The options a configuration file may set, by long name without dashes."""
    return {
        name.removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option) and param.name not in NOT_SETTINGS
        for name in param.opts
        if name.startswith("--")
    }


def load_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Click callback: puts the values in the file between the defaults and the command line.

    Raises UsageError, naming the file and the key, for broken TOML, unknown keys and values
    that the option does not take.
    """
    if path is None or ctx.resilient_parsing:
        return path
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", ctx) from error
    options = option_names(ctx.command)
    defaults: dict[str, object] = {}
    for key, value in entries.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            hint = did_you_mean(key.replace("_", "-"), options)
            raise UsageError(f"{path}: no option named {key!r}.{hint}", ctx)
        try:
            words = _as_words(option, value)
            _check(option, ctx, words)
        except (click.BadParameter, ValueError) as error:
            reason = error.message if isinstance(error, click.BadParameter) else str(error)
            raise UsageError(f"{path}: {key}: {reason}", ctx) from error
        if option.name is not None:
            defaults[option.name] = words
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _as_words(option: click.Option, value: object) -> object:
    """The value as it would stand on the command line, so that it is parsed as strictly."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise ValueError(f"value is {value!r}; needs true or false")
        return value
    if isinstance(value, list):
        return [_word(item) for item in value]
    if option.multiple or option.nargs != 1:
        raise ValueError(f"value is {value!r}; needs a list")
    return _word(value)


def _check(option: click.Option, ctx: click.Context, words: object) -> None:
    """Is it a value of the option? A list is one only where the option's type makes it one."""
    try:
        converted = option.type_cast_value(ctx, words)
    except TypeError:
        converted = None
    if isinstance(words, list) and not isinstance(converted, list | tuple):
        raise ValueError(f"value is {words!r}; needs one value")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float | datetime.date | datetime.time):
        return str(value)
    raise ValueError(f"value is {value!r}; needs a string, a number, true or false")
